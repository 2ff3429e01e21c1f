"""The loop of the device: acting, replay and learning in one compiled program, for one agent or a population.

The program is a loop over rounds, and a round is n slots of all environments, then m updates:

    act -> step the worlds -> insert      n times
    sample -> train_step -> refresh       m times           m / n = train_ratio * E / (B * T)

Every key is derived from the seed and a counter of slots or updates, so what happens does not depend on how
many rounds one dispatch takes, nor on where a run was interrupted. A slot counts as E environment steps,
also where it only holds a reset observation: so all members of a population stay in step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent, Carry, TrainState
from dreamer.config import LoopConfig
from dreamer.hyper import Hyper
from dreamer.loops.clocks import Progress
from dreamer.loops.population import Alone, Data, Spread
from dreamer.loops.turn import Diverged, Finished, Turn, diverged, vital
from dreamer.replay.device import DeviceReplay, Ring
from dreamer.replay.layout import Layout
from envs.api import LOG_PREFIX, Step
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
    """[E] what they said last, not acted on yet."""
    carry: Carry[tuple[()]]
    """[E] what the agent remembers."""
    ring: Ring
    """What was recorded."""
    returns: Array
    """[E] sum of the rewards of the episode so far."""
    lengths: Array
    """[E] its steps."""
    slots: Array
    """[] slots filled."""
    failed: Array
    """[] the first update that gave a loss that is not finite, from 1; 0 while there is none."""


class FusedState(NamedTuple):
    """All that a dispatch changes."""

    learner: TrainState
    acting: Acting


class Happened(NamedTuple):
    """What a dispatch has to tell."""

    ended: Array
    """[slots, E] whether an episode ended there."""
    returns: Array
    """[slots, E]."""
    lengths: Array
    """[slots, E]."""
    success: Array
    """[slots, E] NaN where the task does not say."""
    metrics: Array
    """[K] sums over the updates, in the order of their names."""
    updates: Array
    """[] how many those were."""
    failure: Array
    """[K] the metrics of the first update that failed."""

    @classmethod
    def nothing(cls, shape: tuple[int, int], metrics: int) -> Happened:
        """Room for [slots, E] and for so many metrics."""
        zeros, numbers, count = jnp.zeros(metrics), jnp.zeros(shape), jnp.zeros((), jnp.int32)
        return cls(jnp.zeros(shape, bool), numbers, jnp.zeros(shape, jnp.int32), numbers, zeros, count, zeros)

    def after_slot(self, number: Array, row: tuple[Array, Array, Array, Array]) -> Happened:
        """With one more slot: ended, returns, lengths, success, [E] each."""
        write = lambda column, new: jax.lax.dynamic_update_index_in_dim(column, new, number, 0)
        ended, returns, lengths, success = row
        return self._replace(
            ended=write(self.ended, ended),
            returns=write(self.returns, returns),
            lengths=write(self.lengths, lengths),
            success=write(self.success, success),
        )

    def after_update(self, failed_before: Array, failed: Array, metrics: Array) -> Happened:
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
      agent, env, replay: who acts and learns, where, from what.
      cfg: ratio, batch and prefill.
      data: devices that share environments and batches, if several do.
    """

    def __init__(
        self, agent: Agent, env: Batched, replay: DeviceReplay, cfg: LoopConfig, data: Data | None = None
    ):
        self.agent, self.env, self.replay, self.cfg = agent, env, replay, cfg
        self.round = Round.of(cfg)
        self._data = data
        self._train = jax.jit(agent.train_step)  # traced once, however often it appears in the program
        self.metric_names: list[str] = []
        """In the order of `Happened.metrics`; known from the first call of `rounds` on."""

    def _placed(self, state: FusedState) -> FusedState:
        """The state, its environments over the devices of the data."""
        if self._data is None:
            return state
        acting = self._data.split(state.acting, self.env.num_envs)
        return FusedState(self._data.everywhere(state.learner), acting)

    def init(self, seed: Array) -> FusedState:
        """A fresh agent in fresh worlds."""
        key = jax.random.key(seed)
        E = self.env.num_envs
        worlds, step = self.env.reset(key=jax.random.fold_in(_keys(seed).worlds, 0))
        nothing = jnp.zeros((), jnp.int32)
        acting = Acting(
            worlds=worlds,
            step=step,
            carry=self.agent.init_carry(E, SAMPLED),
            ring=self.replay.init(),
            returns=jnp.zeros(E),
            lengths=jnp.zeros(E, jnp.int32),
            slots=nothing,
            failed=nothing,
        )
        return self._placed(FusedState(self.agent.init(key), acting))

    def slot(
        self, state: FusedState, hyper: Hyper, seed: Array
    ) -> tuple[FusedState, tuple[Array, Array, Array, Array]]:
        """Act in every environment and record it; tells which episodes ended."""
        acting, keys = state.acting, _keys(seed)
        seen = {k: v for k, v in acting.step.obs.items() if not k.startswith(LOG_PREFIX)}
        action, carry = self.agent.act(
            state.learner.params,
            acting.carry,
            acting.step._replace(obs=seen),
            hyper,
            key=jax.random.fold_in(keys.acting, acting.slots),
            actor=SAMPLED,
        )
        ring = self.replay.add(acting.ring, acting.step, action, carry.latent.pack())
        slots = acting.slots + 1
        key = jax.random.fold_in(keys.worlds, slots)
        worlds, step = self.env.step(acting.worlds, action, key=key)
        returns = jnp.where(step.is_first, 0.0, acting.returns) + step.reward
        lengths = jnp.where(step.is_first, 0, acting.lengths + 1)
        success = step.obs.get(LOG_PREFIX + "success", jnp.full(returns.shape, jnp.nan))
        acting = Acting(worlds, step, carry, ring, returns, lengths, slots, acting.failed)
        return state._replace(acting=acting), (step.is_last, returns, lengths, success)

    def update(self, state: FusedState, hyper: Hyper, seed: Array) -> tuple[FusedState, dict[str, Array]]:
        """One update from the ring; an agent whose numbers are no longer finite stays as it was."""
        (learner, acting), keys = state, _keys(seed)
        key = jax.random.fold_in(keys.sampling, learner.updates)
        ring, batch, where = self.replay.sample(
            acting.ring, self.cfg.batch_size, self.cfg.batch_length, key=key
        )
        if self._data is not None:
            batch = self._data.split(batch, self.cfg.batch_size)
        key = jax.random.fold_in(keys.learning, learner.updates)
        new, latent, metrics = self._train(learner, batch, hyper, key=key)
        finite = jnp.isfinite(jnp.stack([metrics[name] for name in vital(metrics)])).all()
        failed = jnp.where((acting.failed == 0) & ~finite, new.updates, acting.failed)
        learner = jax.tree.map(lambda new, old: jnp.where(failed == 0, new, old), new, learner)
        ring = self.replay.refresh(ring, where, latent)
        return FusedState(learner, acting._replace(ring=ring, failed=failed)), metrics

    def rounds(
        self, state: FusedState, hyper: Hyper, seed: Array, count: Array, *, learn: bool
    ) -> tuple[FusedState, Happened]:
        """`count` rounds, or (not `learn`) so many slots without updates."""
        slots, updates = self.round if learn else (1, 0)
        update = partial(self.update, hyper=hyper, seed=seed)
        # As many as `slots`, but XLA must not know: it would take a single slot out of its loop, fuse what it
        # writes with the sampling, and for that copy the ring as it was before.
        turns = jnp.where(count > 0, slots, 0)

        def act_once(number: Array, carry: tuple[FusedState, Happened]) -> tuple[FusedState, Happened]:
            state, told = carry
            state, row = self.slot(state, hyper, seed)
            return state, told.after_slot(number, row)

        def learn_once(carry: tuple[FusedState, Happened], _: None):
            state, told = carry
            new, metrics = update(state)
            values = jnp.stack([metrics[name] for name in self.metric_names])
            return (new, told.after_update(state.acting.failed, new.acting.failed, values)), None

        def one_round(i: Array, carry: tuple[FusedState, Happened]) -> tuple[FusedState, Happened]:
            carry = jax.lax.fori_loop(i * slots, i * slots + turns, act_once, carry)
            state, told = jax.lax.scan(learn_once, carry, length=updates)[0]
            return self._placed(state), told

        most = max(SLOTS // slots, 1) * slots
        self.metric_names = sorted(jax.eval_shape(update, state)[1])
        nothing = Happened.nothing((most, self.env.num_envs), len(self.metric_names))
        return jax.lax.fori_loop(0, count, one_round, (state, nothing))


class _Keys(NamedTuple):
    acting: Array
    learning: Array
    sampling: Array
    worlds: Array


def _keys(seed: Array) -> _Keys:
    keys = jax.random.split(jax.random.key(seed), 4)
    return _Keys(*(keys[i] for i in range(4)))


class Programs:
    """The functions of a `Fused`, compiled at their first call; loops that share them compile once.

    Args:
      spread: how to run a function for all members; given for a population.
      jit: what compiles.
    """

    def __init__(self, fused: Fused, spread: Spread | None = None, jit: Callable[..., Any] = jax.jit):
        self.fused, self.spread = fused, spread or Alone()
        self.init = self.spread.run(lambda _, seed: fused.init(seed), jit)
        self.collect, self.learn = (
            self.spread.run(partial(_rounds, fused, learn), jit, donate_argnums=1) for learn in (False, True)
        )
        self.abreast = jit(partial(_abreast, fused), donate_argnums=1)


class Dispatch(NamedTuple):
    """What to run next: so many rounds of the loop, or (not `learn`) slots without updates."""

    learn: bool
    count: int


class FusedLoop:
    """Dispatches rounds and hands out what happened.

    Args:
      programs: the functions.
      hyper: their numbers; for a population [M] each.
      seeds: of every member; one number for a single agent.
      steps: environment steps after which `turns` ends.
      state: where to go on; None begins.
      pause_every: environment steps; a dispatch ends with the first round after each multiple (0: none), so
        that what happens there does not depend on how long dispatches are.
    """

    def __init__(
        self,
        programs: Programs,
        hyper: Hyper,
        seeds: int | np.ndarray,
        steps: int,
        progress: Progress,
        state: FusedState | None = None,
        pause_every: int = 0,
    ):
        self._pause_every, self._resting = pause_every, frozenset[int]()
        self.programs, self.hyper, self.progress = programs, hyper, progress
        self.fused = fused = programs.fused
        self._spread = spread = programs.spread
        cfg, E = fused.cfg, fused.env.num_envs
        slots, _ = fused.round
        possible = cfg.batch_length + 1 + -(-cfg.batch_size // E)
        begun = progress.learning_since // E if progress.learning_since >= 0 else -(-cfg.prefill // E)
        self.prefill = max(begun, possible)  # of a run that learns already it stays what it was
        self.total = self.prefill + -(-max(-(-steps // E) - self.prefill, 0) // slots) * slots
        self._most = {False: SLOTS, True: max(SLOTS // slots, 1)}
        self._next = {False: SLOTS // 8, True: 1}
        self._compiling = {False, True}
        self.failures: dict[int, str] = {}
        self.numbers = spread.split(hyper), spread.split(jnp.asarray(seeds, jnp.int32))
        self.now = programs.init(None, self.numbers[1]) if state is None else spread.split(state)

    @property
    def full(self) -> FusedState:
        """Everything, of all members; where those take turns it is a copy."""
        return self._spread.gather(self.now)

    @property
    def state(self) -> TrainState:
        """The learner, of all members."""
        return self._spread.gather(self.now, lambda own: own.learner)

    @property
    def arrays(self) -> dict[str, Any]:
        """What a checkpoint holds: the learner as in any run, and the rest of the loop beside it."""
        full = self.full
        return {**full.learner._asdict(), "loop": full.acting}

    def become(self, leader: FusedLoop, hyper: Hyper) -> None:
        """Go on from a copy of another loop of the same programs, with the own seed and other numbers."""
        self.hyper = hyper
        self.numbers = self._spread.split(hyper), self.numbers[1]
        self.now = jax.tree.map(jnp.copy, leader.now)
        for name in ("env_steps", "updates", "slots", "learning_since"):  # in place: others look at it
            setattr(self.progress, name, getattr(leader.progress, name))

    def rest(self, members: Iterable[int]) -> None:
        """Have members of a population learn no more: where they still take part, it is at a rate of 0."""
        self._resting = frozenset(members)
        rate = np.array(self.hyper.lr)
        rate[list(self._resting)] = 0.0
        self.numbers = self._spread.split(self.hyper._replace(lr=jnp.asarray(rate))), self.numbers[1]

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

    def advance(self) -> list[Turn]:
        """One dispatch; what happened to every member."""
        dispatch, began = self.plan(), time.perf_counter()
        program = self.programs.learn if dispatch.learn else self.programs.collect
        counts = self._spread.counts(dispatch.count, self._resting)
        now, happened = program(counts, self.now, *self.numbers)
        return self.took(dispatch, now, happened, began)

    def took(self, dispatch: Dispatch, now: Any, happened: Any, began: float) -> list[Turn]:
        """Take in a dispatch that may still be running; what happened to every member.

        Args:
          now: the state after it.
          happened: what it had to tell.
          began: when it was sent, by the performance counter.
        """
        (learn, count), self.now = dispatch, now
        told = self._spread.rows(happened)
        slots, failed, lengths, over = jax.device_get(self._spread.gather(self.now, _stand))
        slots, failed = np.atleast_1d(slots, failed)
        seconds = max(time.perf_counter() - began, 1e-3)
        if learn in self._compiling:  # the time of the first dispatch says nothing about the next
            self._compiling.remove(learn)
        else:
            self._next[learn] = round(np.clip(count * SECONDS / seconds, 1, 2 * count))
        before, progress = self.progress.slots, self.progress
        progress.slots = int(max(slots))  # members that rest may stay behind
        progress.env_steps = progress.slots * self.fused.env.num_envs
        if learn:
            progress.learning_since = self.prefill * self.fused.env.num_envs
            progress.updates += count * self.fused.round.updates
        new = {i: n for i, n in enumerate(failed) if n and i not in self.failures}
        self.failures |= {i: self._failure(told.failure[i], int(n)) for i, n in new.items()}
        running = np.where(np.atleast_2d(over), 0, np.atleast_2d(lengths)).max(1)
        began, done = progress.slots - running, count * self._size(learn)
        return [self._turn(told, i, before, done, int(since)) for i, since in enumerate(began)]

    def _turn(self, told: Happened, member: int, before: int, slots: int, running_since: int) -> Turn:
        """What happened to a member in so many slots after the first `before`."""
        E = self.fused.env.num_envs
        episodes = [
            Finished(
                env_steps=(before + int(t) + 1) * E,
                began=(before + int(t) + 1 - int(told.lengths[member, t, e])) * E,
                return_=float(told.returns[member, t, e]),
                length=int(told.lengths[member, t, e]),
                success=None
                if np.isnan(told.success[member, t, e])
                else bool(told.success[member, t, e] > 0),
            )
            for t, e in np.argwhere(told.ended[member, :slots])
        ]
        updates = int(told.updates[member])
        means = (told.metrics[member] / max(updates, 1)).tolist()
        metrics = [dict(zip(self.fused.metric_names, means, strict=True))] if updates else []
        return Turn(episodes, metrics, running_since * E)

    def _failure(self, metrics: np.ndarray, update: int) -> str:
        return diverged(update, dict(zip(self.fused.metric_names, metrics.tolist(), strict=True)))

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint says beside the arrays: how large the ring is."""
        return {"capacity": self.layout.capacity_per_env * self.layout.num_envs}

    @property
    def layout(self) -> Layout:
        """Of the replay of one member."""
        return self.fused.replay.layout

    files = None
    """It needs no files of its own."""

    def verify(self) -> None:
        """Nothing is in flight between two dispatches, and every one was looked at."""

    def settle(self) -> list[dict[str, float]]:
        """Nothing is left to take in."""
        return []

    def turns(self) -> Iterator[Turn]:
        """Advance a single agent until its steps are done.

        Raises:
          Diverged: a loss is not finite.
        """
        while self.progress.slots < self.total:
            turn = self.advance()[0]
            if self.failures:
                raise Diverged(self.failures[0])
            yield turn

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.progress.slots >= self.total


def _stand(state: FusedState) -> tuple[Array, ...]:
    """Slots, the update that failed, and of every running episode its steps and whether it ended."""
    acting = state.acting
    return acting.slots, acting.failed, acting.lengths, acting.step.is_last


def _rounds(fused: Fused, learn: bool, count: Array, state: FusedState, hyper: Hyper, seed: Array):
    return fused.rounds(state, hyper, seed, count, learn=learn)


def _abreast(fused: Fused, count: Array, states: list[FusedState], numbers: list[tuple[Hyper, Array]]):
    """Learning rounds of agents that each have arrays of their own, as one batch."""
    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
    own = lambda state, hyper, seed: fused.rounds(state, hyper, seed, count, learn=True)
    results = jax.vmap(own)(stack(states), *stack(numbers))
    return tuple([jax.tree.map(lambda x, i=i: x[i], tree) for i in range(len(states))] for tree in results)
