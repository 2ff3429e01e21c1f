"""Adapters: one module per suite, imported only when a task of that suite is asked for.

An adapter is a module with four names, nothing else:

    OBS                    the allowed values of `obs`; the first is the default
    ids()                  the tasks of the suite
    canonical(name)        the full id of a task, or `UnknownTask`
    make(name, obs)        one `gymnasium.Env`, whose spaces `envs.spaces` can flatten

An adapter of a suite that runs on the device has `make_jax(name, obs)`, a `JaxEnv`, instead of the last.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class UnknownTask(ValueError):
    """There is no such suite or task; the message suggests close ones."""


class MissingExtra(ImportError):
    """A task needs a package that is not installed; the message says what to install."""


def suggestion(name: str, known: Iterable[str] | Mapping[str, str]) -> str:
    """The end of an error message: "; did you mean A or B?" or nothing.

    Args:
      known: the right names, or a mapping from them to what the message shows.
    """
    shown = known if isinstance(known, Mapping) else {item: item for item in known}
    spelled = {item.lower(): text for item, text in shown.items()}
    close = difflib.get_close_matches(name.lower(), spelled, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(spelled[c] for c in close)}?" if close else ""
