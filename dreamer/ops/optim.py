"""The optimiser: adaptive gradient clipping, then LaProp, then a warmed-up learning rate.

The order is the algorithm: clip, divide by the running RMS, *then* average (momentum of the scaled
gradient), then the rate. As an optax transformation whose rates may be traced values.

References: Brock et al. (2021) for the clipping, Ziyin et al. (2020) for LaProp.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class LaPropState(NamedTuple):
    """Moments of the gradients."""

    count: Array
    """[] int32, updates so far."""
    nu: optax.Updates
    """Running mean of the squared gradients."""
    mu: optax.Updates
    """Running mean of the scaled gradients."""


def clip_by_norm_ratio(grads: optax.Updates, params: optax.Params, clip: Array) -> optax.Updates:
    """Shrink each tensor's gradient to ``clip * max(1e-3, ||param||)`` where larger (no-op for clip 0)."""

    def shrink(grad: Array, param: Array) -> Array:
        limit = clip * jnp.maximum(1e-3, _norm(param))
        ratio = _norm(grad) / jnp.where(clip > 0, limit, jnp.inf)
        return grad / jnp.maximum(1.0, ratio)

    return jax.tree.map(shrink, grads, params)


def _norm(x: Array) -> Array:
    return jnp.linalg.norm(x.ravel())


def global_norm(tree: Any) -> Array:
    """Norm of all tensors together, from the norm of each."""
    return _norm(jnp.stack(jax.tree.leaves(jax.tree.map(_norm, tree))))


def laprop_init(params: optax.Params) -> LaPropState:
    """No updates yet: float32 zeros in the shape of the parameters."""
    zeros = lambda: jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), params)
    return LaPropState(jnp.zeros((), jnp.int32), zeros(), zeros())


def laprop(
    grads: optax.Updates, state: LaPropState, *, beta1: Array, beta2: Array, eps: Array
) -> tuple[optax.Updates, LaPropState]:
    """Divide by the debiased RMS of the gradient, then average over time, debiased.

    nu <- beta2 * nu + (1 - beta2) * g^2          g' = g / (sqrt(nu / (1 - beta2^t)) + eps)
    mu <- beta1 * mu + (1 - beta1) * g'           step = mu / (1 - beta1^t)
    """
    count = state.count + 1
    nu = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.nu, grads)
    nu_fix, mu_fix = 1 - beta2**count, 1 - beta1**count
    mu = jax.tree.map(
        lambda m, g, v: beta1 * m + (1 - beta1) * g / (jnp.sqrt(v / nu_fix) + eps),
        state.mu,
        grads,
        nu,
    )
    return jax.tree.map(lambda m: m / mu_fix, mu), LaPropState(count, nu, mu)


def learning_rate(count: Array, lr: Array, warmup: Array, anneal: Array, schedule: str) -> Array:
    """The rate of update `count` (from 0): linear from 0 to `lr`, then constant or decaying to lr/10."""
    ramp = lr * jnp.clip(count / jnp.maximum(warmup, 1), 0, 1)
    done = jnp.clip((count - warmup) / jnp.maximum(anneal - warmup, 1), 0, 1)
    decay = {
        "const": 1.0,
        "linear": 1 - 0.9 * done,
        "cosine": 0.1 + 0.9 * 0.5 * (1 + jnp.cos(jnp.pi * done)),
    }[schedule]
    return jnp.where(count < warmup, ramp, lr * decay)


def is_kernel(path: tuple) -> bool:
    """Whether a parameter is a weight matrix (and not a bias or a scale): what weight decay applies to."""
    return path[-1].key == "kernel"


def update(
    grads: optax.Updates, state: LaPropState, params: optax.Params, hyper, schedule: str
) -> tuple[Any, LaPropState, dict[str, Array]]:
    """One step of the whole chain; returns the new parameters, the new state and what to log.

    Args:
      hyper: anything with the traced numbers `lr, warmup, anneal, agc, beta1, beta2, eps, weight_decay`.
    """
    clipped = clip_by_norm_ratio(grads, params, hyper.agc)
    steps, new_state = laprop(clipped, state, beta1=hyper.beta1, beta2=hyper.beta2, eps=hyper.eps)
    rate = learning_rate(state.count, hyper.lr, hyper.warmup, hyper.anneal, schedule)
    steps = jax.tree_util.tree_map_with_path(
        lambda path, s, p: -rate * (s + hyper.weight_decay * p if is_kernel(path) else s),
        steps,
        params,
    )
    new_params = optax.apply_updates(params, steps)
    metrics = {
        "opt/lr": rate,
        "opt/grad_norm": global_norm(grads),
        "opt/param_norm": global_norm(new_params),  # not finite as soon as an update leaves them so
    }
    return new_params, new_state, metrics
