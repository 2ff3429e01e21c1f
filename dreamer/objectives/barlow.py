"""Say of every token what it is, and of different tokens different things (R2-Dreamer).

    k = P [h, z]                            a linear projection without bias
    C = standardised(k)^T standardised(e) / N      correlations over all N = B*T rows, [E, E]
    loss = sum_i (1 - C_ii)^2  +  w * sum_{i != j} C_ij^2

The tokens e are detached: the encoder learns through the posterior alone. The floor of the second sum grows
as E^2 / N, that of the first as E, so w is lambda * N/E; `lambda_reference` restores the source's w = lambda,
with which large agents push predictions away from the true correlations of the tokens.

Source: R2-Dreamer (ICLR 2026; NM512/r2dreamer 546e4fa, dreamer.py), after Zbontar et al. (2021).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import AgentConfig, BarlowConfig
from dreamer.nets.layers import Initializer
from dreamer.objectives.decoder_free import DecoderFree
from dreamer.objectives.tokens import diagnostics
from dreamer.records import Batch, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Spaces

sg = jax.lax.stop_gradient
EPS = 1e-8
"""Added to every deviation."""


class Redundancy(NamedTuple):
    """The two sums of the loss."""

    invariance: Array
    """[] how far every token is from what is said of it; a constant token adds 1."""
    redundancy: Array
    """[] squared correlations of what is said of one token with another."""


class Barlow(DecoderFree):
    """The projection and its loss."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        self.kernel = nnx.Param(init.kernel((cfg.rssm.features, tokens)))

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """{barlow: []} and its parts. Tokens and latents are of the same step: no pair crosses an episode."""
        tokens = sg(rows(seen.tokens))
        return losses("barlow", rows(seen.latent.feat) @ self.kernel[...], tokens, world.numbers.barlow)


def rows(x: Array) -> Array:
    """[B, T, ...] -> [B*T, ...] float32."""
    return x.astype(jnp.float32).reshape(-1, x.shape[-1])


def losses(
    name: str, predicted: Array, tokens: Array, cfg: BarlowConfig, weight: Array | None = None
) -> ObjectiveLosses:
    """{name: []} of predictions [N, E] of tokens [N, E], with diagnostics.

    Args:
      weight: [N] 0 for rows that do not count.
    """
    count = jnp.float32(len(tokens)) if weight is None else weight.sum()
    each = redundancy_weight(cfg, count, tokens.shape[-1])
    parts, floor = redundancy(predicted, tokens, weight), redundancy(tokens, tokens, weight)
    total = lambda x: x.invariance + each * x.redundancy
    metrics = {
        f"{name}/invariance": parts.invariance,
        f"{name}/redundancy": each * parts.redundancy,
        f"{name}/floor": total(floor),
    }
    return ObjectiveLosses({name: total(parts)}, metrics | diagnostics(tokens))


def redundancy_weight(cfg: BarlowConfig, count: Array, tokens: int) -> Array | float:
    """What the second sum weighs for N rows and E tokens."""
    return cfg.redundancy if cfg.lambda_reference else cfg.redundancy * count / tokens


def redundancy(predicted: Array, tokens: Array, weight: Array | None = None) -> Redundancy:
    """Both sums for predictions [N, E] of tokens [N, E], in float32.

    Args:
      weight: [N] how much each row counts; None for 1 each.
    """
    chex.assert_rank([predicted, tokens], 2)
    chex.assert_equal_shape([predicted, tokens])
    weight = jnp.ones(len(tokens), jnp.float32) if weight is None else weight
    chex.assert_shape(weight, (len(tokens),))
    left, right = _standardised(predicted, weight[:, None]), _standardised(tokens, weight[:, None])
    correlation = left.T @ (weight[:, None] * right) / weight.sum()
    square = jnp.square(correlation)
    diagonal = jnp.diagonal(correlation)
    return Redundancy(jnp.square(1 - diagonal).sum(), square.sum() - jnp.square(diagonal).sum())


def _standardised(x: Array, weight: Array) -> Array:
    """With mean 0 and the unbiased deviation 1 in every column; constant columns become 0."""
    x, count = x.astype(jnp.float32), weight.sum()
    centred = x - (weight * x).sum(0, keepdims=True) / count
    variance = (weight * jnp.square(centred)).sum(0, keepdims=True) / (count - 1)
    varies = variance > 0
    return centred / (jnp.sqrt(jnp.where(varies, variance, 1.0)) + EPS) * varies
