"""Options of the comparison of objectives, without heavy imports."""

from dataclasses import dataclass
from typing import Literal

from dreamer.config import Count, Natural
from dreamer.schema import Section


@dataclass(frozen=True)
class ObjectivesOptions(Section):
    """Which objectives are compared on which task, and on how many workers."""

    task: str = ""
    """The task, as suite:name."""
    objectives: tuple[str, ...] = ()
    """Names of objectives, or classes as my_module:MyObjective (default: every one that there is)."""
    seeds: Count = 1
    """Runs of every objective, which differ in their seed; all objectives have the same."""
    preset: str = "small"
    """The configuration of every run."""
    size: str = ""
    """Size of the agent, over that of the preset."""
    config: str = ""
    """TOML file with any fields of the configuration, over preset and size."""
    steps: Natural = 0
    """Environment steps of every run; 0 as the preset says."""
    set: tuple[str, ...] = ()
    """Other fields of the configuration, as in --set loop.train_ratio=32 env.obs=image."""
    bench: bool = True
    """At the end measure one update of every objective, in turns: its time, memory and parameters."""
    out: str = ""
    """Folder of runs and results; the same command resumes there (default: objectives/<task>)."""
    workers: Count = 1
    """Runs at the same time, each in a process of its own."""
    launcher: Literal["processes", "submitit", "ray"] = "processes"
    """Where workers run: on this machine, on SLURM or on a Ray cluster."""
    slurm: tuple[str, ...] = ()
    """Parameters of the job, with submitit, as timeout_min=240 slurm_partition=gpu gpus_per_node=1."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print the results as one JSON object, and nothing else on standard output."""


@dataclass(frozen=True)
class ObjectivesWorkerOptions(Section):
    """A worker takes runs of a comparison of objectives until there are none left."""

    out: str = ""
    """Folder of the comparison, which all workers share."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
