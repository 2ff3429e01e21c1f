"""The world model as a value, with its parameters in place.

    observe    follow recorded steps with the posterior          [B, T] -> Observed
    step       one step of a dream under a given action          [N] -> [N]
    rollout    many of them under given actions                  [N], [N, H] -> [N, H]
    imagine    many of them under a policy                       [N] -> [H+1, N]
    choose     what the policy does there                        [N, F] -> [N]
    reward, discount, value    what the heads expect there       [..., F] -> [...]
    values     what every critic expects there                   [..., F] -> [K, ...]
    decode     what a latent looks like                          [...] -> observations
    with_cost  the same world, in which a person's wishes count

`World.discount` and its neighbours are the only places that know whether the continue head already holds the
discount (`ActorCriticConfig.discount_in_cont`).

Reference: Hafner et al. (2025), World model learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer import rssm
from dreamer.config import AgentConfig
from dreamer.nets.encoder import Encoder
from dreamer.nets.heads import BinaryHead, Critics, PolicyHead, TwoHotHead
from dreamer.numbers import Numbers
from dreamer.ops import dists
from dreamer.records import Batch, Imagined, Latent, ObjectiveLosses, Observed, Params
from dreamer.rssm import RSSM

sg = jax.lax.stop_gradient


class Modules(NamedTuple):
    """The structure of an agent's modules, without parameters."""

    encoder: nnx.GraphDef[Encoder]
    rssm: nnx.GraphDef[RSSM]
    objective: nnx.GraphDef[Objective]
    reward: nnx.GraphDef[TwoHotHead]
    cont: nnx.GraphDef[BinaryHead]
    policy: nnx.GraphDef[PolicyHead]
    value: nnx.GraphDef[TwoHotHead]
    probe: nnx.GraphDef[Objective] | None = None
    """Shows what latents hold where the objective has no decoder; nothing learns from it."""
    critics: nnx.GraphDef[Critics] | None = None
    """Beside the first (`AgentConfig.value_ensemble`), for planners to doubt it; nothing else reads them."""


class Objective(Protocol):
    """What a world model needs of an objective."""

    def slow(self, params: Params) -> Params:
        """The slow part at the start, made from {module: parameters} of the whole agent; {} without one."""
        ...

    def follow(self, slow: Params, params: Params, numbers: Numbers) -> Params:
        """The slow part after an update that led to `params`."""
        ...

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """Losses by name, each with a weight in `LossConfig`, and diagnostics of recorded steps."""
        ...

    def decode(self, latent: Latent) -> dict[str, Array] | None:
        """What latents look like, in the units and dtypes of the observations; None if it cannot decode."""
        ...


class Cost(Protocol):
    """What it costs to be somewhere: a person's wish beside the task's reward, or in its place."""

    def __call__(self, world: World, latent: Latent, decoded: dict[str, Array] | None) -> Array:
        """The cost of N imagined states, [N]; what is below 0 is earned.

        Args:
          world: the world model without any cost, to ask for `survival`, `reward` and the like.
          latent: [N, ...] h and z of the states; its `feat` is what heads read. Other memory of the core is
            not there.
          decoded: {key: [N, ...]} what they look like, in the units and dtypes of the observations; None of
            an agent without a decoder. Nothing is decoded where this is not read.
        """
        ...


@dataclass(frozen=True)
class World:
    """A world model with its parameters in place.

    Args:
      modules: their structure.
      params: {module: parameters}, at least of the modules that are used.
      numbers: the numbers of the configuration, traced.
      dtype: of activations.
      cost, reward_weight: of `with_cost`.
    """

    modules: Modules
    params: Params
    numbers: Numbers
    cfg: AgentConfig
    sampler: dists.Sampler
    dtype: Any
    cost: Cost | None = None
    reward_weight: Array | float = 1.0

    @cached_property
    def encoder(self) -> Encoder:
        """From observations to tokens."""
        return nnx.merge(self.modules.encoder, self.params["encoder"])

    @cached_property
    def rssm(self) -> RSSM:
        """The dynamics."""
        return rssm.merge(self.modules.rssm, self.params["rssm"])

    @cached_property
    def objective(self) -> Objective:
        """What the representation must predict."""
        return nnx.merge(self.modules.objective, self.params["objective"])

    @cached_property
    def probe(self) -> Objective | None:
        """A decoder beside an objective that has none, if there is one."""
        graph = self.modules.probe
        return None if graph is None else nnx.merge(graph, self.params["probe"])

    @cached_property
    def reward_head(self) -> TwoHotHead:
        """Distributions over the reward received on arriving."""
        return nnx.merge(self.modules.reward, self.params["reward"])

    @cached_property
    def cont_head(self) -> BinaryHead:
        """Logits of continuing, which may hold the discount."""
        return nnx.merge(self.modules.cont, self.params["cont"])

    @cached_property
    def value_head(self) -> TwoHotHead:
        """The critic."""
        return nnx.merge(self.modules.value, self.params["value"])

    @cached_property
    def critics(self) -> Critics | None:
        """The critics beside the first, if there are any."""
        graph = self.modules.critics
        return None if graph is None else nnx.merge(graph, self.params["critics"])

    @cached_property
    def policy_head(self) -> PolicyHead:
        """Distributions over actions."""
        return nnx.merge(self.modules.policy, self.params["policy"])

    def frozen(self) -> World:
        """The same world, through which no gradient reaches the parameters."""
        return replace(self, params=sg(self.params))

    def with_equal_luck(self) -> World:
        """The same world, in which all rows of a dream draw the same noise: only their actions differ."""
        return replace(self, sampler=dists.equal_rows(self.sampler))

    def with_cost(self, cost: Cost, reward_weight: Array | float = 1.0) -> World:
        """The same world, in which the reward of a state is ``reward_weight * r - cost``.

        Critics expect the task's reward as they learned it, so what they say is scaled by the same weight and
        knows nothing of the cost.

        Args:
          reward_weight: how much the task's reward counts beside the cost; 0: only the cost counts.
        """
        return replace(self, cost=cost, reward_weight=reward_weight)

    # Following and dreaming.

    def initial(self, batch: int) -> Latent:
        """The latent before anything was seen, [batch, ...]."""
        return rssm.initial(self.cfg.rssm, batch, self.dtype)

    @jax.named_scope("observe")
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
        chex.assert_rank(is_first, 2)
        chex.assert_tree_shape_prefix((dict(obs), dict(prev_action)), is_first.shape)
        chex.assert_tree_shape_prefix(latent, is_first.shape[:1])
        with jax.named_scope("encoder"):
            tokens = self.encoder(obs, 2, self.dtype)
        latents, logits = self.rssm.observe(
            latent,
            tokens,
            prev_action,
            is_first,
            unimix=self.numbers.loss.unimix,
            sampler=self.sampler,
            key=key,
        )
        return Observed(tokens, latents, logits)

    def step(self, latent: Latent, action: Mapping[str, Array], *, key: Array) -> Latent:
        """Where an action {key: [N, ...]} leads from latents [N, ...]."""
        chex.assert_tree_shape_prefix((latent, dict(action)), latent.deter.shape[:1])
        reached = self.rollout(latent, {k: a[:, None] for k, a in action.items()}, key=key)
        return jax.tree.map(lambda x: x[:, 0], reached)

    def rollout(self, latent: Latent, actions: Mapping[str, Array], *, key: Array) -> Latent:
        """Where actions {key: [N, H, ...]} lead from latents [N, ...]: [N, H, ...]."""
        chex.assert_tree_shape_prefix((latent, dict(actions)), latent.deter.shape[:1])
        chex.assert_equal_shape_prefix(list(actions.values()), 2)
        return self.rssm.replay_actions(
            latent, actions, unimix=self.numbers.loss.unimix, sampler=self.sampler, key=key
        )

    @jax.named_scope("imagine")
    def imagine(
        self,
        latent: Latent,
        policy: Callable[[Array, Array], Mapping[str, Array]],
        horizon: int,
        *,
        key: Array,
    ) -> Imagined:
        """Dream on from latents [N, ...] for H steps, choosing with `policy` (feat [N, F], key)."""
        chex.assert_tree_shape_prefix(latent, latent.deter.shape[:1])
        return self.rssm.imagine(
            latent, policy, horizon, unimix=self.numbers.loss.unimix, sampler=self.sampler, key=key
        )

    def choose(self, feat: Array, key: Array, sampler: dists.Sampler | None = None) -> dict[str, Array]:
        """Draw actions of the policy: [N, F] -> {key: [N, ...]}. `imagine` can dream with it.

        Args:
          sampler: replaces the sampler of the agent.
        """
        return self.policy_head.sample(feat, self.numbers.behavior.unimix, sampler or self.sampler, key)

    def policy(self, feat: Array) -> Mapping[str, dists.Categorical | dists.BoundedNormal]:
        """[..., F] -> {key: distribution} over actions."""
        return self.policy_head(feat, self.numbers.behavior.unimix)

    # What it expects.

    def prior(self, deter: Array) -> Array:
        """[..., D] -> [..., S, C] log-probabilities of z before looking."""
        return dists.unimix_logp(self.rssm.prior(deter), self.numbers.loss.unimix)

    def after_looking(self, deter: Array, tokens: Array) -> Array:
        """[..., D], [..., E] -> [..., S, C] log-probabilities of z if these tokens were seen there."""
        return dists.unimix_logp(self.rssm.posterior(deter, tokens), self.numbers.loss.unimix)

    def posterior(self, observed: Observed) -> Array:
        """[B, T, S, C] log-probabilities of z after looking."""
        return dists.unimix_logp(observed.logits, self.numbers.loss.unimix)

    def most_likely(self, latent: Latent) -> Latent:
        """The same h with the most likely z of its prior."""
        logits = self.rssm.prior(latent.deter)
        stoch = jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1], dtype=latent.deter.dtype)
        return latent._replace(stoch=stoch)

    def reward(self, feat: Array) -> Array:
        """[..., F] -> [...] the reward expected on arriving there, less what it costs to be there."""
        self._check_features(feat)
        reward = self.reward_head.expected(feat)
        return reward if self.cost is None else self.reward_weight * reward - self.charge(feat)

    def charge(self, feat: Array) -> Array:
        """[..., F] -> [...] float32, what it costs to be there; 0 without a cost.

        Raises:
          ValueError: the cost is not one number for every state.
        """
        if self.cost is None:
            return jnp.zeros(feat.shape[:-1])
        latent = rssm.split(self.cfg.rssm, feat.reshape(-1, feat.shape[-1]))
        cost = jnp.asarray(
            self.cost(replace(self, cost=None, reward_weight=1.0), latent, self.decode(latent))
        )
        if cost.shape != latent.deter.shape[:1]:
            N = len(latent.deter)
            raise ValueError(
                f"a cost must be one number for each of N states, [N], but of {N} it is {cost.shape}"
            )
        return cost.astype(jnp.float32).reshape(feat.shape[:-1])

    def value(self, feat: Array) -> Array:
        """[..., F] -> [...] what the critic expects of what follows, discounted."""
        self._check_features(feat)
        return self._weighed(self.value_head.expected(feat))

    def values(self, feat: Array) -> Array:
        """[..., F] -> [K, ...] what each of the K critics expects, the first as `value`."""
        others = [] if self.critics is None else [head.expected(feat) for _, head in self.critics]
        return jnp.stack([self.value(feat), *map(self._weighed, others)])

    def _weighed(self, value: Array) -> Array:
        return value if self.cost is None else self.reward_weight * value

    def decode(self, latent: Latent) -> dict[str, Array] | None:
        """What latents look like, in the units and dtypes of the observations; None without a decoder.

        A probe decoder shows what the latents hold, not what the model was asked to predict.
        """
        return (self.probe or self.objective).decode(latent)

    def _check_features(self, feat: Array) -> None:
        chex.assert_axis_dimension(feat, -1, self.cfg.rssm.features)

    # The discount: gamma = 1 - 1/horizon, learned by the continue head or multiplied with it.

    @property
    def gamma(self) -> Array | float:
        """What a reward is worth a step earlier."""
        return 1 - 1 / self.numbers.behavior.horizon

    @property
    def outside(self) -> Array | float:
        """What multiplies the continue head's probability."""
        return 1.0 if self.cfg.behavior.discount_in_cont else self.gamma

    def discount(self, feat: Array) -> Array:
        """[..., F] -> [...] the probability that the episode continues, times gamma."""
        self._check_features(feat)
        return self.outside * jax.nn.sigmoid(self.cont_head(feat))

    def survival(self, feat: Array) -> Array:
        """[..., F] -> [...] the probability that the episode continues, without gamma."""
        self._check_features(feat)
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

    @jax.named_scope("predict")
    def loss(
        self, batch: Batch, seen: Observed, slow: Params, *, key: Array
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The losses of recorded steps, {name: [B, T]}, and what to log.

            dyn = max(free, KL(sg(posterior) || prior))        the prior learns to expect
            rep = max(free, KL(posterior || sg(prior)))        the posterior learns to be expected
            reward: two-hot cross-entropy of the reward received on arriving
            cont: cross-entropy of (1 - terminal) * (1 - 1/horizon): the discount lives in this head
            and the objective's own (of reconstruction, one for each observation key)

        Args:
          slow: the objective's slow part.

        The KL is summed over the groups first, then clipped, then averaged.

        Reference: Hafner et al. (2025), World model learning.
        """
        chex.assert_tree_shape_prefix((seen, batch.reward, batch.is_terminal), batch.is_first.shape)
        post, prior = self.posterior(seen), self.prior(seen.latent.deter)
        kl = lambda p, q: jnp.maximum(self.numbers.loss.free_nats, dists.categorical_kl(p, q).sum(-1))
        losses = {"dyn": kl(sg(post), prior), "rep": kl(post, sg(prior))}
        with jax.named_scope("objective"):
            objective = self.objective.loss(self, batch, seen, slow, key)
        losses |= objective.losses
        if self.probe is not None:
            shown = self.probe.loss(self, batch, sg(seen), {}, key).losses
            losses |= {name.replace("rec/", "probe/", 1): loss for name, loss in shown.items()}

        feat = seen.latent.feat
        logits = self.reward_head(feat if self.cfg.loss.reward_grad else sg(feat))
        losses["reward"] = self.reward_head.loss(logits, (batch.reward, 1.0))
        losses["cont"] = dists.binary_cross_entropy(
            self.cont_head(feat), self._cont_target(batch.is_terminal)
        )

        metrics = objective.metrics | {
            "prior_entropy": dists.categorical_entropy(prior).sum(-1).mean(),
            "post_entropy": dists.categorical_entropy(post).sum(-1).mean(),
        }
        return losses, metrics
