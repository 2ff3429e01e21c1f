"""Squashing functions that keep small numbers and shrink large ones."""

import jax.numpy as jnp
from jax import Array


def symlog(x: Array) -> Array:
    """Logarithm that is odd and passes through zero: ``sign(x) * ln(1 + |x|)``.

    Reference: Hafner et al. (2025), Robust predictions.
    """
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """Inverse of `symlog`: ``sign(x) * (exp(|x|) - 1)``."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def lead(v: Array, x: Array) -> Array:
    """Give `v`, which fits the last axes of `x`, the leading axes it needs to broadcast against `x`."""
    return v.reshape((1,) * (x.ndim - v.ndim) + v.shape)
