"""Atomic writes: after a crash a file is the old one or the new one, and is complete on disk."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

DRAFT = re.compile(r".+\.\d+\.tmp")
"""Names of files that are being written, with the id of the process that writes them."""


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
    """Remove the drafts that killed processes left in a folder to which no other process writes now."""
    for path in folder.glob("*.tmp"):
        if DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)


def publish(folder: Path, path: Path) -> None:
    """Rename a complete folder within its parent and wait until the new name is on disk.

    Raises:
      OSError: the name is taken, or it cannot be written.
    """
    os.rename(folder, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(file: IO[bytes] | IO[str]) -> None:
    """Wait until what was written to a file is on disk."""
    file.flush()
    os.fsync(file.fileno())
