"""Expect the tokens of a slow encoder, and beyond that only reward, end and value (TD-MPC2's model loss).

    loss_t = |g(h_t) - e'_t|^2 / E,    e' of an encoder that follows the learned one slowly

h_t holds the past and the actions up to t-1. The targets have no gradient; the encoder learns through the
posterior: from rewards, ends and, unless `agent.behavior.replay_value_grad` is off, values of replayed steps.
At the first step of an episode, where h holds nothing, there is no loss. The source rolls three steps and has
a critic of actions; here the posterior follows and the losses of reward, end and value are the agent's.

Source: Hansen et al. (2024), TD-MPC2 (nicklashansen/tdmpc2 e9f5932): weight 20, target rate 0.01.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer
from dreamer.nets.predictor import Predictor
from dreamer.numbers import Numbers
from dreamer.objectives.tokens import diagnostics
from dreamer.ops import running
from dreamer.records import Batch, Latent, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Spaces

sg = jax.lax.stop_gradient


class ValueEquivalent(nnx.Module):
    """The predictor, its loss and the slow encoder."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        self.predictor = Predictor(cfg.rssm.deter, tokens, init=init)

    def slow(self, params: Params) -> Params:
        """The encoder."""
        return {"encoder": params["encoder"]}

    def follow(self, slow: Params, params: Params, numbers: Numbers) -> Params:
        """The slow encoder moves towards the learned one."""
        rate = numbers.value_equivalent.rate
        return {"encoder": running.mix(slow["encoder"], params["encoder"], rate)}

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """{value_equivalent: [B, T]}, 0 at the first step of an episode."""
        target = nnx.merge(world.modules.encoder, slow["encoder"])(batch.obs, 2, world.dtype)
        target = sg(target.astype(jnp.float32))
        expected = self.predictor(seen.latent.deter.astype(jnp.float32))
        losses = jnp.where(batch.is_first, 0.0, jnp.square(expected - target).mean(-1))
        constant = target.reshape(-1, target.shape[-1]).var(0).mean()
        metrics = {"value_equivalent/floor": jnp.zeros(()), "value_equivalent/constant": constant}
        return ObjectiveLosses({"value_equivalent": losses}, metrics | diagnostics(seen.tokens))

    def decode(self, latent: Latent) -> None:
        """There is no decoder."""
        return None
