"""What a loop hands out: episodes that ended, metrics of updates, and news that learning failed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Diverged(Exception):
    """A loss became NaN or infinite; the message names the update and what was not finite."""


def vital(names: Iterable[str]) -> list[str]:
    """The metrics that must be finite for learning to go on: losses, and what is measured of their descent.

    What is only logged may be infinite, or no number where it makes no sense, and ends nothing.
    """
    return [name for name in names if name == "loss" or name.startswith(("loss/", "opt/"))]


def diverged(update: int, metrics: Mapping[str, float]) -> str:
    """What to say about an update whose vital metrics are not all finite; empty if they are."""
    wrong = [name for name in vital(metrics) if not math.isfinite(metrics[name])]
    return f"update {update} gave values that are not finite: {', '.join(wrong)}" if wrong else ""


class EpisodeStats(NamedTuple):
    """One episode that ended in training."""

    env_steps: int
    updates: int
    """Of the run when it ended."""
    began: int
    """Environment steps of the run when it began."""
    return_: float
    length: int
    success: bool | None


class LoopOutput(NamedTuple):
    """What happened in one turn of a loop."""

    episodes: list[EpisodeStats]
    metrics: list[dict[str, float]]
    """Of the updates whose results came in: of each, or means over several."""
    running_since: int
    """Environment steps when the oldest episode that still runs began."""
