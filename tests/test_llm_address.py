"""Where an address leads elsewhere, the message says which one would work."""

import pytest

from dreamer.schema import ConfigError
from experiments.llm import address
from experiments.llm.transport import Answer

PATH = "/chat/completions"


def hint(base, status=404, text="404 page not found", error=None, **headers):
    return address.hint(base, PATH, Answer(status, headers, text), error)


@pytest.mark.parametrize(
    "given",
    [
        "http://h:1/v1",
        "http://h:1/v1/",
        "http://h:1/v1/chat/completions",
        " http://h:1/v1/chat/completions/ ",
    ],
)
def test_checked_url_with_request_path_is_stripped(given):
    assert address.checked(given, PATH) == "http://h:1/v1"


@pytest.mark.parametrize("given", ["", "h", "http://", "http://a b/v1", "file:///v1", "http://h/v1?key=x"])
def test_checked_invalid_url_raises_config_error(given):
    with pytest.raises(ConfigError, match="--llm-base-url must be an address"):
        address.checked(given, PATH)


@pytest.mark.parametrize(
    ("base", "better"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/v1"),
        ("http://127.0.0.1:1/api", "http://127.0.0.1:1/api/v1"),
        ("http://127.0.0.1:1/v1/models", "http://127.0.0.1:1/v1"),
    ],
)
@pytest.mark.parametrize("status", [404, 405])
def test_hint_not_found_without_version_suggests_versioned_url(base, better, status):
    assert hint(base, status).endswith(f"--llm-base-url {better}")


def test_hint_web_page_suggests_versioned_url():
    said = hint("http://h:1", 200, "<!DOCTYPE html><html>chat with me</html>")
    assert "a web page at http://h:1/chat/completions" in said and said.endswith(
        "--llm-base-url http://h:1/v1"
    )


def test_hint_without_better_url_suggests_none():
    assert "--llm-base-url" not in hint("http://h:1/v1") and "HTTP 404" in hint("http://h:1/v1")


def test_hint_unknown_model_error_is_none():
    assert hint("http://h:1", error="The model `x` does not exist") is None


@pytest.mark.parametrize("status", [500, 401, 429, 200])
def test_hint_other_status_is_none(status):
    assert hint("http://h:1", status) is None


@pytest.mark.parametrize(
    ("location", "better"),
    [
        ("https://h:1/v1/chat/completions", "https://h:1/v1"),
        ("/api/v1/chat/completions", "http://h:1/api/v1"),
        ("//other/v1/chat/completions/?token=abc", "http://other/v1"),
        ("https://user:secret@other/v1/chat/completions", "https://other/v1"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_hint_redirect_to_api_suggests_target_url(location, better, status):
    assert hint("http://h:1/v1", status, "", location=location).endswith(f"--llm-base-url {better}")


@pytest.mark.parametrize("location", ["/login?next=/v1", "/v1/chat/completions/"])
def test_hint_redirect_elsewhere_names_only_its_host(location):
    said = hint("http://h:1/v1", 307, "", location=location)
    assert "leads on to http://h:1/" in said and "next" not in said
