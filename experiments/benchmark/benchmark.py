"""`dreamer benchmark`: many tasks and seeds by the launchers of sweeps, then a page about them."""

from __future__ import annotations

import contextlib
import dataclasses
import json as jsonlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreamer import config, schema
from dreamer.config import Config
from dreamer.schema import ConfigError
from experiments import presets, signals
from experiments.benchmark import progress, report, runs, suites
from experiments.benchmark.options import BenchmarkOptions, BenchmarkReportOptions, BenchmarkWorkerOptions
from experiments.benchmark.runs import DONE, FAILED, Benchmark, Plan
from experiments.names import check_known
from experiments.presets.sizes import SIZES
from experiments.sweep import launch
from experiments.sweep.executor import RunDied, SingleExecutor, Trainer, train_all, train_in_process
from experiments.sweep.trial import FAULTS, Part, beside, result_of
from experiments.training.run import TrainingStopped

DEATHS = 3
"""A run that was killed this often by something else is failed: it may need more memory than there is."""
FAILURES = 1
"""Exit code where some runs failed."""
Command = Callable[[Path], list[str]]
Say = Callable[[str], None]


def plan(suite: str, options: BenchmarkOptions) -> Plan:
    """What the options ask for.

    Raises:
      UnknownTask, MissingExtra: of the suite or a task.
      ConfigError: of a preset, a size or a field.
    """
    tasks = suites.tasks(suite, options.tasks)
    name = options.preset or suites.preset(suite, options.tasks)
    check_known("preset", name, presets.PRESETS)
    cfg = preset = presets.build(name)
    if options.size:
        check_known("size", options.size, SIZES)
        cfg = dataclasses.replace(cfg, agent=SIZES[options.size](cfg.agent))
    if options.config:
        cfg = config.load_toml(options.config, cfg)
    # Runs are compared after the same number of steps, unless `until` is set.
    changes: dict[str, Any] = {"until": "", "report.episodes": 0, **dict(map(_field, options.set))}
    changes |= {"task": tasks[0], "steps": options.steps or cfg.steps}
    cfg = schema.replace_paths(cfg, changes)
    # A preset that is named after its suite is its protocol, by which tasks may have lengths of their own.
    is_protocol = name == suite and cfg.steps == preset.steps and not options.steps
    steps = suites.steps(tasks, cfg.loop.num_envs) if is_protocol else ()
    return Plan(suite, tasks, options.seeds, cfg, steps)


def _field(entry: str) -> tuple[str, Any]:
    """A field of the configuration from text as loop.train_ratio=32."""
    path, equals, text = entry.partition("=")
    path = path.replace("-", "_")
    fields = schema.paths(Config)
    if not equals:
        raise ConfigError(f"set needs entries like loop.train_ratio=32, but one is '{entry}'")
    if path in ("task", "steps", "preset") or path.startswith("population."):
        raise ConfigError(f"set: {path} is an option of its own, or none of a benchmark; leave it out")
    return path, schema.parse_text(fields[path].type, text) if path in fields else text


def command(folder: Path) -> list[str]:
    """The command that starts a worker."""
    return launch.worker("benchmark", "worker", "--out", str(folder.absolute()))


def benchmark(
    suite: str,
    options: BenchmarkOptions,
    *,
    trainer: Trainer | None = None,
    command: Command = command,
) -> int:
    """Train or resume every run, then write the page; the exit code.

    Args:
      trainer: of runs in this process (default: a process for each).
      command: starts a worker of a folder.

    Raises:
      UnknownTask, MissingExtra, ConfigError: the options or the folder cannot be used.
      TrainingStopped: no run is done, or workers end without having worked.
    """
    if options.slurm and options.launcher != "submitit":
        raise ConfigError("slurm is for --launcher submitit")
    folder = Path(options.out or Path("benchmarks") / suite)
    bench = runs.prepare(folder, plan(suite, options))
    say = lambda text: print(text, file=sys.stderr, flush=True)
    say(progress.introduction(bench))
    bench.forgive()
    with signals.gentle_signals() as stop, progress.shown(bench, say):
        if options.launcher == "processes" and options.workers == 1:
            _alone(bench, stop, say, trainer or train)
        else:
            launch.coordinate(bench, _start(bench, options, command(bench.folder)), options.workers, stop)
    if stop.signal is not None:
        say(f"Stopped and saved; rerun the same command to resume {folder}")
        return 128 + stop.signal
    return _conclude(bench, options.json, say)


def _start(bench: Benchmark, options: BenchmarkOptions, words: list[str]) -> launch.Start:
    match options.launcher:
        case "submitit":
            return launch.jobs(words, bench.folder, options.slurm)
        case "ray":
            return launch.tasks(words, bench.folder)
    return launch.processes(words, bench.folder, options.workers)


def _alone(bench: Benchmark, stop: Any, say: Say, trainer: Trainer) -> None:
    """Work in this process; wait for runs of workers that were started elsewhere."""
    while not stop:
        work(bench, stop, say, trainer)
        now = bench.counts()
        if not now.open and not now.locked:
            return
        time.sleep(launch.POLL)


def train(part: Part, ended: Callable[[], bool], lock: int) -> None:
    """Train a run in a process, with a log of its own."""
    train_in_process(part, ended, lock, log=beside(part, "log"))


def work(bench: Benchmark, stop: Any, say: Say, trainer: Trainer) -> None:
    """Train runs until none is left to take, or until asked to stop."""
    deaths: dict[Path, int] = {}
    with contextlib.closing(SingleExecutor(trainer)) as executor:
        while not stop and (claim := bench.claim()) is not None:
            part = claim.part
            try:
                train_all([part], claim.lock.descriptor, executor, lambda: bool(stop))
                if not stop and result_of(part) is None:
                    bench.fail(part, "it ended without a result")
            except FAULTS as error:
                bench.fail(part, str(error))
            except RunDied as error:
                deaths[part.folder] = deaths.get(part.folder, 0) + 1
                say(f"{error}; it is tried again")
                if deaths[part.folder] >= DEATHS:
                    bench.fail(part, f"it was killed {DEATHS} times; is there enough memory?")
            finally:
                claim.lock.release()


def worker(options: BenchmarkWorkerOptions, *, trainer: Trainer = train) -> int:
    """Take runs of a benchmark until none are left; the exit code.

    Raises:
      ConfigError: there is no such benchmark.
    """
    if not options.out:
        raise ConfigError("dreamer benchmark worker needs the folder of the benchmark: --out DIR")
    bench = Benchmark(Path(options.out))
    with signals.gentle_signals() as stop:
        work(bench, stop, lambda text: print(text, file=sys.stderr), trainer)
    return 128 + stop.signal if stop.signal is not None else 0


def _conclude(bench: Benchmark, json: bool, say: Say) -> int:
    states = [(part, bench.state(part)) for part in bench.parts]
    failed = [part for part, state in states if state == FAILED]
    if all(state != DONE for _, state in states):
        why = bench.why(failed[0]) if failed else "none has ended"
        raise TrainingStopped(f"no run of {bench.folder} is done; the first one says: {why}")
    _report([bench.folder], bench.folder, json, say)
    if failed:
        say(f"{len(failed)} of {len(states)} runs failed; rerun the same command to try them again")
    return FAILURES if failed else 0


def show(folders: list[Path], options: BenchmarkReportOptions) -> int:
    """Write the page of one benchmark, or one that compares several; the exit code.

    Raises:
      ConfigError: a folder is no benchmark, or they are of different suites.
    """
    out = Path(options.out) if options.out else (folders[0] if len(folders) == 1 else Path())
    _report(folders, out, options.json, lambda text: print(text, file=sys.stderr))
    return 0


def _report(folders: list[Path], out: Path, json: bool, say: Say) -> None:
    from experiments.benchmark import page

    results = page.write([report.read(folder) for folder in folders], out)
    for line in report.lines(results):
        say(line)
    say(f"{out / page.PAGE} has the curves and tables: open it in a browser")
    if json:
        print(jsonlib.dumps(results))
