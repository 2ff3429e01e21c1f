"""Options of the sweep commands, without heavy imports."""

from dataclasses import dataclass
from typing import Literal

from dreamer.config import Natural
from dreamer.schema import Section


@dataclass(frozen=True)
class SweepOptions(Section):
    """Where a sweep runs, and on how many workers."""

    out: str = ""
    """Folder of trials and answers; one that holds this sweep is resumed (default: sweeps/<file>)."""
    launcher: Literal["inline", "processes", "submitit", "ray"] = "inline"
    """Where workers run: in this process (one trial at a time), in processes, on SLURM or a Ray cluster."""
    workers: Natural = 0
    """Trials at the same time; 0 as the file says (`concurrency`). Inline it is always one."""
    storage: str = ""
    """sqlite:///FILE, journal:///FILE or postgresql://...; by default a file in the folder."""
    slurm: tuple[str, ...] = ()
    """Parameters of the job, with submitit, as timeout_min=240 slurm_partition=gpu gpus_per_node=1."""
    dry_run: bool = False
    """Only list what would be tried, and estimate what it costs from a short run."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print one JSON object at the end, and nothing else on standard output."""


@dataclass(frozen=True)
class WorkerOptions(Section):
    """A worker takes trials of a sweep until there are none left."""

    storage: str = ""
    """Where the sweep is stored (default: as its folder says)."""
    out: str = ""
    """Folder of the sweep, which all workers share."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""


@dataclass(frozen=True)
class SweepReportOptions(Section):
    """The page about a sweep."""

    storage: str = ""
    """Where the sweep is stored (default: as its folder says)."""
    top: Natural = 0
    """Retrain this many of the best trials, on seeds that did not select them; 0 shows what there is."""
    seeds: Natural = 0
    """Fresh seeds of each of them; 0 as many as the sweep has."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print one JSON object, and nothing else on standard output."""
