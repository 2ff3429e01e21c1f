"""Locks that end with their holder: the kernel frees them when the last process that has them is gone.

So no clock decides whether a worker is dead: a machine that sleeps keeps its locks, and those of a killed
process are free at once. They hold between machines where the file system supports that, as NFS does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from dreamer.schema import ConfigError


class Lock:
    """A file that at most one holder has; a child process that inherits `descriptor` holds it too."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def release(self) -> None:
        """Give it up; a child that inherited it still has it."""
        os.close(self.descriptor)


def take(path: Path, *, wait: bool = False) -> Lock | None:
    """Take a lock, or None if it is taken (and we do not wait).

    Raises:
      ConfigError: the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise ConfigError(
            f"{path.parent} is on a file system without locks ({error.strerror}), which workers need "
            "to share trials: put --out on another one"
        ) from None
    return Lock(descriptor)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Within it this process holds the lock; waits until it is free."""
    lock = take(path, wait=True)
    assert lock is not None
    try:
        yield
    finally:
        lock.release()
