"""Planner: the shortest way to a place, by breadth-first search over the rules of MiniGrid.

What is searched is (position, direction, key in hand, doors opened, keys taken). Two things are left out
that never shorten a way: to shut a door, and to drop a key. The second holds in worlds with at most one key,
as are all that are covered: an agent that holds it can do whatever one with empty hands can.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from envs import gridworld as grid
from envs.api import Step
from envs.gridworld import COLOR, DIRECTIONS, FORWARD, LEFT, PICKUP, RIGHT, STATE, TOGGLE
from envs.vector import HostVector
from experiments.baselines.scripted.player import GaveUp

Cell = tuple[int, int]
"""Column and row."""


class World(NamedTuple):
    """What of a grid world matters on the way to a place."""

    free: frozenset[Cell]
    """Where one can always walk."""
    doors: Mapping[Cell, int | None]
    """Shut doors: the colour of the key they need, None if they only have to be opened."""
    keys: Mapping[Cell, int]
    """Keys that a door needs, by their colour."""
    goals: frozenset[Cell]
    """The places to get to, all of them free."""
    position: Cell
    direction: int
    held: int | None
    """Colour of the key in hand."""


class State(NamedTuple):
    """How far a plan has come."""

    position: Cell
    direction: int
    held: int | None
    opened: frozenset[Cell]
    taken: frozenset[Cell]


def shortest(world: World) -> tuple[int, ...] | None:
    """The fewest actions that lead to a goal, None if none do."""
    start = State(world.position, world.direction, world.held, frozenset(), frozenset())
    came: dict[State, tuple[State, int] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        if state.position in world.goals:
            return _way(came, state)
        for action, after in moves(world, state):
            if after not in came:
                came[after] = state, action
                queue.append(after)
    return None


def moves(world: World, state: State) -> Iterator[tuple[int, State]]:
    """Every action that changes something, and what it leads to."""
    yield LEFT, state._replace(direction=(state.direction - 1) % 4)
    yield RIGHT, state._replace(direction=(state.direction + 1) % 4)
    (x, y), (dx, dy) = state.position, DIRECTIONS[state.direction].tolist()
    ahead = x + dx, y + dy
    if ahead in world.free or ahead in state.opened or ahead in state.taken:
        yield FORWARD, state._replace(position=ahead)
    elif ahead in world.doors and world.doors[ahead] in (None, state.held):
        yield TOGGLE, state._replace(opened=state.opened | {ahead})
    elif ahead in world.keys and state.held is None:
        yield PICKUP, state._replace(held=world.keys[ahead], taken=state.taken | {ahead})


def _way(came: Mapping[State, tuple[State, int] | None], state: State) -> tuple[int, ...]:
    actions: list[int] = []
    while (before := came[state]) is not None:
        state, action = before
        actions.append(action)
    return tuple(reversed(actions))


def read(
    cells: np.ndarray,
    position: Sequence[int],
    direction: int,
    carrying: int,
    right_end: Cell | None = None,
    wrong_end: Cell | None = None,
) -> World:
    """A world from packed cells (`envs.gridworld`).

    Args:
      cells: [columns, rows].
      position: the agent's column and row.
      carrying: the cell in its hand, `EMPTY` if none.
      right_end: the place to get to where it is not marked as a goal, and `wrong_end` one to keep away from.
    """
    kinds, colors, states = cells % COLOR, cells % STATE // COLOR, cells // STATE * STATE
    at = lambda mask: [(int(x), int(y)) for x, y in np.argwhere(mask)]
    shut = (kinds == grid.DOOR) & (states != grid.OPEN)
    free = np.isin(kinds, (grid.EMPTY, grid.GOAL, grid.DOOR)) & ~shut
    doors = {cell: int(colors[cell]) if states[cell] == grid.LOCKED else None for cell in at(shut)}
    keys = {cell: int(colors[cell]) for cell in at(kinds == grid.KEY) if int(colors[cell]) in doors.values()}
    return World(
        free=frozenset(at(free)) - {wrong_end},
        doors=doors,
        keys=keys,
        goals=frozenset(at(kinds == grid.GOAL) if right_end is None else [right_end]),
        position=(int(position[0]), int(position[1])),
        direction=int(direction),
        held=carrying % STATE // COLOR if carrying % COLOR == grid.KEY else None,
    )


def of_grid(state: Any) -> World:
    """A world of the suite `grid`, from its `GridState` of numpy arrays."""
    size = math.isqrt(len(state.cells))
    place = lambda index: None if index == grid.NOWHERE else (int(index) % size, int(index) // size)
    position = int(state.position) % size, int(state.position) // size
    cells, carrying = state.cells.reshape(size, size).T, int(state.carrying)
    return read(cells, position, state.direction, carrying, place(state.right_end), place(state.wrong_end))


def of_minigrid(env: Any) -> World:
    """A world of MiniGrid, from its Gymnasium environment."""
    from minigrid.envs import MemoryEnv

    world, packing = env.unwrapped, (1, COLOR, STATE)
    cells = (world.grid.encode().astype(np.int32) * packing).sum(-1)
    carrying = grid.EMPTY if world.carrying is None else int(np.dot(world.carrying.encode(), packing))
    ends = (world.success_pos, world.failure_pos) if isinstance(world, MemoryEnv) else (None, None)
    return read(cells, world.agent_pos, world.agent_dir, carrying, *ends)


class Planner:
    """A `Policy` that walks the shortest way, planned at the start of each episode."""

    privileged = True
    sees = "the full state of the world"

    def __init__(self, env: HostVector, look: Callable[[Any], World]):
        self._env = env
        self._look = look

    def init(self, batch: int) -> Any:
        """For each copy the actions still to take."""
        return ((),) * batch

    def act(self, carry: Any, step: Step, *, key: Any) -> tuple[dict[str, np.ndarray], Any]:
        """The next action of each plan; a plan that is done or of an earlier episode is replaced.

        Raises:
          GaveUp: no way leads to a goal.
        """
        del key
        new = ~step.is_last & (step.is_first | np.array([not plan for plan in carry]))
        worlds = self._env.worlds() if new.any() else ()
        plans = [self._plan(worlds[i]) if new[i] else plan for i, plan in enumerate(carry)]
        # After the last step no action is taken, and none may be planned.
        action = [0 if last else plan[0] for plan, last in zip(plans, step.is_last, strict=True)]
        return {"action": np.array(action, np.int32)}, tuple(plan[1:] for plan in plans)

    def _plan(self, world: Any) -> tuple[int, ...]:
        plan = shortest(self._look(world))
        if not plan:
            raise GaveUp(f"{self._env.task}: no way leads to the goal of this world")
        return plan


def player(env: HostVector) -> Planner | None:
    """The planner of a Gymnasium environment, None if it is not one of MiniGrid about getting to a place."""
    import minigrid.envs as suites

    places = (
        *(suites.EmptyEnv, suites.DoorKeyEnv, suites.FourRoomsEnv, suites.MemoryEnv, suites.MultiRoomEnv),
        *(suites.LockedRoomEnv, suites.CrossingEnv, suites.LavaGapEnv, suites.DistShiftEnv),
    )
    world = env.worlds()[0].unwrapped
    return Planner(env, of_minigrid) if isinstance(world, places) else None
