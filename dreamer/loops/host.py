"""The loop for experience that comes from the host: collect, learn, store.

One iteration takes one row from the source. An update is dispatched before the source continues, so that
environments step in Python while the device learns. Which parameters act depends on counts only, never on
timing: those of the last update whose results were fetched, one behind the one in flight.

Of several processes each has its part of the environments and of the replay, and draws its part of a batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.actors import Actor
from dreamer.agent import Agent, Gradients, Params, TrainState, acting_params
from dreamer.config import LoopConfig
from dreamer.loops import clocks
from dreamer.loops.clocks import Progress, updates_due
from dreamer.loops.learner import Learner
from dreamer.loops.loop import Arrays, LoopCheckpoint, ReplayFiles
from dreamer.loops.outputs import Diverged, LoopOutput, diverged
from dreamer.loops.source import Source
from dreamer.numbers import Numbers
from dreamer.placement import Sharding, acting_device
from dreamer.processes import ALONE, Processes
from dreamer.records import Batch, PackedLatent
from dreamer.replay.host import HostReplay
from dreamer.replay.layout import Layout
from envs.watchdog import waiting

RATIO = ("train_ratio", "batch_size", "batch_length")
"""Fields of `LoopConfig` that decide how many updates are due for a step."""


class InFlight(NamedTuple):
    """An update that was dispatched and not yet waited for."""

    acting: dict[str, Any]
    where: tuple[np.ndarray, np.ndarray]
    latent: PackedLatent
    metrics: jax.Array


class HostLoop:
    """Trains one agent on what a source collects.

    Args:
      agent, source, replay, numbers: what to train, what fills the replay, the replay, traced numbers.
      cfg: ratio, batch, prefill and limit of updates.
      state: the learner; None starts from fresh parameters.
      seed: root of every key: of acting, learning and sampling.
      actor: of the source, which gets the parameters that it needs.
      sharding: of learner and batch; None for one device.
      processes: of the run, over which `sharding` spans where they are several.
    """

    def __init__(
        self,
        agent: Agent,
        source: Source,
        replay: HostReplay,
        cfg: LoopConfig,
        numbers: Numbers,
        state: TrainState | None,
        progress: Progress,
        seed: int,
        *,
        actor: Actor[Any],
        sharding: Sharding | None = None,
        processes: Processes = ALONE,
    ):
        self.actor, self._sharding, self._processes = actor, sharding, processes
        self.agent, self.source, self.replay, self.cfg = agent, source, replay, cfg
        self.numbers, self.progress, self._seed = numbers, progress, seed
        if state is not None:
            self.state = self._put(state)
        _, self._learning_key, sampling = jax.random.split(jax.random.key(seed), 3)
        self._sampling_key = jax.device_put(sampling, acting_device())
        self._placed_numbers = numbers
        if sharding is not None and sharding.spans:
            self._learning_key = sharding.put(self._learning_key, sharding.whole)
            self._placed_numbers = sharding.put(numbers, sharding.whole)
        # Two programs, because the compiler keeps its intermediate results until a program is compiled.
        self._learner = Learner(agent, cfg, sharding)
        gradient, apply = self._shardings
        self._gradient = jax.jit(partial(_gradient, self._learner), **gradient)
        self._apply = jax.jit(self._apply_fn, donate_argnums=0, **apply)
        self._compiled: Future[None] | None = None
        self._in_flight: InFlight | None = None
        self._is_together = False
        self._gathered: tuple[int, Params] | None = None
        self._metric_names: list[str] = []

    @cached_property
    def state(self) -> TrainState:
        """The learner; fresh where none was given or restored."""
        sharding, key = self._sharding, jax.random.key(self._seed)
        placed = {} if sharding is None else {"out_shardings": sharding.of_learner(self._shapes)}
        if sharding is not None and sharding.spans:
            key = sharding.put(key, sharding.whole)
        return jax.jit(self.agent.init, **placed)(key)

    @cached_property
    def _shapes(self) -> TrainState:
        return jax.eval_shape(self.agent.init, jax.random.key(0))

    @property
    def _shardings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Where the arguments and results of both programs live, as options of `jax.jit`."""
        if (sharding := self._sharding) is None:
            return {}, {}
        state, batch = sharding.of_learner(self._shapes), sharding.batch
        whole: Any = sharding.whole
        gradients = Gradients(state.params, whole, whole)
        return (
            {"in_shardings": (state, batch, whole, whole), "out_shardings": (gradients, batch)},
            {"in_shardings": (state, gradients, whole), "out_shardings": (state, whole, whole)},
        )

    def _apply_fn(self, state: TrainState, gradients: Gradients, numbers: Numbers):
        state, metrics = self._learner.apply_gradients(state, gradients, numbers)
        self._metric_names = sorted(metrics)
        acting = acting_params(state.params, self.actor)
        return state, acting, jnp.stack([metrics[k] for k in self._metric_names])

    def outputs(self) -> Iterator[LoopOutput]:
        """Advance by one row of the source at a time; the caller stops asking.

        Once the source has ended every iteration is one update, up to the limit of updates if there is one.

        Raises:
          EnvError: from the source; all up to then is stored.
          ReplayError: the source ended before the replay held a batch.
          Diverged: a loss is not finite.
          Interrupted: a request to stop, while an update is compiled or environments are waited for.
        """
        # A copy, because the state itself is donated to the next update.
        acting = self._acting(acting_params(self.state.params, self.actor))
        self.source.set_params(jax.tree.map(jnp.copy, acting))
        for collected in self.source.rows(self.progress):
            if self._compiled is None and self._can_sample:
                self._compiled = self._compile()
            metrics = [m for _ in range(self._due()) for m in self._update()]
            yield LoopOutput(collected.episodes, metrics, collected.running_since)
        while self._left(1):
            clocks.begin(self.progress)
            yield LoopOutput([], self._update(), self.progress.env_steps)

    def checkpoint(self) -> LoopCheckpoint:
        """The learner, counters of replay and source, and the files of the replay."""
        meta = {"replay": self.replay.counters, **self.source.meta}
        return LoopCheckpoint(self.state, meta, self.replay.save)

    @property
    def template(self) -> TrainState:
        """The learner, in shapes and dtypes."""
        shapes, sharding = self._shapes, self._sharding
        return shapes if sharding is None else sharding.described(shapes, sharding.of_learner(shapes))

    def restore(self, arrays: Arrays, meta: Mapping[str, Any], files: ReplayFiles | None) -> None:
        """Continue from a checkpoint.

        Updates are counted from here on where the replay starts empty, or where the number of updates due for
        a step has changed.

        Raises:
          ReplayError: a file of the replay is damaged or belongs to another one.
        """
        assert isinstance(arrays, TrainState)
        self.state, self.progress = arrays, Progress(**meta["progress"])
        self.source.restore(meta)
        if files is not None:
            parts, us = files.parts or [files.names], self._processes
            self.replay.load_dealt(files.folder, parts, meta["replay"], us.index, us.count)
        before = [meta["config"]["loop"].get(name) for name in RATIO]
        if files is None or before != [getattr(self.cfg, name) for name in RATIO]:
            clocks.restart_count(self.progress)

    def set_params(self, params: Params) -> None:
        """Start from these parameters of some modules, with a fresh optimiser."""
        copied = jax.tree.map(jnp.copy, dict(params))  # what the state holds is donated to its update
        self.state = self._put(self.agent.start({**self._acting(self.state.params), **copied}))

    def _acting(self, params: Any) -> Any:
        """Parameters as this process can act with them or look at them: whole where it has only a part."""
        sharding = self._sharding
        return params if sharding is None or not sharding.spans else sharding.local(params)

    def _put(self, state: TrainState) -> TrainState:
        sharding = self._sharding
        return state if sharding is None else sharding.put(state, sharding.of_learner(state))

    def gather_params(self) -> Params:
        """The parameters whole in this process; called in all of several, and kept until the next update.

        What is split over processes can only be looked at after that.
        """
        if self._sharding is None or not self._sharding.spans:
            return self.state.params
        if self._gathered is None or self._gathered[0] != self.progress.updates:
            self._gathered = self.progress.updates, self._acting(self.state.params)
        return self._gathered[1]

    @property
    def layout(self) -> Layout:
        """Of the replay."""
        return self.replay.layout

    def check_finite(self) -> list[dict[str, float]]:
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

    def flush(self) -> list[dict[str, float]]:
        """Take in the update in flight: its posteriors go to the replay, its parameters act from now on."""
        metrics, done = self.check_finite(), self._in_flight
        if done is not None:
            self._in_flight = None
            self.source.set_params(self._acting(done.acting))
            latent = done.latent if self._sharding is None else self._sharding.own_rows(done.latent)
            self.replay.refresh(done.where, latent)
        return metrics

    def _compile(self) -> Future[None]:
        """Compile both halves of an update, while the source fills the replay.

        One after the other, because side by side they hold 1.4 GB instead of 1.0. What is compiled for these
        shapes is what JAX runs in later calls.
        """
        cfg, state, key = self.cfg, self.template, self._key_of_batch(0)
        batch, _ = self.replay.sample(key, self._share, cfg.batch_length, online=False)  # for its shapes
        if self._sharding is not None and self._sharding.spans:
            batch = jax.tree.map(lambda x: np.empty((cfg.batch_size, *x.shape[1:]), x.dtype), batch)
            batch = self._sharding.described(batch, jax.tree.map(lambda _: self._sharding.batch, batch))

        def compile_both() -> None:
            lowered = self._gradient.lower(state, batch, self._placed_numbers, self._learning_key)
            lowered.compile()
            gradients, _ = lowered.out_info
            self._apply.lower(state, gradients, self._placed_numbers).compile()

        return ThreadPoolExecutor(1).submit(compile_both)

    def _await_compiled(self) -> None:
        """Wait for both halves of an update; in a process alone a request to stop may end that.

        Raises:
          Interrupted: by `envs.watchdog.interrupt`; the loop is as it was before the update.
        """
        self._compiled = self._compiled or self._compile()
        with contextlib.nullcontext() if self._processes.are_several else waiting():
            self._compiled.result()

    def _key_of_batch(self, updates: int) -> jax.Array:
        """What this process draws its part of a batch with."""
        key, us = jax.random.fold_in(self._sampling_key, updates), self._processes
        return jax.random.fold_in(key, us.index) if us.are_several else key

    @property
    def _share(self) -> int:
        """Sequences that this process draws of a batch."""
        return self._processes.share(self.cfg.batch_size, "loop.batch_size")

    @property
    def _can_sample(self) -> bool:
        """Whether every replay holds its part of a batch; all count the same rows."""
        return self.replay.can_sample(self._share, self.cfg.batch_length) > 0

    def _due(self) -> int:
        """Updates that are due now."""
        cfg, progress = self.cfg, self.progress
        waiting = progress.counted_since == -1
        waiting |= progress.learning_since < 0 and progress.env_steps >= cfg.prefill
        if waiting and self._can_sample:
            clocks.begin(progress)
        return self._left(updates_due(progress, cfg.train_ratio, cfg.batch_size * cfg.batch_length))

    def _left(self, wanted: int) -> int:
        """As many of the wanted updates as the limit leaves."""
        limit = self.cfg.updates
        return min(wanted, max(limit - self.progress.updates, 0)) if limit else wanted

    def _update(self) -> list[dict[str, float]]:
        self._await_compiled()
        if not self._is_together:  # a first collective gives up where another process compiles for long
            self._processes.gather("compiled")
            self._is_together = True
        cfg = self.cfg
        key = self._key_of_batch(self.progress.updates)
        batch, where = self.replay.sample(key, self._share, cfg.batch_length)
        metrics = self.flush()
        if self._sharding is not None:
            batch = self._sharding.rows(batch)
        gradient, latent = self._gradient(self.state, batch, self._placed_numbers, self._learning_key)
        self.state, acting, values = self._apply(self.state, gradient, self._placed_numbers)
        self._in_flight = InFlight(acting, where, latent, values)
        self.progress.updates += 1
        return metrics


def _gradient(learner: Learner, state: TrainState, batch: Batch, numbers: Numbers, key: jax.Array):
    return learner.compute_gradients(state, batch, numbers, key=jax.random.fold_in(key, state.updates))
