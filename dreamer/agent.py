"""DreamerV3 on one page, in the order of the paper: act, imagine, learn.

    tokens  = encoder(obs)                       perception
    h, z    = rssm.observe(tokens, actions)      the world model follows recorded sequences
    dreams  = rssm.imagine(h, z, policy)         and dreams on from every one of their states
    R       = lambda-returns of the dreams       what the critic learns and the actor seeks

Reference: Hafner et al. (2025), Mastering diverse control tasks through world models, Nature 640.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.actors import Actor, MemoryT
from dreamer.behavior.actor_critic import ActorCritic
from dreamer.config import AgentConfig
from dreamer.hyper import Hyper
from dreamer.nets import layers
from dreamer.nets.encoder import Encoder
from dreamer.nets.heads import BinaryHead, PolicyHead, TwoHotHead, per_step
from dreamer.objectives import OBJECTIVES, Objective
from dreamer.ops import dists, optim, running
from dreamer.records import Batch, Latent, PackedLatent
from dreamer.rssm import RSSM, initial
from dreamer.world import Modules, Observed, Params, World
from envs.api import LOG_PREFIX, Spaces, Step

sg = jax.lax.stop_gradient
FOLLOWING = ("encoder", "rssm")
"""The modules that following an episode needs; choosing its actions needs those of the actor too."""


class TrainState(NamedTuple):
    """All that learning changes."""

    params: Params
    """{module: parameters}, float32."""
    slow_value: Params
    """The slow critic, a moving average of the critic."""
    opt: optim.LaPropState
    returns: running.Percentiles
    """Range of the imagined returns."""
    updates: Array
    """[] int32 gradient steps taken."""


class Carry(NamedTuple, Generic[MemoryT]):
    """An acting agent's memory, [E, ...]."""

    latent: Latent
    action: dict[str, Array]
    """The action chosen last."""
    memory: MemoryT
    """The actor's own."""


class Evaluation(NamedTuple):
    """What one evaluation of the total loss gives besides it."""

    seen: Observed
    losses: dict[str, Array]
    """Unscaled and per step: [B, T], [B, K] or [B, K-1]."""
    returns: running.Percentiles
    metrics: dict[str, Array]


class Gradient(NamedTuple):
    """What a batch says about the parameters, and what else must be learned or logged of it."""

    params: Params
    """Of the total loss, for every parameter."""
    returns: running.Percentiles
    metrics: dict[str, Array]


def acting_params(params: Params, actor: Actor[Any]) -> Params:
    """Of all parameters those that following an episode and choosing its actions need."""
    return {name: params[name] for name in dict.fromkeys((*FOLLOWING, *actor.modules))}


class Agent:
    """Pure functions over `TrainState`; the object only holds spaces, configuration and structure.

    Args:
      obs_space: what the encoder reads and the objective predicts (keys under `log/` are ignored).
      act_space: what the policy chooses.
      sampler: where chance comes from.
    """

    def __init__(
        self,
        obs_space: Spaces,
        act_space: Spaces,
        cfg: AgentConfig,
        sampler: dists.Sampler = dists.RANDOM,
    ):
        self.obs_space = {k: s for k, s in obs_space.items() if not k.startswith(LOG_PREFIX)}
        self.act_space = dict(act_space)
        self.cfg = cfg
        self.sampler = sampler
        auto = "float32" if jax.default_backend() == "cpu" else "bfloat16"
        self.dtype = jnp.dtype(auto if cfg.dtype == "auto" else cfg.dtype)
        counter = layers.Initializer()
        modules = nnx.eval_shape(lambda: self._build(counter))
        self._weights = counter.used
        self.notices: list[str] = []
        encoder = modules["encoder"]
        if isinstance(encoder, Encoder) and encoder.padding:
            self.notices.append(encoder.padding)
        self.modules = Modules(**{name: nnx.graphdef(module) for name, module in modules.items()})

    def _build(self, init: layers.Initializer) -> dict[str, nnx.Module | Objective]:
        cfg = self.cfg
        stoch = cfg.rssm.stoch * cfg.rssm.classes
        width = cfg.rssm.deter + stoch
        encoder = Encoder(self.obs_space, cfg.encoder, init=init)
        return {
            "encoder": encoder,
            "rssm": RSSM(encoder.width, self.act_space, cfg.rssm, init=init),
            "objective": OBJECTIVES[cfg.objective](
                self.obs_space, cfg.rssm.deter, stoch, cfg.decoder, init=init
            ),
            "reward": TwoHotHead(width, cfg.reward, init=init),
            "cont": BinaryHead(width, cfg.cont, init=init),
            "policy": PolicyHead(width, self.act_space, cfg.policy, init=init),
            "value": TwoHotHead(width, cfg.value, init=init),
        }

    def world(self, params: Params, hyper: Hyper) -> World:
        """The world model with its parameters in place."""
        return World(self.modules, params, hyper, self.cfg, self.sampler, self.dtype)

    def critic(self, params: Params) -> TwoHotHead:
        """A critic, the slow one too, with its parameters in place."""
        return nnx.merge(self.modules.value, params)

    def init(self, key: Array) -> TrainState:
        """Fresh parameters; the slow critic starts as a copy of the critic."""
        modules = self._build(layers.Initializer(layers.noise(key, self._weights)))
        params = {k: nnx.to_pure_dict(nnx.state(m)) for k, m in modules.items()}
        return TrainState(
            params=params,
            slow_value=jax.tree.map(jnp.copy, params["value"]),
            opt=optim.laprop_init(params),
            returns=running.init(),
            updates=jnp.zeros((), jnp.int32),
        )

    def init_carry(self, batch: int, actor: Actor[MemoryT]) -> Carry[MemoryT]:
        """The memory with which `batch` environments start."""
        latent = initial(self.cfg.rssm, batch, self.dtype)
        action = {k: jnp.zeros((batch, *s.shape), s.dtype) for k, s in self.act_space.items()}
        return Carry(latent, action, actor.init(batch))

    def act(
        self,
        params: Params,
        carry: Carry[MemoryT],
        step: Step,
        hyper: Hyper,
        *,
        key: Array,
        actor: Actor[MemoryT],
    ) -> tuple[dict[str, Array], Carry[MemoryT]]:
        """Follow one step of E environments with the posterior, and have the actor choose an action for each.

        Args:
          params: at least the modules in `FOLLOWING` and those of the actor.
        """
        obs = {k: step.obs[k] for k in self.obs_space}
        chex.assert_rank(step.is_first, 1)
        chex.assert_tree_shape_prefix((carry, obs), step.is_first.shape)
        latent_key, action_key = jax.random.split(key)
        world, now = self.world(params, hyper), lambda tree: jax.tree.map(lambda x: x[:, None], tree)
        seen = world.observe(carry.latent, now(obs), now(carry.action), now(step.is_first), key=latent_key)
        latent = jax.tree.map(lambda x: x[:, 0], seen.latent)
        action, memory = actor.act(world, latent, carry.memory, step.is_first, key=action_key)
        return action, Carry(latent, action, memory)

    def loss(
        self,
        params: Params,
        slow_value: Params,
        returns: running.Percentiles,
        batch: Batch,
        latent: Latent,
        prev_action: Mapping[str, Array],
        hyper: Hyper,
        *,
        key: Array,
    ) -> tuple[Array, Evaluation]:
        """The whole algorithm: one scalar whose gradient trains every module.

        Args:
          batch: B sequences of T steps.
          latent: [B, ...] the state before index 0.
          prev_action: {key: [B, T, ...]} the action before every step.
        """
        cfg = self.cfg.behavior
        world = self.world(params, hyper)
        frozen = world.frozen()
        behavior = ActorCritic(world.policy_head, world.value_head, self.critic(slow_value), cfg)
        observe_key, imagine_key = jax.random.split(key)

        # 1. The world model follows the recorded sequences and learns to predict them.
        seen = world.observe(latent, batch.obs, prev_action, batch.is_first, key=observe_key)
        losses, metrics = world.loss(batch, seen)

        # 2. From the last K states of every sequence it dreams H steps under the policy.
        B, T = batch.is_first.shape
        K = min(cfg.imag_last or T, T)
        start = jax.tree.map(lambda x: sg(x[:, -K:]).reshape(B * K, *x.shape[2:]), seen.latent)
        imagined = frozen.imagine(start, frozen.choose, cfg.imag_length, key=imagine_key)

        # 3. Actor and critic learn from the dreams; what the heads expect there are the rewards.
        reward, discount = per_step(lambda feat: (frozen.reward(feat), frozen.discount(feat)), imagined.feat)
        weight = sg(frozen.weights(discount))
        learned = behavior.imagined_loss(imagined, reward, discount, weight, returns, hyper)
        losses |= {k: v.reshape(B, K) for k, v in learned.losses.items()}

        # 4. The critic also learns from what really happened after each replayed state.
        if cfg.replay_value:
            feat = seen.latent.feat[:, -K:]
            losses["replay_value"] = behavior.replay_loss(
                feat if cfg.replay_value_grad else sg(feat),
                batch,
                world.real_discount(batch.is_terminal),
                learned.first_return.reshape(B, K),
                hyper,
            )

        total = jnp.stack([hyper.scale(name) * loss.mean() for name, loss in losses.items()]).sum()
        metrics |= learned.metrics | {"imagined_cont": (discount / frozen.outside).mean()}
        metrics |= {f"loss/{k}": v.mean() for k, v in losses.items()}
        return total, Evaluation(seen, losses, learned.returns, metrics)

    def gradient(
        self, state: TrainState, batch: Batch, hyper: Hyper, *, key: Array
    ) -> tuple[Gradient, PackedLatent]:
        """The first half of `train_step`: where a replayed batch says to go.

        The recurrence starts from the stored latent of the step before (replay context), and the new
        posteriors [B, T, ...] come back for the replay to store in place of the old ones.
        """
        latent = batch.context_latent.unpack(self.cfg.rssm.classes, self.dtype)
        prev_action = {
            k: jnp.concatenate([batch.context_action[k][:, None], a[:, :-1]], 1)
            for k, a in batch.action.items()
        }
        grad = jax.value_and_grad(self.loss, has_aux=True)
        (total, out), grads = grad(
            state.params, state.slow_value, state.returns, batch, latent, prev_action, hyper, key=key
        )
        return Gradient(grads, out.returns, out.metrics | {"loss": total}), out.seen.latent.pack()

    def descend(
        self, state: TrainState, gradient: Gradient, hyper: Hyper
    ) -> tuple[TrainState, dict[str, Array]]:
        """The second half: one step of the optimiser, then the slow critic follows the critic."""
        params, opt, metrics = optim.update(
            gradient.params, state.opt, state.params, hyper, self.cfg.optim.schedule
        )
        mix = jnp.where(state.updates % hyper.slow_every == 0, hyper.slow_rate, 0.0)
        slow = jax.tree.map(lambda new, old: mix * new + (1 - mix) * old, params["value"], state.slow_value)
        state = TrainState(params, slow, opt, gradient.returns, state.updates + 1)
        return state, gradient.metrics | metrics

    def train_step(
        self, state: TrainState, batch: Batch, hyper: Hyper, *, key: Array
    ) -> tuple[TrainState, PackedLatent, dict[str, Array]]:
        """One update from a replayed batch.

        Returns:
          The new state, the posteriors [B, T, ...] and scalar metrics.
        """
        gradient, latent = self.gradient(state, batch, hyper, key=key)
        state, metrics = self.descend(state, gradient, hyper)
        return state, latent, metrics
