"""Outputs of a loop: episodes that ended, metrics of updates, and failures of learning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Diverged(Exception):
    """A loss became NaN or infinite; the message names the update and what was not finite."""


def vital(names: Iterable[str]) -> list[str]:
    """The metrics that must be finite for learning to continue: losses and metrics of the optimiser.

    Metrics that are only logged may be infinite, or NaN where they are undefined, and stop nothing.
    """
    return [name for name in names if name == "loss" or name.startswith(("loss/", "opt/"))]


def diverged(update: int, metrics: Mapping[str, float]) -> str:
    """Error message for an update whose vital metrics are not all finite; empty if they are."""
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
    log: Mapping[str, Any] = MappingProxyType({})
    """{name: number or list} what else the task says to people at its end (`log/` observations)."""
    plans: Mapping[str, float] = MappingProxyType({})
    """Means over its plans: `planned`, what they were expected to earn, and `realised`, what came of it."""


class LoopOutput(NamedTuple):
    """Output of one iteration of a loop."""

    episodes: list[EpisodeStats]
    metrics: list[dict[str, float]]
    """Of the updates whose results were fetched: of each, or means over several."""
    running_since: int
    """Environment steps when the oldest episode that still runs began."""
