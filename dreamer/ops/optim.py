"""The optimiser: adaptive gradient clipping, then LaProp, then a warmed-up learning rate.

The order is the algorithm: clip, divide by the running RMS, *then* average (momentum of the scaled
gradient), then the rate. As an optax transformation whose rates may be traced values.

References: Brock et al. (2021) for the clipping, Ziyin et al. (2020) for LaProp.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree


class LaPropState(NamedTuple):
    """Moments of the gradients, each one long vector: a few large operations instead of many small ones."""

    count: Array
    """[] int32, updates so far."""
    nu: Array
    """[P] running mean of the squared gradients, tensors in the order of `jax.tree.leaves`."""
    mu: Array
    """[P] running mean of the scaled gradients."""


def norms(tree: optax.Params) -> Array:
    """[tensors] Euclidean norm of every leaf."""
    return jnp.sqrt(jnp.stack([jnp.square(x).sum() for x in jax.tree.leaves(tree)]))


def clip_by_norm_ratio(grads: optax.Updates, params: optax.Params, clip: Array) -> optax.Updates:
    """Shrink each tensor's gradient to ``clip * max(1e-3, ||param||)`` where it is larger (no-op for clip 0)."""
    limit = clip * jnp.maximum(1e-3, norms(params))
    ratio = norms(grads) / jnp.where(clip > 0, limit, jnp.inf)
    shrink = 1 / jnp.maximum(1.0, ratio)
    leaves, structure = jax.tree.flatten(grads)
    return structure.unflatten([x * shrink[i] for i, x in enumerate(leaves)])


def laprop_init(params: optax.Params) -> LaPropState:
    """No moments yet."""
    zeros = lambda: jnp.zeros(sum(p.size for p in jax.tree.leaves(params)))
    return LaPropState(jnp.zeros((), jnp.int32), zeros(), zeros())


def laprop(
    grad: Array, state: LaPropState, *, beta1: Array, beta2: Array, eps: Array
) -> tuple[Array, LaPropState]:
    """Divide by the debiased RMS of the gradient, then average over time, debiased.

        nu <- beta2 * nu + (1 - beta2) * g^2          g' = g / (sqrt(nu / (1 - beta2^t)) + eps)
        mu <- beta1 * mu + (1 - beta1) * g'           step = mu / (1 - beta1^t)

    Args:
      grad: [P] all gradients.
    """
    count = state.count + 1
    nu_fix, mu_fix = 1 - beta2**count, 1 - beta1**count
    nu = beta2 * state.nu + (1 - beta2) * grad * grad
    mu = beta1 * state.mu + (1 - beta1) * grad / (jnp.sqrt(nu / nu_fix) + eps)
    return mu / mu_fix, LaPropState(count, nu, mu)


def learning_rate(count: Array, lr: Array, warmup: Array, anneal: Array, schedule: str) -> Array:
    """The rate of update number `count` (from 0): linear from 0 to `lr`, then constant or decaying to lr/10."""
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
) -> tuple[optax.Params, LaPropState, dict[str, Array]]:
    """One step of the whole chain; returns the new parameters, the new state and what to log.

    Args:
      hyper: anything with the traced numbers `lr, warmup, anneal, agc, beta1, beta2, eps, weight_decay`.
    """
    clipped, _ = ravel_pytree(clip_by_norm_ratio(grads, params, hyper.agc))
    old, unravel = ravel_pytree(params)
    step, new_state = laprop(clipped, state, beta1=hyper.beta1, beta2=hyper.beta2, eps=hyper.eps)
    kernels, _ = ravel_pytree(
        jax.tree_util.tree_map_with_path(
            lambda path, p: p if is_kernel(path) else jnp.zeros_like(p), params
        )
    )
    rate = learning_rate(state.count, hyper.lr, hyper.warmup, hyper.anneal, schedule)
    step = rate * (step + hyper.weight_decay * kernels)
    metrics = {
        "opt/lr": rate,
        "opt/grad_norm": optax.tree.norm(grads),
        "opt/update_norm": jnp.linalg.norm(step),
        "opt/param_norm": jnp.linalg.norm(old),
    }
    return unravel(old - step), new_state, metrics
