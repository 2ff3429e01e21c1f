"""How long an actor takes for a decision, and to compile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from dreamer.player import Player
from envs.api import Step, VectorEnv
from envs.rollout import Random

CALLS, MOST, SECONDS = 30, 300, 3.0
"""Least and most decisions that are timed, and seconds after which no more than the least are."""
SAVED = "/jax/compilation_cache/compile_time_saved_sec"
"""What JAX calls the time that compiling would have taken, had the program not been in its cache."""


def observed(env: VectorEnv, seed: int, count: int = CALLS) -> list[Step]:
    """Steps of one environment under random actions, [1, ...] each: what every actor is timed on."""
    seeds = range(seed, seed + env.num_envs)
    policy, steps, step = Random(env.act_space), [], env.reset(seeds)
    for t in range(count):
        steps.append(jax.tree.map(lambda x: np.array(x[:1]), step))
        action, _ = policy.act(None, step, key=t)
        step = env.step(action, seeds)
    return steps


def decisions(player: Player, steps: Sequence[Step]) -> dict[str, Any]:
    """Time decisions for one environment, one after the other.

    Args:
      steps: [1, ...] each, what it sees.

    Returns:
      `ms`, the median without compiling, and `ms_quartiles`; `timed`, how many decisions; `compile_seconds`,
      those of the first decision beyond the median, and what a cache of compiled programs saved.
    """
    carry = player.init(1)
    with _saved() as saved:
        start = time.perf_counter()
        _, carry = player.act(carry, steps[0])
        first = time.perf_counter() - start
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(taken) < CALLS or (len(taken) < MOST and time.perf_counter() < end):
        step = steps[(len(taken) + 1) % len(steps)]
        start = time.perf_counter()
        _, carry = player.act(carry, step, key=len(taken))
        taken.append(time.perf_counter() - start)
    low, median, high = (float(x) for x in np.quantile(taken, (0.25, 0.5, 0.75)))
    return {
        "ms": 1e3 * median,
        "ms_quartiles": [1e3 * low, 1e3 * high],
        "timed": len(taken),
        "compile_seconds": max(first - median, 0.0) + max(sum(saved), 0.0),
    }


@contextlib.contextmanager
def _saved() -> Iterator[list[float]]:
    """Seconds of compiling that a cache saves within it."""
    seconds: list[float] = []

    def heard(event: str, duration_secs: float, **_: str | int) -> None:
        if event == SAVED:
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
