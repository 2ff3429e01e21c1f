"""`dreamer sweep`: run or resume a sweep, work for one, or write the page about one."""

from __future__ import annotations

import contextlib
import json as jsonlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreamer.schema import ConfigError
from experiments import signals
from experiments.sweep import answer, launch, spec, worker
from experiments.sweep.executor import Executor, SingleExecutor, Trainer, executor_of
from experiments.sweep.options import SweepOptions, SweepReportOptions, WorkerOptions
from experiments.sweep.study import FAILED, FINISHED, PRUNED, Study, prepare
from experiments.sweep.table import Display, outcome, values
from experiments.training.run import TrainingStopped

Command = Callable[[Path, str], list[str]]


def sweep(
    path: Path, options: SweepOptions, *, trainer: Trainer | None = None, command: Command = launch.command
) -> int:
    """Run or resume a sweep; the exit code.

    Args:
      path: the file of the sweep.
      trainer: of runs in this process (default: the executor of the task).
      command: starts a worker that works in a folder, stored at a URL.

    Raises:
      ConfigError: the file, the folder or the storage cannot be used.
      TrainingStopped: no trial has a score, or workers end without having worked.
    """
    if options.dry_run:
        from experiments.sweep.estimate import dry_run

        return dry_run(spec.load(path), workers=options.workers, json=options.json)
    folder = Path(options.out or Path("sweeps") / path.stem)
    if options.slurm and options.launcher != "submitit":
        raise ConfigError("slurm is for --launcher submitit")
    study = prepare(path, folder, options.storage, shared=options.launcher in ("submitit", "ray"))
    try:
        with contextlib.closing(_executor(study, trainer)) as executor:
            return _run(study, options, executor, command)
    finally:
        study.close()


def _executor(study: Study, trainer: Trainer | None) -> Executor:
    return SingleExecutor(trainer) if trainer else executor_of(study.spec)


def _run(study: Study, options: SweepOptions, executor: Executor, command: Command) -> int:
    workers = 1 if options.launcher == "inline" else options.workers or study.spec.sweep.concurrency
    words = command(study.folder, study.url)
    starts: dict[str, Callable[[], launch.Start]] = {
        "processes": lambda: launch.processes(words, study.folder, workers),
        "submitit": lambda: launch.jobs(words, study.folder, options.slurm),
        "ray": lambda: launch.tasks(words, study.folder),
    }
    answer.write(study)
    with signals.gentle_signals() as stop:
        with Display(lambda: Study(study.folder, study.url), study.rows(), workers) as display:
            if options.launcher == "inline":
                _inline(study, stop, display.say, executor)
            else:
                launch.coordinate(study, starts[options.launcher](), workers, stop)
        answer.write(study)
    if stop:
        assert stop.signal is not None
        print(f"Stopped and saved; rerun the same command to resume {study.folder}", file=sys.stderr)
        return 128 + stop.signal
    return _conclude(study, options)


def _inline(study: Study, stop: Any, say: Callable[[str], None], executor: Executor) -> None:
    """Work in this process; wait for trials of other workers, which may be left behind."""
    while not stop:
        worker.work(study, stop, say, executor)
        now = study.counts()
        if not now.open and not now.locked:
            return
        time.sleep(launch.POLL)


def _conclude(study: Study, options: SweepOptions) -> int:
    rows = study.rows()
    counted = {state: sum(row.state == state for row in rows) for state in (FINISHED, PRUNED, FAILED)}
    ranked = answer.ranked(study.spec, rows)
    if not ranked:
        why = next((row.reason for row in rows if row.reason), "none ended")
        raise TrainingStopped(f"no trial of {study.folder} has a score; the first one says: {why}")
    best = ranked[0]
    states = ", ".join(f"{count} {state}" for state, count in counted.items())
    say = lambda text: print(text, file=sys.stderr)
    say(f"{study.folder}: {states}; the best is trial {best.number}, {outcome(best)} ({values(best)})")
    say(f"next: dreamer train --config {study.folder / answer.BEST}, or dreamer sweep report {study.folder}")
    if options.json:
        summary = {"trial": best.number, "score": best.score, "params": dict(best.params)}
        print(jsonlib.dumps({"sweep": str(study.folder), "trials": len(rows), **counted, "best": summary}))
    return 0


def work(options: WorkerOptions, *, trainer: Trainer | None = None) -> int:
    """Take trials of a sweep until none are left; the exit code.

    Raises:
      ConfigError: there is no such sweep.
    """
    if not options.out:
        raise ConfigError("dreamer sweep worker needs the folder of the sweep: --out DIR")
    study = Study(Path(options.out), options.storage)
    say = lambda text: print(text, file=sys.stderr)
    try:
        with signals.gentle_signals() as stop, contextlib.closing(_executor(study, trainer)) as executor:
            worker.work(study, stop, say, executor)
    finally:
        study.close()
    return 128 + stop.signal if stop.signal is not None else 0


def report(folder: Path, options: SweepReportOptions, *, trainer: Trainer | None = None) -> int:
    """Write the page of a sweep, after retraining its best trials if asked for; the exit code.

    Raises:
      ConfigError: there is no such sweep, or nothing in it has ended.
    """
    from experiments.sweep import fresh, page

    study = Study(folder, options.storage, reading=True)
    say = lambda text: print(text, file=sys.stderr)
    try:
        answer.write(study)
        if options.top:
            with signals.gentle_signals() as stop, contextlib.closing(_executor(study, trainer)) as executor:
                fresh.evaluate(study, options.top, options.seeds, stop, say, executor)
            if stop.signal is not None:
                say("Stopped and saved; rerun the same command to resume")
                return 128 + stop.signal
        path = page.write(study)
        say(f"{path} ({path.stat().st_size / 2**20:.1f} MB)")
        if options.json:
            print(
                jsonlib.dumps(
                    {"report": str(path), "importance": study.importances(), "fresh": fresh.read(study)}
                )
            )
    finally:
        study.close()
    return 0
