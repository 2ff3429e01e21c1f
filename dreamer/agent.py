"""DreamerV3 on one page, in the order of the paper: act, imagine, learn.

    tokens  = encoder(obs)                       perception
    h, z    = rssm.observe(tokens, actions)      the world model follows recorded sequences
    dreams  = rssm.imagine(h, z, policy)         and dreams on from every one of their states
    R       = lambda-returns of the dreams       what the critic learns and the actor seeks

Reference: Hafner et al. (2025), Mastering diverse control tasks through world models, Nature 640.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer import objectives, rssm
from dreamer.actors import Actor, MemoryT
from dreamer.behavior.actor_critic import ActorCritic, Critic
from dreamer.config import AgentConfig
from dreamer.nets import layers
from dreamer.nets.encoder import Encoder
from dreamer.nets.heads import BinaryHead, Critics, PolicyHead, TwoHotHead, per_step
from dreamer.numbers import Numbers
from dreamer.objectives.reconstruction import Reconstruction
from dreamer.ops import dists, optim, running
from dreamer.records import Batch, Latent, Observed, PackedLatent, Params
from dreamer.rssm import RSSM
from dreamer.world import Modules, Objective, World
from envs.api import LOG_PREFIX, Spaces, Step

sg = jax.lax.stop_gradient
FOLLOWING = ("encoder", "rssm")
"""The modules that following an episode needs; choosing its actions needs those of the actor too."""


CRITICS = ("value", "critics")
"""Modules that slow copies follow: the critic, and those beside it where there are any."""


class TrainState(NamedTuple):
    """Everything that learning changes."""

    params: Params
    """{module: parameters}, float32."""
    slow: dict[str, Params]
    """{module: moving averages that it learns from}: of critics, and what the objective follows slowly."""
    stats: dict[str, running.Percentiles]
    """Running statistics: the range of the imagined `returns`."""
    opt: optim.LaPropState
    updates: Array
    """[] int32 gradient steps taken."""


class Carry(NamedTuple, Generic[MemoryT]):
    """An acting agent's memory, [E, ...]."""

    latent: Latent
    action: dict[str, Array]
    """The action chosen last."""
    memory: MemoryT
    """Memory of the actor."""


class Dreamt(NamedTuple):
    """What actor and critics learn from N dreams."""

    losses: dict[str, Array]
    """{policy, value, and value/1 and so on: [N]}, unscaled."""
    critics: dict[str, tuple[Critic, Array]]
    """{"", /1, ...: the critic and [N] its return of the state where each dream started}."""
    target: Array
    """[H, N] lambda-returns."""
    returns: running.Percentiles
    """Updated range of the returns."""
    metrics: dict[str, Array]


class Evaluation(NamedTuple):
    """Auxiliary outputs of one evaluation of the total loss."""

    seen: Observed
    losses: dict[str, Array]
    """Unscaled and per step: [B, T], [B, K] or [B, K-1]."""
    stats: dict[str, running.Percentiles]
    metrics: dict[str, Array]
    target: Array
    """[H, N] lambda-returns of the dreams."""


class Gradients(NamedTuple):
    """The gradients of a batch, with the new statistics and metrics."""

    params: Params
    """Of the total loss, for every parameter."""
    stats: dict[str, running.Percentiles]
    metrics: dict[str, Array]


def size(params: Params) -> int:
    """Parameters of an agent; a probe decoder, which only shows what it holds, does not count."""
    return sum(x.size for name, module in params.items() if name != "probe" for x in jax.tree.leaves(module))


def acting_params(params: Params, actor: Actor[Any]) -> Params:
    """The parameters that following an episode and choosing its actions need; a critic brings all critics."""
    needed = dict.fromkeys((*FOLLOWING, *actor.modules))
    if "value" in needed and "critics" in params:
        needed["critics"] = None
    return {name: params[name] for name in needed}


class Agent:
    """Pure functions over `TrainState`; the object only holds spaces, configuration and structure.

    Args:
      obs_space: what the encoder reads and the objective predicts (keys under `log/` are ignored).
      act_space: what the policy chooses.
      sampler: source of randomness.
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
        optim.check_factors(cfg.rate_factors, _params(modules))

    def _build(self, init: layers.Initializer) -> dict[str, nnx.Module | Objective]:
        cfg, width = self.cfg, self.cfg.rssm.features
        encoder = Encoder(self.obs_space, cfg.encoder, init=init)
        dynamics = RSSM(encoder.width, self.act_space, cfg.rssm, init=init)
        make = objectives.named(cfg.objective)
        objective = make(self.obs_space, self.act_space, encoder.width, cfg, init=init)
        modules: dict[str, nnx.Module | Objective] = {
            "encoder": encoder,
            "rssm": dynamics,
            "objective": objective,
            "reward": TwoHotHead(width, cfg.reward, init=init),
            "cont": BinaryHead(width, cfg.cont, init=init),
            "policy": PolicyHead(width, self.act_space, cfg.policy, init=init),
            "value": TwoHotHead(width, cfg.value, init=init),
        }
        if cfg.probe_decoder and not self._decodes(objective):
            modules["probe"] = Reconstruction(self.obs_space, self.act_space, encoder.width, cfg, init=init)
        if cfg.value_ensemble > 1:
            modules["critics"] = Critics(cfg.value_ensemble - 1, width, cfg.value, init=init)
        return modules

    def _decodes(self, objective: Objective) -> bool:
        return jax.eval_shape(lambda: objective.decode(self._nowhere)) is not None

    @property
    def _nowhere(self) -> Latent:
        return rssm.initial(self.cfg.rssm, 1, self.dtype)

    def with_sampler(self, sampler: dists.Sampler) -> Agent:
        """The same agent with another source of randomness."""
        agent = copy.copy(self)
        agent.sampler = sampler
        return agent

    def world(self, params: Params, numbers: Numbers) -> World:
        """The world model with its parameters in place."""
        return World(self.modules, params, numbers, self.cfg, self.sampler, self.dtype)

    def init(self, key: Array) -> TrainState:
        """Fresh parameters, before the first update."""
        return self.start(_params(self._build(layers.Initializer(layers.noise(key, self._weights)))))

    def start(self, params: Params) -> TrainState:
        """These parameters before the first update; slow copies start as equal ones."""
        objective = nnx.merge(self.modules.objective, params["objective"])
        slow = {name: params[name] for name in CRITICS if name in params}
        slow |= {"objective": objective.slow(params)}
        return TrainState(
            params=params,
            slow=jax.tree.map(jnp.copy, slow),
            stats={"returns": running.init()},
            opt=optim.laprop_init(params),
            updates=jnp.zeros((), jnp.int32),
        )

    @cached_property
    def decoder(self) -> str:
        """The module that shows latents as observations: objective, probe, or '' where nothing can."""
        if self.modules.probe is not None:
            return "probe"
        params = jax.eval_shape(self.init, jax.random.key(0)).params
        decode = lambda params: nnx.merge(self.modules.objective, params).decode(self._nowhere)
        return "objective" if jax.eval_shape(decode, params["objective"]) is not None else ""

    @property
    def entries(self) -> Spaces:
        """{column: space} of what a replay keeps of a latent."""
        return rssm.entries(self.cfg.rssm)

    def pack(self, latent: Latent) -> PackedLatent:
        """A latent as a replay stores it."""
        return rssm.pack(self.cfg.rssm, latent)

    def unpack(self, packed: PackedLatent) -> Latent:
        """The latent of which a replay gives the entries."""
        return rssm.unpack(self.cfg.rssm, packed, self.dtype)

    def init_carry(self, batch: int, actor: Actor[MemoryT]) -> Carry[MemoryT]:
        """The memory with which `batch` environments start."""
        latent = rssm.initial(self.cfg.rssm, batch, self.dtype)
        action = {k: jnp.zeros((batch, *s.shape), s.dtype) for k, s in self.act_space.items()}
        return Carry(latent, action, actor.init(batch))

    def act(
        self,
        params: Params,
        carry: Carry[MemoryT],
        step: Step,
        numbers: Numbers,
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
        world, now = self.world(params, numbers), lambda tree: jax.tree.map(lambda x: x[:, None], tree)
        seen = world.observe(carry.latent, now(obs), now(carry.action), now(step.is_first), key=latent_key)
        latent = jax.tree.map(lambda x: x[:, 0], seen.latent)
        action, memory = actor.act(world, latent, carry.memory, step.is_first, key=action_key)
        return action, Carry(latent, action, memory)

    def loss(
        self,
        params: Params,
        slow: dict[str, Params],
        stats: dict[str, running.Percentiles],
        batch: Batch,
        latent: Latent,
        prev_action: Mapping[str, Array],
        numbers: Numbers,
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
        world = self.world(params, numbers)
        observe_key, imagine_key = jax.random.split(key)

        # 1. The world model follows the recorded sequences and learns to predict them.
        seen = world.observe(latent, batch.obs, prev_action, batch.is_first, key=observe_key)
        objective_key = jax.random.fold_in(key, 1)
        losses, metrics = world.loss(batch, seen, slow["objective"], key=objective_key)

        # 2. From the last K states of every sequence it dreams, and actor and critics learn from the dreams.
        starts = self.dream_starts(seen.latent)
        dreamt = self.behavior_loss(world, slow, stats["returns"], starts, key=imagine_key)
        B, K = len(batch.reward), self._starts_per_sequence(batch.reward.shape[1])
        losses |= {name: loss.reshape(B, K) for name, loss in dreamt.losses.items()}

        # 3. Critics also learn from what really happened after each replayed state.
        if cfg.replay_value:
            feat, real = seen.latent.feat[:, -K:], world.real_discount(batch.is_terminal)
            for name, (critic, first_return) in dreamt.critics.items():
                moves = cfg.replay_value_grad and not name
                losses[f"replay_value{name}"] = critic.replay_loss(
                    feat if moves else sg(feat), batch, real, first_return.reshape(B, K)
                )

        total, means = total_loss(losses, numbers)
        metrics = metrics | dreamt.metrics | means
        return total, Evaluation(seen, losses, {"returns": dreamt.returns}, metrics, dreamt.target)

    def dream_starts(self, latent: Latent) -> Latent:
        """Where dreams of recorded steps start: [B, T, ...] -> [B*K, ...], the last K of every sequence."""
        K = self._starts_per_sequence(latent.deter.shape[1])
        return jax.tree.map(lambda x: sg(x[:, -K:]).reshape(-1, *x.shape[2:]), latent)

    def _starts_per_sequence(self, length: int) -> int:
        return min(self.cfg.behavior.imag_last or length, length)

    @jax.named_scope("behavior")
    def behavior_loss(
        self,
        world: World,
        slow: dict[str, Params],
        returns: running.Percentiles,
        start: Latent,
        *,
        key: Array,
    ) -> Dreamt:
        """What actor and critics learn from dreams alone; no gradient reaches the world model.

        Args:
          world: with the parameters that learn in place; a cost in it counts.
          returns: range of the returns so far.
          start: [N, ...] where the dreams start.
        """
        cfg = world.numbers.behavior
        frozen, slow_value = world.frozen(), nnx.merge(self.modules.value, slow["value"])
        critic = Critic(world.value_head, slow_value, cfg)
        behavior = ActorCritic(world.policy_head, critic, cfg)

        # 1. It dreams H steps under the policy; what the heads expect there are the rewards.
        imagined = frozen.imagine(start, frozen.choose, self.cfg.behavior.imag_length, key=key)
        reward, discount = per_step(lambda feat: (frozen.reward(feat), frozen.discount(feat)), imagined.feat)
        weight = sg(frozen.weights(discount))

        # 2. Actor and critic learn from that.
        learned = behavior.imagined_loss(imagined, reward, discount, weight, returns)
        losses, critics = dict(learned.losses), {"": (critic, learned.target[0])}

        # 3. Critics beside the first learn as it does, each from its own values, and move nothing else.
        for name, other in self._others(world, slow):
            judged = other.imagined_loss(imagined.feat, reward, discount, weight)
            losses[f"value/{name}"] = judged.loss.mean(0)
            critics[f"/{name}"] = other, judged.target[0]
        metrics = learned.metrics | {"imagined_cont": (discount / frozen.outside).mean()}
        return Dreamt(losses, critics, learned.target, learned.returns, metrics)

    def _others(self, world: World, slow: dict[str, Params]) -> Iterator[tuple[str, Critic]]:
        if world.critics is None or self.modules.critics is None:
            return
        slow_critics = nnx.merge(self.modules.critics, slow["critics"])
        for (name, value), (_, slow_value) in zip(world.critics, slow_critics, strict=True):
            yield name, Critic(value, slow_value, world.numbers.behavior)

    def context(self, batch: Batch) -> tuple[Latent, dict[str, Array]]:
        """The stored latent before a batch (replay context), [B, ...], and the action before every step."""
        shift = lambda first, action: jnp.concatenate([first[:, None], action[:, :-1]], 1)
        prev_action = {k: shift(batch.context_action[k], a) for k, a in batch.action.items()}
        return self.unpack(batch.context_latent), prev_action

    def imagined_returns(self, state: TrainState, batch: Batch, numbers: Numbers, *, key: Array) -> Array:
        """The lambda-returns [H, N] of which `compute_gradients` with this key takes the range."""
        latent, prev_action = self.context(batch)
        learned = state.params, state.slow, state.stats
        _, out = self.loss(*learned, batch, latent, prev_action, numbers, key=key)
        return out.target

    def compute_gradients(
        self, state: TrainState, batch: Batch, numbers: Numbers, *, key: Array
    ) -> tuple[Gradients, PackedLatent]:
        """The first half of `train_step`: gradients of a replayed batch.

        The recurrence starts from the stored latent of the step before (replay context), and the new
        posteriors [B, T, ...] come back for the replay to store in place of the old ones.
        """
        latent, prev_action = self.context(batch)
        grad = jax.value_and_grad(self.loss, has_aux=True)
        (total, out), grads = grad(
            state.params, state.slow, state.stats, batch, latent, prev_action, numbers, key=key
        )
        return Gradients(grads, out.stats, out.metrics | {"loss": total}), self.pack(out.seen.latent)

    def apply_gradients(
        self, state: TrainState, gradients: Gradients, numbers: Numbers
    ) -> tuple[TrainState, dict[str, Array]]:
        """The second half: one step of the optimiser, then slow copies follow what they copy."""
        params, opt, metrics = optim.update(gradients.params, state.opt, state.params, numbers)
        followed = self.world(params, numbers).objective.follow(state.slow["objective"], params, numbers)
        slow = {**self.follow_critics(state, params, numbers), "objective": followed}
        state = TrainState(params, slow, gradients.stats, opt, state.updates + 1)
        return state, gradients.metrics | metrics

    def follow_critics(self, state: TrainState, params: Params, numbers: Numbers) -> dict[str, Params]:
        """The slow critics after an update that led to `params`."""
        cfg, slow = numbers.behavior, state.slow
        mix = jnp.where(state.updates % cfg.slow_every == 0, cfg.slow_rate, 0.0)
        return {name: running.mix(slow[name], params[name], mix) for name in CRITICS if name in slow}

    def train_step(
        self, state: TrainState, batch: Batch, numbers: Numbers, *, key: Array
    ) -> tuple[TrainState, PackedLatent, dict[str, Array]]:
        """One update from a replayed batch: the new state, the posteriors [B, T, ...] and scalar metrics."""
        gradients, latent = self.compute_gradients(state, batch, numbers, key=key)
        state, metrics = self.apply_gradients(state, gradients, numbers)
        return state, latent, metrics


def total_loss(losses: Mapping[str, Array], numbers: Numbers) -> tuple[Array, dict[str, Array]]:
    """The weighted sum of the means of losses, and these means for the log."""
    total = jnp.stack([numbers.loss.weight(name) * loss.mean() for name, loss in losses.items()]).sum()
    return total, {f"loss/{name}": loss.mean() for name, loss in losses.items()}


def _params(modules: Mapping[str, Any]) -> Params:
    params = {name: nnx.to_pure_dict(nnx.state(module)) for name, module in modules.items()}
    return {**params, "rssm": rssm.flat(params["rssm"])}
