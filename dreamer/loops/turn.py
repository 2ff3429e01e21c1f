"""What a loop hands out: episodes that ended, metrics of updates, and news that learning failed."""

from __future__ import annotations

from typing import NamedTuple


class Diverged(Exception):
    """A loss became NaN or infinite; the message names the update and what was not finite."""


class Finished(NamedTuple):
    """One episode that ended in training."""

    env_steps: int
    began: int
    """Environment steps of the run when it began."""
    return_: float
    length: int
    success: bool | None


class Turn(NamedTuple):
    """What happened in one turn of a loop."""

    episodes: list[Finished]
    metrics: list[dict[str, float]]
    """Of the updates whose results came in: of each, or means over several."""
    running_since: int
    """Environment steps when the oldest episode that still runs began."""
