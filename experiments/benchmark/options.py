"""Options of the benchmark commands, without heavy imports."""

from dataclasses import dataclass
from typing import Literal

from dreamer.config import Count, Natural
from dreamer.schema import Section


@dataclass(frozen=True)
class BenchmarkOptions(Section):
    """Which tasks are trained how, and on how many workers."""

    tasks: tuple[str, ...] = ()
    """Tasks of the suite, or the name of a set of them (default: the first set of the suite)."""
    seeds: Count = 1
    """Runs of every task, which differ in their seed."""
    preset: str = ""
    """The configuration of every run (default: the preset named after the suite, else dreamerv3)."""
    size: str = ""
    """Size of the agent, over that of the preset."""
    config: str = ""
    """TOML file with any fields of the configuration, over preset and size."""
    steps: Natural = 0
    """Environment steps of every run; 0 as the preset says (bsuite: what each setting's episodes take)."""
    set: tuple[str, ...] = ()
    """Other fields of the configuration, as in --set loop.train_ratio=32 env.obs=image."""
    out: str = ""
    """Folder of runs and results; the same command resumes there (default: benchmarks/<suite>)."""
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
class BenchmarkWorkerOptions(Section):
    """A worker takes runs of a benchmark until there are none left."""

    out: str = ""
    """Folder of the benchmark, which all workers share."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""


@dataclass(frozen=True)
class BenchmarkReportOptions(Section):
    """The page about one benchmark, or about several of one suite as variants."""

    out: str = ""
    """Folder of benchmark.html, .csv and .json (default: that of the benchmark, or here for several)."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print the results as one JSON object, and nothing else on standard output."""
