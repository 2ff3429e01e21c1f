"""Locks of folders: one process writes into a folder, on whatever file system and machine.

The holder's file says who it is and is touched every few seconds. On the same machine the system knows
whether the holder lives, so what a killed process left is free at once. Of a process elsewhere only the
file's time is evidence: it is compared with that of another file written there now, so that clocks of
machines need not agree, and a holder is considered dead only if nothing changes while we watch.

Reference: lockfiles of mail folders, as in Debian's liblockfile.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreamer.schema import ConfigError

NAME = "in-use.lock"
BEAT = 5.0
"""Seconds between two signs of life."""
STALE = 60.0
"""Seconds without one after which a holder on another machine may be dead."""
WATCH = 12.0
"""Seconds in which a live holder gives at least one more."""
SETTLE = 0.5
"""Seconds after which two processes that took over the same lock see which wrote last, and so holds it."""


class Lock:
    """A folder that this process holds; `lost` once another process considered it dead and took over."""

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path, self.identity = path, identity
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="folder-lock")

    @property
    def lost(self) -> bool:
        """Whether another process holds the folder now, as after this machine slept."""
        holder = _read(self.path)
        return holder is not None and holder.get("token") != self.identity["token"]

    def _start(self) -> None:
        self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):  # a file system that is away for a moment
                if not self.lost:
                    os.utime(self.path)

    def release(self) -> None:
        """Give the folder back."""
        self._over.set()
        self._thread.join(1.0)
        with contextlib.suppress(OSError):
            if not self.lost:
                self.path.unlink()


@contextlib.contextmanager
def held(folder: Path, what: str, other: str = "another folder") -> Iterator[Lock]:
    """Within it no other process holds this folder.

    Args:
      folder: an existing one.
      what: what runs in it, as "comparison".
      other: what else the user can choose, as "another --out".

    Raises:
      ConfigError: another process holds it (the message says which, where and since when), or it cannot be
        written.
    """
    lock = take(folder, what, other)
    try:
        yield lock
    finally:
        lock.release()


def take(folder: Path, what: str, other: str = "another folder") -> Lock:
    """As `held`, but the caller releases it."""
    path, identity = folder / NAME, _identity(what)
    draft = folder / f"{NAME}.{identity['token']}"
    try:
        draft.write_text(json.dumps(identity))
        if not _place(draft, path):
            _take_over(draft, path, folder, other)
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"{folder} cannot be written ({why}); a {what} needs to: choose {other}") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    lock = Lock(path, identity)
    lock._start()
    return lock


def forget(folder: Path, what: str) -> None:
    """Remove the lock of a process on another machine, for callers that know that it has ended.

    Args:
      what: only a lock taken for this purpose.
    """
    holder = _read(folder / NAME)
    if holder is not None and holder["what"] == what and holder["machine"] != _machine():
        with contextlib.suppress(OSError):
            (folder / NAME).unlink()


def is_alive(content: bytes, age: float) -> bool:
    """Whether the process that wrote a lock lives, as far as can be known by looking at it once.

    Args:
      content: of the file of the lock.
      age: seconds since the file was touched, which is all that is known of a process on another machine.
    """
    holder = _parsed(content)
    if holder is None or holder["machine"] != _machine():
        return age < STALE
    return isinstance(holder["pid"], int) and _lives(holder["pid"], holder["began"])


def _place(draft: Path, path: Path) -> bool:
    """Make the draft the lock atomically, if there is none; whether it is."""
    try:
        os.link(draft, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # no such links here
        try:
            with path.open("x") as file:
                file.write(draft.read_text())
            return True
        except FileExistsError:
            return False


def _take_over(draft: Path, path: Path, folder: Path, other: str) -> None:
    """Take a lock whose holder is dead.

    Raises:
      ConfigError: the holder lives.
    """
    mine = json.loads(draft.read_text())
    holder = _read(path)
    if not _is_dead(holder, mine, path, draft):
        raise ConfigError(_refusal(folder, holder, mine["what"], other))
    if _read(path) == holder:  # no other process was faster
        draft.rename(path)
    time.sleep(SETTLE)
    winner = _read(path)
    if winner is None or winner["token"] != mine["token"]:
        raise ConfigError(_refusal(folder, winner, mine["what"], other))


def _is_dead(holder: dict[str, Any] | None, mine: dict[str, Any], path: Path, draft: Path) -> bool:
    if holder is not None and holder["machine"] == mine["machine"]:
        return not _lives(int(holder["pid"]), holder["began"])
    age = _age(path, draft)
    if age is not None and -STALE < age < STALE:
        return False
    before = _stamp(path)
    time.sleep(WATCH)
    return _stamp(path) == before


def _age(path: Path, draft: Path) -> float | None:
    """Seconds since the last sign of life, by the clock of the file system; None: the file has gone."""
    try:
        os.utime(draft)
        with path.open("rb"), draft.open("rb"):  # opening makes a network file system refresh
            return draft.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None


def _stamp(path: Path) -> tuple[Any, int] | None:
    try:
        holder = _read(path)
        return (holder and holder["token"]), path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _identity(what: str) -> dict[str, Any]:
    return {
        "what": what,
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "began": _began(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "token": uuid.uuid4().hex,
    }


def _machine() -> str:
    """The scope of a process id: this boot of this machine, this container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts) if len(parts) == 3 else f"{parts[0]} {uuid.getnode():x}"


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None where there are none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _began(pid: int) -> str | None:
    """When a process began, which tells it from a later one with its number."""
    stat = _stat(pid)
    return None if stat is None else stat[19]


def _lives(pid: int, began: str | None) -> bool:
    stat = _stat(pid)
    if stat is not None:
        return stat[0] not in ("Z", "X", "x") and began in (None, stat[19])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        pass
    return True


def _read(path: Path) -> dict[str, Any] | None:
    """Who holds a lock; None where that cannot be read."""
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return None


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        holder = json.loads(content)
        needed = {"host", "machine", "pid", "began", "since", "token", "what"}
        return holder if isinstance(holder, dict) and needed <= holder.keys() else None
    except (ValueError, RecursionError):
        return None


def _refusal(folder: Path, holder: dict[str, Any] | None, what: str, other: str) -> str:
    if holder is None:
        return f"{folder} is in use, but its {NAME} cannot be read: wait, or choose {other}"
    return (
        f"{folder} is in use: a {holder['what']} runs there since {holder['since']} on {holder['host']}, "
        f"process {holder['pid']}; wait until it has ended, or choose {other}"
    )
