"""Distributions as functions of logits: categoricals with unimix, two-hot numbers, bounded normals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.ops.transforms import lead, symexp

sg = jax.lax.stop_gradient


class Sampler(NamedTuple):
    """Source of randomness; swapping it makes an agent greedy, or a test deterministic."""

    uniform: Callable[[Array, tuple[int, ...]], Array]
    """(key, shape) -> uniform noise in [0, 1). It can be drawn for many steps at once."""
    categorical: Callable[[Array, Array], Array]
    """(uniform noise [...], probabilities [C, ...]) -> [...] class indices. The classes come first because a
    CPU goes through long rows fast, and classes are few."""
    normal: Callable[[Array, tuple[int, ...]], Array]
    """(key, shape) -> standard normal noise."""


def inverse_cdf(uniform: Array, probs: Array) -> Array:
    """Draw class indices with one uniform number each: the first class whose cumulative mass exceeds it."""
    mass = jnp.cumsum(probs, 0)
    return (mass[:-1] <= uniform[None] * mass[-1:]).sum(0, dtype=jnp.int32)


RANDOM = Sampler(jax.random.uniform, inverse_cdf, jax.random.normal)
GREEDY = Sampler(
    uniform=lambda key, shape: jnp.zeros(shape),
    categorical=lambda noise, probs: jnp.argmax(probs, 0).astype(jnp.int32),
    normal=lambda key, shape: jnp.zeros(shape),
)


def equal_rows(sampler: Sampler) -> Sampler:
    """The same source, but of what it draws of a shape [T, N, ...] for dreams all N rows are equal."""

    def uniform(key: Array, shape: tuple[int, ...]) -> Array:
        steps, rows, *rest = shape
        return jnp.broadcast_to(sampler.uniform(key, (steps, 1, *rest)), (steps, rows, *rest))

    return sampler._replace(uniform=uniform)


def part(sampler: Sampler, sequences: int, parts: int, index: Array | int) -> Sampler:
    """The same source for a part of a batch: of what the whole would draw it gets its rows.

    Sequence i of the part is sequence ``i * parts + index`` of the whole, as are the rows that belong to it.
    Noise [steps, rows, ...] has its rows at axis 1, noise [rows, ...] of fewer axes at axis 0.

    Args:
      sequences: of the part; they share the rows equally.
      parts: of the batch.
      index: [] of this one.
    """

    def rows_of(draw: Callable[[Array, tuple[int, ...]], Array]) -> Callable[[Array, tuple[int, ...]], Array]:
        def drawn(key: Array, shape: tuple[int, ...]) -> Array:
            lead, (rows, *rest) = (shape[:1], shape[1:]) if len(shape) > 2 else ((), shape)
            whole = draw(key, (*lead, rows * parts, *rest))
            whole = whole.reshape(*lead, sequences, parts, rows // sequences, *rest)
            return jnp.take(whole, index, len(lead) + 1).reshape(shape)

        return drawn

    return sampler._replace(uniform=rows_of(sampler.uniform), normal=rows_of(sampler.normal))


def unimix_probs(logits: Array, unimix: Array | float, axis: int = -1) -> Array:
    """Probabilities mixed with the uniform ones: ``(1 - unimix) softmax(logits) + unimix / C``.

    Mixing keeps every class possible, so that log-ratios and gradients stay finite.

    Reference: Hafner et al. (2025), World model learning (1% for latents and policy).
    """
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis)
    return (1 - unimix) * probs + unimix / logits.shape[axis]


def unimix_logp(logits: Array, unimix: Array | float) -> Array:
    """Logarithm of `unimix_probs` over the last axis."""
    # With unimix 0 the log of an underflown probability would be -inf, and its gradient NaN even where
    # it is not selected; log_softmax is exact there.
    mixed = jnp.log(jnp.where(unimix > 0, unimix_probs(logits, unimix), 1.0))
    exact = jax.nn.log_softmax(logits.astype(jnp.float32), -1)
    return mixed if isinstance(unimix, float) and unimix > 0 else jnp.where(unimix > 0, mixed, exact)


def straight_through(index: Array, probs: Array) -> Array:
    """``onehot + p - sg(p)``: the one-hot of a sample with the gradient of its probabilities.

    Args:
      index: [...] the classes drawn.
      probs: [C, ...].

    Returns:
      [..., C].

    Reference: Bengio et al. (2013), Estimating or propagating gradients through stochastic neurons.
    """
    onehot = jax.nn.one_hot(index, len(probs))
    probs = jnp.moveaxis(probs, 0, -1)
    return onehot + (probs - sg(probs))


def categorical_kl(p_logp: Array, q_logp: Array) -> Array:
    """``sum_c p_c (log p_c - log q_c)`` over the last axis."""
    return (jnp.exp(p_logp) * (p_logp - q_logp)).sum(-1)


def categorical_entropy(logp: Array) -> Array:
    """``-sum_c p_c log p_c`` over the last axis, in nats."""
    return -(jnp.exp(logp) * logp).sum(-1)


REACH = 20.0
"""Up to which symlog bins reach: they stand for numbers up to symexp(20) = 485,165,194."""


def symexp_bins(num_bins: int) -> Array:
    """Exponentially spaced values for `twohot`, exactly symmetric around zero.

    Half of them are ``symexp(linspace(-20, 0))``, the rest their mirror image; an odd number shares the
    zero, an even number has it twice.
    """
    odd = num_bins % 2
    half = symexp(jnp.linspace(-REACH, 0.0, num_bins // 2 + odd, dtype=jnp.float32))
    return jnp.concatenate([half, -half[: num_bins // 2][::-1]])


def twohot(target: Array, bins: Array) -> Array:
    """Spread each number over its two neighbouring bins, linearly in bin-value space.

    Args:
      target: [...] numbers; beyond the ends the outermost bin takes all.
      bins: [C] ascending values.

    Returns:
      [..., C] non-negative weights with sum 1 and, inside the range, ``weights @ bins == target``.

    Reference: Hafner et al. (2025), Robust predictions.
    """
    return _spread(*twohot_index(target, bins), len(bins))


def twohot_index(target: Array, bins: Array) -> tuple[Array, Array, Array]:
    """The same as the two neighbouring bins, [...] int32 each, and the share [...] of the first of them."""
    last = len(bins) - 1
    below = jnp.clip(jnp.searchsorted(bins, target, side="right") - 1, 0, last)
    above = jnp.clip(below + (target >= bins[0]), 0, last)
    to_below, to_above = jnp.abs(bins[below] - target), jnp.abs(bins[above] - target)
    total = to_below + to_above
    return below, above, jnp.where(below == above, 1.0, to_above / jnp.where(total > 0, total, 1.0))


def _spread(below: Array, above: Array, share: Array, num_bins: int) -> Array:
    index = lead(jnp.arange(num_bins), share[..., None])
    pick = lambda i, w: jnp.where(index == i[..., None], w[..., None], 0.0)
    return pick(below, share) + pick(above, 1 - share)


def twohot_mean(logits: Array, bins: Array) -> Array:
    """Expected value ``sum_i p_i b_i`` of symmetric bins, as ``sum_i (p_i - p_-i) b_i`` over half of them.

    The difference comes first because uniform logits must give exactly 0: compilers fuse a product with
    the sum after it, and the rounding that is left over is large where the bins are.
    """
    probs = jax.nn.softmax(logits, -1)
    half = len(bins) // 2
    pairs = probs[..., -half:] - probs[..., :half][..., ::-1]
    return (pairs * lead(bins[-half:], pairs)).sum(-1)


def cross_entropy(logits: Array, target: Array) -> Array:
    """``-sum_c target_c log softmax(logits)_c``; the weights need not sum to one."""
    return -(target * jax.nn.log_softmax(logits, -1)).sum(-1)


@jax.custom_vjp
def twohot_cross_entropy(logits: Array, bins: Array, targets: Array, weights: Array) -> Array:
    """``sum_k w_k CE(logits, twohot(t_k))`` without the two-hot vectors; its gradient reaches the logits.

    Args:
      logits: [..., C].
      bins: [C] ascending values.
      targets: [K, ...] numbers.
      weights: [K] of each.
    """
    return _twohot_cross_entropy(logits, bins, targets, weights)[0]


def _twohot_cross_entropy(logits, bins, targets, weights):
    below, above, share = twohot_index(targets, bins)
    partition = jax.nn.logsumexp(logits, -1)
    pick = lambda i: jnp.take_along_axis(logits, jnp.moveaxis(i, 0, -1), -1)
    picked = share * jnp.moveaxis(pick(below), -1, 0) + (1 - share) * jnp.moveaxis(pick(above), -1, 0)
    loss = jnp.tensordot(weights, lead(partition, picked) - picked, 1)
    return loss, (logits, partition, below, above, share, bins, weights)


def _twohot_cross_entropy_grad(saved, grad):
    logits, partition, below, above, share, bins, weights = saved
    probs = jnp.exp(logits - partition[..., None])
    parts = zip(weights, below, above, share, strict=True)
    target = sum(weight * _spread(b, a, s, len(bins)) for weight, b, a, s in parts)
    # Without the barrier a CPU computes it a second time, slowly, in the order the next product wants.
    grad = jax.lax.optimization_barrier(grad[..., None] * (weights.sum() * probs - target))
    return grad, jnp.zeros_like(bins), jnp.zeros_like(share), jnp.zeros_like(weights)


twohot_cross_entropy.defvjp(_twohot_cross_entropy, _twohot_cross_entropy_grad)


def binary_cross_entropy(logit: Array, target: Array) -> Array:
    """Negative log-likelihood of a Bernoulli whose target may be soft (a probability)."""
    return -(target * jax.nn.log_sigmoid(logit) + (1 - target) * jax.nn.log_sigmoid(-logit))


class Categorical(NamedTuple):
    """A discrete action of the given shape, entries independent."""

    logp: Array
    """[..., *shape, C] log-probabilities."""
    ndim: int
    """Number of axes of `shape`, summed over by `log_prob` and `entropy`."""

    def until(self, end: int) -> Categorical:
        """Those before index `end` of the first axis."""
        return self._replace(logp=self.logp[:end])

    def sample(self, key: Array, sampler: Sampler) -> Array:
        """[..., *shape] class indices."""
        noise = sampler.uniform(key, self.logp.shape[:-1])
        return sampler.categorical(noise, jnp.exp(jnp.moveaxis(self.logp, -1, 0)))

    def log_prob(self, action: Array) -> Array:
        """Of one action [..., *shape], entries summed: [...]."""
        hot = jax.nn.one_hot(action, self.logp.shape[-1])
        return _sum_last((hot * self.logp).sum(-1), self.ndim)

    def entropy(self) -> Array:
        """In nats, entries summed: [...]."""
        return _sum_last(categorical_entropy(self.logp), self.ndim)

    def randomness(self) -> Array:
        """Entropy from 0 (certain) to 1 (uniform); 0 where there is a single class."""
        classes = self.logp.shape[-1]
        most = jnp.log(classes) * _entries(self.logp.shape[:-1], self.ndim)
        return self.entropy() / most if classes > 1 else jnp.zeros_like(self.entropy())


class BoundedNormal(NamedTuple):
    """A continuous action: ``mean = tanh(raw)``, ``std = (high - low) * sigmoid(raw_std + 2) + low``.

    Samples are not squashed; the environment clips them. Density and entropy are those of the normal.
    """

    mean: Array
    std: Array
    """[..., *shape]."""
    ndim: int
    low: float
    high: float
    """Bounds of the standard deviation."""

    @classmethod
    def from_raw(cls, mean: Array, std: Array, ndim: int, low: float, high: float) -> BoundedNormal:
        """From the unbounded outputs of a network, [..., *shape] each."""
        std = (high - low) * jax.nn.sigmoid(std.astype(jnp.float32) + 2.0) + low
        return cls(jnp.tanh(mean.astype(jnp.float32)), std, ndim, low, high)

    def until(self, end: int) -> BoundedNormal:
        """Those before index `end` of the first axis."""
        return self._replace(mean=self.mean[:end], std=self.std[:end])

    def sample(self, key: Array, sampler: Sampler) -> Array:
        """[..., *shape] numbers, which may lie outside [-1, 1]."""
        return self.mean + self.std * sampler.normal(key, self.mean.shape)

    def log_prob(self, action: Array) -> Array:
        """Log-density of one action [..., *shape], entries summed: [...]."""
        return _sum_last(jax.scipy.stats.norm.logpdf(action, self.mean, self.std), self.ndim)

    def entropy(self) -> Array:
        """In nats, entries summed: [...]."""
        return _sum_last(_normal_entropy(self.std), self.ndim)

    def randomness(self) -> Array:
        """Entropy from 0 (narrowest) to 1 (widest); 0 where there is a single width."""
        if self.low == self.high:
            return jnp.zeros_like(self.entropy())
        low, high = (_normal_entropy(jnp.asarray(s)) for s in (self.low, self.high))
        entries = _entries(self.std.shape, self.ndim)
        return (self.entropy() / entries - low) / (high - low)


def _normal_entropy(std: Array) -> Array:
    return 0.5 * jnp.log(2 * jnp.pi * jnp.square(std)) + 0.5


def _sum_last(x: Array, ndim: int) -> Array:
    return x.sum(tuple(range(-ndim, 0)))


def _entries(shape: tuple[int, ...], ndim: int) -> int:
    size = 1
    for n in shape[len(shape) - ndim :]:
        size *= n
    return size
