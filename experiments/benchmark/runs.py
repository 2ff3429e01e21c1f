"""The folder of a benchmark: what was asked for, and the state of each of its runs.

DIR/benchmark.toml                  what was asked for
DIR/runs/<task>-seed<k>/            an ordinary run folder
DIR/runs/<task>-seed<k>.toml .log   its configuration and output
DIR/runs/<task>-seed<k>.lock        held by the worker that trains it
DIR/runs/<task>-seed<k>.failed      why it failed; the next session tries again
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dreamer import atomic, schema
from dreamer.config import Config, Count
from dreamer.schema import ConfigError, Section
from experiments.sweep import lock, trial
from experiments.sweep.study import Counts
from experiments.sweep.trial import Part, beside
from experiments.training import session

PLAN, LOCK, RUNS = "benchmark.toml", "lock", "runs"
DONE, FAILED, UNFINISHED, MISSING = "done", "failed", "unfinished", "missing"


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


class Claim(NamedTuple):
    """A run that this worker trains until it releases the lock."""

    part: Part
    lock: lock.Lock


class Benchmark:
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

    def state(self, part: Part) -> str:
        """How far a run is."""
        if trial.result_of(part) is not None:
            return DONE
        if beside(part, "failed").is_file():
            return FAILED
        return UNFINISHED if (part.folder / session.CONFIG).is_file() else MISSING

    def why(self, part: Part) -> str:
        """Why a run failed; empty where it did not."""
        path = beside(part, "failed")
        return path.read_text("utf-8").strip() if path.is_file() else ""

    def counts(self) -> Counts:
        """A consistent snapshot of how many runs have ended, are held by a worker, and are left."""
        with lock.held(self.folder / LOCK):
            self._refresh()
            left = list(self._left())
            locked = sum(_is_locked(part) for part in left)
            return Counts(len(self.parts) - len(left), locked, len(left) - locked)

    def claim(self) -> Claim | None:
        """A run to train that has not ended and that no other worker holds."""
        with lock.held(self.folder / LOCK):
            self._refresh()
            for part in self._left():
                taken = lock.take(beside(part, "lock"))
                if taken is not None:
                    return Claim(part, taken)
        return None

    def going(self) -> list[Part]:
        """The runs that a worker trains now."""
        with lock.held(self.folder / LOCK):
            self._refresh()
            return [part for part in self._left() if _is_locked(part)]

    def _refresh(self) -> None:
        """Read again what is asked for: tasks and seeds may be added while workers run."""
        self.plan = schema.load_toml(Plan, self.folder / PLAN)

    def _left(self) -> Iterator[Part]:
        return (part for part in self.parts if self.state(part) not in (DONE, FAILED))

    def fail(self, part: Part, why: str) -> None:
        """Record that a run failed."""
        atomic.write(beside(part, "failed"), " ".join(why.split()) + "\n")

    def forgive(self) -> None:
        """Have the runs that failed tried again."""
        for part in self.parts:
            beside(part, "failed").unlink(missing_ok=True)


def _is_locked(part: Part) -> bool:
    taken = lock.take(beside(part, "lock"))
    if taken is not None:
        taken.release()
    return taken is None


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
    for path, was, now in schema.diff(old.config, new.config):
        if path != "task" and not path.startswith(session.MAY_CHANGE):
            differ.append(f"{path} was {was!r}, now {now!r}")
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
