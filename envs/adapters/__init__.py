"""Adapters: one module per suite, imported only when a task of that suite is asked for.

An adapter is a module with four names:

    OBS                    the allowed values of `obs`; the first is the default
    ids()                  the tasks of the suite
    canonical(name)        the full id of a task, or `UnknownTask`
    make(name, obs)        one `gymnasium.Env`, whose spaces `envs.spaces` can flatten

An adapter of a suite that runs on the device has `make_jax(name, obs)`, a `JaxEnv`, instead of the last.
Where a task of a suite is not what its name makes one think, there is one more:

    note(name)             what must be known to compare its scores with others', in a sentence; else empty

What differs from the originals of ports is in PORTS.md, beside this file.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType


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


def import_module(module: str) -> ModuleType:
    """A module of the user, also from the folder the command was given in.

    Raises:
      UnknownTask: there is none, or importing it fails.
      MissingExtra: it needs a package that is not installed.
    """
    # A console script lacks the working directory on its path, where one's own module often is.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            raise UnknownTask(
                f"there is no module '{module}' here: install it or run from the folder it is in"
            ) from None
        raise MissingExtra(f"the module '{module}' needs a missing package: {error}") from None
    except Exception as error:  # the module is a user's
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UnknownTask(f"importing the module '{module}' failed with {what}") from None
