"""MiniGrid's rules as pure functions of arrays, for loops that run on the device.

The suite `grid`. Layouts, observations, rewards and ends are those of `minigrid:<task>`; only the random
numbers that choose a layout differ. (`grid:Catch` is another game, from `envs.catch`.)

A cell is one number that packs what MiniGrid encodes as three: ``object + 16 * color + 128 * state``.

    Empty-5x5         walk to the goal                               MiniGrid-Empty-5x5-v0
    DoorKey-5x5       key, door, goal (also 6x6, 8x8)                MiniGrid-DoorKey-5x5-v0
    FourRooms         find the goal in four rooms                    MiniGrid-FourRooms-v0
    MemoryS7          go to the object that was shown first          MiniGrid-MemoryS7-v0
    LavaCrossingS9N1  cross rivers of lava (also S9N2, S9N3, S11N5)  MiniGrid-LavaCrossingS9N1-v0

Source of the rules: MiniGrid (Chevalier-Boisvert et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from envs.adapters import UnknownTask, suggestion
from envs.adapters.device import restart, transition
from envs.api import LOG_PREFIX, SUCCESS, JaxEnv, Space, Step
from envs.catch import Catch

COLOR, STATE = 16, 128
"""What colour and state are multiplied with in a cell."""
UNSEEN, EMPTY, DOOR, KEY, BALL, BOX, GOAL, LAVA = 0, 1, 4, 5, 6, 7, 8, 9
WALL = 2 + 5 * COLOR
GREEN, YELLOW = 1 * COLOR, 4 * COLOR
OPEN, CLOSED, LOCKED = 0 * STATE, 1 * STATE, 2 * STATE
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
CLASSES = {"object": 11, "color": 6, "state": 3}
VIEW = 7
"""Side of the square that the agent sees, itself in the middle of the lower edge."""
AGENT = (VIEW // 2, VIEW - 1)
NOWHERE = -1

DIRECTIONS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], np.int32)


class GridState(NamedTuple):
    """One world; cells are numbered ``y * size + x``."""

    cells: Array
    """[size * size] int32."""
    position: Array
    """[] int32, the agent's cell."""
    direction: Array
    """[] int32: 0 right, 1 down, 2 left, 3 up."""
    carrying: Array
    """[] int32, the cell picked up, `EMPTY` if none."""
    right_end: Array
    """[] int32, a cell that ends the episode with the reward, or `NOWHERE`."""
    wrong_end: Array
    """[] int32, one that ends it without."""
    steps: Array
    """[] int32, actions taken."""


class GridWorld:
    """A `JaxEnv`: pure functions over `GridState`."""

    def __init__(
        self,
        name: str,
        size: int,
        max_steps: int,
        layout: Layout,
        *,
        see_through_walls: bool = False,
        pickup_toggles: bool = False,
    ):
        self.task = f"grid:{name}"
        self.size = size
        self.max_steps = max_steps
        self._layout = layout
        self._see_through_walls = see_through_walls
        self._pickup_toggles = pickup_toggles
        self.obs_space = {k: Space((VIEW, VIEW), "uint8", n) for k, n in CLASSES.items()}
        self.obs_space |= {"direction": Space((), "int32", 4), SUCCESS: Space((), "float32")}
        self.act_space = {"action": Space((), "int32", 7)}

    def reset(self, *, key: Array) -> tuple[GridState, Step]:
        """A world chosen at random, and its first step."""
        state = self._layout(self.size, key)
        return state, restart(self.observe(state, jnp.full((), jnp.nan)))

    def step(self, state: GridState, action: dict[str, Array], *, key: Array) -> tuple[GridState, Step]:
        """What the action leads to; chance plays no part, so the key is not used."""
        del key
        act = jnp.asarray(action["action"], jnp.int32)
        if self._pickup_toggles:
            act = jnp.where(act == PICKUP, TOGGLE, act)
        vector = jnp.asarray(DIRECTIONS)[state.direction]
        ahead = state.position + vector[0] + self.size * vector[1]
        cell = state.cells[ahead]
        kind = cell % COLOR

        direction = (state.direction + (act == RIGHT) - (act == LEFT)) % 4
        open_door = (kind == DOOR) & (cell < STATE)
        free = (cell == EMPTY) | (kind == GOAL) | (kind == LAVA) | open_door
        moves = (act == FORWARD) & free
        position = jnp.where(moves, ahead, state.position)

        empty_handed = state.carrying == EMPTY
        takes = (act == PICKUP) & empty_handed & ((kind == KEY) | (kind == BALL) | (kind == BOX))
        drops = (act == DROP) & ~empty_handed & (cell == EMPTY)
        fits = state.carrying == KEY + cell % STATE - kind
        shut = cell % STATE
        locked = cell >= LOCKED
        toggled = jnp.where(locked, jnp.where(fits, shut, cell), jnp.where(open_door, shut + CLOSED, shut))
        changed = jnp.where((act == TOGGLE) & (kind == DOOR), toggled, cell)
        changed = jnp.where(takes, EMPTY, jnp.where(drops, state.carrying, changed))
        carrying = jnp.where(takes, cell, jnp.where(drops, EMPTY, state.carrying))
        cells = jnp.where(jnp.arange(self.size**2) == ahead, changed, state.cells)

        steps = state.steps + 1
        state = GridState(cells, position, direction, carrying, state.right_end, state.wrong_end, steps)
        success = (moves & (kind == GOAL)) | (position == state.right_end)
        terminal = success | (position == state.wrong_end) | (moves & (kind == LAVA))
        limit = steps >= self.max_steps
        reward = jnp.where(success, 1 - 0.9 * (steps / self.max_steps), 0.0)
        log_success = jnp.where(terminal | limit, success.astype(jnp.float32), jnp.nan)
        return state, transition(self.observe(state, log_success), reward, terminal, limit)

    def observe(self, state: GridState, success: Array) -> dict[str, Array]:
        """What the agent sees of a world, and whether its episode succeeded."""
        view = look(state, self.size, self._see_through_walls)
        return unpack(view) | {
            "direction": state.direction,
            SUCCESS: success,
        }


class Whole:
    """A `JaxEnv`: a grid world that also tells people all of itself, under keys that no agent sees.

    `log/object`, `log/color`, `log/state` [size, size] as (x, y), and `log/position` (x, y) of the agent.
    """

    def __init__(self, world: GridWorld):
        self._world = world
        self.task, self.act_space = world.task, world.act_space
        size = (world.size, world.size)
        cells = {LOG_PREFIX + k: Space(size, "uint8", n) for k, n in CLASSES.items()}
        self.obs_space = world.obs_space | cells | {LOG_PREFIX + "position": Space((2,), "int32")}

    def reset(self, *, key: Array) -> tuple[GridState, Step]:
        """A world chosen at random, and its first step."""
        return self._tell(*self._world.reset(key=key))

    def step(self, state: GridState, action: dict[str, Array], *, key: Array) -> tuple[GridState, Step]:
        """What the action leads to."""
        return self._tell(*self._world.step(state, action, key=key))

    def _tell(self, state: GridState, step: Step) -> tuple[GridState, Step]:
        size = self._world.size
        cells = state.cells.reshape(size, size).T
        whole = {LOG_PREFIX + k: v for k, v in unpack(cells).items()}
        position = jnp.stack([state.position % size, state.position // size]).astype(jnp.int32)
        return state, step._replace(obs=step.obs | whole | {LOG_PREFIX + "position": position})


def unpack(cells: Array) -> dict[str, Array]:
    """Cells as MiniGrid's three channels, uint8."""
    channels = {"object": cells % COLOR, "color": cells % STATE // COLOR, "state": cells // STATE}
    return {k: v.astype(jnp.uint8) for k, v in channels.items()}


def look(state: GridState, size: int, see_through_walls: bool) -> Array:
    """[VIEW, VIEW] cells as the agent sees them, first axis to its right, second towards it."""
    right, down = np.meshgrid(np.arange(VIEW) - AGENT[0], AGENT[1] - np.arange(VIEW), indexing="ij")
    dx, dy = jnp.asarray(DIRECTIONS)[state.direction]
    # The border is all wall, and so is what lies outside: there the border is seen.
    x = jnp.clip(state.position % size + dx * down - dy * right, 0, size - 1)
    y = jnp.clip(state.position // size + dy * down + dx * right, 0, size - 1)
    view = state.cells[y * size + x]
    kind = view % COLOR
    clear = (kind != WALL % COLOR) & ((kind != DOOR) | (view < STATE))
    view = view.at[AGENT].set(state.carrying)
    return view if see_through_walls else jnp.where(visible(clear), view, UNSEEN)


def visible(clear: Array) -> Array:
    """Which cells of a view light reaches from the agent, row by row away from it.

    In a row it spreads through clear cells to the right, then to the left; every clear lit cell lights the
    three behind it (those two on the side it spreads to). A row is one number with a bit per cell.

    Args:
      clear: [VIEW, VIEW] bool, where light passes.
    """
    bits = jnp.asarray(1 << np.arange(VIEW), jnp.int32)
    passes = (clear * bits[:, None]).sum(0)
    inner_right, inner_left = (1 << (VIEW - 1)) - 1, ((1 << VIEW) - 1) & ~1
    lit, rows = jnp.int32(1 << AGENT[0]), [jnp.int32(0)] * VIEW
    for row in reversed(range(VIEW)):
        through = passes[row] & inner_right
        for _ in range(VIEW - 1):
            lit |= (lit & through) << 1
        source = lit & through
        behind = source | source << 1
        through = passes[row] & inner_left
        for _ in range(VIEW - 1):
            lit |= (lit & through) >> 1
        source = lit & through
        rows[row] = lit
        lit = behind | source | source >> 1
    return (jnp.stack(rows)[None] & bits[:, None]) > 0


Layout = Callable[[int, Array], GridState]


def walls(size: int) -> np.ndarray:
    """[size, size] cells (row, column): an empty room."""
    cells = np.full((size, size), EMPTY, np.int32)
    cells[[0, -1], :] = cells[:, [0, -1]] = WALL
    return cells


def start(
    cells: Array,
    position: Array | int,
    direction: Array | int,
    right: Array | int = NOWHERE,
    wrong: Array | int = NOWHERE,
) -> GridState:
    """A world at its beginning, from cells [size, size]."""
    number = lambda x: jnp.asarray(x, jnp.int32)
    return GridState(jnp.ravel(cells), *map(number, (position, direction, EMPTY, right, wrong, 0)))


def choose(mask: Array, u: Array) -> Array:
    """One of the marked cells, all equally likely, by a uniform number: [n] bool -> [] index."""
    count = jnp.cumsum(mask.astype(jnp.int32))
    nth = jnp.minimum((u * count[-1]).astype(jnp.int32), count[-1] - 1)
    return (count <= nth).sum().astype(jnp.int32)


def below(u: Array, low: Array | int, high: Array | int) -> Array:
    """One of the integers from `low` to `high` - 1, all equally likely, by a uniform number."""
    return low + jnp.minimum((u * (high - low)).astype(jnp.int32), high - low - 1)


def empty(size: int, key: Array) -> GridState:
    """The goal in the far corner, the agent in the near one."""
    del key
    cells = walls(size)
    cells[-2, -2] = GOAL + GREEN
    return start(jnp.asarray(cells), size + 1, 0)


def door_key(size: int, key: Array) -> GridState:
    """A wall with a locked door between the agent with its key and the goal."""
    u = jax.random.uniform(key, (5,))
    split, door = below(u[0], 2, size - 2), below(u[1], 1, size - 2)
    y, x = np.divmod(np.arange(size * size), size)
    cells = walls(size)
    cells[-2, -2] = GOAL + GREEN
    cells = jnp.where(x == split, WALL, cells.ravel())
    cells = jnp.where((x == split) & (y == door), DOOR + YELLOW + LOCKED, cells)
    near = (split > x) & (cells == EMPTY)
    position = choose(near, u[2])
    index = np.arange(size * size)
    where = choose(near & (index != position), u[3])
    cells = jnp.where(index == where, KEY + YELLOW, cells)
    return start(cells, position, below(u[4], 0, 4))


def four_rooms(size: int, key: Array) -> GridState:
    """Four rooms with a gap in each of the walls between them; agent and goal anywhere."""
    u = jax.random.uniform(key, (7,))
    half = size // 2
    y, x = np.divmod(np.arange(size * size), size)
    cells = walls(size)
    cells[half, : 2 * half] = cells[: 2 * half, half] = WALL
    gap = lambda u: 1 + jnp.minimum((u * (half - 1)).astype(jnp.int32), half - 2)
    gaps = (x == half) & ((y == gap(u[0])) | (y == half + gap(u[1])))
    gaps |= (y == half) & ((x == gap(u[2])) | (x == half + gap(u[3])))
    cells = jnp.where(gaps, EMPTY, cells.ravel())
    position = choose(cells == EMPTY, u[4])
    index = np.arange(size * size)
    goal = choose((cells == EMPTY) & (index != position), u[5])
    cells = jnp.where(index == goal, GOAL + GREEN, cells)
    return start(cells, position, (u[6] * 4).astype(jnp.int32))


def memory(size: int, key: Array) -> GridState:
    """An object in the first room, a hall, and two objects at its end of which one is the same."""
    u = jax.random.uniform(key, (3,))
    middle, end = size // 2, size - 3
    cells = walls(size)
    for row in (middle - 2, middle + 2):
        cells[row, 1:5] = WALL
    for row in (middle - 1, middle + 1):
        cells[row, 4] = WALL
        cells[row, 5:end] = WALL
    corridor = cells[middle].copy()
    cells[:, end] = cells[:, end + 2] = WALL
    cells[middle, : end + 2] = corridor[: end + 2]
    cells[middle, end] = EMPTY
    shown_key, key_above = u[0] < 0.5, u[1] < 0.5
    pick = lambda is_key: jnp.where(is_key, KEY, BALL) + GREEN
    upper, lower = (middle - 2, end + 1), (middle + 2, end + 1)
    grid = jnp.asarray(cells)
    grid = grid.at[middle - 1, 1].set(pick(shown_key))
    grid = grid.at[upper].set(pick(key_above)).at[lower].set(pick(~key_above))
    ends = [(upper[0] + 1) * size + upper[1], (lower[0] - 1) * size + lower[1]]
    match = shown_key == key_above
    right, wrong = jnp.where(match, ends[0], ends[1]), jnp.where(match, ends[1], ends[0])
    position = middle * size + 1 + jnp.minimum((u[2] * end).astype(jnp.int32), end - 1)
    return start(grid, position, 0, right, wrong)


def lava_crossing(size: int, key: Array, *, rivers: int) -> GridState:
    """Rivers of lava from wall to wall, each with one opening, on a way that leads to the goal.

    The way crosses the vertical rivers from left to right and the horizontal ones from top to bottom, in
    a random mixture of the two, and opens each river somewhere along the room that it is in.

    Every choice is MiniGrid's: which rivers (of all, without replacement), in which order the way crosses
    them, and where. Only the numbers behind the choices differ: to shuffle is to sort by uniform numbers, and
    a place is the whole part of a scaled one. As these have 23 bits, chances are off by about 2^-23.
    """
    banks = np.arange(2, size - 2, 2)
    u = jax.random.uniform(key, (2 * len(banks) + 2 * rivers,))
    u_rivers, u_way, u_openings = jnp.split(u, [2 * len(banks), 2 * len(banks) + rivers])

    drawn = jnp.zeros(2 * len(banks), bool).at[jnp.argsort(u_rivers)[:rivers]].set(True)
    vertical, horizontal = jnp.zeros((2, size), bool).at[:, banks].set(drawn.reshape(2, -1))
    cells = jnp.asarray(walls(size))
    cells = jnp.where((vertical[None] | horizontal[:, None]) & (cells == EMPTY), LAVA, cells)

    eastward = jnp.argsort(u_way) < vertical.sum()
    xs, ys = _limits(vertical), _limits(horizontal)
    column, row = jnp.int32(0), jnp.int32(0)
    for east, where in zip(eastward, u_openings, strict=True):
        x = jnp.where(east, xs[column + 1], below(where, xs[column] + 1, xs[column + 1]))
        y = jnp.where(east, below(where, ys[row] + 1, ys[row + 1]), ys[row + 1])
        cells = cells.at[y, x].set(EMPTY)
        column, row = column + east, row + ~east
    return start(cells.at[-2, -2].set(GOAL + GREEN), size + 1, 0)


def _limits(is_river: Array) -> Array:
    """What the rooms lie between, from [size] bool: the first wall, the rivers, then only the last wall."""
    index = np.arange(len(is_river))
    return jnp.sort(jnp.where(is_river | (index == 0), index, index[-1]))


TASKS: dict[str, Callable[[], GridWorld]] = {
    "Empty-5x5": lambda: GridWorld("Empty-5x5", 5, 100, empty, see_through_walls=True),
    "DoorKey-5x5": lambda: GridWorld("DoorKey-5x5", 5, 250, door_key),
    "DoorKey-6x6": lambda: GridWorld("DoorKey-6x6", 6, 360, door_key),
    "DoorKey-8x8": lambda: GridWorld("DoorKey-8x8", 8, 640, door_key),
    "FourRooms": lambda: GridWorld("FourRooms", 19, 100, four_rooms),
    "MemoryS7": lambda: GridWorld("MemoryS7", 7, 245, memory, pickup_toggles=True),
    "LavaCrossingS9N1": lambda: GridWorld("LavaCrossingS9N1", 9, 324, partial(lava_crossing, rivers=1)),
    "LavaCrossingS9N2": lambda: GridWorld("LavaCrossingS9N2", 9, 324, partial(lava_crossing, rivers=2)),
    "LavaCrossingS9N3": lambda: GridWorld("LavaCrossingS9N3", 9, 324, partial(lava_crossing, rivers=3)),
    "LavaCrossingS11N5": lambda: GridWorld("LavaCrossingS11N5", 11, 484, partial(lava_crossing, rivers=5)),
}

OBS = ("symbolic", "privileged")


def ids() -> list[str]:
    """The names of the tasks."""
    return [*TASKS, "Catch"]


def canonical(name: str) -> str:
    """The name itself, if there is such a task.

    Raises:
      UnknownTask: with close matches.
    """
    if name not in ids():
        raise UnknownTask(f"there is no task grid:{name}" + suggestion(name, {i: f"grid:{i}" for i in ids()}))
    return name


def make_jax(name: str, obs: str) -> JaxEnv:
    """One world; "privileged" shows people all of it, besides what its agent sees.

    Raises:
      UnknownTask: for Catch with "privileged", because its agent already sees all of it.
    """
    if canonical(name) == "Catch":
        if obs == "privileged":
            raise UnknownTask("grid:Catch has no observation 'privileged': its agent sees all there is")
        return Catch()
    world = TASKS[name]()
    return Whole(world) if obs == "privileged" else world
