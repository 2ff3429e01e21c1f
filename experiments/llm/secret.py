"""API keys: a key that can be sent and not be shown, and which host is sent which.

A variable that usually holds the key of one provider (OPENAI_API_KEY) is read for that provider and servers
on this machine only. For another host the user names the variable, so that no key goes where it was not meant
to go.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dreamer.schema import ConfigError

SHORTEST = 8
"""Characters; shorter keys are placeholders ("none"), and hiding them would garble replies."""
WINDOW = 12
"""Characters in a row that give a key away."""
HIDDEN = "***"
NO_KEY = "none"
"""In place of a variable's name: the server needs no key."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ESCAPE = re.compile(
    r"\\+u0*([0-9a-f]{2})(?![0-9a-f])|\\+u00([0-9a-f]{2})|\\+x([0-9a-f]{2})|%(?:25)*([0-9a-f]{2})"
    r"|&(?:amp;)*#x0*([0-9a-f]{2});|&(?:amp;)*#0*([0-9]{2,3});|\\+(?P<blank>[nrt])?",
    re.IGNORECASE,
)
"""Ways to write one ASCII character: in JSON, in a string of a program, in an address, in a page."""
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_-"
LONGEST_SHOWN = 200_000
"""Characters of a text that is shown although the key is in it; a longer one is hidden whole."""
LONGEST = 512
"""Of these letters beside a part of a key."""
REST = re.compile(r"[a-z0-9_=-]*")
VARIABLES = {
    "openai.com": "OPENAI_API_KEY",
    "anthropic.com": "ANTHROPIC_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "groq.com": "GROQ_API_KEY",
    "mistral.ai": "MISTRAL_API_KEY",
    "deepseek.com": "DEEPSEEK_API_KEY",
    "x.ai": "XAI_API_KEY",
    "together.xyz": "TOGETHER_API_KEY",
    "fireworks.ai": "FIREWORKS_API_KEY",
}
"""By the domain of a provider, the variable that usually holds its key."""


class Secret:
    """A key that can be sent and not be shown."""

    def __init__(self, key: str = ""):
        self._key = key
        self._windows = tuple(dict.fromkeys(_windows(key)))
        self._beginning = _plain(key)[0][:SHORTEST]

    def __repr__(self) -> str:
        return "Secret(***)" if self._key else "Secret(none)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret is not written down")

    def __bool__(self) -> bool:
        return bool(self._key)

    def reveal(self) -> str:
        """The key, for the header it is sent in."""
        return self._key

    def hide(self, text: str) -> str:
        """The text without the key, however it is written there, and without words that begin as it does.

        Any `WINDOW` characters of it in a row are hidden: in other case, escaped for JSON, addresses or
        pages, and in base64 or hexadecimal digits, also within something longer.
        """
        if len(self._key) < SHORTEST:
            return text
        if not self._is_in(ESCAPE.sub(_unescaped, text).lower()):
            return text
        if len(text) > LONGEST_SHOWN:
            return HIDDEN
        plain, places = _plain(text)
        shown: list[str] = []
        position = 0
        for start, end in sorted([*self._parts(plain), *self._words(plain)]):
            start, end = places[start][0], places[end - 1][1]
            if end <= position:
                continue
            if start > position or not shown:
                shown += [text[position:start], HIDDEN]
            position = end
        return "".join(shown) + text[position:]

    def hide_in(self, value: Any) -> Any:
        """The same for every text in a value that JSON can say."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {self.hide(str(name)): self.hide_in(inner) for name, inner in value.items()}
        return [self.hide_in(inner) for inner in value] if isinstance(value, list | tuple) else value

    def _is_in(self, plain: str) -> bool:
        return self._beginning in plain or any(window in plain for window in self._windows)

    def _parts(self, plain: str) -> Iterator[tuple[int, int]]:
        """Where parts of the key stand, each with the rest of its word: base64 mixes its ends with that."""
        for window in self._windows:
            end = 0
            while (start := plain.find(window, end)) >= 0:
                end = start + len(window)
                before = plain[max(0, start - LONGEST) : start]
                rest = REST.match(plain, end, end + LONGEST)
                end = rest.end() if rest else end
                yield start - len(before) + len(before.rstrip(LETTERS)), end

    def _words(self, plain: str) -> Iterator[tuple[int, int]]:
        """Words that begin as the key does."""
        for match in re.finditer(re.escape(self._beginning) + r"[^\s\"'<>]*", plain):
            yield match.span()


def _windows(key: str) -> Iterator[str]:
    """All that gives a key away, in small letters."""
    if len(key) < SHORTEST:
        return
    data = key.encode()
    forms = [key, data.hex()]
    for before in range(3):  # in base64 a letter depends on where it stands in its three bytes
        padded = b"\0" * before + data
        whole = padded[: len(padded) // 3 * 3]
        inside = slice((before + 2) // 3 * 4, None)
        forms += [base64.b64encode(whole).decode()[inside], base64.urlsafe_b64encode(whole).decode()[inside]]
    for form in forms:
        plain = _plain(form)[0]
        size = min(WINDOW, len(plain))
        if size >= SHORTEST:
            yield from (plain[i : i + size] for i in range(len(plain) - size + 1))


def _plain(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A text in small letters without escapes, and from where to where each of its letters was."""
    letters: list[str] = []
    places: list[tuple[int, int]] = []
    position = 0
    for escape in ESCAPE.finditer(text):
        _add(text, position, escape.start(), letters, places)
        if character := _unescaped(escape):
            letters.append(character.lower())
            places.append(escape.span())
        position = escape.end()
    _add(text, position, len(text), letters, places)
    return "".join(letters), places


def _add(text: str, start: int, end: int, letters: list[str], places: list[tuple[int, int]]) -> None:
    """Add what has no escapes."""
    letters += [c.lower() if len(c.lower()) == 1 else c for c in text[start:end]]
    places += [(i, i + 1) for i in range(start, end)]


def _unescaped(escape: re.Match[str]) -> str:
    """The character that an escape stands for; nothing for a backslash and what is not ASCII."""
    *digits, decimal, blank = escape.groups()
    if blank:
        return " "
    code = next((int(number, 16) for number in digits if number), int(decimal or 0))
    return chr(code) if 0 < code < 128 and chr(code) != "\\" else ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    name = host.rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified


def usual_variable(host: str) -> str | None:
    """The variable that usually holds the key of a host, None for an unknown host."""
    known = (name for domain, name in VARIABLES.items() if host == domain or host.endswith(f".{domain}"))
    return next(known, None)


def key_for(scheme: str, host: str, named: str, usual: str, *, in_the_clear: bool = False) -> Secret:
    """The key that a host is sent.

    Args:
      scheme: http or https.
      named: the variable that the user says holds it ("none": it needs none; empty: not said).
      usual: the variable of the kind of API, which servers on this machine are sent.
      in_the_clear: the user allows a key to go over plain http to another machine.

    Raises:
      ConfigError: there is none, it is not meant for this host, or it could be read on the way.
    """
    if named and not NAME.fullmatch(named):
        # Not repeated: it may be the key itself.
        raise ConfigError(
            "--llm-api-key-env is the name of a variable, as OPENAI_API_KEY, not the key itself"
        )
    if named == NO_KEY:
        return Secret()
    local = is_loopback(host)
    name = named or (usual if local else usual_variable(host) or "")
    if not name:
        raise ConfigError(_unnamed(host, usual))
    key = os.environ.get(name, "").strip()
    if not key and not local:
        shown = name if name == name.upper() else "that --llm-api-key-env names"
        raise ConfigError(f"{host} needs a key: put it in the environment variable {shown}")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the environment variable {name} holds something that cannot be a key")
    if key and scheme == "http" and not local and not in_the_clear:
        raise ConfigError(
            f"http://{host} would carry the key in the clear, where it can be read on the way: use https:// "
            "(http:// is for this machine), or allow it with --llm-plain-http"
        )
    return Secret(key)


def _unnamed(host: str, usual: str) -> str:
    allowed = (
        f"name the variable that holds the key for {host} with --llm-api-key-env ({NO_KEY}: it needs none)"
    )
    if not os.environ.get(usual, "").strip():
        return f"{host} needs a key: {allowed}"
    owner = next((domain for domain, name in VARIABLES.items() if name == usual), "its provider")
    return f"the key in {usual} goes to {owner} and this machine only, not to {host}: {allowed}"
