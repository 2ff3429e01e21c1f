"""Expect the next tokens from all states and actions so far (NE-Dreamer).

    x_t = P [h_t, z_t],  a_t chosen there           interleaved: x_0, a_0, x_1, a_1, ...
    k_t = out(transformer(...)) at a_t              causal, within an episode
    loss = sum_i (1 - C_ii)^2 + w * sum_{i != j} C_ij^2,    C = correlations of k_t and e_{t+1}

The tokens e are detached, the loss is that of `barlow`. A pair counts where t+1 lies in the sequence and in
the same episode. In the source the action before a step stands where the one chosen there should; it has no
mask for episodes.

Source: NE-Dreamer (arXiv 2603.02765; corl-team/nedreamer 11cd3a9).
"""

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets import inputs
from dreamer.nets.layers import Initializer, Linear
from dreamer.nets.transformer import LayerNorm, Transformer
from dreamer.objectives.barlow import losses, rows
from dreamer.objectives.decoder_free import DecoderFree
from dreamer.records import Batch, ObjectiveLosses, Observed, Params
from dreamer.schema import ConfigError
from dreamer.world import World
from envs.api import Spaces

sg = jax.lax.stop_gradient


class NextEmbedding(DecoderFree):
    """The transformer and its loss."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        size = cfg.next_embedding
        self.act_space, self.length = tuple(act_space.items()), size.length
        self.state_in = Linear(cfg.rssm.features, size.units, init=init)
        self.action_in = Linear(inputs.width(act_space), size.units, init=init)
        self.transformer = Transformer(size.units, size.layers, size.heads, 2 * size.length, init=init)
        self.norm = LayerNorm(size.units)
        self.hidden = Linear(size.units, size.units, init=init)
        self.out = Linear(size.units, tokens, init=init)

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """{next_embedding: []} over the pairs of steps within an episode.

        Raises:
          ConfigError: the sequences are longer than the transformer has positions.
        """
        expected = self.expect(seen.latent.feat, batch.action, batch.is_first)[:, :-1]
        tokens, weight = sg(seen.tokens)[:, 1:], (~batch.is_first[:, 1:]).astype(jnp.float32)
        return losses(
            "next_embedding", rows(expected), rows(tokens), world.numbers.barlow, weight.reshape(-1)
        )

    def expect(self, feat: Array, action: dict[str, Array], is_first: Array) -> Array:
        """[B, T, F], {key: [B, T, ...]}, [B, T] -> [B, T, E] the tokens expected after every step."""
        B, T = is_first.shape
        if self.length < T:
            raise ConfigError(
                f"agent.next_embedding.length is {self.length}, but sequences have {T} steps "
                f"(loop.batch_length): set --agent.next_embedding.length {T}"
            )
        flat = inputs.flatten(action, dict(self.act_space), 2, jnp.float32, lambda a: a)
        pairs = jnp.stack([self.state_in(feat.astype(jnp.float32)), self.action_in(flat)], 2)
        segment = jnp.repeat(jnp.cumsum(is_first, 1), 2, axis=1)
        x = self.transformer(pairs.reshape(B, 2 * T, -1), segment)[:, 1::2]
        return self.out(jax.nn.gelu(self.hidden(self.norm(x))))
