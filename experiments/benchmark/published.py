"""What others published on a task: final scores, training curves, and what random players and humans reach.

The files in `data/` are facts with their source; where their x axis counts frames it is converted here, so
that every number of steps is one of environment steps, that is of decisions.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

DATA = Path(__file__).with_name("data")
OURS = {"atari": "atari57", "atari100k": "atari100k", "procgen": "procgen"}
"""Suites that the files call otherwise or alike; those of DMC depend on the observation."""
BOUNDS = {"atari57": "atari57_gamer", "atari100k": "atari57_gamer", "procgen": "procgen_hard"}
"""Tables of the two scores by which those of a suite are normalised."""
PLAYERS = ("random", "human")
"""Whose these are, unless `BOUND_NAMES` has the suite."""
BOUND_NAMES = {"procgen": ("lowest", "highest")}
FRAMES = 4
"""Frames of a decision in Atari, whose files count frames."""
LEADER = "dreamerv3"
"""The method whose curves are known."""


class Curve(NamedTuple):
    """A training curve of DreamerV3: the return of training episodes."""

    steps: np.ndarray
    """[points] environment steps."""
    mean: np.ndarray
    """[points] over seeds, of the episodes that ended since the point before."""
    std: np.ndarray
    """[points] over seeds."""

    @property
    def width(self) -> float:
        """Environment steps of training that each point is the mean of."""
        return float(np.diff(self.steps, prepend=0.0).min())

    def at(self, steps: float) -> float | None:
        """The mean at these environment steps, linear in between; None outside of the curve."""
        if not len(self.steps) or not self.steps[0] <= steps <= self.steps[-1]:
            return None
        return float(np.interp(steps, self.steps, self.mean))


class Score(NamedTuple):
    """The score of a method at the end of its training."""

    mean: float
    error: float | None
    """Standard deviation over seeds, or the error bar of the source."""
    seeds: int | None
    steps: int
    """Environment steps of the training."""
    source: str
    verified: bool = True
    """Whether the figure was looked up where it was published first, or computed from its data."""


class Published(NamedTuple):
    """What is known of a task."""

    curve: Curve | None
    scores: Mapping[str, Score]
    """{method: score}"""
    random: float | None
    """What random play reaches, of Procgen the lowest return there is."""
    human: float | None
    """What a human reaches, of Procgen the highest return there is."""
    unit: str
    """The number of ours that these compare with: `score`, `return`, or one of a suite."""


NOTHING = Published(None, {}, None, None, "return")


@functools.cache
def _read(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text("utf-8"))


def normal(name: str) -> str:
    """A name without case and separators, as `BankHeist`, `bank_heist` and `bank-heist` share it."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def suite_of(task: str, obs: str = "") -> str:
    """What the files call the suite of a task; empty if they do not have it."""
    suite = task.partition(":")[0]
    if suite == "dmc":
        return "dmc_vision" if obs == "image" else "dmc_proprio"
    return OURS.get(suite, "")


def names(suite: str) -> dict[str, str]:
    """{name without case and separators: name} of the tasks of a suite of the files."""
    tasks = _read("published_scores")["scores"].get(suite, {})
    return {normal(name.partition("_")[2]): name for name in tasks}


def of(task: str, obs: str = "") -> Published:
    """What was published on a task.

    Args:
      task: `suite:name`.
      obs: the observation it is played from, which decides between the two suites of DMC.
    """
    table = _read("published_other")["tables"].get(task)
    if table is not None:
        return _other(table)
    suite = suite_of(task, obs)
    name = names(suite).get(normal(task.partition(":")[2]))
    if name is None:
        return NOTHING
    divisor = FRAMES if suite.startswith("atari") else 1
    content = _read("published_scores")
    source = content["source"].partition(";")[0]  # what follows is about the x axis, which is converted
    scores = {
        method: Score(mean, std, seeds, steps // divisor, source)
        for method, (mean, std, seeds, steps) in content["scores"][suite][name].items()
    }
    random, human = _read("random_and_human_scores").get(BOUNDS.get(suite, ""), {}).get(name, (None, None))
    unit = "score" if divisor > 1 else "return"
    return Published(_curve(suite, name, divisor), scores, random, human, unit)


def _other(table: Mapping[str, Any]) -> Published:
    score = lambda row: Score(
        row["score"], row["score_error"], None, table["steps"], row["source"], row["verified"]
    )
    kinds = {kind: [row for row in table["rows"] if row["kind"] == kind] for kind in ("random", "human")}
    random, human = (rows[0]["score"] if rows else None for rows in kinds.values())
    scores = {row["method"]: score(row) for row in table["rows"] if row["kind"] == "method"}
    return Published(None, scores, random, human, table["unit"])


def _curve(suite: str, name: str, divisor: int) -> Curve | None:
    content = _read("published_curves")["suites"].get(suite)
    if content is None or name not in content["curves"]:
        return None
    points = content["curves"][name]
    rows = [(x / divisor, *point) for x, point in zip(content["x"], points, strict=True) if point is not None]
    return Curve(*np.asarray(rows, float).T)
