"""Atomic writes: after a crash a file is the old one or the new one, and what has its name is on the disk."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

DRAFT = re.compile(r".+\.\d+\.tmp")
"""Names of files that are being written, with the number of the process that does."""


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file; text in UTF-8.

    Raises:
      OSError: naming the file, which is as it was.
    """
    with opened(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the name `path` when it is complete; nothing is left of one that is not.

    Raises:
      OSError: naming the file, which is as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            sync(file)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def clean(folder: Path) -> None:
    """Remove what killed processes left of their writes to a folder that nobody else writes to now."""
    for path in folder.glob("*.tmp"):
        if DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)


def publish(folder: Path, path: Path) -> None:
    """Give a complete folder its name, beside the one it has, and wait until that is on the disk.

    Raises:
      OSError: there is something of that name, or it cannot be written.
    """
    os.rename(folder, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(file: IO[bytes] | IO[str]) -> None:
    """Wait until what was written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())
