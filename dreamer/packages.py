"""Import our packages from beside this file, even where a user's folder or package has the name of one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds all of them."""
OURS = ("dreamer", "envs", "experiments")

_claimed: set[str] = set()


class Finder:
    """Finds a claimed package in `ROOT`, whatever comes first on the path."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(ROOT)]) if name in _claimed else None


def claim(*names: str) -> None:
    """From now on `import NAME` gives our package of that name.

    Raises:
      ImportError: another package of that name is already imported.
    """
    for name in names:
        module = sys.modules.get(name)
        if module is not None and ROOT not in (place := _place(module)).parents:
            raise ImportError(
                f"dreamer-toolkit needs its package '{name}' in {ROOT}, but {place} was imported under that "
                "name: rename yours, or start with the command `dreamer`, which needs no other name"
            )
    _claimed.update(names)
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)  # pyrefly: ignore


def _place(module: ModuleType) -> Path:
    """The file of a module, or the folder of a package without `__init__.py`."""
    where = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "nowhere")
    return Path(where).resolve()
