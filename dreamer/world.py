"""The world model as a value: what can be asked of it once its parameters are in place.

    observe    follow recorded steps with the posterior          [B, T] -> Observed
    step       one step of a dream under a given action          [N] -> [N]
    rollout    many of them under given actions                  [N], [N, H] -> [N, H]
    imagine    many of them under a policy                       [N] -> [H+1, N]
    choose     what the policy does there                        [N, F] -> [N]
    reward, discount, value    what the heads expect there       [..., F] -> [...]
    decode     what a latent looks like                          [...] -> observations

`World.discount` and its neighbours are the only places that know whether the continue head already holds the
discount (`ActorCriticConfig.discount_in_cont`).

Reference: Hafner et al. (2025), World model learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import AgentConfig
from dreamer.hyper import Hyper
from dreamer.nets.encoder import Encoder
from dreamer.nets.heads import BinaryHead, PolicyHead, TwoHotHead
from dreamer.objectives import Objective
from dreamer.ops import dists
from dreamer.records import Batch, Imagined, Latent
from dreamer.rssm import RSSM, initial

sg = jax.lax.stop_gradient
Params = dict[str, Any]


class Modules(NamedTuple):
    """The modules of an agent, or what is left of them without parameters."""

    encoder: nnx.GraphDef[Encoder]
    rssm: nnx.GraphDef[RSSM]
    objective: nnx.GraphDef[Any]
    """Of an `Objective`."""
    reward: nnx.GraphDef[TwoHotHead]
    cont: nnx.GraphDef[BinaryHead]
    policy: nnx.GraphDef[PolicyHead]
    value: nnx.GraphDef[TwoHotHead]


class Observed(NamedTuple):
    """What the world model made of recorded steps."""

    tokens: Array
    """[B, T, E] the encoded observations."""
    latent: Latent
    """[B, T, ...] posterior states."""
    logits: Array
    """[B, T, S, C] of the posterior, before unimix."""


@dataclass(frozen=True)
class World:
    """A world model with its parameters in place.

    Args:
      modules: their structure.
      params: {module: parameters}, of those at least that are asked.
      hyper: the numbers of the configuration, traced.
      dtype: of activations.
    """

    modules: Modules
    params: Params
    hyper: Hyper
    cfg: AgentConfig
    sampler: dists.Sampler
    dtype: Any

    @cached_property
    def encoder(self) -> Encoder:
        """From observations to tokens."""
        return nnx.merge(self.modules.encoder, self.params["encoder"])

    @cached_property
    def rssm(self) -> RSSM:
        """The dynamics."""
        return nnx.merge(self.modules.rssm, self.params["rssm"])

    @cached_property
    def objective(self) -> Objective:
        """What the representation must predict."""
        return nnx.merge(self.modules.objective, self.params["objective"])

    @cached_property
    def reward_head(self) -> TwoHotHead:
        """Distributions over the reward received on arriving."""
        return nnx.merge(self.modules.reward, self.params["reward"])

    @cached_property
    def cont_head(self) -> BinaryHead:
        """Logits of going on, which may hold the discount."""
        return nnx.merge(self.modules.cont, self.params["cont"])

    @cached_property
    def value_head(self) -> TwoHotHead:
        """The critic."""
        return nnx.merge(self.modules.value, self.params["value"])

    @cached_property
    def policy_head(self) -> PolicyHead:
        """Distributions over actions."""
        return nnx.merge(self.modules.policy, self.params["policy"])

    def frozen(self) -> World:
        """The same world, through which no gradient reaches the parameters."""
        return replace(self, params=sg(self.params))

    # Following and dreaming.

    def initial(self, batch: int) -> Latent:
        """The latent before anything was seen, [batch, ...]."""
        return initial(self.cfg.rssm, batch, self.dtype)

    def observe(
        self,
        latent: Latent,
        obs: Mapping[str, Array],
        prev_action: Mapping[str, Array],
        is_first: Array,
        *,
        key: Array,
    ) -> Observed:
        """Encode recorded steps and follow them with the posterior.

        Args:
          latent: [B, ...] the state before index 0.
          obs: {key: [B, T, ...]}.
          prev_action: {key: [B, T, ...]} the action before every step.
          is_first: [B, T].
        """
        tokens = self.encoder(obs, 2, self.dtype)
        latents, logits = self.rssm.observe(
            latent, tokens, prev_action, is_first, unimix=self.hyper.unimix, sampler=self.sampler, key=key
        )
        return Observed(tokens, latents, logits)

    def step(self, latent: Latent, action: Mapping[str, Array], *, key: Array) -> Latent:
        """Where an action {key: [N, ...]} leads from latents [N, ...]."""
        reached = self.rollout(latent, {k: a[:, None] for k, a in action.items()}, key=key)
        return jax.tree.map(lambda x: x[:, 0], reached)

    def rollout(self, latent: Latent, actions: Mapping[str, Array], *, key: Array) -> Latent:
        """Where actions {key: [N, H, ...]} lead from latents [N, ...]: [N, H, ...]."""
        return self.rssm.replay_actions(
            latent, actions, unimix=self.hyper.unimix, sampler=self.sampler, key=key
        )

    def imagine(
        self,
        latent: Latent,
        policy: Callable[[Array, Array], Mapping[str, Array]],
        horizon: int,
        *,
        key: Array,
    ) -> Imagined:
        """Dream on from latents [N, ...] for H steps, choosing with `policy` (feat [N, F], key)."""
        return self.rssm.imagine(
            latent, policy, horizon, unimix=self.hyper.unimix, sampler=self.sampler, key=key
        )

    def choose(self, feat: Array, key: Array, sampler: dists.Sampler | None = None) -> dict[str, Array]:
        """Draw actions of the policy: [N, F] -> {key: [N, ...]}. `imagine` can dream with it.

        Args:
          sampler: another place where chance comes from than that of the agent.
        """
        return self.policy_head.sample(feat, self.hyper.policy_unimix, sampler or self.sampler, key)

    # What it expects.

    def prior(self, deter: Array) -> Array:
        """[..., D] -> [..., S, C] log-probabilities of z before looking."""
        return dists.unimix_logp(self.rssm.prior(deter), self.hyper.unimix)

    def posterior(self, observed: Observed) -> Array:
        """[B, T, S, C] log-probabilities of z after looking."""
        return dists.unimix_logp(observed.logits, self.hyper.unimix)

    def most_likely(self, latent: Latent) -> Latent:
        """The same h with the z that it expects most."""
        logits = self.rssm.prior(latent.deter)
        stoch = jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1], dtype=latent.deter.dtype)
        return Latent(latent.deter, stoch)

    def reward(self, feat: Array) -> Array:
        """[..., F] -> [...] the reward expected on arriving there."""
        return self.reward_head.expected(feat)

    def value(self, feat: Array) -> Array:
        """[..., F] -> [...] what the critic expects of what follows, discounted."""
        return self.value_head.expected(feat)

    def decode(self, latent: Latent) -> dict[str, Array] | None:
        """What latents look like, in the units and dtypes of the observations; None if nothing can say."""
        return self.objective.decode(latent)

    # The discount: gamma = 1 - 1/horizon, learned into the continue head or multiplied to it.

    @property
    def gamma(self) -> Array:
        """What a reward is worth a step earlier."""
        return 1 - 1 / self.hyper.horizon

    @property
    def outside(self) -> Array | float:
        """What multiplies the continue head's probability."""
        return 1.0 if self.cfg.behavior.discount_in_cont else self.gamma

    def discount(self, feat: Array) -> Array:
        """[..., F] -> [...] the probability that the episode goes on, times gamma."""
        return self.outside * jax.nn.sigmoid(self.cont_head(feat))

    def survival(self, feat: Array) -> Array:
        """[..., F] -> [...] the probability that the episode goes on, without gamma."""
        alive = jax.nn.sigmoid(self.cont_head(feat))
        return jnp.minimum(alive / self.gamma, 1.0) if self.cfg.behavior.discount_in_cont else alive

    def weights(self, discount: Array) -> Array:
        """[H+1, N] discounts of a dream -> [H+1, N], how much each of its steps counts."""
        return jnp.cumprod(discount, 0) / self.outside

    def real_discount(self, is_terminal: Array) -> Array:
        """The discount of recorded steps: 0 where nothing follows, else gamma."""
        return (1.0 - is_terminal.astype(jnp.float32)) * self.gamma

    def _cont_target(self, is_terminal: Array) -> Array:
        alive = 1.0 - is_terminal.astype(jnp.float32)
        return self.real_discount(is_terminal) if self.cfg.behavior.discount_in_cont else alive

    # Learning.

    def loss(self, batch: Batch, seen: Observed) -> tuple[dict[str, Array], dict[str, Array]]:
        """The losses of recorded steps, {name: [B, T]}, and what to log.

            dyn = max(free, KL(sg(posterior) || prior))        the prior learns to expect
            rep = max(free, KL(posterior || sg(prior)))        the posterior learns to be expected
            reward: two-hot cross-entropy of the reward received on arriving
            cont: cross-entropy of (1 - terminal) * (1 - 1/horizon): the discount lives in this head
            and the objective's own (each observation key)

        The KL is summed over the groups first, then clipped, then averaged.

        Reference: Hafner et al. (2025), World model learning.
        """
        post, prior = self.posterior(seen), self.prior(seen.latent.deter)
        kl = lambda p, q: jnp.maximum(self.hyper.free_nats, dists.categorical_kl(p, q).sum(-1))
        losses = {"dyn": kl(sg(post), prior), "rep": kl(post, sg(prior))}
        losses |= self.objective.loss(batch.obs, seen.latent)

        feat = seen.latent.feat
        logits = self.reward_head(feat if self.cfg.loss.reward_grad else sg(feat))
        losses["reward"] = self.reward_head.loss(logits, (batch.reward, 1.0))
        losses["cont"] = dists.binary_cross_entropy(
            self.cont_head(feat), self._cont_target(batch.is_terminal)
        )

        metrics = {
            "prior_entropy": dists.categorical_entropy(prior).sum(-1).mean(),
            "post_entropy": dists.categorical_entropy(post).sum(-1).mean(),
        }
        return losses, metrics
