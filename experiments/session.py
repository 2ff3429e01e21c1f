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
from dreamer.checkpoint import CheckpointStore, check_name
from dreamer.config import Config, load_toml
from dreamer.logger import read_rows
from dreamer.schema import ConfigError
from envs import watchdog
from envs.watchdog import Interrupted
from experiments import lock, sidecar, surroundings

MAY_CHANGE = (
    *("steps", "until", "preset", "env.parallel", "loop.devices", "env.timeout"),
    *("eval.", "report.", "log.", "checkpoint."),
)
"""Fields that a run may change when it is resumed; the learner does not depend on them."""

NEVER_CHANGE = (
    *("task", "env.obs", "env.pixels", "env.categories", "loop.num_envs", "population."),
    *("agent.encoder.", "agent.rssm.", "agent.decoder.", "agent.reward.", "agent.cont.", "agent.value."),
    *("agent.policy.layers", "agent.policy.units"),
)
"""Fields that decide which arrays there are: a run that has a checkpoint cannot change them at all."""

LENGTHS = ("loop.prefill", "loop.batch_length", "loop.num_envs")
"""Fields that a run must be long enough for."""

CONFIG = "config.toml"
TRAINER = "trainer"
"""Who holds the folder of a run."""

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
      ConfigError: as `check_folder`.
    """
    resume = check_folder(folder, cfg, force)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, cfg)
    return resume


def write_config(folder: Path, cfg: Config) -> None:
    """Write the resolved configuration of a run."""
    write_atomically(folder / CONFIG, schema.dump_toml(cfg))


def check_folder(folder: Path, cfg: Config, force: tuple[str, ...]) -> bool:
    """See that a folder can hold this run, without writing anything; True if it is a resume.

    Raises:
      ConfigError: the folder is something else, the configuration changed in what must not change, or there
        is a history and no checkpoint to go on from.
      CheckpointError: no checkpoint can be kept in a folder of that name.
    """
    if not (folder / CONFIG).is_file():
        return check_fresh(folder, cfg)
    check_name(folder)
    if unknown := [name for name in force if name not in schema.paths(Config)]:
        close = " or ".join(schema.closest(unknown[0], schema.paths(Config))) or "another one"
        raise ConfigError(f"--force names {unknown[0]}, which is no field; did you mean {close}?")
    old, store = load_toml(folder / CONFIG), CheckpointStore(folder / "checkpoints")
    begun = bool(store.steps())
    if not begun and (found := history(folder, store)):
        raise ConfigError(no_way_on(folder, f"holds {', '.join(found)}, but no checkpoint to go on from"))
    changed = schema.diff(old, cfg)
    _check_changes(changed, folder, force, begun)
    if not begun or any(path in LENGTHS for path, _, _ in changed):
        check_length(cfg)
    return True


def check_fresh(folder: Path, cfg: Config, force: tuple[str, ...] = ()) -> bool:
    """See that this run can begin in a folder, which may hold another one; False, as it is no resume.

    Raises:
      ConfigError: the folder is something else, or the run is too short for what it is to learn from.
      CheckpointError: no checkpoint can be kept in a folder of that name.
    """
    check_place(folder)
    check_length(cfg)
    return False


def check_place(folder: Path) -> None:
    """See that a folder is none, is empty or holds a run.

    Raises:
      ConfigError: it is something else.
      CheckpointError: no checkpoint can be kept in a folder of that name.
    """
    check_name(folder)
    is_run = (folder / CONFIG).is_file()
    if not is_run and folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
        raise ConfigError(f"{folder} exists but is not a run (it has no config.toml): choose another --run.")


def history(folder: Path, store: CheckpointStore) -> list[str]:
    """What a folder has of a run that saved at least once, in words; nothing of one that was only begun.

    The first checkpoint is written before the first row about an update.
    """
    rows = read_rows(folder / "metrics.jsonl")
    updates = max((row["updates"] for row in rows if isinstance(row.get("updates"), int)), default=0)
    episodes = len(read_rows(folder / "episodes.jsonl")) if updates else 0
    found = [f"a log of {updates:,} updates"] if updates else []
    found += [f"a log of {episodes:,} episodes"] if episodes else []
    found += [name for name in ("result.json", "report.html", "card.json") if (folder / name).exists()]
    found += [f"checkpoints/{name} ({why})" for name, why in store.faults().items()]
    aside = folder / "checkpoints" / "quarantine"
    return found + (["checkpoints/quarantine/"] if aside.is_dir() else [])


def no_way_on(folder: Path, why: str) -> str:
    """Why a run cannot go on, and what can be done."""
    return (
        f"{folder} {why}. Nothing was changed. Put its checkpoints back (or make them readable), choose "
        "another --run, or begin anew with --fresh, which keeps what is there in a folder beside it"
    )


def set_aside(folder: Path) -> None:
    """Move all of a run to a folder beside it, so that another one can begin; says so.

    Raises:
      ConfigError: there cannot be such a folder.
    """
    entries = [path for path in folder.iterdir() if _is_foreign(path)]
    if not entries:
        return
    before = f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    names = [before, *(f"{before}-{n}" for n in range(2, 1000))]
    place = folder.absolute().parent
    old = next(place / name for name in names if not os.path.lexists(place / name))
    try:
        old.mkdir()
        for path in sorted(entries, key=lambda path: path.name == CONFIG):  # last what makes it a run
            path.rename(old / path.name)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be moved to {old} ({error.strerror}): choose another --run instead of --fresh"
        ) from None
    print(f"{folder} begins anew; {old} keeps what was there", file=sys.stderr)


def claimed(folder: Path) -> contextlib.AbstractContextManager[Any]:
    """Within it no other process trains in this folder.

    Raises:
      ConfigError: somebody does; the message says who, where and since when.
    """
    return lock.held(folder, what=TRAINER, other="another --run")


def check_length(cfg: Config) -> None:
    """See that a run is long enough for what it is to learn from.

    Raises:
      ConfigError: it is not; names the field.
    """
    loop = cfg.loop
    if loop.prefill > cfg.steps:
        raise ConfigError(
            f"loop.prefill must be at most the steps of the run ({cfg.steps}), but it is {loop.prefill}: "
            "nothing would be learned"
        )
    needed = least_steps(cfg)
    if needed > cfg.steps:
        raise ConfigError(
            f"loop.batch_length is {loop.batch_length}, which with {loop.num_envs} environments takes "
            f"{needed} steps before anything can be learned, but the run has {cfg.steps} steps: take shorter "
            "sequences or more steps"
        )


def least_steps(cfg: Config) -> int:
    """Environment steps until the replay holds a sequence, and the step before it, of every environment."""
    return (cfg.loop.batch_length + 1) * cfg.loop.num_envs


def _is_foreign(path: Path) -> bool:
    """Whether this is not of a run that ended before it began."""
    return not path.name.startswith((lock.NAME, f"{CONFIG}.tmp"))


def _check_changes(
    changed: Sequence[tuple[str, Any, Any]], folder: Path, force: tuple[str, ...], begun: bool
) -> None:
    fixed = [change for change in changed if not change[0].startswith(MAY_CHANGE)]
    never = [change for change in fixed if begun and change[0].startswith(NEVER_CHANGE)]
    if never:
        raise ConfigError(
            f"{folder} was trained with another configuration: {_listed(never)}. What was learned does not "
            "fit that: train it as another run, with another --run."
        )
    fixed = [change for change in fixed if change[0] not in force]
    if fixed:
        names = " ".join(path for path, _, _ in fixed)
        raise ConfigError(
            f"{folder} was trained with another configuration: {_listed(fixed)}. Use another --run, "
            f"or accept the change with --force {names}."
        )


def _listed(changed: Sequence[tuple[str, Any, Any]]) -> str:
    return "; ".join(f"{path} was {was!r}, now {now!r}" for path, was, now in changed)


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
    sidecar.keep_damaged(path)
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
