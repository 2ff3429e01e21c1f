"""Files of replay rows: `replay-<first row>-<row after the last>-<random>.npz`.

A segment never changes once it has its name, so that several checkpoints can share it and one
digest is enough. Inside are arrays `[num_envs, rows, ...]`, one per column, and a header that says
what they are, so that rows of another replay are refused. Reading executes nothing (no pickle).
"""

from __future__ import annotations

import json
import re
import secrets
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from dreamer import atomic
from dreamer.replay.layout import Column, ReplayError

FORMAT = "dreamer-replay 1"
NAME = re.compile(r"replay-(\d{12})-(\d{12})-[0-9a-f]{8}\.npz")


def span(name: str) -> tuple[int, int]:
    """First row of a segment and the row after its last, from its name."""
    match = NAME.fullmatch(name)
    if match is None:
        raise ReplayError(f"{name!r} is not the name of a replay file")
    return int(match[1]), int(match[2])


def write(
    folder: Path,
    first: int,
    last: int,
    num_envs: int,
    columns: Mapping[str, Column],
    arrays: Iterable[tuple[str, np.ndarray]],
) -> str:
    """Write rows `[first, last)` and return the name of their segment.

    Args:
      arrays: (column name, `[num_envs, last - first, ...]`), taken one at a time.

    Raises:
      OSError: disk full or folder not writable; then nothing is left behind.
    """
    name = f"replay-{first:012d}-{last:012d}-{secrets.token_hex(4)}.npz"
    header = json.dumps(_header(num_envs, columns)).encode()
    with atomic.opened(folder / name) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write_array(archive, "header", np.frombuffer(header, np.uint8))
        for key, value in arrays:
            _write_array(archive, key, value)
    return name


def read(path: Path, num_envs: int, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
    """The arrays of a segment by column name.

    Raises:
      ReplayError: the file is damaged, or it holds rows of another replay.
    """
    first, last = span(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(_read_array(archive, "header").tobytes())
            _check_same(header, _header(num_envs, columns), path)
            arrays = {key: _read_array(archive, key).view(column.dtype) for key, column in columns.items()}
    except ReplayError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ReplayError(f"the replay file {path} cannot be read: {error}") from None
    for key, column in columns.items():
        if arrays[key].shape != (num_envs, last - first, *column.shape):
            raise ReplayError(f"the replay file {path} is damaged: {key} has the wrong shape")
    return arrays


def _header(num_envs: int, columns: Mapping[str, Column]) -> dict[str, Any]:
    stored = {key: str(column) for key, column in columns.items()}
    return {"format": FORMAT, "num_envs": num_envs, "columns": stored}


def _write_array(archive: zipfile.ZipFile, key: str, value: np.ndarray) -> None:
    if value.dtype == ml_dtypes.bfloat16:  # an .npy file cannot name it: its bits are stored
        value = value.view(np.uint16)
    with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, value, allow_pickle=False)


def _read_array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(f"{key}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _check_same(stored: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    """Refuse rows of another replay, naming the first difference."""
    for name in ("format", "num_envs"):
        if stored.get(name) != wanted[name]:
            raise ReplayError(
                f"{path} was written with {name} {stored.get(name)!r}, this replay has {wanted[name]!r}"
            )
    for name in {**stored["columns"], **wanted["columns"]}:
        was, now = (header["columns"].get(name, "nothing") for header in (stored, wanted))
        if was != now:
            raise ReplayError(f"{path} stores {name} as {was}, this replay as {now}")
