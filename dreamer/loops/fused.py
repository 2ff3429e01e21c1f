"""The loop of the device: acting, replay and learning in one compiled program.

The program is a loop over rounds, and a round is n slots of all environments, then m updates:

    act -> step the worlds -> insert      n times
    sample -> train_step -> refresh       m times           m / n = train_ratio * E / (B * T)

Every key is derived from the seed and a counter of slots or updates, so what happens does not depend on how
many rounds one dispatch takes, nor on where a run was interrupted. A slot counts as E environment steps,
also where it only holds a reset observation: so agents that begin together stay in step.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dreamer.actors import Actor, expected_return
from dreamer.agent import Agent, Carry, Params, TrainState, acting_params
from dreamer.config import LoopConfig
from dreamer.loops import promises
from dreamer.loops.clocks import Progress
from dreamer.loops.learner import Learner
from dreamer.loops.loop import Arrays, LoopCheckpoint, ReplayFiles
from dreamer.loops.outputs import Diverged, EpisodeStats, LoopOutput, diverged, vital
from dreamer.numbers import Numbers
from dreamer.placement import SINGLE, Placement, Sharding
from dreamer.replay.device import DeviceReplay, Ring
from dreamer.replay.layout import Layout
from envs.api import LOG_PREFIX, Step, ended, is_recorded
from envs.wrappers import Batched

SLOTS = 256
"""Most slots of one dispatch: what episodes they end is kept on the device until it returns."""
SECONDS = 1.0
"""Wall-clock that a dispatch should take, so that progress, saves and signals wait no longer."""


class Acting(NamedTuple):
    """Everything of one agent's loop but the learner."""

    worlds: Any
    """State of its E environments."""
    step: Step
    """[E] their last step, not acted on yet."""
    carry: Carry[Any]
    """[E] memory of the agent."""
    ring: Ring
    """The replay."""
    returns: Array
    """[E] sum of the rewards of the episode so far."""
    lengths: Array
    """[E] its steps."""
    slots: Array
    """[] slots filled."""
    failed: Array
    """[] the first update that gave a loss that is not finite, from 1; 0 while there is none."""
    plans: promises.Kept = ()
    """[E] what the plans of the running episodes promised, and what came of it."""


class FusedState(NamedTuple):
    """Everything that a dispatch changes."""

    learner: TrainState
    acting: Acting


Row = tuple[Array, Array, Array, dict[str, Array], dict[str, Array]]
"""Of a slot: ended, returns, lengths, [E] each, the observations, and means over the plans."""


class ChunkLog(NamedTuple):
    """Log of a dispatch."""

    ended: Array
    """[slots, E] whether an episode ended there."""
    returns: Array
    """[slots, E]."""
    lengths: Array
    """[slots, E]."""
    obs: dict[str, Array]
    """{key: [slots, E, ...]} what the task says to people (`log/` observations)."""
    plans: dict[str, Array]
    """{name: [slots, E]} means over the plans of an episode; {} of an actor that expects nothing."""
    metrics: Array
    """[K] sums over the updates, in the order of their names."""
    updates: Array
    """[] number of those updates."""
    failure: Array
    """[K] the metrics of the first update that failed."""

    @classmethod
    def nothing(cls, slots: int, metrics: int, step: Step, kept: promises.Kept = ()) -> ChunkLog:
        """An empty log of so many slots and metrics, for environments with such steps ([E, ...])."""
        column = lambda x: jnp.zeros((slots, *x.shape), x.dtype)
        obs = {key: column(x) for key, x in step.obs.items() if is_recorded(key, x[0].size)}
        plans = {name: column(x) for name, x in promises.means(kept).items()}
        ended, returns, zeros = column(step.is_last), column(step.reward), jnp.zeros(metrics)
        lengths, count = returns.astype(jnp.int32), jnp.zeros((), jnp.int32)
        return cls(ended, returns, lengths, obs, plans, zeros, count, zeros)

    def after_slot(self, number: Array, row: Row) -> ChunkLog:
        """With one more slot."""
        write = lambda column, new: jax.lax.dynamic_update_index_in_dim(column, new, number, 0)
        ended, returns, lengths, obs, plans = row
        return self._replace(
            ended=write(self.ended, ended),
            returns=write(self.returns, returns),
            lengths=write(self.lengths, lengths),
            obs={key: write(self.obs[key], obs[key]) for key in self.obs},
            plans={name: write(self.plans[name], plans[name]) for name in self.plans},
        )

    def after_update(self, failed_before: Array, failed: Array, metrics: Array) -> ChunkLog:
        """With one more update: counted if it is good, kept apart if it is the first that is not."""
        return self._replace(
            metrics=jnp.where(failed == 0, self.metrics + metrics, self.metrics),
            updates=self.updates + (failed == 0),
            failure=jnp.where(failed != failed_before, metrics, self.failure),
        )


class Round(NamedTuple):
    """The ratio of acting to learning in whole numbers."""

    slots: int
    updates: int

    @classmethod
    def of(cls, cfg: LoopConfig) -> Round:
        """The shortest round with `train_ratio` replayed steps for every step, to a part in `SLOTS`."""
        per_slot = Fraction(cfg.train_ratio) * cfg.num_envs / (cfg.batch_size * cfg.batch_length)
        if per_slot < Fraction(1, SLOTS):
            return cls(round(1 / per_slot), 1)
        ratio = per_slot.limit_denominator(SLOTS)
        return cls(ratio.denominator, ratio.numerator)


class Fused:
    """The pure functions of the loop for one agent; the object only holds shapes.

    Args:
      agent, env, replay: the agent, its environments and its replay.
      cfg: ratio, batch and prefill.
      sharding: of environments, replay, batches and learner, if several devices share them.
      actor: chooses the actions.
    """

    def __init__(
        self,
        agent: Agent,
        env: Batched,
        replay: DeviceReplay,
        cfg: LoopConfig,
        sharding: Sharding | None = None,
        *,
        actor: Actor[Any],
    ):
        self.agent, self.env, self.replay, self.cfg = agent, env, replay, cfg
        self.actor = actor
        self.round = Round.of(cfg)
        self.sharding = sharding
        # Traced once, however often it appears in the program.
        self._train = jax.jit(Learner(agent, cfg, sharding).train_step)
        self.metric_names: list[str] = []
        """In the order of `ChunkLog.metrics`; known from the first call of `rounds` on."""

    def _placed(self, state: FusedState) -> FusedState:
        """The state, its environments over all devices and its learner as the mesh says."""
        if self.sharding is None:
            return state
        acting = self.sharding.split(state.acting, self.env.num_envs)
        return FusedState(self.sharding.learner(state.learner), acting)

    @property
    def template(self) -> FusedState:
        """The state in shapes and dtypes, and where its arrays live if several devices share them."""
        state, sharding = jax.eval_shape(self.init, jnp.int32(0)), self.sharding
        if sharding is None:
            return state
        acting = sharding.of_leading(state.acting, self.env.num_envs)
        return sharding.described(state, FusedState(sharding.of_learner(state.learner), acting))

    def init(self, seed: Array) -> FusedState:
        """A fresh agent in fresh worlds."""
        key = jax.random.key(seed)
        E = self.env.num_envs
        worlds, step = self.env.reset(key=jax.random.fold_in(_keys(seed).worlds, 0))
        nothing = jnp.zeros((), jnp.int32)
        carry = self.agent.init_carry(E, self.actor)
        acting = Acting(
            worlds=worlds,
            step=step,
            carry=carry,
            ring=self.replay.init(),
            returns=jnp.zeros(E),
            lengths=jnp.zeros(E, jnp.int32),
            slots=nothing,
            failed=nothing,
            plans=promises.start(carry.memory),
        )
        return self._placed(FusedState(self.agent.init(key), acting))

    def _kept(self, ring: Ring) -> Ring:
        """The ring, of which every device keeps its environments also within a round of a mesh."""
        if self.sharding is None or not self.sharding.keeps_rows:
            return ring
        return self.sharding.split(ring, self.env.num_envs)

    def _acting_params(self, params: Params) -> Params | None:
        """What acts, gathered once for all slots of a round, where parameters are split."""
        if self.sharding is None or not self.sharding.gathers:
            return None
        return self.sharding.gathered(acting_params(params, self.actor))

    def start(self, params: Params, state: FusedState) -> FusedState:
        """The same worlds, and a learner that starts from these parameters of some modules."""
        return self._placed(state._replace(learner=self.agent.start({**state.learner.params, **params})))

    def slot(
        self, state: FusedState, numbers: Numbers, seed: Array, params: Params | None = None
    ) -> tuple[FusedState, Row]:
        """Act in every environment and record the step; also returns which episodes ended.

        Args:
          params: what acts, where it was gathered before; None for the parameters of the learner.
        """
        acting, keys = state.acting, _keys(seed)
        seen = {k: v for k, v in acting.step.obs.items() if not k.startswith(LOG_PREFIX)}
        action, carry = self.agent.act(
            state.learner.params if params is None else params,
            acting.carry,
            acting.step._replace(obs=seen),
            numbers,
            key=jax.random.fold_in(keys.acting, acting.slots),
            actor=self.actor,
        )
        ring = self.replay.add(self._kept(acting.ring), acting.step, action, self.agent.pack(carry.latent))
        slots = acting.slots + 1
        key = jax.random.fold_in(keys.worlds, slots)
        worlds, step = self.env.step(acting.worlds, action, key=key)
        returns = jnp.where(step.is_first, 0.0, acting.returns) + step.reward
        lengths = jnp.where(step.is_first, 0, acting.lengths + 1)
        expected = expected_return(carry.memory)
        kept = promises.follow(acting.plans, expected, step, numbers.behavior.horizon)
        acting = Acting(worlds, step, carry, ring, returns, lengths, slots, acting.failed, kept)
        row = step.is_last, returns, lengths, step.obs, promises.means(kept)
        return state._replace(acting=acting), row

    def update(self, state: FusedState, numbers: Numbers, seed: Array) -> tuple[FusedState, dict[str, Array]]:
        """One update from the ring; an agent whose numbers are no longer finite stays as it was."""
        (learner, acting), keys = state, _keys(seed)
        key = jax.random.fold_in(keys.sampling, learner.updates)
        ring, batch, where = self.replay.sample(
            self._kept(acting.ring), self.cfg.batch_size, self.cfg.batch_length, key=key
        )
        if self.sharding is not None:
            batch = self.sharding.split(batch, self.cfg.batch_size)
        key = jax.random.fold_in(keys.learning, learner.updates)
        new, latent, metrics = self._train(learner, batch, numbers, key=key)
        finite = jnp.isfinite(jnp.stack([metrics[name] for name in vital(metrics)])).all()
        failed = jnp.where((acting.failed == 0) & ~finite, new.updates, acting.failed)
        learner = jax.tree.map(lambda new, old: jnp.where(failed == 0, new, old), new, learner)
        ring = self._kept(self.replay.refresh(ring, where, latent))
        return FusedState(learner, acting._replace(ring=ring, failed=failed)), metrics

    def rounds(
        self, state: FusedState, numbers: Numbers, seed: Array, count: Array, *, learn: bool
    ) -> tuple[FusedState, ChunkLog]:
        """`count` rounds, or (not `learn`) that many slots without updates."""
        slots, updates = self.round if learn else (1, 0)
        update = partial(self.update, numbers=numbers, seed=seed)
        # As many as `slots`, but XLA must not know: it would take a single slot out of its loop, fuse what it
        # writes with the sampling, and for that copy the ring as it was before.
        turns = jnp.where(count > 0, slots, 0)

        def act_once(
            params: Params | None, number: Array, carry: tuple[FusedState, ChunkLog]
        ) -> tuple[FusedState, ChunkLog]:
            state, log = carry
            state, row = self.slot(state, numbers, seed, params)
            return state, log.after_slot(number, row)

        def learn_once(carry: tuple[FusedState, ChunkLog], _: None):
            state, log = carry
            new, metrics = update(state)
            values = jnp.stack([metrics[name] for name in self.metric_names])
            return (new, log.after_update(state.acting.failed, new.acting.failed, values)), None

        def one_round(i: Array, carry: tuple[FusedState, ChunkLog]) -> tuple[FusedState, ChunkLog]:
            act = partial(act_once, self._acting_params(carry[0].learner.params))
            carry = jax.lax.fori_loop(i * slots, i * slots + turns, act, carry)
            state, log = jax.lax.scan(learn_once, carry, length=updates)[0]
            return self._placed(state), log

        most = max(SLOTS // slots, 1) * slots
        self.metric_names = sorted(jax.eval_shape(update, state)[1])
        acting = state.acting
        nothing = ChunkLog.nothing(most, len(self.metric_names), acting.step, acting.plans)
        return jax.lax.fori_loop(0, count, one_round, (state, nothing))


class _Keys(NamedTuple):
    acting: Array
    learning: Array
    sampling: Array
    worlds: Array


def _keys(seed: Array) -> _Keys:
    keys = jax.random.split(jax.random.key(seed), 4)
    return _Keys(*(keys[i] for i in range(4)))


class Functions(NamedTuple):
    """The compiled functions of the loop, for one agent or for several that are stacked along axis 0."""

    init: Callable[..., Any]
    """(None, seeds) -> states."""
    collect: Callable[..., Any]
    """(count, states, numbers, seeds) -> states, logs of `count` slots without updates."""
    learn: Callable[..., Any]
    """(count, states, numbers, seeds) -> states, logs of `count` rounds."""


class CompiledLoop:
    """The functions of a `Fused`, compiled at their first call; loops that share them compile once."""

    def __init__(self, fused: Fused):
        self.fused = fused
        self._placed: dict[Placement, Functions] = {}
        self.init, self.collect, self.learn = self.placed(SINGLE)

    def placed(self, placement: Placement) -> Functions:
        """Those for as many agents as one call takes."""
        if placement not in self._placed:
            fused, compiled = self.fused, placement.compile
            self._placed[placement] = Functions(
                compiled(lambda _, seed: fused.init(seed)),
                *(compiled(partial(_rounds, fused, learn), donate_argnums=1) for learn in (False, True)),
            )
        return self._placed[placement]


class Dispatch(NamedTuple):
    """What to run next: `count` rounds of the loop, or (not `learn`) slots without updates."""

    learn: bool
    count: int


class Kept(Protocol):
    """Where the state of an agent is."""

    def read(self, part: Callable[[FusedState], Any]) -> Any:
        """What `part` takes of it."""
        ...


class Own(NamedTuple):
    """The state of an agent that shares no arrays with others."""

    state: FusedState

    def read(self, part: Callable[[FusedState], Any]) -> Any:
        return part(self.state)


class FusedLoop:
    """Dispatches rounds of one agent and yields their outputs.

    Args:
      compiled: the functions.
      numbers: their traced numbers.
      steps: environment steps after which `outputs` ends.
      state: to continue from; None starts fresh.
      pause_every: environment steps; a dispatch ends with the first round after each multiple (0: none), so
        that what happens there does not depend on how long dispatches are.
    """

    def __init__(
        self,
        compiled: CompiledLoop,
        numbers: Numbers,
        seed: int,
        steps: int,
        progress: Progress,
        state: FusedState | None = None,
        pause_every: int = 0,
    ):
        self.compiled, self.numbers, self.progress = compiled, numbers, progress
        self.fused = compiled.fused
        self._steps, self._pause_every = steps, pause_every
        self._set_limits()
        slots = self.fused.round.slots
        self._most = {False: SLOTS, True: max(SLOTS // slots, 1)}
        self._next = {False: SLOTS // 8, True: 1}
        self._compiling = {False, True}
        self.failure = ""
        """Why it stopped learning; empty while it learns."""
        self._seed = jnp.asarray(seed, jnp.int32)
        if state is not None:
            self.kept = Own(state)

    def _set_limits(self) -> None:
        """Slots before learning, and of the whole run, from where it is now."""
        cfg, E, progress = self.fused.cfg, self.fused.env.num_envs, self.progress
        slots, updates = self.fused.round
        possible = cfg.batch_length + 1 + -(-cfg.batch_size // E)
        begun = progress.learning_since // E if progress.learning_since >= 0 else -(-cfg.prefill // E)
        self.prefill = max(begun, possible)  # unchanged for a run that already learns
        rounds = -(-max(-(-self._steps // E) - self.prefill, 0) // slots)
        self.total = self.prefill + rounds * slots
        if cfg.updates:
            rounds = -(-max(cfg.updates - progress.updates, 0) // updates)
            self.total = min(self.total, max(progress.slots, self.prefill) + rounds * slots)

    @cached_property
    def kept(self) -> Kept:
        """Where its state is, in arrays of its own or in some that it shares; fresh where none was given."""
        return Own(self.compiled.init(None, self._seed))

    @property
    def arguments(self) -> tuple[Numbers, Array]:
        """What a dispatch reads and does not change."""
        return self.numbers, self._seed

    @property
    def full(self) -> FusedState:
        """Everything that a dispatch changes."""
        return self.kept.read(lambda state: state)

    @property
    def state(self) -> TrainState:
        """The learner."""
        return self.kept.read(lambda state: state.learner)

    def gather_params(self) -> Params:
        """The parameters; this process has all of them."""
        return self.state.params

    def checkpoint(self) -> LoopCheckpoint:
        """The learner as in any run, the rest of the loop beside it, and how large the ring is."""
        return LoopCheckpoint(stored(self.full), self.meta, None)

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint says beside the arrays: how large the ring is."""
        return {"capacity": self.layout.capacity_per_env * self.layout.num_envs}

    @property
    def template(self) -> Arrays:
        """The arrays of a checkpoint, in shapes and dtypes."""
        return stored(self.fused.template)

    def restore(self, arrays: Arrays, meta: Mapping[str, Any], files: ReplayFiles | None = None) -> None:
        """Continue from a checkpoint, which holds the replay too."""
        self.progress, self.kept = Progress(**meta["progress"]), Own(unstored(arrays))
        self._set_limits()

    def set_params(self, params: Params) -> None:
        """Start from these parameters of some modules, with a fresh optimiser."""
        self.kept = Own(jax.jit(self.fused.start, donate_argnums=1)(params, self.full))

    def fork_from(self, leader: FusedLoop, numbers: Numbers) -> None:
        """Continue from a copy of another loop of the same programs, with its own seed and other numbers."""
        self.numbers, self.kept = numbers, Own(jax.tree.map(jnp.copy, leader.full))
        for name in ("env_steps", "updates", "slots", "learning_since"):  # in place: others look at it
            setattr(self.progress, name, getattr(leader.progress, name))

    def plan(self) -> Dispatch:
        """The next dispatch, of about `SECONDS`."""
        learn = self.progress.slots >= self.prefill
        left = (self.total if learn else self.prefill) - self.progress.slots
        if every := self._pause_every:
            steps = every - self.progress.env_steps % every
            left = min(left, -(-steps // self.fused.env.num_envs))
        return Dispatch(learn, min(self._next[learn], self._most[learn], -(-left // self._size(learn))))

    def _size(self, learn: bool) -> int:
        """Slots of one round."""
        return self.fused.round.slots if learn else 1

    def advance(self) -> LoopOutput:
        """Run one dispatch and return its output."""
        dispatch, began = self.plan(), time.perf_counter()
        stood, happened = jax.device_get(self.send(dispatch))
        return self.collect(dispatch, stood, happened, time.perf_counter() - began)

    def send(self, dispatch: Dispatch) -> tuple[Stood, ChunkLog]:
        """Start a dispatch; returns what `collect` needs once it is over."""
        program = self.compiled.learn if dispatch.learn else self.compiled.collect
        state, happened = program(np.int32(dispatch.count), self.full, *self.arguments)
        self.kept = Own(state)
        return stand(state), happened

    def collect(self, dispatch: Dispatch, stood: Stood, log: ChunkLog, seconds: float) -> LoopOutput:
        """Take in a dispatch that is over and return its output.

        Args:
          stood: status of the loop after it.
          seconds: that it took.
        """
        learn, count = dispatch
        if learn in self._compiling:  # the time of the first dispatch says nothing about the next
            self._compiling.remove(learn)
        else:
            self._next[learn] = round(np.clip(count * SECONDS / max(seconds, 1e-3), 1, 2 * count))
        before, progress = dataclasses.replace(self.progress), self.progress
        progress.slots = int(stood.slots)
        progress.env_steps = progress.slots * self.fused.env.num_envs
        if learn:
            progress.learning_since = self.prefill * self.fused.env.num_envs
            progress.updates += count * self.fused.round.updates
        if stood.failed and not self.failure:
            metrics = zip(self.fused.metric_names, log.failure.tolist(), strict=True)
            self.failure = diverged(int(stood.failed), dict(metrics))
        running = int(np.where(stood.over, 0, stood.lengths).max())
        return self._output(log, before, dispatch, progress.slots - running)

    def _output(self, log: ChunkLog, before: Progress, dispatch: Dispatch, running_since: int) -> LoopOutput:
        """Output of a dispatch that began at the progress `before`."""
        E, round_ = self.fused.env.num_envs, self.fused.round
        slots = dispatch.count * self._size(dispatch.learn)
        episodes = [
            EpisodeStats(
                (before.slots + int(t) + 1) * E,
                before.updates + dispatch.learn * int(t) // round_.slots * round_.updates,
                (before.slots + int(t) + 1 - int(log.lengths[t, e])) * E,
                float(log.returns[t, e]),
                int(log.lengths[t, e]),
                *ended({key: rows[t] for key, rows in log.obs.items()}, e),
                promises.of({name: rows[t] for name, rows in log.plans.items()}, e),
            )
            for t, e in np.argwhere(log.ended[:slots])
        ]
        updates = int(log.updates)
        means = (log.metrics / max(updates, 1)).tolist()
        metrics = [dict(zip(self.fused.metric_names, means, strict=True))] if updates else []
        return LoopOutput(episodes, metrics, running_since * E)

    @property
    def layout(self) -> Layout:
        """Of the replay."""
        return self.fused.replay.layout

    def check_finite(self) -> list[dict[str, float]]:
        """Nothing is in flight between two dispatches, and every one was looked at."""
        return []

    def flush(self) -> list[dict[str, float]]:
        """Nothing is left to take in."""
        return []

    def outputs(self) -> Iterator[LoopOutput]:
        """Advance until the steps are done.

        Raises:
          Diverged: a loss is not finite.
        """
        while not self.done:
            output = self.advance()
            if self.failure:
                raise Diverged(self.failure)
            yield output

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.progress.slots >= self.total


def stored(state: FusedState) -> dict[str, Any]:
    """The state as a checkpoint stores it: the learner as in any run, and the rest of the loop beside it."""
    return {**state.learner._asdict(), "loop": state.acting}


def unstored(arrays: Arrays) -> FusedState:
    """The state from the arrays of a checkpoint."""
    assert isinstance(arrays, Mapping)
    return FusedState(TrainState(**{name: arrays[name] for name in TrainState._fields}), arrays["loop"])


class Stood(NamedTuple):
    """Status of a loop after a dispatch."""

    slots: Array
    """[]."""
    failed: Array
    """[] the update that failed, 0 if none did."""
    lengths: Array
    """[E] steps of the running episodes."""
    over: Array
    """[E] whether they ended."""


def stand(state: FusedState) -> Stood:
    """The small part of the state that the host looks at after every dispatch."""
    acting = state.acting
    return Stood(acting.slots, acting.failed, acting.lengths, acting.step.is_last)


def _rounds(fused: Fused, learn: bool, count: Array, state: FusedState, numbers: Numbers, seed: Array):
    return fused.rounds(state, numbers, seed, count, learn=learn)
