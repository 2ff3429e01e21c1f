"""`dreamer objectives`: what each objective reaches and costs, at equal steps and equal CPU time.

A set of runs that differ in `agent.objective` and in their seeds alone, trained by the launchers of sweeps,
then a page about them.
"""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import envs
from dreamer.config import Config
from dreamer.schema import ConfigError, replace_paths
from experiments.benchmark import progress, settings
from experiments.names import check_known
from experiments.objectives import cost, runs
from experiments.objectives.options import ObjectivesOptions, ObjectivesWorkerOptions
from experiments.objectives.runs import OBJECTIVE, Comparison, Plan, slug
from experiments.sweep import launch, runner
from experiments.sweep.executor import Trainer
from experiments.sweep.runner import Say
from experiments.sweep.runset import DONE, FAILED
from experiments.training.run import TrainingStopped

FAILURES = 1
"""Exit code where some runs failed."""
Command = Callable[[Path], list[str]]
JOIN = "+"
"""Between the names of objectives that are one together."""


def plan(options: ObjectivesOptions) -> Plan:
    """What the options ask for.

    Raises:
      UnknownTask, MissingExtra: of the task or of a class.
      ConfigError: of an objective, a preset, a size or a field.
    """
    if not options.task:
        raise ConfigError("dreamer objectives needs a task, as in dreamer objectives --task grid:DoorKey-5x5")
    task = envs.canonical(options.task)
    if OBJECTIVE in dict(map(settings.field, options.set)):
        raise ConfigError(f"set: {OBJECTIVE} is what is compared; name objectives with --objectives")
    # Without a decoder beside the agent only objectives that decode would have an error of predictions.
    cfg = settings.configuration(options, options.preset, task, {cost.PROBE: True})
    if not cfg.population.is_one:
        raise ConfigError("population: an objective is compared by runs of one agent each; leave it out")
    names = named(cfg, options.objectives)
    return Plan(names, options.seeds, replace_paths(cfg, {OBJECTIVE: names[0]}))


def named(cfg: Config, words: Sequence[str]) -> tuple[str, ...]:
    """The objectives of these names, each once; all of the table without any.

    Raises:
      ConfigError: there is none of a name.
      UnknownTask, MissingExtra: a class cannot be imported.
    """
    from dreamer import objectives

    names = tuple(dict.fromkeys(words or objectives.OBJECTIVES))
    for name in names:
        for word in name.split(JOIN):
            if ":" not in word:
                check_known("objective", word, objectives.OBJECTIVES)
        replace_paths(cfg, {OBJECTIVE: name})
        objectives.named(name)
    return names


def command(folder: Path) -> list[str]:
    """The command that starts a worker."""
    return launch.worker("objectives", "worker", "--out", str(folder.absolute()))


def compare(options: ObjectivesOptions, *, trainer: Trainer | None = None, command: Command = command) -> int:
    """Train or resume every run, measure their updates, then write the page; the exit code.

    Args:
      trainer: of runs in this process (default: a process for each).
      command: starts a worker of a folder.

    Raises:
      UnknownTask, MissingExtra, ConfigError: the options or the folder cannot be used.
      TrainingStopped: no run is done, or workers end without having worked.
    """
    runner.check_launching(options)
    asked = plan(options)
    folder = Path(options.out or Path("objectives") / slug(asked.config.task))
    comparison = runs.prepare(folder, asked)
    say = lambda text: print(text, file=sys.stderr, flush=True)
    say(progress.introduction(comparison, asked.objectives))
    shown = progress.shown(comparison, say)
    stopped = runner.train_or_resume(comparison, options, command(folder), shown, say, trainer)
    return stopped or _conclude(comparison, options, say)


def worker(options: ObjectivesWorkerOptions, *, trainer: Trainer = runner.train) -> int:
    """Take runs of a comparison until none are left; the exit code.

    Raises:
      ConfigError: there is no such comparison.
    """
    if not options.out:
        raise ConfigError("dreamer objectives worker needs the folder of the comparison: --out DIR")
    return runner.work_until_done(Comparison(Path(options.out)), trainer)


def _conclude(comparison: Comparison, options: ObjectivesOptions, say: Say) -> int:
    from rich.console import Console

    from experiments.objectives import page, results

    read = results.read(comparison)
    failed = [run for run in read if run.state == FAILED]
    done = [run for run in read if run.state == DONE]
    if not done:
        why = failed[0].why if failed else "none has ended"
        raise TrainingStopped(f"no run of {comparison.folder} is done; the first one says: {why}")
    trained = tuple(dict.fromkeys(run.objective for run in done))
    costs: dict[str, Any] = {"objectives": {}}
    if options.bench:
        costs = cost.measured(comparison.folder, trained, say)
    content = page.write(comparison.plan, read, costs, comparison.folder)
    Console(stderr=True).print(page.shown(content))
    for line in page.lines(content):
        say(line)
    say(f"{comparison.folder / page.PAGE} has the curves and tables: open it in a browser")
    if options.json:
        print(jsonlib.dumps(content))
    if failed:
        say(f"{len(failed)} of {len(read)} runs failed; rerun the same command to try them again")
    return FAILURES if failed else 0
