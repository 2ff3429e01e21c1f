"""modules: a user's own, by name, also in a folder that has the name of one of our packages.

Such a folder (`envs/`, `experiments/`) is read from the working directory or the path as part of a package
`working_folder`: relative imports within it work as they are, and what its files import by the folder's name
is theirs where they have it, else ours.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from envs import trust
from envs.adapters import MissingExtra, UnknownTask, suggestion

OURS = ("dreamer", "envs", "experiments")
HERE = Path(__file__).resolve().parents[1]
"""The folder of our packages."""
KNOWN = ("gymnasium", "minigrid", "ale_py", "shimmy")
"""Packages of suites whose modules a task may name."""
ALIAS = "working_folder"
"""The package in which a user's modules are whose names are taken."""

_aliases: dict[str, str] = {}
"""{folder: that package}: mostly there is one."""


def import_module(module: str) -> ModuleType:
    """A module of the user, also from the folder the command was given in.

    Raises:
      UnknownTask: there is none, or importing it fails.
      MissingExtra: it needs a package that is not installed.
    """
    examine(module)
    # A console script lacks the working directory on its path, where one's own module often is.
    if os.getcwd() not in sys.path and "" not in sys.path and trust.allows(os.getcwd()):
        sys.path.append(os.getcwd())
    try:
        return _imported(module)
    except ModuleNotFoundError as error:
        if _is_within(module, _without_alias(error.name or "")):
            raise UnknownTask(_absent(module)) from None
        raise MissingExtra(f"the module '{module}' needs a missing package: {error}") from None
    except (Exception, SystemExit) as error:  # the module is a user's
        raise UnknownTask(f"importing the module '{module}' failed with {described(error)}") from None


def examine(module: str) -> None:
    """See that a module may be imported, of which no file runs before that.

    Raises:
      UnknownTask: it is not named as modules are, or it is `trust.Untrusted`.
    """
    if "/" in module or module.endswith(".py"):
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise UnknownTask(f"'{module}' is a file, but a module is named with dots; did you mean {dotted}?")
    if trust.guard() is not None:
        trust.check(module, _files(module), (*OURS, *KNOWN))


def _files(module: str) -> list[Path]:
    """Those that importing it may run, as `_imported` goes about it."""
    here = os.getcwd()
    places = [entry or here for entry in sys.path]
    files, whole = trust.files_of(module, [*places, here]) if not is_taken(module) else ([], False)
    place = None if whole else _place(module)
    return files if place is None else files + trust.files_of(module, [place])[0]


def attribute(name: str) -> Callable[..., Any]:
    """What `module:name` names, a class or a function of a user's module.

    Raises:
      UnknownTask, MissingExtra: as `import_module`, or the module has no such name.
    """
    module, _, attribute = name.partition(":")
    imported = import_module(module)
    if not callable(getattr(imported, attribute, None)):
        names = [key for key, value in vars(imported).items() if callable(value)]
        raise UnknownTask(f"the module {module} has no '{attribute}'{suggestion(attribute, names)}")
    return getattr(imported, attribute)


def is_allowed(module: str) -> bool:
    """Whether a module that only a file names may be imported.

    In a command `envs.trust` is asked at the import. A user's program has no guard, and decides by importing
    the module itself.
    """
    names = (module, *(f"{alias}.{module}" for alias in _aliases.values()))
    return trust.guard() is not None or any(name in sys.modules for name in names)


def described(error: BaseException) -> str:
    """An error as one line: its kind, and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def is_taken(module: str) -> bool:
    """Whether the name of a user's module begins like one of our packages."""
    return module.partition(".")[0] in OURS and _place(module) is not None


def _imported(module: str) -> ModuleType:
    if is_taken(module):
        return importlib.import_module(_renamed(module))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # An installed package may have the same name as the user's folder (many install one called `tests`).
        if not _is_within(module, error.name or "") or _place(module) is None:
            raise
        return importlib.import_module(_renamed(module))


def _is_within(module: str, package: str) -> bool:
    return module == package or bool(package) and module.startswith(f"{package}.")


def _absent(module: str) -> str:
    top = module.partition(".")[0]
    also = f" ('{top}' is also a package of dreamer-toolkit, which lacks it)" if top in OURS else ""
    return f"there is no module '{module}' here{also}: install it or run from the folder it is in"


def _place(module: str) -> str | None:
    """The folder in which a user has such a module, here or along the path; nothing is imported."""
    places = dict.fromkeys([os.getcwd(), *(entry or os.getcwd() for entry in sys.path)])
    others = (place for place in places if Path(place).resolve() != HERE)
    return next((place for place in others if _is_in(place, module)), None)


def _is_in(place: str, module: str) -> bool:
    places: Sequence[str] | None = [place]
    for part in module.split("."):
        spec = PathFinder.find_spec(part, places) if places is not None else None
        if spec is None:
            return False
        places = spec.submodule_search_locations
    return True


def _renamed(module: str) -> str:
    """The name under which a user's module is imported whose own is taken."""
    place = _place(module)
    assert place is not None
    if place not in _aliases:
        name = _aliases[place] = f"{ALIAS}{len(_aliases) or ''}"
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [place]
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)  # pyrefly: ignore
    return f"{_aliases[place]}.{module}"


def _without_alias(name: str) -> str:
    top, _, rest = name.partition(".")
    return rest if top in _aliases.values() else name


@contextlib.contextmanager
def ours_first() -> Iterator[None]:
    """Processes that start meanwhile import our packages from where this one did."""
    sys.path.insert(0, str(HERE))
    try:
        yield
    finally:
        sys.path.remove(str(HERE))


class _Finder:
    """Finds the modules below `ALIAS`, as Python does, and has them imported by `_Loader`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if _without_alias(name) != name else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            assert spec.origin is not None
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    """Runs a user's file so that its `import envs.mine` is its neighbour."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """`__import__` of the files of a user whose names are taken."""
    alias, top = str((globals or {})["__name__"]).partition(".")[0], name.partition(".")[0]
    place = next(place for place, other in _aliases.items() if other == alias)
    if level or not (top in OURS or f"{alias}.{top}" in sys.modules) or not _is_in(place, name):
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    theirs = f"{alias}.{name}"
    if not fromlist:
        importlib.import_module(theirs)
        return sys.modules[f"{alias}.{top}"]
    imported = builtins.__import__(theirs, globals, locals, fromlist, 0)
    if any(item == "*" or hasattr(imported, item) for item in fromlist):
        return imported
    return builtins.__import__(name, globals, locals, fromlist, 0)
