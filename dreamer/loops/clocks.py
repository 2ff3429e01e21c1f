"""When things are due: updates by environment steps, everything else by seconds."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass
class Progress:
    """How far a run is; what a checkpoint stores of it."""

    env_steps: int = 0
    """Environment steps taken; slots that only hold a reset observation do not count."""
    updates: int = 0
    """Gradient steps taken."""
    slots: int = 0
    """Calls of the vector environment."""
    learning_since: int = -1
    """Environment steps at which learning started; -1 before."""
    seconds: float = 0.0
    """Wall-clock spent training, over all resumes."""
    cpu_seconds: float = 0.0
    """CPU seconds of all its processes, start-up included."""


def updates_due(progress: Progress, train_ratio: float, steps_per_update: int) -> int:
    """How many updates are still missing for `train_ratio` replayed steps per environment step.

    Steps taken before learning started are not caught up.
    """
    if progress.learning_since < 0:
        return 0
    learned_from = progress.env_steps - progress.learning_since
    return math.floor(learned_from * train_ratio / steps_per_update) - progress.updates


class Every:
    """True once every so many seconds; the first time after the first interval."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.last = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True
