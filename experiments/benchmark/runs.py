"""The folder of a benchmark: what was asked for, and its runs.

DIR/benchmark.toml         what was asked for
DIR/runs/<task>-seed<k>    its runs, as `experiments.sweep.runset` keeps them
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from dreamer import atomic, schema
from dreamer.config import Config, Count
from dreamer.schema import ConfigError, Section
from experiments.sweep.runset import RUNS, RunSet, changed_fields
from experiments.sweep.trial import Part

PLAN = "benchmark.toml"


@dataclass(frozen=True)
class Plan(Section):
    """What was asked for."""

    suite: str
    tasks: tuple[str, ...]
    """By their full names."""
    seeds: Count
    config: Config
    """Of every run, with the first task and the first seed."""
    steps: tuple[Count, ...] = ()
    """Environment steps of each task, where its suite has lengths of their own; else those of `config`."""

    def steps_of(self, task: str) -> int:
        """Environment steps of the runs of a task."""
        return self.steps[self.tasks.index(task)] if self.steps else self.config.steps


class Benchmark(RunSet):
    """The runs of a benchmark, which all workers share.

    Raises:
      ConfigError: the folder holds none.
    """

    def __init__(self, folder: Path):
        if not (folder / PLAN).is_file():
            raise ConfigError(
                f"{folder} holds no benchmark: start one with dreamer benchmark SUITE --out {folder}"
            )
        self.folder = folder
        self.plan = schema.load_toml(Plan, folder / PLAN)

    @property
    def parts(self) -> list[Part]:
        """Every run, the first seed of all tasks before the second."""
        cfg, first = self.plan.config, self.plan.config.seed
        return [
            Part(
                dataclasses.replace(cfg, task=task, seed=seed, steps=self.plan.steps_of(task)),
                self.folder / RUNS / f"{re.sub(r'[^a-zA-Z0-9_-]+', '-', task)}-seed{seed}",
            )
            for seed in range(first, first + self.plan.seeds)
            for task in self.plan.tasks
        ]

    def refresh(self) -> None:
        self.plan = schema.load_toml(Plan, self.folder / PLAN)

    def title(self, part: Part) -> str:
        return f"{part.cfg.task} seed {part.cfg.seed}"


def prepare(folder: Path, plan: Plan) -> Benchmark:
    """Make or reopen the folder of a benchmark; more tasks, seeds and steps may be added to one.

    Raises:
      ConfigError: the folder is something else, or holds a benchmark with other settings.
    """
    if (folder / PLAN).is_file():
        check_same(schema.load_toml(Plan, folder / PLAN), plan, folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists but is not a benchmark (it has no {PLAN}): choose another --out")
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    atomic.write(folder / PLAN, schema.dump_toml(plan))
    return Benchmark(folder)


def check_same(old: Plan, new: Plan, folder: Path) -> None:
    """Check that one benchmark continues the other.

    Raises:
      ConfigError: naming what differs.
    """
    differ = [f"suite was {old.suite}, now {new.suite}"] if old.suite != new.suite else []
    if lost := [task for task in old.tasks if task not in new.tasks]:
        differ.append(f"tasks had {', '.join(lost)}")
    if new.seeds < old.seeds:
        differ.append(f"seeds was {old.seeds}, now {new.seeds}")
    differ += changed_fields(old.config, new.config, ("task",))
    differ += _fewer_steps(old, new)
    if differ:
        raise ConfigError(
            f"{folder} holds a benchmark with other settings: {'; '.join(differ)}. Choose another --out, or "
            "ask for the same (tasks, seeds and steps may be added)"
        )


def _fewer_steps(old: Plan, new: Plan) -> list[str]:
    """The first task that would have fewer steps than before."""
    for task in old.tasks:
        if task in new.tasks and (now := new.steps_of(task)) < (was := old.steps_of(task)):
            return [f"steps was {was}, now {now}" + (f", of {task}" if old.steps or new.steps else "")]
    return []
