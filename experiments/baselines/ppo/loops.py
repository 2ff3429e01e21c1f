"""Where PPO gathers what it learns from: an iteration fills T slots of E copies and learns from them.

Where the worlds are functions of JAX arrays, that is one compiled program: a scan over slots, then one over
updates. Gymnasium environments are stepped in Python between two programs, one that acts and one that learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import envs
from envs.adapters.device import concrete
from envs.api import LOG_PREFIX, SUCCESS, Spaces, Step, VectorEnv
from envs.wrappers import Batched
from experiments.baselines.ppo.agent import Agent, Learner, Outcome, Rollout, Slot
from experiments.baselines.ppo.presets import PPOConfig


class Acting(NamedTuple):
    """Everything of a run but the learner."""

    worlds: Any
    """On the device the state of the copies; on the host [E] how many episodes each has begun."""
    step: Step
    """[E] what they said last, not acted on yet."""
    memory: Array
    """[E, H] of the agent."""


class Loop(Protocol):
    """Where the worlds are."""

    obs_space: Spaces
    act_space: Spaces

    def begin(self, agent: Agent, seed: int) -> tuple[Learner, Acting]:
        """A fresh learner before fresh worlds."""
        ...

    def resume(self, acting: Acting) -> Acting:
        """The same, ready to resume after it was loaded from a file."""
        ...

    def iterate(
        self, agent: Agent, learner: Learner, acting: Acting, seed: int, iteration: int
    ) -> tuple[Learner, Acting, dict[str, Any], Slot]:
        """Act, learn, and tell the metrics and the slots that were filled, [T, E], without observations."""
        ...

    def close(self) -> None: ...


def loop_of(task: str, cfg: PPOConfig, seed: int, world: Mapping[str, Any]) -> Loop:
    """The loop that suits a task, which is made with the keywords `world`."""
    if envs.is_on_device(task):
        return OnDevice(Batched(envs.make_jax(task, **world), cfg.num_envs))
    return OnHost(envs.make(task, cfg.num_envs, seed=seed, **world))


def _seen(step: Step) -> dict[str, Any]:
    return {k: v for k, v in step.obs.items() if not k.startswith(LOG_PREFIX)}


def _slot(step: Step, action: dict[str, Any], logp: Any, value: Any) -> Slot:
    success = step.obs.get(SUCCESS)
    success = jnp.full(value.shape, jnp.nan) if success is None else success
    outcome = Outcome(step.reward, step.is_last, step.is_terminal, value)
    return Slot(_seen(step), step.is_first, outcome, success, action, logp)


class _Keys(NamedTuple):
    """Roots of the keys, one for every purpose."""

    worlds: Array
    acting: Array
    learning: Array


def _keys(seed: Any) -> _Keys:
    keys = jax.random.split(jax.random.key(seed), 3)
    return _Keys(*(keys[i] for i in range(3)))


class OnDevice:
    """Worlds that are functions of JAX arrays: an iteration is one compiled program."""

    def __init__(self, env: Batched):
        self._env = env
        self.obs_space, self.act_space = env.obs_space, env.act_space
        self._iterate = jax.jit(self._iteration, static_argnums=0, donate_argnums=(1, 2))

    def begin(self, agent: Agent, seed: int) -> tuple[Learner, Acting]:
        keys = _keys(seed)
        begin = jax.jit(lambda key: concrete(self._env.reset(key=key)))
        worlds, step = begin(jax.random.fold_in(keys.worlds, 0))
        acting = Acting(worlds, step, agent.memory(self._env.num_envs))
        return agent.init(seed), acting

    def resume(self, acting: Acting) -> Acting:
        return acting

    def iterate(self, agent, learner, acting, seed, iteration):
        return self._iterate(agent, learner, acting, np.int32(seed), np.int32(iteration))

    def close(self) -> None:
        """Nothing to close."""

    def _iteration(self, agent: Agent, learner: Learner, acting: Acting, seed: Array, iteration: Array):
        worlds_key, acting_key, key = (jax.random.fold_in(root, iteration + 1) for root in _keys(seed))
        count = agent.cfg.slots
        act = partial(agent.act, learner.params, greedy=False)

        def slot(acting: Acting, keys: tuple[Array, Array]) -> tuple[Acting, Slot]:
            worlds, step, memory = acting
            memory, action, logp, value = act(memory, _seen(step), step.is_first, key=keys[1])
            worlds, after = self._env.step(worlds, action, key=keys[0])
            return Acting(worlds, after, memory), _slot(step, action, logp, value)

        moves, acts = jax.random.split(worlds_key, count), jax.random.split(acting_key, count + 1)
        after, slots = jax.lax.scan(slot, acting, (moves, acts[:count]))
        _, _, _, value = act(after.memory, _seen(after.step), after.step.is_first, key=acts[count])
        closing = _slot(after.step, {}, value, value).outcome
        learner, metrics = agent.learn(learner, Rollout(acting.memory, slots, closing), key=key)
        return learner, after, metrics, slots._replace(obs={}, action={})


class OnHost:
    """Worlds that Python steps: every slot is acted on by one compiled program, learned from by another."""

    def __init__(self, env: VectorEnv):
        self._env = env
        self.obs_space, self.act_space = env.obs_space, env.act_space
        self._act = jax.jit(self._acted, static_argnums=0)
        self._learn = jax.jit(self._learned, static_argnums=0, donate_argnums=1)

    def begin(self, agent: Agent, seed: int) -> tuple[Learner, Acting]:
        return agent.init(seed), self._begun(agent.memory(self._env.num_envs))

    def resume(self, acting: Acting) -> Acting:
        self._env.episodes = np.array(acting.worlds)
        return self._begun(acting.memory)

    def _begun(self, memory: Array) -> Acting:
        step = self._env.reset()
        return Acting(self._env.episodes.copy(), step, memory)

    def iterate(self, agent, learner, acting, seed, iteration):
        rows, (_, step, memory), count = [], acting, agent.cfg.slots
        act = partial(self._act, agent, learner.params, np.int32(seed))
        for t in range(count):
            now = np.int32(iteration * (count + 1) + t)
            memory, *chosen = act(memory, _seen(step), step.is_first, now)
            action, logp, value = jax.device_get(chosen)
            rows.append(_slot(step, action, logp, value))
            step = self._env.step(action)
        now = np.int32(iteration * (count + 1) + count)
        *_, value = act(memory, _seen(step), step.is_first, now)
        closing = Outcome(step.reward, step.is_last, step.is_terminal, value)
        slots = jax.tree.map(lambda *x: np.stack(x), *rows)
        rollout = Rollout(acting.memory, slots, closing)
        learner, metrics = self._learn(agent, learner, rollout, np.int32(seed), np.int32(iteration))
        acting = Acting(self._env.episodes.copy(), step, memory)
        return learner, acting, metrics, slots._replace(obs={}, action={})

    def close(self) -> None:
        self._env.close()

    @staticmethod
    def _acted(agent, params, seed, memory, obs, is_first, count):
        key = jax.random.fold_in(_keys(seed).acting, count)
        return agent.act(params, memory, obs, is_first, key=key, greedy=False)

    @staticmethod
    def _learned(agent, learner, rollout, seed, iteration):
        return agent.learn(learner, rollout, key=jax.random.fold_in(_keys(seed).learning, iteration))
