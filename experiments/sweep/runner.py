"""Trains every run of a set: in this process one after the other, or by workers of a launcher."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from dreamer.schema import ConfigError
from experiments import signals
from experiments.sweep import launch
from experiments.sweep.executor import RunDied, SingleExecutor, Trainer, train_all, train_in_process
from experiments.sweep.runset import RunSet
from experiments.sweep.trial import FAULTS, Part, beside, result_of

DEATHS = 3
"""A run that was killed this often by something else is failed: it may need more memory than there is."""
Say = Callable[[str], None]


class Launching(Protocol):
    """Options that say where workers run."""

    @property
    def workers(self) -> int: ...

    @property
    def launcher(self) -> str: ...

    @property
    def slurm(self) -> tuple[str, ...]: ...


def check_launching(how: Launching) -> None:
    """Refuse options of another launcher.

    Raises:
      ConfigError: naming the option.
    """
    if how.slurm and how.launcher != "submitit":
        raise ConfigError("slurm is for --launcher submitit")


def train_or_resume(
    runs: RunSet,
    how: Launching,
    command: Sequence[str],
    shown: contextlib.AbstractContextManager[Any],
    say: Say,
    trainer: Trainer | None = None,
) -> int:
    """Train every run that has not ended, failed ones once more; 0, or the exit code of a stop.

    Args:
      command: starts a worker.
      shown: shows the progress meanwhile.
      trainer: of runs in this process (default: a process for each).

    Raises:
      TrainingStopped: workers end without having worked.
    """
    runs.forgive()
    with signals.gentle_signals() as stop, shown:
        train_runs(runs, how, command, stop, say, trainer)
    if stop.signal is None:
        return 0
    say(f"Stopped and saved; rerun the same command to resume {runs.folder}")
    return 128 + stop.signal


def train_runs(
    runs: RunSet,
    how: Launching,
    command: Sequence[str],
    stop: Any,
    say: Say,
    trainer: Trainer | None = None,
) -> None:
    """Train or resume every run that has not ended, until a stop is requested.

    Args:
      command: starts a worker.
      trainer: of runs in this process (default: a process for each).

    Raises:
      TrainingStopped: workers end without having worked.
    """
    if how.launcher == "processes" and how.workers == 1:
        _alone(runs, stop, say, trainer or train)
    else:
        launch.coordinate(runs, _start(runs, how, command), how.workers, stop)


def _start(runs: RunSet, how: Launching, words: Sequence[str]) -> launch.Start:
    match how.launcher:
        case "submitit":
            return launch.jobs(words, runs.folder, how.slurm)
        case "ray":
            return launch.tasks(words, runs.folder)
    return launch.processes(words, runs.folder, how.workers)


def _alone(runs: RunSet, stop: Any, say: Say, trainer: Trainer) -> None:
    """Work in this process; wait for runs of workers that were started elsewhere."""
    while not stop:
        work(runs, stop, say, trainer)
        now = runs.counts()
        if not now.open and not now.locked:
            return
        time.sleep(launch.POLL)


def train(part: Part, ended: Callable[[], bool], lock: int) -> None:
    """Train a run in a process, with a log of its own."""
    train_in_process(part, ended, lock, log=beside(part, "log"))


def work(runs: RunSet, stop: Any, say: Say, trainer: Trainer) -> None:
    """Train runs until none is left to take, or until asked to stop."""
    deaths: dict[Path, int] = {}
    with contextlib.closing(SingleExecutor(trainer)) as executor:
        while not stop and (claim := runs.claim()) is not None:
            part = claim.part
            try:
                train_all([part], claim.lock.descriptor, executor, lambda: bool(stop))
                if not stop and result_of(part) is None:
                    runs.fail(part, "it ended without a result")
            except FAULTS as error:
                runs.fail(part, str(error))
            except RunDied as error:
                deaths[part.folder] = deaths.get(part.folder, 0) + 1
                say(f"{error}; it is tried again")
                if deaths[part.folder] >= DEATHS:
                    runs.fail(part, f"it was killed {DEATHS} times; is there enough memory?")
            finally:
                claim.lock.release()


def work_until_done(runs: RunSet, trainer: Trainer = train) -> int:
    """Be a worker: take runs until none is left; the exit code."""
    with signals.gentle_signals() as stop:
        work(runs, stop, lambda text: print(text, file=sys.stderr), trainer)
    return 128 + stop.signal if stop.signal is not None else 0
