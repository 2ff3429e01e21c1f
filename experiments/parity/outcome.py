"""What the runs of both sides come to: episodes, scores, curves, and the test of a difference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import statistics
from experiments.results_table import curve

POINTS, WINDOW = 40, 10
"""Points of a curve, and the episodes each is a mean of."""


class Episode(NamedTuple):
    """One episode of training."""

    slot: int
    """Slots of all environments when it ended; a reset counts as one."""
    score: float
    """Its return."""


class RunError(ValueError):
    """A run left nothing that can be compared; the message names the file."""


def reference_episodes(folder: Path) -> list[Episode]:
    """Episodes of a run of the reference, from its `scores.jsonl`.

    Raises:
      RunError: it is missing, has no episode or is no such file.
    """
    path = folder / "scores.jsonl"
    return _episodes(path, [(row["step"], row["episode/score"]) for row in _rows(path, "episode/score")])


def our_episodes(folder: Path, num_envs: int) -> list[Episode]:
    """Episodes of a run of ours, from its `episodes.jsonl`, which counts environment steps.

    The slots that hold a reset when the n-th episode (from 0) ends are the first of every environment and
    one after each of the n episodes before.

    Raises:
      RunError: it is missing, has no episode or is no such file.
    """
    path = folder / "episodes.jsonl"
    rows = _rows(path, "env_steps")
    ends = [(row["env_steps"] + num_envs + n, row["return"]) for n, row in enumerate(rows)]
    return _episodes(path, ends)


def _rows(path: Path, key: str) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [row for row in rows if key in row]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}; delete its folder to run this seed again") from None


def _episodes(path: Path, ends: Iterable[tuple[float, float]]) -> list[Episode]:
    episodes = [Episode(int(slot), float(score)) for slot, score in ends]
    if not episodes:
        raise RunError(f"{path} has no episode; train for more steps")
    return episodes


def last_half(episodes: Sequence[Episode], steps: int) -> float:
    """Mean return of the episodes that end in the second half of training.

    Raises:
      RunError: there is none.
    """
    scores = [e.score for e in episodes if steps / 2 < e.slot <= steps]
    if not scores:
        raise RunError(f"no episode ended between step {steps // 2} and {steps}; train for more steps")
    return float(np.mean(scores))


def of_side(runs: Sequence[Sequence[Episode]], steps: int) -> dict[str, Any]:
    """Scores and curves of the seeds of one side, and the interval of their mean."""
    scores = [last_half(episodes, steps) for episodes in runs]
    rows = [[{"env_steps": e.slot, "return": e.score, "success": None} for e in run] for run in runs]
    curves = [curve(run, steps, POINTS, WINDOW) for run in rows]
    return {
        "last_half": scores,
        "mean": float(np.mean(scores)),
        "interval": statistics.bootstrap(scores),
        "episodes": [sum(e.slot <= steps for e in run) for run in runs],
        "steps": curves[0]["env_steps"],
        "curves": [row["return"] for row in curves],
    }


def difference(ours: Sequence[float], reference: Sequence[float]) -> dict[str, Any]:
    """How much higher our scores are, with interval and the p-value of a permutation test.

    One seed of each has neither interval nor p-value: null.
    """
    gap = statistics.difference(ours, reference)
    if min(len(ours), len(reference)) < 2:
        return {"ours_minus_reference": gap.mean, "interval": None, "permutation_p": None}
    return {
        "ours_minus_reference": gap.mean,
        "interval": [gap.low, gap.high],
        "permutation_p": statistics.permutation_test(ours, reference),
    }
