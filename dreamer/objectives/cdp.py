"""Expect the direction of the next tokens before seeing them (Dreamer-CDP).

    loss_t = 1 - cos(g(h_t), e_t),    g: Linear - RMS norm - SiLU - Linear

h_t holds the past and the actions up to t-1, not the observation of t. The tokens e are detached. What keeps
them from collapsing is that the encoder moves slowly (`agent.cdp.factors`). In float32, unlike the source:
next to 1 a bfloat16 cosine has steps of 2^-8, which the weight of 500 makes steps of 2. At the first step of
an episode, where h holds nothing, there is no loss (the source has one).

Source: Dreamer-CDP (Hauri et al., 2026, arXiv 2603.07083; fmi-basel/Dreamer-CDP a851fa3).
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer
from dreamer.nets.predictor import Predictor
from dreamer.objectives.decoder_free import DecoderFree
from dreamer.objectives.tokens import diagnostics
from dreamer.records import Batch, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Spaces

sg = jax.lax.stop_gradient


class CDP(DecoderFree):
    """The predictor and its loss."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        self.predictor = Predictor(cfg.rssm.deter, tokens, init=init)

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """{cdp: [B, T]}, 0 at the first step of an episode."""
        tokens = sg(seen.tokens.astype(jnp.float32))
        expected = self.predictor(seen.latent.deter.astype(jnp.float32))
        losses = jnp.where(batch.is_first, 0.0, distance(expected, tokens))
        # The best that a prediction which does not depend on h could do.
        directions = tokens / _length(tokens)[..., None]
        constant = 1 - jnp.linalg.norm(directions.reshape(-1, tokens.shape[-1]).mean(0))
        metrics = {"cdp/floor": jnp.zeros(()), "cdp/constant": constant} | diagnostics(tokens)
        return ObjectiveLosses({"cdp": losses}, metrics)


def distance(predicted: Array, tokens: Array) -> Array:
    """[..., E], [..., E] -> [...] one minus the cosine of the angle between them, in float32: 0 to 2."""
    chex.assert_equal_shape([predicted, tokens])
    predicted, tokens = predicted.astype(jnp.float32), tokens.astype(jnp.float32)
    return 1 - (predicted * tokens).sum(-1) / (_length(predicted) * _length(tokens))


def _length(x: Array) -> Array:
    """The norm, with a gradient of 0 at 0."""
    return jnp.sqrt(jnp.maximum(jnp.square(x).sum(-1), jnp.finfo(jnp.float32).tiny))
