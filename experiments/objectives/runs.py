"""The folder of a comparison of objectives: what was asked for, and its runs.

DIR/objectives.toml             what was asked for
DIR/runs/<objective>-seed<k>    its runs, as `experiments.sweep.runset` keeps them
"""

import re
from dataclasses import dataclass
from pathlib import Path

from dreamer import atomic, schema
from dreamer.config import Config, Count
from dreamer.schema import ConfigError, Section
from experiments.sweep.runset import RUNS, RunSet, changed_fields
from experiments.sweep.trial import Part

PLAN = "objectives.toml"
OBJECTIVE = "agent.objective"
"""The one field in which the runs of a seed differ."""


@dataclass(frozen=True)
class Plan(Section):
    """What was asked for."""

    objectives: tuple[str, ...]
    seeds: Count
    config: Config
    """Of every run, with the first objective and the first seed."""

    def config_of(self, objective: str, seed: int) -> Config:
        """The configuration of a run."""
        return schema.replace_paths(self.config, {OBJECTIVE: objective, "seed": seed})


class Comparison(RunSet):
    """The runs of every objective, which all workers share.

    Raises:
      ConfigError: the folder holds none.
    """

    def __init__(self, folder: Path):
        if not (folder / PLAN).is_file():
            raise ConfigError(
                f"{folder} holds no comparison of objectives: start one with dreamer objectives --task TASK "
                f"--out {folder}"
            )
        self.folder = folder
        self.plan = schema.load_toml(Plan, folder / PLAN)

    @property
    def parts(self) -> list[Part]:
        """Every run, the first seed of all objectives before the second."""
        first = self.plan.config.seed
        return [
            Part(self.plan.config_of(name, seed), self.folder / RUNS / f"{slug(name)}-seed{seed}")
            for seed in range(first, first + self.plan.seeds)
            for name in self.plan.objectives
        ]

    def refresh(self) -> None:
        self.plan = schema.load_toml(Plan, self.folder / PLAN)

    def title(self, part: Part) -> str:
        return f"{part.cfg.agent.objective} seed {part.cfg.seed}"


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^a-zA-Z0-9_+-]+", "-", name)


def prepare(folder: Path, plan: Plan) -> Comparison:
    """Make or reopen the folder of a comparison; objectives, seeds and steps may be added to one.

    Raises:
      ConfigError: the folder is something else, or holds a comparison with other settings.
    """
    if (folder / PLAN).is_file():
        check_same(schema.load_toml(Plan, folder / PLAN), plan, folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} exists but is no comparison of objectives (it has no {PLAN}): choose another --out"
        )
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    atomic.write(folder / PLAN, schema.dump_toml(plan))
    return Comparison(folder)


def check_same(old: Plan, new: Plan, folder: Path) -> None:
    """Check that one comparison continues the other.

    Raises:
      ConfigError: naming what differs.
    """
    lost = [name for name in old.objectives if name not in new.objectives]
    differ = [f"objectives had {', '.join(lost)}"] if lost else []
    for name, was, now in (
        ("seeds", old.seeds, new.seeds),
        ("steps", old.config.steps, new.config.steps),
    ):
        if now < was:
            differ.append(f"{name} was {was}, now {now}")
    differ += changed_fields(old.config, new.config, (OBJECTIVE, "task", "steps"))
    if old.config.task != new.config.task:
        differ.insert(0, f"task was {old.config.task}, now {new.config.task}")
    if differ:
        raise ConfigError(
            f"{folder} holds a comparison with other settings: {'; '.join(differ)}. Choose another --out, or "
            "ask for the same (objectives, seeds and steps may be added)"
        )
