"""`dreamer benchmark`: many tasks and seeds by the launchers of sweeps, then a page about them."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Callable
from pathlib import Path

from dreamer.schema import ConfigError
from experiments import presets
from experiments.benchmark import progress, report, runs, settings, suites
from experiments.benchmark.options import BenchmarkOptions, BenchmarkReportOptions, BenchmarkWorkerOptions
from experiments.benchmark.runs import Benchmark, Plan
from experiments.sweep import launch, runner
from experiments.sweep.executor import Trainer
from experiments.sweep.runner import Say
from experiments.sweep.runset import DONE, FAILED
from experiments.training.run import TrainingStopped

FAILURES = 1
"""Exit code where some runs failed."""
Command = Callable[[Path], list[str]]


def plan(suite: str, options: BenchmarkOptions) -> Plan:
    """What the options ask for.

    Raises:
      UnknownTask, MissingExtra: of the suite or a task.
      ConfigError: of a preset, a size or a field.
    """
    tasks = suites.tasks(suite, options.tasks)
    name = options.preset or suites.preset(suite, options.tasks)
    cfg = settings.configuration(options, name, tasks[0], {"report.episodes": 0})
    # A preset that is named after its suite is its protocol, by which tasks may have lengths of their own.
    is_protocol = name == suite and cfg.steps == presets.build(name).steps and not options.steps
    steps = suites.steps(tasks, cfg.loop.num_envs) if is_protocol else ()
    return Plan(suite, tasks, options.seeds, cfg, steps)


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
    runner.check_launching(options)
    folder = Path(options.out or Path("benchmarks") / suite)
    bench = runs.prepare(folder, plan(suite, options))
    say = lambda text: print(text, file=sys.stderr, flush=True)
    say(progress.introduction(bench, bench.plan.tasks))
    shown = progress.shown(bench, say)
    stopped = runner.train_or_resume(bench, options, command(bench.folder), shown, say, trainer)
    return stopped or _conclude(bench, options.json, say)


def worker(options: BenchmarkWorkerOptions, *, trainer: Trainer = runner.train) -> int:
    """Take runs of a benchmark until none are left; the exit code.

    Raises:
      ConfigError: there is no such benchmark.
    """
    if not options.out:
        raise ConfigError("dreamer benchmark worker needs the folder of the benchmark: --out DIR")
    return runner.work_until_done(Benchmark(Path(options.out)), trainer)


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
