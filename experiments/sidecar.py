"""Small JSON files beside a run, as `result.json`: read where possible; a damaged one never stops a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, TypeVar

Kind = TypeVar("Kind", dict, list)


def read(path: Path) -> dict[str, Any]:
    """The content of a file; empty where there is none or (reported on standard error) an unreadable one."""
    content = _read(path, dict)
    if content is None:
        print(f"{path} is damaged and not read (no JSON object)", file=sys.stderr)
    return content or {}


def read_rows(path: Path, *fields: str) -> list[dict[str, Any]]:
    """The objects of a list that have all these fields; else as `read`."""
    content = _read(path, list)
    rows = [row for row in content or [] if isinstance(row, dict) and row.keys() >= set(fields)]
    if content is None or len(rows) < len(content):
        print(f"{path} is damaged and not read whole (no list of JSON objects)", file=sys.stderr)
    return rows


def keep_damaged(path: Path, kind: type = dict) -> None:
    """Before a file is rewritten: move an unreadable one out of the way, and report it."""
    if _read(path, kind) is not None:
        return
    names = [f"{path.name}.damaged", *(f"{path.name}.damaged-{n}" for n in range(2, 1000))]
    other = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    path.rename(other)
    print(f"{path} was damaged (no JSON object) and is replaced; {other} keeps it", file=sys.stderr)


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    """None where the file exists and does not hold this kind of value."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):  # an exported file is no folder with others beside it
        return kind()
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, kind) else None
