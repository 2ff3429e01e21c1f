"""What happens every so often while a run trains, by seconds, environment steps or updates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal, Protocol

Unit = Literal["seconds", "env_steps", "updates"]


class Clock(Protocol):
    """How far a run is."""

    env_steps: int
    updates: int


class Hook:
    """A call that is due every `n` of a unit.

    Args:
      n: by steps and updates at the first output after each multiple of it (0: never); by seconds this many
        after the last call.
      call: what is done.
      is_ready: whether there is anything to do; until then it waits.
      is_aside: whether it changes nothing of the run, so that a signal may interrupt it anywhere.
    """

    def __init__(
        self,
        unit: Unit,
        n: float,
        call: Callable[[], object],
        *,
        is_ready: Callable[[], bool] = lambda: True,
        is_aside: bool = False,
    ):
        self.unit, self.n, self.call, self.is_aside = unit, n, call, is_aside
        self._is_ready, self._next = is_ready, math.inf

    def start(self, progress: Clock) -> None:
        """Count from now on."""
        now = self._now(progress)
        self._next = now + self.n if self.unit == "seconds" else next_multiple(int(now), int(self.n))

    def is_due(self, progress: Clock) -> bool:
        return self._now(progress) >= self._next and self._is_ready()

    def run(self, progress: Clock) -> None:
        """Call it, and restart the count."""
        self.start(progress)
        self.call()

    def _now(self, progress: Clock) -> float:
        return time.monotonic() if self.unit == "seconds" else getattr(progress, self.unit)


def next_multiple(value: int, unit: int) -> float:
    """The first multiple of `unit` above `value`; never, if `unit` is 0."""
    return (value // unit + 1) * unit if unit else math.inf
