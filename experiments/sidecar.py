"""Small JSON files beside a run, as `result.json`: worth reading, but never worth stopping for."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
    """What a file says; empty where there is none, or (said on standard error) none that can be read."""
    found = _read(path)
    if found is None:
        print(f"{path} is damaged and not read (no JSON object)", file=sys.stderr)
    return found or {}


def keep_damaged(path: Path) -> None:
    """Before a file is written anew: move what cannot be read in its place out of the way, and say so."""
    if _read(path) is not None:
        return
    names = [f"{path.name}.damaged", *(f"{path.name}.damaged-{n}" for n in range(2, 1000))]
    other = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    os.replace(path, other)
    print(f"{path} was damaged (no JSON object) and is begun anew; {other} keeps it", file=sys.stderr)


def _read(path: Path) -> dict[str, Any] | None:
    """None where the file is there and holds no JSON object."""
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
