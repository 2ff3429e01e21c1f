"""What a run needs around the loop: its folder, its surroundings, and signals that end it gently."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from dreamer import schema
from dreamer.config import Config, load_toml
from dreamer.schema import ConfigError
from envs import watchdog
from envs.watchdog import Interrupted
from experiments import surroundings

MAY_CHANGE = (
    *("steps", "until", "preset", "env.parallel", "loop.devices", "env.timeout"),
    *("eval.", "report.", "log.", "checkpoint."),
)
"""Fields that a run may change when it is resumed; the learner does not depend on them."""

GRACE = 8.0
"""Seconds until a process that does not heed a signal is ended; those in which it saves do not count."""
PATIENCE = 2.0
"""Seconds that an environment has to answer after a signal."""
TICK = 0.2
"""Seconds between two looks at whether a process heeds a signal."""

PACKAGES = (
    "dreamer-toolkit",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "gymnasium",
    "minigrid",
)


def open_folder(folder: Path, cfg: Config, force: tuple[str, ...]) -> bool:
    """Make or reopen a run folder and write the resolved configuration; True if it is a resume.

    Raises:
      ConfigError: the folder is something else, or the configuration changed in what must not change.
    """
    stored = folder / "config.toml"
    resume = stored.is_file()
    if resume:
        _check_changes(load_toml(stored), cfg, folder, force)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists but is not a run (it has no config.toml): choose another --run.")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(stored, schema.dump_toml(cfg))
    return resume


def _check_changes(old: Config, new: Config, folder: Path, force: tuple[str, ...]) -> None:
    fixed = [
        (path, was, now)
        for path, was, now in schema.diff(old, new)
        if not path.startswith(MAY_CHANGE) and path not in force
    ]
    if fixed:
        listed = "; ".join(f"{path} was {was!r}, now {now!r}" for path, was, now in fixed)
        names = " ".join(path for path, _, _ in fixed)
        raise ConfigError(
            f"{folder} was trained with another configuration: {listed}. Use another --run, "
            f"or accept the change with --force {names}."
        )


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a crash leaves the old one or the new one.

    Raises:
      OSError: naming the file; nothing is left of the new one.
    """
    temporary = path.with_suffix(path.suffix + ".tmp")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def record_surroundings(folder: Path, cfg: Config) -> None:
    """Append to `environment.json` where, when, with what and by which command this session runs."""
    import jax

    path = folder / surroundings.FILE
    sessions = surroundings.sessions(folder)
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    versions |= surroundings.world_versions(cfg)
    session = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join(sys.argv),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": [str(d) for d in jax.devices()],
        "versions": versions,
        "commit": commit(),
    }
    write_atomically(path, json.dumps({"sessions": [*sessions, session]}, indent=1))


def commit() -> str | None:
    """The commit of the source this runs from, where it is a checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        return found.stdout.strip() or None
    return None


class Stop:
    """Whether somebody asked the process to end; true as a condition once they did."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.is_held = True
        """Whether a signal only sets this; else it also raises `Interrupted` wherever the main thread is."""
        self.takes_its_time = True
        """Whether a process that knows of a signal may take as long as it needs."""
        self.last_words = "ended before it could stop by itself; what was saved is as it was"
        """What a process says that has to be ended."""

    def __bool__(self) -> bool:
        return self.signal is not None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within it a signal only sets this, because something is not saved."""
        with self._as(is_held=True):
            yield

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Within it a signal raises `Interrupted`, because nothing is lost by that.

        Raises:
          Interrupted: there was one before.
        """
        with self._as(is_held=False):
            if self:
                raise Interrupted
            yield

    @contextlib.contextmanager
    def unhurried(self) -> Iterator[None]:
        """Within it what is done takes as long as it needs, such as to save."""
        with self._as(takes_its_time=True):
            yield

    @contextlib.contextmanager
    def _as(self, **fields: bool) -> Iterator[None]:
        before = {name: getattr(self, name) for name in fields}
        vars(self).update(fields)
        try:
            yield
        finally:
            vars(self).update(before)


def stop_at_once() -> Stop:
    """A `Stop` for `gentle_signals` by which a signal ends the process soon, whatever it does."""
    stop = Stop()
    stop.is_held = stop.takes_its_time = False
    return stop


@contextlib.contextmanager
def gentle_signals(stop: Stop | None = None) -> Iterator[Stop]:
    """Within it the first SIGINT or SIGTERM asks to stop, and a second one ends the process at once.

    Python runs signal handlers between its own instructions, so one that arrives during a long compilation
    would wait for it. A thread that the C handler wakes sees it at once. It reminds the main thread where it
    may be interrupted, and ends the process if it has not stopped in `GRACE` seconds; that loses nothing that
    was saved, because saves are atomic.
    """
    stop = Stop() if stop is None else stop
    signals = (signal.SIGINT, signal.SIGTERM)
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watchdog.listen()

    def note(number: int, frame: Any) -> None:
        stop.signal = stop.signal or number
        if not stop.is_held:
            raise Interrupted

    previous = {number: signal.signal(number, note) for number in signals}
    old_writer = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, stop, signals), daemon=True, name="signals")
    thread.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(old_writer)
        for number, handler in previous.items():
            signal.signal(number, handler)
        writer.close()
        thread.join(1.0)
        reader.close()


def _watch(reader: socket.socket, stop: Stop, signals: Sequence[int]) -> None:
    """See to it that a process ends after a signal, until the other end of `reader` is closed."""
    first, left, patience = 0, GRACE, PATIENCE
    looked = time.monotonic()
    while True:
        there = select.select([reader], [], [], TICK if first else None)[0]
        received = reader.recv(64) if there else b""
        if there and not received:
            return
        before, looked = looked, time.monotonic()
        asked = [number for number in received if number in signals]
        if first and asked:
            watchdog.leave(128 + first, stop.last_words)
        if not first:
            first = next(iter(asked), 0)
            continue
        if stop and stop.takes_its_time:
            continue
        left, patience = left - (looked - before), patience - (looked - before)
        if left <= 0:
            watchdog.leave(128 + first, stop.last_words)
        if patience <= 0:
            patience = 1.0
            watchdog.interrupt(Interrupted(), lambda: not stop.is_held)
