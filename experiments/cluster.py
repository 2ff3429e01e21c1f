"""Which process of a run this is, and what all of them share before training starts.

Plain variables say it, `dreamer launch` sets them, and the tasks of a SLURM step have theirs:

    DREAMER_COORDINATOR=node1:7733      where process 0 listens
    DREAMER_PROCESSES=4                 how many there are
    DREAMER_PROCESS=2                   the number of this one, from 0
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dreamer import processes, schema
from dreamer.config import Config
from dreamer.processes import Processes
from dreamer.schema import ConfigError
from envs import watchdog
from experiments import signals, surroundings

COORDINATOR, COUNT, INDEX = "DREAMER_COORDINATOR", "DREAMER_PROCESSES", "DREAMER_PROCESS"
FIRST_PORT, PORTS = 61440, 4096
"""Ports from which one is derived from the number of a job of SLURM."""
AFTERWARDS = 2.0
"""Seconds that a process waits for the sentence of the one whose end caused its error."""
SHUTDOWN = 15
"""Seconds that JAX waits for all processes at the end."""


class Place(NamedTuple):
    """Where a process stands."""

    index: int
    count: int
    host: str
    port: int
    local: int | None = None
    """Its number on its machine, where it has one device of it."""


def place(environ: Mapping[str, str]) -> Place | None:
    """Which process of how many the environment says this is; None for a process alone.

    Raises:
      ConfigError: the variables are incomplete, or no numbers.
    """
    names = (COORDINATOR, COUNT, INDEX)
    if any(name in environ for name in names):
        if missing := [name for name in names if not environ.get(name)]:
            raise ConfigError(f"{missing[0]} is not set: a process of several needs {', '.join(names)}")
        host, _, port = environ[COORDINATOR].rpartition(":")
        if not host or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
            raise ConfigError(
                f"{COORDINATOR} must be host:port, as node1:7733, but it is {environ[COORDINATOR]}"
            )
        count, index = (_number(name, environ[name]) for name in (COUNT, INDEX))
        if not 0 <= index < count:
            raise ConfigError(f"{INDEX} must be 0 to {count - 1}, as {COUNT} is {count}, but it is {index}")
        return Place(index, count, host, int(port)) if count > 1 else None
    return _of_slurm(environ)


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"{name} must have a number, but it is '{text}'")
    return int(text)


def _of_slurm(environ: Mapping[str, str]) -> Place | None:
    """A task of a step of several (`srun`); process 0 is on the first node of the step."""
    if int(environ.get("SLURM_STEP_NUM_TASKS", 1)) < 2 or "SLURM_PROCID" not in environ:
        return None
    job = environ.get("SLURM_JOB_ID", "0") + environ.get("SLURM_STEP_ID", "0")
    host = _first_node(environ.get("SLURM_STEP_NODELIST", "localhost"))
    count, index = int(environ["SLURM_STEP_NUM_TASKS"]), int(environ["SLURM_PROCID"])
    return Place(index, count, host, FIRST_PORT + int(job) % PORTS, int(environ.get("SLURM_LOCALID", 0)))


def _first_node(nodes: str) -> str:
    """`node[03-05,9],x` -> `node03`."""
    match = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", nodes)
    return match[1] + (match[2] or "") if match else nodes


def join(place: Place | None, folder: Path, cfg: Config) -> Processes:
    """Connect this process with the others of its run, also in JAX; it stays one of them until it ends.

    Args:
      place: None for a process alone.
      folder, cfg: of the run, which must be the same in all processes, as must the versions of packages.

    Raises:
      ConfigError: the processes do not come, or differ.
    """
    if place is None:
        return processes.ALONE
    about = {
        "run": str(folder.absolute()),
        "config": schema.to_dict(cfg),
        "versions": surroundings.package_versions(),
        "port": _free_port() if place.index == 0 else 0,
    }
    us, everyone = processes.meet(place.index, place.count, place.host, place.port, _leave, about)
    processes.become(us)
    assert us.line is not None
    check_same(us.line.names, everyone)
    _initialize(place, everyone[0]["port"])
    return us


def listen(stop: signals.Stop) -> None:
    """Have a request to stop that reaches one process reach all."""
    if (line := processes.current().line) is not None:
        line.signal, line.asked = lambda: stop.signal, stop.ask


def part(code: int, sentence: str = "") -> None:
    """Say goodbye to the other processes, at the end of this one.

    Args:
      sentence: why, if that is an error: the others then end too, and process 0 says it.
    """
    us = processes.current()
    if us.line is None or us.line.is_closed:
        return
    if not sentence:
        import jax

        with contextlib.suppress(RuntimeError):
            jax.distributed.shutdown()  # together, or JAX would complain of the first that is gone
    us.line.close(code, sentence)


def stumble(error: BaseException) -> None:
    """Part because of an error that nothing explains, unless another process has ended and is the reason."""
    if processes.current().line is not None:
        time.sleep(AFTERWARDS)  # in which a thread ends this process if another one is gone
        part(1, f"{type(error).__name__}: {error}")


def _leave(code: int, sentence: str) -> None:
    watchdog.leave(code, sentence)


def check_same(names: Sequence[str], everyone: Sequence[Mapping[str, Any]]) -> None:
    """Check that all processes train the same with the same packages.

    Args:
      names: of the processes.
      everyone: `run`, `config` and `versions` of each.

    Raises:
      ConfigError: one differs from process 0; says which and in what.
    """
    first = everyone[0]
    for name, other in zip(names, everyone, strict=True):
        for what in ("run", "versions", "config"):
            if differences := _differences(first[what], other[what]):
                path, was, now = differences[0]
                more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
                raise ConfigError(
                    f"{name} differs from process 0: {what}{path} is {now!r}, there {was!r}{more}; start all "
                    "processes with the same command and the same packages"
                )


def _differences(first: Any, other: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """(path, value in the first, value in the other) of all that differs in nested mappings."""
    if not (isinstance(first, Mapping) and isinstance(other, Mapping)):
        return [] if first == other else [(path, first, other)]
    keys = {**first, **other}
    return [d for k in keys for d in _differences(first.get(k), other.get(k), f"{path}.{k}")]


def _initialize(place: Place, port: int) -> None:
    import jax

    with contextlib.suppress(AttributeError):  # it would take SIGTERM for itself
        jax.config.update("jax_enable_preemption_service", False)
    local = None if place.local is None else [place.local]
    jax.distributed.initialize(
        f"{place.host}:{port}",
        place.count,
        place.index,
        local_device_ids=local,
        shutdown_timeout_seconds=SHUTDOWN,
    )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]
