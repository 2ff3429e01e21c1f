"""Addresses of endpoints: what one looks like, and what to write where one leads elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit, urlunsplit

from dreamer.schema import ConfigError
from experiments.llm.transport import Answer

WRONG = "--llm-base-url must be an address like http://127.0.0.1:8080/v1"
NO_KEYS = "--llm-base-url must be an address alone; a key belongs in an environment variable"
VERSION = re.compile(r"/v\d+\w*(?=/|$)")
"""The version in a path, where nearly all addresses of APIs end."""
ELSEWHERE = (404, 405)
"""What a server answers where it has nothing."""
PAGE = re.compile(r"\s*<(!doctype\s+html|html)\b", re.IGNORECASE)


def checked(url: str, path: str) -> str:
    """A base address without a slash at its end, and without the path that requests add.

    Raises:
      ConfigError: it is none, or holds what may be a key.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(WRONG) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or re.search(r"\s", url):
        raise ConfigError(WRONG)
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not repeated: it may hold a key.
        raise ConfigError(NO_KEYS)
    return url.rstrip("/").removesuffix(path).rstrip("/")


def is_page(headers: Mapping[str, str], text: str) -> bool:
    """Whether an answer is for people to look at."""
    return PAGE.match(text) is not None or headers.get("content-type", "").lower().startswith("text/html")


def hint(base: str, path: str, answer: Answer, error: str | None) -> str | None:
    """What is wrong with an address and which one would work, None where the answer does not say so.

    Args:
      base: the address that was asked.
      path: what follows it.
      answer: what was answered there.
      error: the error it tells as an API does.
    """
    status = answer.status
    if 300 <= status < 400 and (location := answer.headers.get("location")):
        return _moved(base, path, status, location)
    page = status == 200 and is_page(answer.headers, answer.text)
    if not page and (status not in ELSEWHERE or "model" in (error or "").lower()):
        return None
    what = "a web page" if page else f"nothing (HTTP {status}{f', {error}' if error else ''})"
    better = _versioned(base)
    advice = f"; the address that works is probably --llm-base-url {better}" if better else ""
    return f"there is {what} at {base}{path}{advice}"


def _moved(base: str, path: str, status: int, location: str) -> str:
    parts = urlsplit(urljoin(base + path, location))
    target = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).rstrip("/")
    better = target.removesuffix(path)
    if better not in (target, base):
        return f"HTTP {status}, it has moved: the address that works is --llm-base-url {better}"
    return f"HTTP {status}, {base}{path} leads on to {target}, where no such API is: check --llm-base-url"


def _versioned(base: str) -> str | None:
    """The address up to and with its version, or the usual one; None if it is that already."""
    parts = urlsplit(base)
    version = VERSION.search(parts.path)
    path = parts.path[: version.end()] if version else f"{parts.path}/v1"
    return None if path == parts.path else urlunsplit((parts.scheme, parts.netloc, path, "", ""))
