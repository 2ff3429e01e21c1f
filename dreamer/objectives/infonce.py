"""Say which of all tokens of the batch belong to a latent (InfoNCE, a variant of R2-Dreamer).

    k = P [h, z]                                      a linear projection without bias
    loss_n = -log softmax_m (k_n . e_m) [m = n]       over all N = B*T rows, neighbours in time too

Plain dot products, no temperature; the tokens e are detached. Rows whose tokens are equal cannot be told
apart: the floor is the mean logarithm of how many there are of each.

Source: NM512/r2dreamer 546e4fa, dreamer.py, after van den Oord et al. (2018).
"""

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer
from dreamer.objectives.barlow import rows
from dreamer.objectives.decoder_free import DecoderFree
from dreamer.objectives.tokens import diagnostics
from dreamer.records import Batch, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Spaces

sg = jax.lax.stop_gradient
EQUAL = 1e-4
"""Tokens are equal whose squared distance is at most this share of their squared length."""


class InfoNCE(DecoderFree):
    """The projection and its loss."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        self.kernel = nnx.Param(init.kernel((cfg.rssm.features, tokens)))

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """{infonce: [B, T]}. Tokens and latents are of the same step: no pair crosses an episode."""
        tokens = sg(rows(seen.tokens))
        losses = contrast(rows(seen.latent.feat) @ self.kernel[...], tokens)
        metrics = {"infonce/floor": floor(tokens)} | diagnostics(tokens)
        return ObjectiveLosses({"infonce": losses.reshape(batch.is_first.shape)}, metrics)


def contrast(predicted: Array, tokens: Array) -> Array:
    """[N, E], [N, E] -> [N] cross-entropy of finding the tokens of each row among all, in float32."""
    chex.assert_rank([predicted, tokens], 2)
    chex.assert_equal_shape([predicted, tokens])
    logits = predicted.astype(jnp.float32) @ tokens.astype(jnp.float32).T
    return jax.nn.logsumexp(logits, -1) - jnp.diagonal(logits)


def floor(tokens: Array) -> Array:
    """[N, E] -> [] the least that `contrast` can be on average: rows with equal tokens share their chance."""
    length = jnp.square(tokens).sum(-1)
    distance = length[:, None] + length[None] - 2 * tokens @ tokens.T
    return jnp.log((distance <= EQUAL * length[:, None]).sum(-1).clip(1)).mean()
