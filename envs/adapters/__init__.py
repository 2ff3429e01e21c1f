"""Adapters: one module per suite, imported only when a task of that suite is asked for.

An adapter is a module with four names:

    OBS                    the allowed values of `obs`; the first is the default
    ids()                  the tasks of the suite
    canonical(name)        the full id of a task, or `UnknownTask`
    make(name, obs)        one `gymnasium.Env`, whose spaces `envs.spaces` can flatten

An adapter of a suite that runs on the device has `make_jax(name, obs)`, a `JaxEnv`, instead of the last.

One whose tasks can be made otherwise says so, and `make` or `make_jax` gets what was asked for by that name:

    TAKES                  of "kwargs", a mapping, "max_episode_steps", at least 1, "wrappers", callables, and
                           "lives", what a lost life means in training; of "engine", which has
                           `pool(name, obs)`, a `Recipe` of `envs.engine`, instead of `make`; of "distractor",
                           what moves behind the scene of those `obs` that are PICTURES (without it: of all)

and what decides what a task does, beside the packages of the suite:

    made_of(name, kwargs)  {package: version}, and settings of a simulator
Where a task of a suite is not what its name makes one think, there is one more:

    note(name)             what must be known to compare its scores with others', in a sentence; else empty

and one whose tasks are often used together

    sets()                 {name: tasks}, as the adapter names them; the first set is the usual one

What differs from the originals of ports is in PORTS.md, beside this file.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Mapping
from importlib import metadata


class UnknownTask(ValueError):
    """There is no such suite or task; the message suggests close ones."""


class MissingExtra(ImportError):
    """A task needs a package that is not installed; the message says what to install."""


def suggestion(name: str, known: Iterable[str] | Mapping[str, str], cutoff: float = 0.6) -> str:
    """The end of an error message: "; did you mean A or B?" or nothing.

    Args:
      known: the right names, or a mapping from them to what the message shows.
      cutoff: the share of equal letters from which on a name is close.
    """
    shown = known if isinstance(known, Mapping) else {item: item for item in known}
    spelled = {item.lower(): text for item, text in shown.items()}
    close = difflib.get_close_matches(name.lower(), spelled, n=3, cutoff=cutoff)
    return f"; did you mean {' or '.join(spelled[c] for c in close)}?" if close else ""


def listed(suite: str, name: str, tasks: Iterable[str]) -> str:
    """The name itself, if the suite has such a task.

    Raises:
      UnknownTask: with close matches, or all that there are.
    """
    known = list(tasks)
    if name not in known:
        close = suggestion(name, known) or f"; there are {', '.join(known)}"
        raise UnknownTask(f"there is no task {suite}:{name}{close}")
    return name


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The version of every one of these packages that is installed."""
    versions = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
