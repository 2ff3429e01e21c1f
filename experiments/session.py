"""What a run needs around the loop: its folder, its surroundings, and signals that end it gently."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from dreamer import schema
from dreamer.config import Config, load_toml
from dreamer.schema import ConfigError
from experiments import surroundings

MAY_CHANGE = (
    *("steps", "until", "preset", "env.parallel", "loop.devices"),
    *("eval.", "report.", "log.", "checkpoint."),
)
"""Fields that a run may change when it is resumed; the learner does not depend on them."""

GRACE = 15.0
"""Seconds until a process that is too deep in a compilation to notice a signal is ended."""

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
    """Write a file so that a crash leaves the old one or the new one."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


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
    """Whether somebody asked the run to end; true as a condition once they did."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextlib.contextmanager
def gentle_signals() -> Iterator[Stop]:
    """Within it the first SIGINT or SIGTERM only sets the `Stop`; a second one ends the process at once.

    Python runs signal handlers between its own instructions, so one that arrives during a long compilation
    would wait for it. A thread that the C handler wakes sees it at once and gives Python `GRACE` seconds to
    notice; ending the process then loses nothing that was saved, because saves are atomic.
    """
    stop, noticed, done = Stop(), threading.Event(), threading.Event()
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        first = reader.recv(1)
        if not first:
            return
        noticed.wait(GRACE)
        if noticed.is_set():
            reader.recv(1)
        if not done.is_set():
            os._exit(128 + first[0])

    def note(number: int, frame: Any) -> None:
        stop.signal = number
        noticed.set()

    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, note) for number in signals}
    old_writer = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, daemon=True, name="signals")
    thread.start()
    try:
        yield stop
    finally:
        done.set()
        noticed.set()
        signal.set_wakeup_fd(old_writer)
        for number, handler in previous.items():
            signal.signal(number, handler)
        writer.close()
        thread.join(1.0)
        reader.close()
