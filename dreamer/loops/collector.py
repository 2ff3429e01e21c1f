"""The source of online learning: an agent acts in a vector of host environments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamer.actors import Actor, expected_return, model_steps
from dreamer.agent import Agent, Carry, Params
from dreamer.loops import promises
from dreamer.loops.clocks import Progress
from dreamer.loops.outputs import EpisodeStats
from dreamer.loops.source import Collected
from dreamer.numbers import Numbers
from dreamer.ops import dists
from dreamer.placement import acting_device
from dreamer.processes import ALONE, Processes
from dreamer.records import PackedLatent
from dreamer.replay.host import HostReplay
from envs.api import LOG_PREFIX, Step, VectorEnv, ended


class Collector:
    """Acts, steps every copy of the environment and adds the steps to the replay.

    Args:
      agent, env, replay, numbers: the acting agent, its environments, the replay, traced numbers.
      seed: root of the key of acting.
      actor: chooses the actions.
      processes: of the run, each with its part of the environments (`Processes.part`). Noise is that of one
        process with all of them, except for planners, whose noise has no row for every environment.
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
        processes: Processes = ALONE,
    ):
        self.agent, self.env, self.replay, self.actor = agent, env, replay, actor
        self._processes, key, acting = processes, acting_key(seed), agent
        if processes.are_several and model_steps(actor):
            key = jax.random.fold_in(key, processes.index)
        elif processes.are_several:
            rows = dists.part(agent.sampler, env.num_envs, processes.count, processes.index)
            acting = agent.with_sampler(rows)
        self._device = acting_device()
        self._key, self._numbers = jax.device_put((key, numbers), self._device)
        self._act, self._follow = jax.jit(partial(_act, acting, actor)), jax.jit(_follow)
        self._params: Params = {}
        self._episodes = EpisodeTracker(env.num_envs, processes)

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
            self.env.send(action)
            yield Collected(episodes, self._episodes.running_since)
            self.replay.add(step, action, choice.latent)
            step = self.env.receive()

    @property
    def meta(self) -> dict[str, Any]:
        """How many episodes every environment began, which decides the seeds of the next."""
        parts = self._processes.gather(self.env.episodes.tolist())
        return {"episodes": self._processes.join(parts)}

    def restore(self, meta: Mapping[str, Any]) -> None:
        """Continue with the next seeds; the episodes that were running are not continued."""
        episodes = meta["episodes"]
        self.env.episodes[:] = [episodes[i] for i in self._processes.part(len(episodes))]


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
    """Sums what happens in every environment until its episode ends, and counts environment steps.

    Args:
      num_envs: of this process.
      processes: of the run; steps are counted and episodes reported of all of them.
    """

    def __init__(self, num_envs: int, processes: Processes = ALONE):
        self._processes = processes
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
        first, last = np.asarray(step.is_first), np.asarray(step.is_last)
        self._return = np.where(first, 0.0, self._return) + step.reward
        self._length = np.where(first, 0, self._length + 1)
        older = self._began[~first & ~last]
        slot = _Slot(
            int((~first).sum()),
            int(older.min()) if older.size else None,
            self._ended(step, first, kept) if last.any() else [],
        )
        slots = [_Slot(*slot) for slot in self._processes.gather(slot)]
        progress.env_steps += sum(slot.steps for slot in slots)
        self._began = np.where(first, progress.env_steps, self._began)
        oldest = [slot.oldest for slot in slots if slot.oldest is not None]
        self.running_since = min([progress.env_steps, *oldest])
        return [
            EpisodeStats(progress.env_steps, progress.updates, *_since(began, progress), *rest)
            for slot in slots
            for began, *rest in slot.ended
        ]

    def _ended(self, step: Step, first: np.ndarray, kept: promises.Kept) -> list[tuple[Any, ...]]:
        """Of each episode that ended: when it began (None: now), and the rest of its `EpisodeStats`."""
        plans = jax.device_get(promises.means(kept))
        return [
            (
                None if first[i] else int(self._began[i]),
                float(self._return[i]),
                int(self._length[i]),
                *ended(step.obs, int(i)),
                promises.of(plans, int(i)),
            )
            for i in np.flatnonzero(step.is_last)
        ]


class _Slot(NamedTuple):
    """What one process reports of a slot."""

    steps: int
    """Environment steps taken."""
    oldest: int | None
    """Environment steps of the run when the oldest of its episodes began that began before and continue."""
    ended: list[Any]
    """Its episodes that ended."""


def _since(began: int | None, progress: Progress) -> tuple[int]:
    return (progress.env_steps if began is None else began,)
