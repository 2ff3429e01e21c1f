"""The optimiser: adaptive gradient clipping, then LaProp, then a warmed-up learning rate.

The order is the algorithm: clip, divide by the running RMS, *then* average (momentum of the scaled
gradient), then the rate. As an optax transformation whose rates may be traced values.

References: Brock et al. (2021) for the clipping, Ziyin et al. (2020) for LaProp.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from dreamer.numbers import Numbers
from dreamer.schema import ConfigError

Scalar = Array | float


class LaPropState(NamedTuple):
    """Moments of the gradients."""

    count: Array
    """[] int32, updates so far."""
    nu: optax.Updates
    """Running mean of the squared gradients."""
    mu: optax.Updates
    """Running mean of the scaled gradients."""


def clip_by_norm_ratio(grads: optax.Updates, params: optax.Params, clip: Scalar) -> optax.Updates:
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
    grads: optax.Updates,
    state: LaPropState,
    *,
    beta1: Array | float,
    beta2: Array | float,
    eps: Array | float,
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


def learning_rate(count: Array, lr: Scalar, warmup: Scalar, anneal: Scalar, schedule: str) -> Array:
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


def keystr(path: tuple) -> str:
    """The path of a parameter with dots between its parts and at its end, as rssm.prior_out.kernel."""
    return f"{jax.tree_util.keystr(path, simple=True, separator='.')}."


def rate_factor(path: tuple, factors: Mapping[str, float]) -> float:
    """What multiplies the learning rate of a parameter: the factor of its longest listed prefix, else 1."""
    name = keystr(path)
    matching = [prefix for prefix in factors if name.startswith(f"{prefix}.")]
    return factors[max(matching, key=len)] if matching else 1.0


def check_factors(factors: Mapping[str, float], params: optax.Params) -> None:
    """Check that every prefix matches a parameter.

    Raises:
      ConfigError: one does not; the message lists the modules.
    """
    names = [keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    for prefix in factors:
        if not any(name.startswith(f"{prefix}.") for name in names):
            known = dict.fromkeys(name.split(".")[0] for name in names)
            raise ConfigError(
                f"agent.optim.factors, or that of the objective, names '{prefix}', which matches no "
                f"parameter; the modules are {', '.join(known)}"
            )


def update(
    grads: optax.Updates,
    state: LaPropState,
    params: optax.Params,
    numbers: Numbers,
) -> tuple[Any, LaPropState, dict[str, Array]]:
    """One step of the whole chain; returns the new parameters, the new state and what to log."""
    cfg, factors = numbers.optim, numbers.rate_factors
    clipped = clip_by_norm_ratio(grads, params, cfg.agc)
    steps, new_state = laprop(clipped, state, beta1=cfg.beta1, beta2=cfg.beta2, eps=cfg.eps)
    rate = learning_rate(state.count, cfg.lr, cfg.warmup, cfg.anneal, cfg.schedule)

    def scaled(path: tuple, step: Array, param: Array) -> Array:
        param_rate = rate * factor if (factor := rate_factor(path, factors)) != 1 else rate
        return -param_rate * (step + cfg.weight_decay * param if is_kernel(path) else step)

    steps = jax.tree_util.tree_map_with_path(scaled, steps, params)
    new_params = optax.apply_updates(params, steps)
    metrics = {
        "opt/lr": rate,
        "opt/grad_norm": global_norm(grads),
        "opt/param_norm": global_norm(new_params),  # not finite as soon as an update leaves them so
    }
    return new_params, new_state, metrics
