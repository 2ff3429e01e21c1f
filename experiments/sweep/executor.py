"""Executors train the runs of a worker: a process for every run, or one process and program for many.

Runs are isolated: one that crashes or runs out of memory fails its trial, not the worker, and its output is
in the log of the trial.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import envs
from dreamer import atomic, schema
from dreamer.schema import ConfigError
from experiments import machine
from experiments.sweep.spec import Spec
from experiments.sweep.trial import Part, TrialFailed, beside

TAIL = 20
"""Lines of a log that a failed trial keeps."""
LOG = "log.txt"
ON_ACCELERATOR = 16
"""Default number of runs in one program."""


class RunDied(Exception):
    """A run was killed from outside: its trial is not at fault and is retried."""


class Ended(NamedTuple):
    """A run that is over, or was asked to end and is saved; its configuration is that of its start."""

    part: Part
    error: Exception | None
    """Why it is not: `TrialFailed` or `RunDied`, or a bug."""


class Executor(Protocol):
    """Trains runs."""

    @property
    def slots(self) -> int:
        """Runs at the same time."""
        ...

    def start(self, part: Part, lock: int) -> None:
        """Train a run or resume it.

        Args:
          lock: the descriptor of its trial's lock, which every process that writes to the run holds.
        """
        ...

    def end(self, part: Part) -> None:
        """Have a run saved and ended; idempotent."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """Runs that ended meanwhile; returns early if there are any."""
        ...

    def close(self) -> None:
        """Release resources."""
        ...


class Copier(Protocol):
    """An executor that also copies runs: one that has them in one process, as a sweep that exploits does."""

    def copy(self, part: Part, leader: Part) -> None:
        """Have a run continue from a copy of another one, with its own configuration and other numbers."""
        ...


def executor_of(spec: Spec) -> Executor:
    """One program for runs of a JAX environment, unless the file asks for processes; else processes."""
    sweep = spec.sweep
    if sweep.population == 1 or not all(envs.is_on_device(task) for task in spec.tasks):
        return SingleExecutor(train_in_process)
    default = sweep.trials if sweep.pruner == "exploit" else 0
    return BatchedExecutor(sweep.population or default, sweep.seeds)


def train_all(parts: Sequence[Part], lock: int, executor: Executor, stop: Callable[[], bool]) -> None:
    """Train runs until all are done, or until asked to stop.

    Raises:
      TrialFailed: one has failed; the others are ended.
      RunDied: one was killed from outside.
    """
    waiting, going = list(parts), list[Part]()
    error: Exception | None = None
    while waiting or going:
        if stop() or error is not None:
            waiting.clear()
            for part in going:
                executor.end(part)
        while waiting and len(going) < executor.slots:
            going.append(waiting.pop(0))
            executor.start(going[-1], lock)
        for ended in executor.wait(0.25):
            going.remove(ended.part)
            error = error or ended.error
    if error is not None:
        raise error


def tail(log: Path, lines: int = TAIL) -> str:
    """How a log ends."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, 2) - 16384, 0))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


Trainer = Callable[[Part, Callable[[], bool], int], None]
"""Trains or resumes a run until it is done or should end (polled a few times a second); the number is the
descriptor of its lock. Raises `TrialFailed` or `RunDied`."""


class SingleExecutor:
    """One run at a time."""

    slots = 1

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self._asked: set[Path] = set()
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def start(self, part: Part, lock: int) -> None:
        """In a thread, so that the worker can judge it meanwhile."""
        self._asked.discard(part.folder)
        threading.Thread(target=self._train, args=(part, lock), name=part.folder.name).start()

    def _train(self, part: Part, lock: int) -> None:
        error: Exception | None = None
        try:
            self._trainer(part, lambda: part.folder in self._asked, lock)
        except Exception as raised:
            error = raised
        self._ended.put(Ended(part, error))

    def end(self, part: Part) -> None:
        """The trainer notices."""
        self._asked.add(part.folder)

    def wait(self, seconds: float) -> list[Ended]:
        """At most one."""
        try:
            return [self._ended.get(timeout=seconds)]
        except queue.Empty:
            return []

    def close(self) -> None:
        """Nothing to release."""


def train_in_process(part: Part, ended: Callable[[], bool], lock: int, *, log: Path | None = None) -> None:
    """Train in a separate process.

    Args:
      log: file for its output (default: that of the trial).
    """
    config, log = _written(part), log or part.folder.parent / LOG
    command = machine.command("experiments.sweep.child")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, str(os.getpid()), str(config), str(part.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[lock],
            start_new_session=True,
        )
        asked = False
        while process.poll() is None:
            if not asked and ended():
                process.send_signal(signal.SIGTERM)
                asked = True
            try:
                process.wait(0.25)
            except subprocess.TimeoutExpired:
                continue
    code = process.returncode
    if code == 0 or asked:
        return
    if code in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM):
        raise RunDied(f"{part.folder.name} was killed")
    raise TrialFailed(_reason(log, code))


def _written(part: Part) -> Path:
    """The file with the configuration of a run, beside its folder."""
    config = beside(part, "toml")
    config.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(config, schema.dump_toml(part.cfg))
    return config


def _reason(log: Path, code: int) -> str:
    """Why a run ended, by the last message in its log."""
    lines = [line for line in tail(log).splitlines() if line.strip()]
    message = next((line for line in reversed(lines) if line.startswith("dreamer: ")), None)
    if message is not None:
        return message.removeprefix("dreamer: ")
    how = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{how}: {lines[-1].strip()}" if lines else how


class BatchedExecutor:
    """Many runs in one process, which compiles once for all that differ only in seeds and numbers.

    Messages go over a socket, one line of JSON each, with the lock of a trial as a passed descriptor:

        -> {"train": folder, "config": file}      -> {"end": folder}
        -> {"copy": folder, "leader": folder, "config": file}
        <- {"slots": number}                      <- {"ended": folder, "failed": why or null}

    Args:
      population: runs at the same time; 0 for `seeds` on a CPU, which is sequential anyway, and
        `ON_ACCELERATOR` elsewhere.
      seeds: runs of a trial.
    """

    def __init__(self, population: int, seeds: int):
        self._population, self._seeds = population, seeds
        self._process: subprocess.Popen[bytes] | None = None
        self._going: dict[str, Part] = {}
        self._asked: set[str] = set()
        self._text = b""
        self._slots = 0

    @property
    def slots(self) -> int:
        """Known once the process has looked at its devices."""
        if self._process is None:
            self._start()
        return self._slots

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        command = machine.command("experiments.sweep.slots", str(os.getpid()), str(theirs.fileno()))
        self._process = subprocess.Popen(
            [*command, str(self._population), str(self._seeds)],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._text = b""
        first = self._lines(None)
        if not first:
            raise ConfigError(f"the process that trains ended at once: {self._last_words()}")
        self._slots = first[0]["slots"]

    def _lines(self, seconds: float | None) -> list[dict[str, Any]] | None:
        """Messages within this many seconds (None: wait); None if the connection is closed."""
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return []
        except OSError:
            return None
        *lines, self._text = (self._text + data).split(b"\n")
        return [json.loads(line) for line in lines] if data else None

    def _last_words(self) -> str:
        """The last line of output of a process that is gone, which is dropped."""
        assert self._process is not None
        code, self._process = self._process.wait(), None
        self._socket.close()
        with self._said as file:
            file.seek(0)
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"code {code}"

    def start(self, part: Part, lock: int) -> None:
        """Once the process reads the message."""
        if self._process is None:
            self._start()
        message = json.dumps({"train": str(part.folder), "config": str(_written(part))}) + "\n"
        self._going[str(part.folder)] = part
        with contextlib.suppress(OSError):  # it is gone, which `wait` reports
            socket.send_fds(self._socket, [message.encode()], [lock])

    def end(self, part: Part) -> None:
        """After the next chunk of its loop."""
        folder = str(part.folder)
        if folder in self._asked:
            return
        self._asked.add(folder)
        self._send({"end": folder})

    def copy(self, part: Part, leader: Part) -> None:
        """After the next chunk of its loop, if both are still running."""
        self._send({"copy": str(part.folder), "leader": str(leader.folder), "config": str(_written(part))})

    def _send(self, message: dict[str, str]) -> None:
        with contextlib.suppress(OSError):  # it is gone, which `wait` reports
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def wait(self, seconds: float) -> list[Ended]:
        """Runs that the process reports as ended; if it is gone, all of its runs died with it."""
        if not self._going:
            time.sleep(seconds)
            return []
        lines = self._lines(seconds)
        if lines is None:
            gone, self._going, self._asked = list(self._going.values()), {}, set()
            words = self._last_words()
            return [Ended(part, RunDied(f"the process that trained it is gone ({words})")) for part in gone]
        ended = []
        for line in lines:
            self._asked.discard(line["ended"])
            error = TrialFailed(line["failed"]) if line["failed"] else None
            ended.append(Ended(self._going.pop(line["ended"]), error))
        return ended

    def close(self) -> None:
        """The process ends when its socket does."""
        if self._process is not None:
            self._socket.close()
            self._process.wait()
            self._said.close()
            self._process = None
