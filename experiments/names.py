"""Names that a user may misspell."""

import difflib
from collections.abc import Iterable, Sequence

from dreamer.schema import ConfigError


def joined_options(words: Sequence[str]) -> tuple[str, ...]:
    """Names with options: a list is split at commas, so `a:b=1` and `c=2` are put together again."""
    joined: list[str] = []
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and ":" not in name and joined:
            joined[-1] += f",{word}"
        else:
            joined.append(word)
    return tuple(joined)


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raise a ConfigError with a suggestion unless there is such a name."""
    known = list(known)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ConfigError(f"there is no {what} '{name}'; {hint}")
