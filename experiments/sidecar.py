"""Small JSON files beside a run, as `result.json`: worth reading, but never worth stopping for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, TypeVar

Kind = TypeVar("Kind", dict, list)


def read(path: Path) -> dict[str, Any]:
    """What a file says; empty where there is none, or (said on standard error) none that can be read."""
    found = _read(path, dict)
    if found is None:
        print(f"{path} is damaged and not read (no JSON object)", file=sys.stderr)
    return found or {}


def read_rows(path: Path, *fields: str) -> list[dict[str, Any]]:
    """The objects of a list that have all these fields; else as `read`."""
    found = _read(path, list)
    rows = [row for row in found or [] if isinstance(row, dict) and row.keys() >= set(fields)]
    if found is None or len(rows) < len(found):
        print(f"{path} is damaged and not read whole (no list of JSON objects)", file=sys.stderr)
    return rows


def keep_damaged(path: Path, kind: type = dict) -> None:
    """Before a file is written anew: move what cannot be read in its place out of the way, and say so."""
    if _read(path, kind) is not None:
        return
    names = [f"{path.name}.damaged", *(f"{path.name}.damaged-{n}" for n in range(2, 1000))]
    other = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    path.rename(other)
    print(f"{path} was damaged (no JSON object) and is begun anew; {other} keeps it", file=sys.stderr)


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    """None where the file is there and does not hold what it should."""
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return kind()
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, kind) else None
