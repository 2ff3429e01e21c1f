"""Running statistics that put returns of any size on one scale."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Percentiles(NamedTuple):
    """Running low and high percentile of a stream of batches."""

    low: Array
    high: Array
    """[] exponential moving averages, starting at 0."""


def mix(old: Any, new: Any, rate: Array | float) -> Any:
    """A moving average of arrays after one more of them: ``rate * new + (1 - rate) * old``."""
    return jax.tree.map(lambda new, old: rate * new + (1 - rate) * old, new, old)


def init() -> Percentiles:
    """Nothing seen yet."""
    return Percentiles(jnp.zeros(()), jnp.zeros(()))


def update(
    state: Percentiles, x: Array, *, rate: Array | float, low: Array | float, high: Array | float
) -> Percentiles:
    """Move towards the percentiles of one batch: ``p <- (1 - rate) * p + rate * percentile(x)``.

    The average is not debiased: early on it underestimates the range, and `scale` then falls
    back to its limit.
    """
    now = jnp.percentile(jax.lax.stop_gradient(x).astype(jnp.float32), jnp.stack([low, high]))
    towards = lambda old, new: (1 - rate) * old + rate * new
    return Percentiles(towards(state.low, now[0]), towards(state.high, now[1]))


def scale(state: Percentiles, *, limit: Array | float) -> Array:
    """The range between the percentiles, but at least `limit`, so that small returns are not blown up.

    Reference: Hafner et al. (2025), Critic and actor learning: returns below 1 stay as they are.
    """
    return jax.lax.stop_gradient(jnp.maximum(limit, state.high - state.low))
