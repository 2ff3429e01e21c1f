"""The nonlinearity of every layer: RMS norm, then SiLU, with a gradient of its own."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

NORM_EPS = 1e-4


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def normed_silu(x: Array, scale: Array, axes: tuple[int, ...] = (-1,)) -> Array:
    """``silu(u * scale)`` with ``u = x / sqrt(mean(x^2) + eps)``; the norm in float32, all else as x.

    Derived step by step, the gradient would keep every intermediate result of the size of x, which costs a
    CPU more than to compute them again from x.

    Args:
      x: [...].
      scale: of as many axes as x; its gradient is summed over those of length 1.
      axes: over which the mean is taken.

    Source of the norm: Zhang and Sennrich (2019), with the eps of DreamerV3.
    """
    return _normed_silu(x, scale, axes)[0]


def _normed_silu(x: Array, scale: Array, axes: tuple[int, ...]) -> tuple[Array, tuple[Array, Array, Array]]:
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.square(wide).mean(axes, keepdims=True) + NORM_EPS)
    return jax.nn.silu((wide * (inverse * scale)).astype(x.dtype)), (x, inverse, scale)


def _normed_silu_grad(axes: tuple[int, ...], saved: tuple[Array, Array, Array], g: Array):
    """With ``n = u * scale`` and ``d = g * silu'(n)``: ``dx = (d*scale - u * mean(d*scale*u)) / rms``."""
    x, inverse, scale = saved
    u = x.astype(jnp.float32) * inverse
    n = u * scale
    gate = jax.nn.sigmoid(n)
    # Three sums read it; without the barrier a CPU computes it for each of them.
    d = jax.lax.optimization_barrier(g.astype(jnp.float32) * gate * (1 + n * (1 - gate)))
    over = tuple(axis for axis, size in enumerate(scale.shape) if size == 1)
    of_u = d * scale
    of_x = inverse * (of_u - u * (of_u * u).mean(axes, keepdims=True))
    return of_x.astype(x.dtype), (d * u).sum(over, keepdims=True).astype(scale.dtype)


normed_silu.defvjp(_normed_silu, _normed_silu_grad)
