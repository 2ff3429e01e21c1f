"""A row of the table, and what kind of thing a folder is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from experiments.board.files import Listing

RUN, POPULATION, MEMBER, PPO = "run", "population", "member", "ppo"
SWEEP, BENCHMARK, OBJECTIVES = "sweep", "benchmark", "objectives"
COMPARISON, PAGE = "comparison", "page"
GATHERED = (SWEEP, BENCHMARK, OBJECTIVES)
"""Kinds whose runs lie in their folder."""
TRAINING, DONE, UNFINISHED, FAILED, DAMAGED = "training", "done", "unfinished", "failed", "damaged"
CONFIG, RESULT, METRICS, EPISODES = "config.toml", "result.json", "metrics.jsonl", "episodes.jsonl"
MANIFESTS = {
    CONFIG: RUN,
    "ppo.json": PPO,
    "sweep.toml": SWEEP,
    "benchmark.toml": BENCHMARK,
    "objectives.toml": OBJECTIVES,
    "compare.json": COMPARISON,
}
"""{file that says what a folder is: its kind}."""
PAGES = ("report.html", "benchmark.html", "objectives.html")
WATCHED = (*MANIFESTS, RESULT, METRICS, EPISODES, *PAGES, "trials.json", "results.json")
"""Files whose change may change a row."""
MEMBERS = "members"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    id: str
    """Path below the root; a dot is the root itself."""
    kind: str
    task: str = ""
    preset: str = ""
    seed: int | None = None
    status: str = UNFINISHED
    ready: int = 0
    """How far it is, in `unit`."""
    total: int | None = None
    """How far it is to go, if that is known."""
    unit: str = "steps"
    updates: int | None = None
    return_mean: float | None = None
    success_rate: float | None = None
    judged: str = ""
    """What the two are of: an `evaluation`, (the last) `training` episodes, or the `best trial`."""
    acted_with: str = ""
    """What acted in training, where that was not the sampled policy."""
    seconds: float | None = None
    """Time it trained for."""
    left: float | None = None
    """Seconds until it has all its steps, at its recent pace; of one that is being trained."""
    changed: float = 0.0
    """When it was last written to, in seconds since 1970."""
    problem: str = ""
    """What is damaged, missing or has failed."""
    page: str = ""
    """Path of its report below the root; empty if it has none."""


class Place(NamedTuple):
    """What is known of a folder before anything in it is read."""

    path: str
    """Below the root."""
    listing: Listing
    held: bool
    """Whether a process holds this folder, or that of its population."""
    changed: float
    """Seconds since 1970."""
    failure: str = ""
    """Why its run failed, as a benchmark leaves it beside the folder."""


def kind(path: str, listing: Listing) -> str:
    """The kind of thing that a folder is; empty for none of them."""
    manifest = next((kind for name, kind in MANIFESTS.items() if name in listing.files), "")
    if manifest == RUN or {METRICS, EPISODES} <= listing.files and not manifest:  # its configuration is lost
        if MEMBERS in listing.folders:
            return POPULATION
        return MEMBER if path.split("/")[-2:-1] == [MEMBERS] else RUN
    return manifest or (PAGE if page(listing) else "")


def page(listing: Listing) -> str:
    """The name of the report in a folder; empty for none."""
    return next((name for name in PAGES if name in listing.files), "")
