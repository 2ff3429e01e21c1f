"""The score of a run while it trains, as its suite counts it: what its result would say if it ended now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dreamer.config import Config
from experiments.benchmark import scores

if TYPE_CHECKING:
    from experiments.training.folder import RunFolder

EVERY = 60.0
"""Seconds between two scores, at least."""
SHARE = 1 / 500
"""Share of the time that scores may take: they are computed from the whole log, which grows."""


def is_scored(cfg: Config) -> bool:
    """Whether a run has a score while it trains; the members of a population have theirs only at the end."""
    return cfg.population.is_one and scores.has_score(cfg.task)


def log(folder: RunFolder, numbers: Mapping[str, float]) -> None:
    """Log a score as `score/<name>`, without single achievements."""
    named = {f"score/{name}": value for name, value in scores.divided(numbers)[0].items()}
    if named:
        folder.logger.metrics(named)


class Meanwhile:
    """Logs the score of a run so far, seldom enough to take no noticeable time.

    Args:
      folder: of the run, with an open log.
      clock: seconds that never go back.
    """

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._rests_until = 0.0

    def __call__(self) -> None:
        """Log it, unless the last one took so long that it is too early for another."""
        began = self._clock()
        if began < self._rests_until:
            return
        folder = self._folder
        numbers = scores.of_run(folder.path, folder.cfg.task, folder.logger.env_steps).get("score", {})
        log(folder, numbers)
        self._rests_until = began + (self._clock() - began) / SHARE
