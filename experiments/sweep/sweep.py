"""`dreamer sweep`: run or go on with a sweep, work for one, or write the page about one."""

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
from experiments.sweep import answer, launch, spec, study, worker
from experiments.sweep.executor import Executor, SingleExecutor, Trainer, executor_of
from experiments.sweep.options import SweepOptions, SweepReportOptions, WorkerOptions
from experiments.sweep.study import FAILED, FINISHED, PRUNED, Study
from experiments.sweep.table import Display, outcome, values
from experiments.training.run import TrainingStopped

Command = Callable[[Path, str], list[str]]


def sweep(
    path: Path, options: SweepOptions, *, trainer: Trainer | None = None, command: Command = launch.command
) -> int:
    """Run a sweep, or go on with it; the exit code.

    Args:
      path: the file of the sweep.
      trainer: of runs, where this process has them trained (default: what suits the task).
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
    made = study.prepare(path, folder, options.storage, shared=options.launcher in ("submitit", "ray"))
    try:
        with contextlib.closing(_executor(made, trainer)) as executor:
            return _run(made, options, executor, command)
    finally:
        made.close()


def _executor(made: Study, trainer: Trainer | None) -> Executor:
    return SingleExecutor(trainer) if trainer else executor_of(made.spec)


def _run(made: Study, options: SweepOptions, executor: Executor, command: Command) -> int:
    workers = 1 if options.launcher == "inline" else options.workers or made.spec.sweep.concurrency
    words = command(made.folder, made.url)
    starts: dict[str, Callable[[], launch.Start]] = {
        "processes": lambda: launch.processes(words, made.folder, workers),
        "submitit": lambda: launch.jobs(words, made.folder, options.slurm),
        "ray": lambda: launch.tasks(words, made.folder),
    }
    answer.write(made)
    with signals.gentle_signals() as stop:
        with Display(lambda: Study(made.folder, made.url), made.rows(), workers) as display:
            if options.launcher == "inline":
                _inline(made, stop, display.say, executor)
            else:
                launch.coordinate(made, starts[options.launcher](), workers, stop)
        answer.write(made)
    if stop:
        assert stop.signal is not None
        print(f"Stopped and saved; the same command goes on with {made.folder}", file=sys.stderr)
        return 128 + stop.signal
    return _conclude(made, options)


def _inline(made: Study, stop: Any, say: Callable[[str], None], executor: Executor) -> None:
    """Work here; what somebody else has is waited for, as it may be left behind."""
    while not stop:
        worker.work(made, stop, say, executor)
        now = made.counts()
        if not now.open and not now.locked:
            return
        time.sleep(launch.POLL)


def _conclude(made: Study, options: SweepOptions) -> int:
    rows = made.rows()
    counted = {state: sum(row.state == state for row in rows) for state in (FINISHED, PRUNED, FAILED)}
    ranked = answer.ranked(made.spec, rows)
    if not ranked:
        why = next((row.reason for row in rows if row.reason), "none ended")
        raise TrainingStopped(f"no trial of {made.folder} has a score; the first one says: {why}")
    best = ranked[0]
    told = ", ".join(f"{count} {state}" for state, count in counted.items())
    say = lambda text: print(text, file=sys.stderr)
    say(f"{made.folder}: {told}; the best is trial {best.number}, {outcome(best)} ({values(best)})")
    say(f"next: dreamer train --config {made.folder / answer.BEST}, or dreamer sweep report {made.folder}")
    if options.json:
        found = {"trial": best.number, "score": best.score, "params": dict(best.params)}
        print(jsonlib.dumps({"sweep": str(made.folder), "trials": len(rows), **counted, "best": found}))
    return 0


def work(options: WorkerOptions, *, trainer: Trainer | None = None) -> int:
    """Take trials of a sweep until none are left; the exit code.

    Raises:
      ConfigError: there is no such sweep.
    """
    if not options.out:
        raise ConfigError("dreamer sweep worker needs the folder of the sweep: --out DIR")
    made = Study(Path(options.out), options.storage)
    say = lambda text: print(text, file=sys.stderr)
    try:
        with signals.gentle_signals() as stop, contextlib.closing(_executor(made, trainer)) as executor:
            worker.work(made, stop, say, executor)
    finally:
        made.close()
    return 128 + stop.signal if stop.signal is not None else 0


def report(folder: Path, options: SweepReportOptions, *, trainer: Trainer | None = None) -> int:
    """Write the page of a sweep, after training its best trials anew if that is asked for; the exit code.

    Raises:
      ConfigError: there is no such sweep, or nothing in it has ended.
    """
    from experiments.sweep import fresh, page

    made = Study(folder, options.storage, reading=True)
    say = lambda text: print(text, file=sys.stderr)
    try:
        answer.write(made)
        if options.top:
            with signals.gentle_signals() as stop, contextlib.closing(_executor(made, trainer)) as executor:
                fresh.evaluate(made, options.top, options.seeds, stop, say, executor)
            if stop.signal is not None:
                say("Stopped and saved; the same command goes on")
                return 128 + stop.signal
        path = page.write(made)
        say(f"{path} ({path.stat().st_size / 2**20:.1f} MB)")
        if options.json:
            print(
                jsonlib.dumps(
                    {"report": str(path), "importance": made.importances(), "fresh": fresh.read(made)}
                )
            )
    finally:
        made.close()
    return 0
