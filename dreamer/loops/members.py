"""Many agents in one program: each is a `FusedLoop`, and a `Placement` says how many one call takes.

`advance` is the one mechanism for populations, whose members advance in step (`Members`), and for the runs
of a sweep, which start, end and replace each other at any age. Agents of one call share stacked arrays
(`Stack`), so nothing is copied between dispatches: only the row of an agent that comes or goes is.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamer.agent import Params, TrainState
from dreamer.loops.clocks import Progress
from dreamer.loops.fused import (
    CompiledLoop,
    Dispatch,
    FusedLoop,
    FusedState,
    Kept,
    Own,
    stand,
    stored,
    unstored,
)
from dreamer.loops.loop import Arrays, LoopCheckpoint, ReplayFiles
from dreamer.loops.outputs import LoopOutput
from dreamer.numbers import Numbers
from dreamer.placement import Placement
from dreamer.replay.layout import Layout


class Stack:
    """States of several agents, stacked along axis 0: what one call of a program takes.

    Args:
      numbers: hyperparameters and seeds, stacked.
      state: stacked; None starts fresh.
    """

    def __init__(
        self, compiled: CompiledLoop, placement: Placement, arguments: Any, state: FusedState | None = None
    ):
        self.placement, self._functions = placement, compiled.placed(placement)
        self._arguments = placement.put(arguments)
        self.state = self._functions.init(None, self._arguments[1]) if state is None else placement.put(state)
        self.loops: list[FusedLoop] = []
        """Those whose states it has."""

    @classmethod
    def of(cls, loops: Sequence[FusedLoop], placement: Placement) -> Stack:
        """Move the states of agents here; remaining rows hold copies of the first one's."""
        filled = [*loops, *[loops[0]] * (placement.size - len(loops))]
        arguments, state = (placement.stack(trees) for trees in zip(*map(_arrays, filled), strict=True))
        stack = cls(loops[0].compiled, placement, arguments, state)
        stack.loops = list(loops)
        for i, loop in enumerate(loops):
            loop.kept = Row(stack, i)
        return stack

    def hold(self, group: Sequence[FusedLoop]) -> None:
        """Hold these agents and no others: one that leaves keeps its row, one that joins gets a free one."""
        for loop in self.loops:
            if self._has(loop) and not any(loop is member for member in group):
                loop.kept = Own(loop.full)
        taken = {loop.kept.index for loop in group if isinstance(loop.kept, Row)}
        free = (i for i in range(self.placement.size) if i not in taken)
        for loop in group:
            if not isinstance(loop.kept, Row):
                self._write(loop, next(free))
        self.loops = list(group)

    def _has(self, loop: FusedLoop) -> bool:
        return isinstance(loop.kept, Row) and loop.kept.stack is self

    def _write(self, loop: FusedLoop, index: int) -> None:
        written = _write(self.state, self._arguments, _arrays(loop), np.int32(index))
        self._arguments, self.state = (self.placement.put(stacked) for stacked in written)
        loop.kept = Row(self, index)

    def send(self, dispatch: Dispatch) -> Any:
        """Start a dispatch for all rows; returns what `FusedLoop.collect` needs of each."""
        function = self._functions.learn if dispatch.learn else self._functions.collect
        self.state, happened = function(np.int32(dispatch.count), self.state, *self._arguments)
        return stand(self.state), happened


class Row(NamedTuple):
    """The place of an agent's state in a stack."""

    stack: Stack
    index: int

    def read(self, part: Callable[[FusedState], Any]) -> Any:
        """A copy."""
        return self.stack.placement.row(part(self.stack.state), self.index)


@partial(jax.jit, donate_argnums=0)
def _write(state: Any, arguments: Any, row: Any, index: Any) -> Any:
    return jax.tree.map(lambda x, y: x.at[index].set(y), (arguments, state), row)


def _arrays(loop: FusedLoop) -> tuple[Any, FusedState]:
    return loop.arguments, loop.full


def advance(loops: Sequence[FusedLoop], placement: Placement) -> list[LoopOutput]:
    """Run one dispatch for each of several agents that share their programs; returns the output of each.

    Those of a call take the same number of rounds. A call that is not full is filled up with copies, which
    are ignored, so that nothing compiles again; only collecting the first steps, which is cheap, is then
    done one agent at a time.
    """
    began = time.perf_counter()
    calls = [(*_send(group, placement), group) for group in _groups(loops, placement.size)]
    results = [jax.device_get(result) for _, result, _ in calls]
    seconds, outputs = time.perf_counter() - began, {}
    for (dispatch, _, group), result in zip(calls, results, strict=True):
        for loop, (stood, happened) in zip(group, _rows(result, group), strict=True):
            outputs[id(loop)] = loop.collect(dispatch, stood, happened, seconds)
    return [outputs[id(loop)] for loop in loops]


def _groups(loops: Sequence[FusedLoop], size: int) -> Iterator[list[FusedLoop]]:
    """Those of each call, in order: all learn, or all collect."""
    for learn in (False, True):
        alike = [loop for loop in loops if loop.plan().learn == learn]
        for i in range(0, len(alike), size):
            group = alike[i : i + size]
            yield from [group] if learn or len(group) == size else [[loop] for loop in group]


def _send(group: list[FusedLoop], placement: Placement) -> tuple[Dispatch, Any]:
    """Start a dispatch for the agents of one call."""
    dispatch = group[0].plan()._replace(count=min(loop.plan().count for loop in group))
    alone = placement.size == 1 or not dispatch.learn and len(group) < placement.size
    return dispatch, group[0].send(dispatch) if alone else _stack(group, placement).send(dispatch)


def _stack(group: list[FusedLoop], placement: Placement) -> Stack:
    """The stack of these agents, holding only them; a new one if they are in none or in several."""
    stacks = {id(loop.kept.stack): loop.kept.stack for loop in group if isinstance(loop.kept, Row)}
    if len(stacks) != 1:
        return Stack.of(group, placement)
    (stack,) = stacks.values()
    stack.hold(group)
    return stack


def _rows(result: Any, group: list[FusedLoop]) -> Iterator[Any]:
    """The result of a call for each of its agents."""
    for loop in group:
        kept = loop.kept
        yield jax.tree.map(lambda x, i=kept.index: x[i], result) if isinstance(kept, Row) else result


class Members:
    """A population as one loop: its members start together and advance in step.

    Args:
      compiled: the functions.
      placement: its size divides the number of members M.
      numbers: [M] traced numbers of every member.
      seeds: [M].
      steps: environment steps of each member.
      progress: how far the population is.
      state: to continue from, stacked along axis 0; None starts fresh.
      pause_every: as for `FusedLoop`.
    """

    def __init__(
        self,
        compiled: CompiledLoop,
        placement: Placement,
        numbers: Numbers,
        seeds: np.ndarray,
        steps: int,
        progress: Progress,
        state: FusedState | None = None,
        pause_every: int = 0,
    ):
        self.placement, self.numbers, self.progress = placement, numbers, progress
        self.compiled, self.fused = compiled, compiled.fused
        self._steps, self._pause_every = steps, pause_every
        self._seeds, self._resting = np.asarray(seeds, np.int32), frozenset[int]()
        if state is not None:
            self.loops = self._begin(state)

    @cached_property
    def loops(self) -> list[FusedLoop]:
        """Each member; fresh where no state was given."""
        return self._begin(None)

    def _begin(self, state: FusedState | None) -> list[FusedLoop]:
        arguments = self.numbers, self._seeds
        each = zip(
            _unstacked(arguments), _begin(self.compiled, self.placement, arguments, state), strict=True
        )
        loops = [self._member(numbers, seed, kept) for (numbers, seed), kept in each]
        for loop in loops:
            if isinstance(loop.kept, Row):
                loop.kept.stack.loops.append(loop)
        return loops

    def _member(self, numbers: Numbers, seed: int, kept: Kept) -> FusedLoop:
        """A member; one that was behind the others when they were stored continues from its own progress."""
        progress = dataclasses.replace(self.progress)
        slots, updates = (
            int(x) for x in kept.read(lambda state: (state.acting.slots, state.learner.updates))
        )
        if slots < progress.slots:
            progress.slots, progress.updates = slots, updates
            progress.env_steps = slots * self.fused.env.num_envs
        loop = FusedLoop(self.compiled, numbers, seed, self._steps, progress, pause_every=self._pause_every)
        loop.kept = kept
        return loop

    def gather(self, part: Callable[[FusedState], Any]) -> Any:
        """What `part` takes of the state of every member, stacked along axis 0."""
        kept = self.loops[0].kept
        in_order = lambda stack: all(loop.kept == Row(stack, i) for i, loop in enumerate(self.loops))
        if len(self.placement.devices) < 2 and isinstance(kept, Row) and in_order(kept.stack):
            return part(kept.stack.state)
        rows = [jax.device_get(loop.kept.read(part)) for loop in self.loops]
        return jax.tree.map(lambda *x: np.stack(x), *rows)

    @property
    def full(self) -> FusedState:
        """The whole state of all members."""
        return self.gather(lambda state: state)

    @property
    def state(self) -> TrainState:
        """The learners of all members."""
        return self.gather(lambda state: state.learner)

    def gather_params(self) -> Params:
        """The parameters; this process has all of them."""
        return self.state.params

    def checkpoint(self) -> LoopCheckpoint:
        """As that of one agent, stacked."""
        return LoopCheckpoint(stored(self.full), self.loops[0].meta, None)

    @property
    def template(self) -> Arrays:
        """The arrays of a checkpoint, in shapes and dtypes."""
        return stored(jax.eval_shape(jax.vmap(self.fused.init), self._seeds))

    def restore(self, arrays: Arrays, meta: Mapping[str, Any], files: ReplayFiles | None = None) -> None:
        """Continue from a checkpoint, which holds the replays too."""
        self.progress = Progress(**meta["progress"])
        self.loops = self._begin(unstored(arrays))

    def set_params(self, params: Params) -> None:
        """Start every member from the same parameters of some modules, with a fresh optimiser."""
        for loop in self.loops:
            loop.set_params(params)

    @property
    def failures(self) -> dict[int, str]:
        """{member: why it stopped learning}; it stays as it was before, and the others continue."""
        return {i: loop.failure for i, loop in enumerate(self.loops) if loop.failure}

    def rest(self, members: Iterable[int]) -> None:
        """Pause these members and no others."""
        self._resting = frozenset(members)

    @property
    def _going(self) -> list[FusedLoop]:
        return [loop for i, loop in enumerate(self.loops) if i not in self._resting and not loop.done]

    def advance(self) -> list[LoopOutput]:
        """Run one dispatch and return the output of every member."""
        going = self._going
        outputs = dict(zip(map(id, going), advance(going, self.placement), strict=True))
        ahead = max((loop.progress for loop in self.loops), key=lambda progress: progress.slots)
        for name in ("env_steps", "updates", "slots", "learning_since"):  # in place: others look at it
            setattr(self.progress, name, getattr(ahead, name))
        nothing = LoopOutput([], [], self.progress.env_steps)
        return [outputs.get(id(loop), nothing) for loop in self.loops]

    @property
    def done(self) -> bool:
        """Whether all that do not rest have taken their steps."""
        return not self._going

    def outputs(self) -> Iterator[LoopOutput]:
        """Advance until all members are done; yields the outputs of all together."""
        while not self.done:
            outputs = self.advance()
            episodes = [episode for output in outputs for episode in output.episodes]
            metrics = [row for output in outputs for row in output.metrics]
            yield LoopOutput(episodes, metrics, min(output.running_since for output in outputs))

    @property
    def layout(self) -> Layout:
        """Of the replay of one member."""
        return self.fused.replay.layout

    def check_finite(self) -> list[dict[str, float]]:
        """Nothing is in flight between two dispatches, and every one was looked at."""
        return []

    def flush(self) -> list[dict[str, float]]:
        """Nothing is left to take in."""
        return []


def _begin(
    compiled: CompiledLoop, placement: Placement, arguments: Any, state: FusedState | None
) -> list[Kept]:
    """Where the state of each agent is; their numbers and seeds, and their state if any, come stacked."""
    seeds, size = arguments[1], placement.size
    if size == 1:
        states = _unstacked(state) if state is not None else (compiled.init(None, seed) for seed in seeds)
        return [Own(member) for member in states]
    kept: list[Kept] = []
    for first in range(0, len(seeds), size):
        part = lambda tree, i=first: jax.tree.map(lambda x: x[i : i + size], tree)
        stack = Stack(compiled, placement, part(arguments), None if state is None else part(state))
        kept += [Row(stack, i) for i in range(size)]
    return kept


def _unstacked(tree: Any) -> Iterator[Any]:
    """The arrays of each of several agents that are stacked along axis 0."""
    for i in range(len(jax.tree.leaves(tree)[0])):
        yield jax.tree.map(lambda x, i=i: x[i], tree)
