"""When things are due: updates by environment steps, everything else by seconds."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass
class Progress:
    """Counters of a run, as a checkpoint stores them."""

    env_steps: int = 0
    """Environment steps taken; slots that only hold a reset observation do not count."""
    updates: int = 0
    """Gradient steps taken."""
    slots: int = 0
    """Calls of the vector environment."""
    learning_since: int = -1
    """Environment steps at which learning started; -1 before."""
    counted_since: int | None = None
    """Environment steps from which on updates are due, where that is not since learning started; -1 until the
    replay can be sampled again."""
    counted_updates: int = 0
    """Gradient steps taken before that."""
    seconds: float = 0.0
    """Wall-clock spent training, over all resumes."""
    cpu_seconds: float = 0.0
    """CPU seconds of all its processes, start-up included."""


def updates_due(progress: Progress, train_ratio: float, steps_per_update: int) -> int:
    """How many updates are still missing for `train_ratio` replayed steps per environment step.

    Steps taken before learning started, or before counting restarted, are not caught up.
    """
    since = progress.learning_since if progress.counted_since is None else progress.counted_since
    if progress.learning_since < 0 or since < 0:
        return 0
    done = progress.updates - progress.counted_updates
    return math.floor((progress.env_steps - since) * train_ratio / steps_per_update) - done


def restart_count(progress: Progress) -> None:
    """Count due updates from the present step on only, as after a change of the updates due for a step."""
    if progress.learning_since >= 0:
        progress.counted_since = -1


def begin(progress: Progress) -> None:
    """Start counting, where that waited until the replay can be sampled."""
    if progress.learning_since < 0:
        progress.learning_since = progress.env_steps
    elif progress.counted_since == -1:
        progress.counted_since, progress.counted_updates = progress.env_steps, progress.updates


class Every:
    """True once every `seconds`; the first time after the first interval."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.last = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True
