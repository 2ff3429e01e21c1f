"""A key is sent to whom it is meant for, and shown to nobody in whatever form."""

import base64
import copy
import html
import json
import pickle
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.schema import ConfigError
from experiments.llm import secret
from experiments.llm.secret import Secret, is_loopback, key_for

KEY = "sk-proj-7aQ2_very-secret-key-0815"
OTHERS = [*secret.VARIABLES.values(), "MY_KEY"]


def each(pattern, key=KEY):
    return "".join(pattern.format(ord(c)) for c in key)


FORMS = {
    "itself": KEY,
    "large": KEY.upper(),
    "small": KEY.lower(),
    "in a path": f"/v1/keys/{KEY}/usage",
    "in an address": f"https://h/?key={KEY}&x=1",
    "a part": KEY[6:22],
    "its end": KEY[-12:],
    "json": each("\\u{:04x}"),
    "large json": each("\\u{:04X}"),
    "json in json": each("\\\\u{:04x}"),
    "one letter in json": KEY.replace("a", "\\u0061"),
    "long escapes": each("\\U{:08x}"),
    "python": each("\\x{:02x}"),
    "address": each("%{:02X}"),
    "small address": each("%{:02x}"),
    "address in address": each("%25{:02x}"),
    "page": each("&#{};"),
    "page in page": html.escape(each("&#x{:x};")),
    "hexadecimal": KEY.encode().hex(),
    "large hexadecimal": KEY.encode().hex().upper(),
    "broken over lines": KEY[:16] + "\n" + KEY[16:],
} | {
    f"base64 after {len(before)}": base64.b64encode(f"{before}{KEY}".encode()).decode()
    for before in ("", ":", "me", "user:", "{'key': '")
}


@pytest.mark.parametrize("form", FORMS)
def test_hide_key_in_any_encoding_is_masked(form):
    shown = Secret(KEY).hide(f'before "{FORMS[form]}" after')
    assert shown.startswith('before "') and shown.endswith('" after') and "***" in shown
    if form not in ("in a path", "in an address"):  # whose other parts are no secret
        assert not any(FORMS[form][i : i + 8] in shown for i in range(len(FORMS[form]) - 8))
    assert not any(KEY[i : i + 8].lower() in shown.lower() for i in range(len(KEY) - 8))


@pytest.mark.parametrize(
    "form", [form for form in FORMS if "\\" not in FORMS[form] and "\n" not in FORMS[form]]
)
def test_hide_key_inside_json_leaves_valid_json(form):
    text = json.dumps({"error": f'the key "{FORMS[form]}" is\nnot valid', "code": json.dumps(FORMS[form])})
    value = json.loads(Secret(KEY).hide(text))
    assert value["error"].startswith("the key") and value["error"].endswith("not valid")


def test_hide_key_with_special_characters_is_masked():
    odd = Secret('sk-"odd\\key/with+signs')
    for form in (
        'sk-"odd\\key/with+signs',
        json.dumps('sk-"odd\\key/with+signs'),
        quote('sk-"odd\\key/with+signs'),
    ):
        assert "signs" not in odd.hide(f"before {form} after") and "after" in odd.hide(f"{form} after")


def test_hide_text_without_the_key_is_unchanged():
    assert Secret(KEY).hide(f"starting {KEY[:10]}...") == "starting ***"
    assert Secret(KEY).hide("nothing to hide in sk-proj \\u0041 100% &#65;") == (
        "nothing to hide in sk-proj \\u0041 100% &#65;"
    )
    assert Secret("none").hide("none of it") == "none of it"
    assert Secret().hide("x") == "x"


@given(st.text(), st.text())
def test_hide_text_around_a_key_is_unchanged(before, after):
    text = f"{before} {KEY} {after}"
    assert Secret(KEY).hide(text) == f"{before} *** {after}"


def test_hide_very_long_text_is_masked_completely():
    assert Secret(KEY).hide(KEY * 100_000) == "***"
    assert Secret(KEY).hide("x" * 300_000) == "x" * 300_000


def test_hide_in_nested_values_masks_keys_and_values():
    shown = Secret(KEY).hide_in({"a": [KEY, 1, None, {KEY: f"x {KEY}"}]})
    assert shown == {"a": ["***", 1, None, {"***": "x ***"}]}


def test_secret_repr_and_pickle_never_contain_the_key():
    key = Secret(KEY)
    assert KEY not in f"{key!r} {key}"
    for write in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="not written down"):
            write(key)


# --- who is sent which


@pytest.fixture
def keys(monkeypatch):
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.parametrize(
    "host", ["api.openai.com", "eu.api.openai.com", "localhost", "127.0.0.1", "::1", "0.0.0.0"]
)
def test_key_for_own_provider_or_localhost_returns_the_default_key(host, keys):
    assert key_for("https", host, "", "OPENAI_API_KEY").reveal() == KEY


@pytest.mark.parametrize(
    "host",
    [
        "api.example.org",
        "api.openai.com.example.org",
        "notopenai.com",
        "x.openai.azure.com",
        "10.0.0.7",
        "localhost.x",
    ],
)
def test_key_for_foreign_host_refuses_the_default_key(host, keys):
    with pytest.raises(
        ConfigError, match=f"OPENAI_API_KEY goes to openai.com and this machine only, not to {host}"
    ):
        key_for("https", host, "", "OPENAI_API_KEY")
    assert key_for("https", host, "OPENAI_API_KEY", "OPENAI_API_KEY").reveal() == KEY
    assert not key_for("https", host, "none", "OPENAI_API_KEY")


def test_key_for_another_known_provider_requires_its_own_variable(keys, monkeypatch):
    with pytest.raises(ConfigError, match="api.groq.com needs a key: .* GROQ_API_KEY"):
        key_for("https", "api.groq.com", "", "OPENAI_API_KEY")
    monkeypatch.setenv("GROQ_API_KEY", "gsk-1234567890")
    assert key_for("https", "api.groq.com", "", "OPENAI_API_KEY").reveal() == "gsk-1234567890"


def test_key_for_without_any_key_raises_naming_the_variable(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(
        ConfigError, match="api.example.org needs a key: name the variable .*--llm-api-key-env"
    ):
        key_for("https", "api.example.org", "", "OPENAI_API_KEY")
    assert not key_for("http", "127.0.0.1", "", "OPENAI_API_KEY")


def test_key_for_plain_http_to_a_remote_host_is_refused_unless_allowed(keys):
    with pytest.raises(ConfigError, match="in the clear.*--llm-plain-http") as refused:
        key_for("http", "10.0.0.7", "OPENAI_API_KEY", "OPENAI_API_KEY")
    assert KEY not in str(refused.value)
    with pytest.raises(ConfigError, match="in the clear"):
        key_for("http", "api.openai.com", "", "OPENAI_API_KEY")
    assert key_for("http", "10.0.0.7", "OPENAI_API_KEY", "", in_the_clear=True).reveal() == KEY
    assert key_for("http", "127.0.0.1", "", "OPENAI_API_KEY").reveal() == KEY
    assert not key_for("http", "10.0.0.7", "none", "OPENAI_API_KEY")


@pytest.mark.parametrize("pasted", [KEY, "gsk_abcdefghijklmnop1234", "AIzaSyAbcdefghijk"])
def test_key_for_pasted_key_raises_without_repeating_it(pasted):
    with pytest.raises(ConfigError) as refused:
        key_for("https", "api.example.org", pasted, "OPENAI_API_KEY")
    assert pasted not in str(refused.value) and "--llm-api-key-env" in str(refused.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "localhost.", "::1", "a.localhost"]
)
def test_is_loopback_local_host_names_is_true(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["example.org", "10.0.0.1", "localhost.example.org", "", "127.0.0.1.example.org"]
)
def test_is_loopback_remote_host_names_is_false(host):
    assert not is_loopback(host)
