"""Files that lie below one folder, and nothing else.

Other users may write below it. So every folder on the way is opened from the one above it, and no symbolic
link is followed, wherever it leads. Only regular files are read, up to a size, and nothing is ever written.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CHUNK = 2**22
"""Bytes that are read at once of a file that is read whole."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW  # a pipe must not block


class Stamp(NamedTuple):
    """What changes when a file does: its number, time in nanoseconds and size."""

    inode: int
    time: int
    size: int


class Listing(NamedTuple):
    """The names in a folder."""

    files: frozenset[str]
    folders: tuple[str, ...]


class Folder:
    """An open folder below the root."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def listing(self) -> Listing:
        """Its regular files, and its folders in the order of their names."""
        with os.scandir(self._descriptor) as entries:
            kinds = [
                (e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)) for e in entries
            ]
        files = frozenset(name for name, _, is_file in kinds if is_file)
        return Listing(files, tuple(sorted(name for name, is_folder, _ in kinds if is_folder)))

    def read(self, name: str, limit: int) -> bytes:
        """A whole file.

        Raises:
          OSError: it is not there, no regular file, or has more than `limit` bytes.
        """
        with self._opened(name) as descriptor:
            content = os.read(descriptor, limit + 1)
            while len(content) <= limit and (more := os.read(descriptor, CHUNK)):
                content += more
        if len(content) > limit:
            raise OSError(f"it has more than {limit:,} bytes")
        return content

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a file; none where it cannot be read."""
        try:
            with self._opened(name) as descriptor:
                return os.pread(descriptor, size, 0)
        except OSError:
            return b""

    def tail(self, name: str, size: int) -> list[bytes]:
        """The whole lines within the last bytes of a file; none where it cannot be read."""
        try:
            with self._opened(name) as descriptor:
                start = max(os.fstat(descriptor).st_size - size, 0)
                lines = os.pread(descriptor, size, start).splitlines()
        except OSError:
            return []
        return lines[1:] if start else lines  # the first one may be cut

    def since(self, name: str, stamp: Stamp | None, start: int) -> Iterator[tuple[Stamp, int, bytes]]:
        """Whole lines from byte `start` of a file on, or from its beginning if it is another one than before.

        Args:
          stamp: of the file when it was read before.

        Yields:
          The stamp of the file, where the lines begin in it, and the lines, some megabytes at a time.
        """
        with self._opened(name) as descriptor:
            now = stamp_of(os.fstat(descriptor))
            at = start if stamp is not None and stamp.inode == now.inode and start <= now.size else 0
            yield now, at, b""
            while size := (lines := os.pread(descriptor, CHUNK, at)).rfind(b"\n") + 1:
                yield now, at, lines[:size]
                at += size

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        descriptor = os.open(_one(name), FILE, dir_fd=self._descriptor)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("it is no regular file")
            yield descriptor
        finally:
            os.close(descriptor)


class Files:
    """What lies below `root`, by paths with slashes; the empty path is `root` itself."""

    def __init__(self, root: Path):
        self.root = root.resolve()

    @contextlib.contextmanager
    def folder(self, path: str) -> Iterator[Folder]:
        """An open folder.

        Raises:
          OSError: it is not there, or lies elsewhere.
        """
        descriptor = os.open(self.root, FOLDER)
        try:
            for name in path.split("/") if path else ():
                inner = os.open(_one(name), FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield Folder(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: str, limit: int) -> bytes:
        """A whole file; raises as `Folder.read`."""
        above, _, name = path.rpartition("/")
        with self.folder(above) as folder:
            return folder.read(name, limit)

    def stamp(self, path: str) -> Stamp | None:
        """The stamp of a file or folder; None where there is none."""
        try:
            return stamp_of(os.lstat(os.path.join(self.root, path)))
        except (OSError, ValueError):
            return None


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_ino, status.st_mtime_ns, status.st_size)


def _one(name: str) -> str:
    """A name within a folder.

    Raises:
      OSError: it would lead elsewhere.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OSError(f"there is no file {name!r} here")
    return name
