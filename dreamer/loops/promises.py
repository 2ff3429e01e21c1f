"""What an actor's plans promised, and what came of it, summed up while an episode runs.

A plan that was taken after step t promises G[t], in the discounted units of the model. What came of it is

    R[t] = r[t+1] + gamma r[t+2] + gamma^2 r[t+3] + ...,    gamma = 1 - 1/horizon,

up to the end of the episode. Both are logged as means over the steps of an episode that have a plan. Nothing
of the steps has to be kept for that, because a reward counts for all plans before it at once:

    c[t+1] = gamma c[t] + 1,    sum of R = sum of c[t] r[t]

A time limit cuts an episode where rewards would still have followed. There the last plan stands for them and
for the last reward: it is no promise to be judged, and its return ends R of all plans before it. So where
limits cut, the two are closer than what a longer episode would show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from dreamer.actors import expected_return
from envs.api import Step


class Promises(NamedTuple):
    """Of the plans of the running episodes, [N] each."""

    reach: Array
    """What a reward of the last step counts for: c."""
    count: Array
    """Plans."""
    planned: Array
    """Sum of what they were expected to earn."""
    realised: Array
    """Sum of what they earned so far."""


Kept = Promises | tuple[()]
"""`()` of an actor that expects nothing, which adds nothing to a program and to a checkpoint."""


def start(memory: Any) -> Kept:
    """Before the first plan of an actor with this memory."""
    expected = expected_return(memory)
    return () if expected is None else Promises(*(jnp.zeros(expected.shape) for _ in Promises._fields))


def follow(promises: Kept, expected: Array | None, step: Step, horizon: Array | float) -> Kept:
    """With one step more.

    Args:
      expected: [N] of the plans whose first actions led to the step; NaN where there was none.
      step: [N]; a first one starts with nothing.
      horizon: of the discount.
    """
    if expected is None or not isinstance(promises, Promises):
        return ()
    reach, count, planned, realised = (jnp.where(step.is_first, 0.0, x) for x in promises)
    is_cut = step.is_last & ~step.is_terminal
    counts = jnp.isfinite(expected) & ~step.is_first & ~is_cut
    reach = (1 - 1 / horizon) * reach + counts
    earned = jnp.where(is_cut, expected, step.reward)
    return Promises(
        reach,
        count + counts,
        planned + jnp.where(counts, expected, 0.0),
        jnp.where(step.is_first, 0.0, realised + reach * earned),
    )


def means(promises: Kept) -> dict[str, Array]:
    """{name: [N]} the means over the plans so far, NaN where there is none; {} where nothing is expected."""
    if not isinstance(promises, Promises):
        return {}
    mean = lambda total: jnp.where(promises.count > 0, total / jnp.maximum(promises.count, 1), jnp.nan)
    return {"planned": mean(promises.planned), "realised": mean(promises.realised)}


def of(means: Mapping[str, Any], copy: int) -> dict[str, float]:
    """{name: mean} of the episode of one copy, whose last plan may have had no number: then {}."""
    numbers = {name: float(values[copy]) for name, values in means.items()}
    return numbers if all(map(math.isfinite, numbers.values())) else {}
