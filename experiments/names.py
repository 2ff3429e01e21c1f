"""Names that a user may misspell."""

import difflib
from collections.abc import Iterable

from dreamer.schema import ConfigError


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raise a ConfigError with a suggestion unless there is such a name."""
    known = list(known)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ConfigError(f"there is no {what} '{name}'; {hint}")
