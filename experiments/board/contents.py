"""The content of files that anyone may have put there: it is what it should be, or is refused by name."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from experiments.board import settings
from experiments.board.files import Folder
from experiments.board.settings import Settings

LARGEST = 2**22
"""Bytes of a file that is read whole for a row."""
TAIL = 16384
"""Bytes of the end of a log."""
T = TypeVar("T")


class Damaged(Exception):
    """A file is not what it should be; the message says which and why."""


def json_of(folder: Folder, name: str, kind: type[T]) -> T:
    """The object or list in a JSON file; empty where there is no file.

    Raises:
      Damaged: it cannot be read, or holds something else.
    """
    try:
        content = _parsed(folder, name, json.loads)
    except FileNotFoundError:
        return kind()
    if not isinstance(content, kind):
        raise Damaged(f"{name} is damaged (it holds something else)")
    return content


def toml_of(folder: Folder, name: str) -> dict[str, Any]:
    """The tables of a TOML file; raises as `json_of`, also where there is none."""
    return _needed(folder, name, tomllib.loads)


def settings_of(folder: Folder, name: str) -> Settings:
    """The fields of a TOML file; raises as `toml_of`."""
    return _needed(folder, name, settings.read)


def _needed(folder: Folder, name: str, parse: Callable[[str], T]) -> T:
    try:
        return _parsed(folder, name, parse)
    except FileNotFoundError:
        raise Damaged(f"{name} is missing") from None


def _parsed(folder: Folder, name: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(folder.read(name, LARGEST).decode("utf-8-sig"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"{name} cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise Damaged(f"{name} is damaged (it is nested too deep)") from None
    except ValueError as error:
        raise Damaged(f"{name} is damaged ({' '.join(str(error).split()):.120})") from None


def rows_of(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """The rows of a log that have environment steps; what is torn or damaged is left out."""
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and number(row.get("env_steps")) is not None:
            rows.append(row)
    return rows


def is_training(row: dict[str, Any]) -> bool:
    """Whether a row of `episodes.jsonl` is of a training episode."""
    return row.get("kind", "train") == "train"


def number(value: Any) -> float | None:
    """A finite number, truth values among them; None for anything else."""
    if not isinstance(value, int | float) or not abs(value) < 1e300:
        return None
    return float(value) if isinstance(value, bool) else value


def whole(value: Any) -> int | None:
    """As `number`, without what follows the point."""
    known = number(value)
    return None if known is None else int(known)


def text(value: Any) -> str:
    """A text that is not too long to show; empty for anything else."""
    return str(settings.plain(value)) if isinstance(value, str) else ""


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
