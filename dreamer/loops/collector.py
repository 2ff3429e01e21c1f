"""The source of online learning: an agent acts in a vector of host environments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamer.actors import Actor, expected_return
from dreamer.agent import Agent, Carry, Params
from dreamer.loops import promises
from dreamer.loops.clocks import Progress
from dreamer.loops.outputs import EpisodeStats
from dreamer.loops.source import Collected
from dreamer.numbers import Numbers
from dreamer.placement import acting_device
from dreamer.records import PackedLatent
from dreamer.replay.host import HostReplay
from envs.api import LOG_PREFIX, Step, VectorEnv, ended


class Collector:
    """Acts, steps every copy of the environment and adds the steps to the replay.

    Args:
      agent, env, replay, numbers: the acting agent, its environments, the replay, traced numbers.
      seed: root of the key of acting.
      actor: chooses the actions.
    """

    def __init__(
        self,
        agent: Agent,
        env: VectorEnv,
        replay: HostReplay,
        numbers: Numbers,
        seed: int,
        *,
        actor: Actor[Any],
    ):
        self.agent, self.env, self.replay, self.actor = agent, env, replay, actor
        self._device = acting_device()
        self._key, self._numbers = jax.device_put((acting_key(seed), numbers), self._device)
        self._act, self._follow = jax.jit(partial(_act, agent, actor)), jax.jit(_follow)
        self._params: Params = {}
        self._episodes = EpisodeTracker(env.num_envs)

    def set_params(self, params: Params) -> None:
        """Act with these parameters from now on."""
        self._params = jax.device_put(params, self._device)

    def rows(self, progress: Progress) -> Iterator[Collected]:
        """Advance forever, one slot of every environment at a time.

        Raises:
          EnvError: from the environment; all up to then is stored.
        """
        step = self.env.reset()
        carry = jax.device_put(self.agent.init_carry(self.env.num_envs, self.actor), self._device)
        kept = promises.start(carry.memory)
        while True:
            if (expected := expected_return(carry.memory)) is not None:
                kept = self._follow(kept, expected, step._replace(obs={}), self._numbers)
            episodes = self._episodes.add(step, progress, kept)
            choice, carry = self._act(
                self._params, carry, _seen(step), self._numbers, self._key, progress.slots
            )
            action = {k: np.asarray(v) for k, v in jax.device_get(choice.action).items()}
            jax.tree.map(lambda x: x.copy_to_host_async(), choice.latent)
            progress.slots += 1
            yield Collected(episodes, self._episodes.running_since)
            previous = step
            try:
                step = self.env.step(action)
            finally:
                self.replay.add(previous, action, choice.latent)

    @property
    def meta(self) -> dict[str, Any]:
        """How many episodes every environment began, which decides the seeds of the next."""
        return {"episodes": self.env.episodes.tolist()}

    def restore(self, meta: Mapping[str, Any]) -> None:
        """Continue with the next seeds; the episodes that were running are not continued."""
        self.env.episodes[:] = meta["episodes"]


def acting_key(seed: int) -> jax.Array:
    """The first of the three keys of a host loop: acting, learning, sampling."""
    return jax.random.split(jax.random.key(seed), 3)[0]


class Choice(NamedTuple):
    """Result of acting in every environment."""

    action: dict[str, jax.Array]
    latent: PackedLatent


def _act(
    agent: Agent,
    actor: Actor[Any],
    params: Params,
    carry: Carry[Any],
    step: Step,
    numbers: Numbers,
    key: jax.Array,
    slot: int,
):
    key = jax.random.fold_in(key, slot)
    action, carry = agent.act(params, carry, step, numbers, key=key, actor=actor)
    return Choice(action, agent.pack(carry.latent)), carry


def _follow(kept: promises.Kept, expected: jax.Array, step: Step, numbers: Numbers) -> promises.Kept:
    return promises.follow(kept, expected, step, numbers.behavior.horizon)


def _seen(step: Step) -> Step:
    """A step without the `log/` observations."""
    return step._replace(obs={k: v for k, v in step.obs.items() if not k.startswith(LOG_PREFIX)})


class EpisodeTracker:
    """Sums what happens in every environment until its episode ends, and counts environment steps."""

    def __init__(self, num_envs: int):
        self._return = np.zeros(num_envs)
        self._length = np.zeros(num_envs, np.int64)
        self._began = np.zeros(num_envs, np.int64)
        self.running_since = 0
        """Environment steps when the oldest episode that still runs began."""

    def add(self, step: Step, progress: Progress, kept: promises.Kept = ()) -> list[EpisodeStats]:
        """Take in one slot; returns the episodes that ended with it.

        Args:
          kept: what the plans of the running episodes promised, this step included.
        """
        first = np.asarray(step.is_first)
        self._return = np.where(first, 0.0, self._return) + step.reward
        self._length = np.where(first, 0, self._length + 1)
        progress.env_steps += int((~first).sum())
        self._began = np.where(first, progress.env_steps, self._began)
        running = np.where(step.is_last, progress.env_steps, self._began)
        self.running_since = int(running.min())
        if not np.any(step.is_last):
            return []
        plans = jax.device_get(promises.means(kept))
        return [
            EpisodeStats(
                progress.env_steps,
                progress.updates,
                int(self._began[i]),
                float(self._return[i]),
                int(self._length[i]),
                *ended(step.obs, int(i)),
                promises.of(plans, int(i)),
            )
            for i in np.flatnonzero(step.is_last)
        ]
