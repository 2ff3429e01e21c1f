"""What is read off the features: numbers, probabilities, actions."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import HeadConfig, PolicyConfig, TwoHotConfig
from dreamer.nets.layers import MLP, Initializer, Linear
from dreamer.ops import dists
from envs.api import Space, Spaces


class TwoHotHead(nnx.Module):
    """Predicts a number as a distribution over exponentially spaced bins; starts at exactly 0."""

    def __init__(self, width: int, cfg: TwoHotConfig, *, init: Initializer):
        self.mlp = MLP(width, cfg.units, cfg.layers, init=init)
        self.out = Linear(self.mlp.width, cfg.bins, init=init, scale=0.0)
        self.num_bins = cfg.bins

    @property
    def bins(self) -> Array:
        return dists.symexp_bins(self.num_bins)

    def __call__(self, feat: Array) -> Array:
        """[..., F] -> [..., bins] float32 logits."""
        return self.out(self.mlp(feat)).astype(jnp.float32)

    def mean(self, logits: Array) -> Array:
        return dists.twohot_mean(logits, self.bins)

    def loss(self, logits: Array, *targets: tuple[Array, Array | float]) -> Array:
        """Cross-entropy against weighted two-hot targets: ``sum_k w_k CE(logits, twohot(t_k))``."""
        total = sum(weight * dists.twohot(target, self.bins) for target, weight in targets)
        return dists.cross_entropy(logits, total)


class BinaryHead(nnx.Module):
    """Predicts a probability."""

    def __init__(self, width: int, cfg: HeadConfig, *, init: Initializer):
        self.mlp = MLP(width, cfg.units, cfg.layers, init=init)
        self.out = Linear(self.mlp.width, 1, init=init)

    def __call__(self, feat: Array) -> Array:
        """[..., F] -> [...] float32 logits."""
        return self.out(self.mlp(feat)).astype(jnp.float32).squeeze(-1)


def discrete_out(width: int, space: Space, *, init: Initializer, scale: float = 1.0) -> Linear:
    """Output layer with one logit for every class of every entry of `space`."""
    assert space.classes is not None
    return Linear(width, space.size * space.classes, init=init, scale=scale)


def as_logits(x: Array, space: Space) -> Array:
    """[..., size * classes] -> [..., *shape, classes] float32."""
    assert space.classes is not None
    return x.reshape(*x.shape[:-1], *space.shape, space.classes).astype(jnp.float32)


class NormalOut(nnx.Module):
    """Output layers for the mean and the spread of a continuous action."""

    def __init__(self, width: int, space: Space, *, init: Initializer, scale: float):
        self.mean = Linear(width, space.size, init=init, scale=scale)
        self.std = Linear(width, space.size, init=init, scale=scale)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        return self.mean(x), self.std(x)


POLICY_SCALE = 0.01
"""Size of the policy's output layer at the start, so that it begins near uniform."""


class PolicyHead(nnx.Module):
    """A distribution over every entry of the action space, given the features."""

    def __init__(self, width: int, act_space: Spaces, cfg: PolicyConfig, *, init: Initializer):
        self.mlp = MLP(width, cfg.units, cfg.layers, init=init)
        self.spaces = tuple(act_space.items())
        self.std_range = (cfg.min_std, cfg.max_std)
        outs = {}
        for name, space in self.spaces:
            make = discrete_out if space.is_discrete else NormalOut
            outs[name] = make(self.mlp.width, space, init=init, scale=POLICY_SCALE)
        self.out = nnx.Dict(outs)

    def __call__(
        self, feat: Array, unimix: Array | float
    ) -> Mapping[str, dists.Categorical | dists.BoundedNormal]:
        """[..., F] -> {action key: distribution}."""
        x = self.mlp(feat)
        result = {}
        for name, space in self.spaces:
            ndim = len(space.shape)
            if space.is_discrete:
                logp = dists.unimix_logp(as_logits(self.out[name](x), space), unimix)
                result[name] = dists.Categorical(logp, ndim)
            else:
                mean, std = (
                    v.reshape(*v.shape[:-1], *space.shape) for v in self.out[name](x)
                )
                result[name] = dists.BoundedNormal.from_raw(mean, std, ndim, *self.std_range)
        return result
