"""The loop for environments that live on the host: act, learn, step, store.

One turn advances every copy of the environment by one slot. An update is dispatched before the environments
step in Python, so that both run at the same time. Which parameters act depends on counts only, never on
timing: those of the last update whose results were fetched, one behind the one in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent, Carry, Gradient, TrainState, acting_params
from dreamer.config import LoopConfig
from dreamer.hyper import Hyper
from dreamer.loops import clocks
from dreamer.loops.clocks import Progress, updates_due
from dreamer.loops.turn import Diverged, Finished, Turn, diverged
from dreamer.records import Batch, PackedLatent
from dreamer.replay.host import HostReplay
from dreamer.replay.layout import Layout
from envs.api import LOG_PREFIX, Step, VectorEnv


class InFlight(NamedTuple):
    """An update that was dispatched and not yet waited for."""

    acting: dict[str, Any]
    where: tuple[np.ndarray, np.ndarray]
    latent: PackedLatent
    metrics: jax.Array


class HostLoop:
    """Trains one agent in a vector of host environments.

    Args:
      agent, env, replay, hyper: what to train, where, from what, with which numbers.
      cfg: ratio, batch and prefill.
      seed: root of every key: of acting, learning and sampling.
    """

    def __init__(
        self,
        agent: Agent,
        env: VectorEnv,
        replay: HostReplay,
        cfg: LoopConfig,
        hyper: Hyper,
        state: TrainState,
        progress: Progress,
        seed: int,
    ):
        self.agent, self.env, self.replay, self.cfg = agent, env, replay, cfg
        self.hyper, self.state, self.progress = hyper, state, progress
        # A CPU device runs its programs one after the other, so acting has its own where there are two.
        self._actor = jax.local_devices()[-1]
        acting, self._learning_key, sampling = jax.random.split(jax.random.key(seed), 3)
        self._acting_key, self._sampling_key = jax.device_put((acting, sampling), self._actor)
        self._acting_hyper = jax.device_put(hyper, self._actor)
        self._act = jax.jit(partial(_act, agent))
        # Two programs, because a compiler keeps what it made of every operation until its program is done.
        self._gradient = jax.jit(partial(_gradient, agent))
        self._descend = jax.jit(self._descend_fn, donate_argnums=0)
        # A copy, because the state itself is donated to the next update.
        copied = jax.tree.map(jnp.copy, acting_params(state.params, SAMPLED))
        self._acting = jax.device_put(copied, self._actor)
        self._in_flight: InFlight | None = None
        self._metric_names: list[str] = []
        self._episodes = EpisodeStatistics(env.num_envs)

    def _descend_fn(self, state: TrainState, gradient: Gradient, hyper: Hyper):
        state, metrics = self.agent.descend(state, gradient, hyper)
        self._metric_names = sorted(metrics)
        acting = acting_params(state.params, SAMPLED)
        return state, acting, jnp.stack([metrics[k] for k in self._metric_names])

    def turns(self) -> Iterator[Turn]:
        """Advance for ever, one slot of every environment at a time; the caller stops asking.

        Raises:
          EnvError: from the environment; all up to then is stored.
          Diverged: a loss is not finite.
        """
        step = self.env.reset()
        carry = jax.device_put(self.agent.init_carry(self.env.num_envs, SAMPLED), self._actor)
        while True:
            episodes = self._episodes.add(step, self.progress)
            choice, carry = self._act(
                self._acting, carry, _seen(step), self._acting_hyper, self._acting_key, self.progress.slots
            )
            action = {k: np.asarray(v) for k, v in jax.device_get(choice.action).items()}
            jax.tree.map(lambda x: x.copy_to_host_async(), choice.latent)
            self.progress.slots += 1
            metrics = [m for _ in range(self._due()) for m in self._update()]
            yield Turn(episodes, metrics, self._episodes.running_since)
            previous = step
            try:
                step = self.env.step(action)
            finally:
                self.replay.add(previous, action, choice.latent)

    @property
    def arrays(self) -> TrainState:
        """What a checkpoint holds."""
        return self.state

    @property
    def layout(self) -> Layout:
        """Of the replay."""
        return self.replay.layout

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint says beside them."""
        return {"replay": self.replay.counters, "episodes": self.env.episodes.tolist()}

    @property
    def files(self) -> Callable[[Path], list[str]]:
        """What writes the files that a checkpoint needs beside its arrays."""
        return self.replay.save

    def verify(self) -> list[dict[str, float]]:
        """Wait for the update in flight and look at its metrics; nothing of the run depends on when.

        Raises:
          Diverged: it gave a loss that is not finite.
        """
        if self._in_flight is None:
            return []
        values = np.asarray(self._in_flight.metrics)
        metrics = dict(zip(self._metric_names, values.tolist(), strict=True))
        if why := diverged(self.progress.updates, metrics):
            raise Diverged(why)
        return [metrics]

    def settle(self) -> list[dict[str, float]]:
        """Take in the update in flight: its posteriors go to the replay, its parameters act from now on."""
        metrics, done = self.verify(), self._in_flight
        if done is not None:
            self._in_flight = None
            self._acting = jax.device_put(done.acting, self._actor)
            self.replay.refresh(done.where, done.latent)
        return metrics

    def _due(self) -> int:
        cfg, progress = self.cfg, self.progress
        waiting = progress.counted_since == -1
        waiting |= progress.learning_since < 0 and progress.env_steps >= cfg.prefill
        if waiting and self.replay.can_sample(cfg.batch_size, cfg.batch_length):
            clocks.begin(progress)
        return updates_due(progress, cfg.train_ratio, cfg.batch_size * cfg.batch_length)

    def _update(self) -> list[dict[str, float]]:
        cfg = self.cfg
        key = jax.random.fold_in(self._sampling_key, self.progress.updates)
        batch, where = self.replay.sample(key, cfg.batch_size, cfg.batch_length)
        metrics = self.settle()
        gradient, latent = self._gradient(self.state, batch, self.hyper, self._learning_key)
        self.state, acting, values = self._descend(self.state, gradient, self.hyper)
        self._in_flight = InFlight(acting, where, latent, values)
        self.progress.updates += 1
        return metrics


class Choice(NamedTuple):
    """What acting gives for every environment."""

    action: dict[str, jax.Array]
    latent: PackedLatent


def _gradient(agent: Agent, state: TrainState, batch: Batch, hyper: Hyper, key: jax.Array):
    return agent.gradient(state, batch, hyper, key=jax.random.fold_in(key, state.updates))


def _act(agent: Agent, params, carry: Carry[tuple[()]], step: Step, hyper: Hyper, key, slot):
    key = jax.random.fold_in(key, slot)
    action, carry = agent.act(params, carry, step, hyper, key=key, actor=SAMPLED)
    return Choice(action, carry.latent.pack()), carry


def _seen(step: Step) -> Step:
    """A step without what only people see."""
    return step._replace(obs={k: v for k, v in step.obs.items() if not k.startswith(LOG_PREFIX)})


class EpisodeStatistics:
    """Sums what happens in every environment until its episode ends, and counts environment steps."""

    def __init__(self, num_envs: int):
        self._return = np.zeros(num_envs)
        self._length = np.zeros(num_envs, np.int64)
        self._began = np.zeros(num_envs, np.int64)
        self.running_since = 0
        """Environment steps when the oldest episode that still runs began."""

    def add(self, step: Step, progress: Progress) -> list[Finished]:
        """Take in one slot; returns the episodes that ended with it."""
        first = np.asarray(step.is_first)
        self._return = np.where(first, 0.0, self._return) + step.reward
        self._length = np.where(first, 0, self._length + 1)
        progress.env_steps += int((~first).sum())
        self._began = np.where(first, progress.env_steps, self._began)
        running = np.where(step.is_last, progress.env_steps, self._began)
        self.running_since = int(running.min())
        told = step.obs.get(LOG_PREFIX + "success", np.full(first.shape, np.nan))
        return [
            Finished(
                progress.env_steps,
                int(self._began[i]),
                float(self._return[i]),
                int(self._length[i]),
                None if np.isnan(told[i]) else bool(told[i] > 0),
            )
            for i in np.flatnonzero(step.is_last)
        ]
