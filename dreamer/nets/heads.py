"""Predictions from the features: numbers, probabilities, actions."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import HeadConfig, PolicyConfig, TwoHotConfig
from dreamer.nets.layers import MLP, Initializer, Linear
from dreamer.ops import dists
from envs.api import Space, Spaces


def per_step(read: Callable[[Array], Any], feat: Array) -> Any:
    """`read` of dreams [H+1, N, F] that no gradient needs.

    On a CPU one step at a time, so that what it computes on the way fits into the cache.
    """
    return jax.lax.map(read, feat) if jax.default_backend() == "cpu" else read(feat)


class TwoHotHead(nnx.Module):
    """Predicts a number as a distribution over exponentially spaced bins; starts at exactly 0."""

    def __init__(self, width: int, cfg: TwoHotConfig, *, init: Initializer):
        self.mlp = MLP(width, cfg.units, cfg.layers, init=init)
        self.out = Linear(self.mlp.width, cfg.bins, init=init, scale=0.0)
        self.num_bins = cfg.bins

    @property
    def bins(self) -> Array:
        """[bins] the numbers that the logits stand for."""
        return dists.symexp_bins(self.num_bins)

    def __call__(self, feat: Array) -> Array:
        """[..., F] -> [..., bins] float32 logits."""
        return self.out(self.mlp(feat)).astype(jnp.float32)

    def mean(self, logits: Array) -> Array:
        """[..., bins] logits -> [...] the number they predict."""
        return dists.twohot_mean(logits, self.bins)

    def expected(self, feat: Array) -> Array:
        """[..., F] -> [...] the predicted number."""
        return self.mean(self(feat))

    def loss(self, logits: Array, *targets: tuple[Array, Array | float]) -> Array:
        """Cross-entropy against weighted two-hot targets: ``sum_k w_k CE(logits, twohot(t_k))``."""
        numbers, weights = zip(*targets, strict=True)
        weights = jnp.stack([jnp.asarray(w, jnp.float32) for w in weights])
        return dists.twohot_cross_entropy(logits, self.bins, jnp.stack(numbers), weights)


class Critics(nnx.Module):
    """Further critics beside the first, which differ in the parameters that they start from."""

    def __init__(self, count: int, width: int, cfg: TwoHotConfig, *, init: Initializer):
        self.heads = nnx.Dict(
            {str(index): TwoHotHead(width, cfg, init=init) for index in range(1, count + 1)}
        )

    def __iter__(self) -> Iterator[tuple[str, TwoHotHead]]:
        return iter(self.heads.items())


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
    return Linear(width, space.size * space.num_classes, init=init, scale=scale)


def as_logits(x: Array, space: Space) -> Array:
    """[..., size * classes] -> [..., *shape, classes] float32."""
    return x.reshape(*x.shape[:-1], *space.shape, space.num_classes).astype(jnp.float32)


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
        outs: dict[str, Linear | NormalOut] = {}
        for name, space in self.spaces:
            make = discrete_out if space.is_discrete else NormalOut
            outs[name] = make(self.mlp.width, space, init=init, scale=POLICY_SCALE)
        self.out = nnx.Dict(outs)

    def __call__(
        self, feat: Array, unimix: Array | float
    ) -> Mapping[str, dists.Categorical | dists.BoundedNormal]:
        """[..., F] -> {action key: distribution}."""
        x = self.mlp(feat)
        result: dict[str, dists.Categorical | dists.BoundedNormal] = {}
        for name, space in self.spaces:
            ndim = len(space.shape)
            out = self.out[name]
            if isinstance(out, Linear):
                logp = dists.unimix_logp(as_logits(out(x), space), unimix)
                result[name] = dists.Categorical(logp, ndim)
            else:
                mean, std = (v.reshape(*v.shape[:-1], *space.shape) for v in out(x))
                result[name] = dists.BoundedNormal.from_raw(mean, std, ndim, *self.std_range)
        return result

    def sample(
        self, feat: Array, unimix: Array | float, sampler: dists.Sampler, key: Array
    ) -> dict[str, Array]:
        """[..., F] -> {key: [..., ...]} actions, drawn with `sampler`."""
        heads = self(feat, unimix)
        keys = jax.random.split(key, len(heads))
        return {name: head.sample(k, sampler) for k, (name, head) in zip(keys, heads.items(), strict=True)}
