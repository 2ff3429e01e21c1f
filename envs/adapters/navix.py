"""navix:<id>: the tasks of NAVIX 4, which are made after MiniGrid's and have their names, as pure functions.

Layouts are drawn otherwise than MiniGrid's and some rules differ, so scores are not MiniGrid's:

    what                  NAVIX 4.0.0                                 MiniGrid 3.2.0
    drop, goal ahead      the episode is won (here: nothing happens)  nothing happens
    drop, lava ahead      the agent dies (here: nothing happens)      nothing happens
    time limits           others in 23 tasks (here: MiniGrid's)       see LIMITS
    a locked door         eats its key                                leaves it in the hand
    an open door          stays open                                  can be closed
    pickup, hand full     destroys what was held                      nothing happens
    reward at the end     1 however long it took                      1 - 0.9 * steps / limit
    KeyCorridor           is won on a goal tile                       is won by picking up the ball
    GoToDoor              is won by facing the door                   is won by `done` beside the door
    DoorKey               starts at one place; the door may be in     starts anywhere; the door is never in
                          any row (DoorKey-Random: any start and      the lowest row; the goal is always in
                          any goal)                                   the corner
    RedBlueDoors          both doors in one wall                      one door on either side
    Dynamic-Obstacles     seven actions; pickup of a ball is death;   three actions;
                          a collision is worth 0                      a collision is worth -1
    view                  through walls, without what is carried      stops at walls, with what is carried

PORTS.md has the same for every suite, with what has been measured.

The observation is that of MiniGrid, with its numbers: `object`, `color` and `state` of a view of [7, 7] cells
(x, y), whose agent stands in the middle of the lower edge, and the `direction` it faces. But the agent sees
through walls, and what it carries is not shown.

Where the goal is another object in every episode, `target_object` and `target_color` are the ones that the
mission names: [1], and [2] for PutNear (what to carry, then what to put it next to).

An episode succeeds if it ends by itself with a reward, which is 1 at the goal however long it took;
`Playground` has no goal, and so no success.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from envs.adapters import MissingExtra, UnknownTask, suggestion
from envs.adapters.device import concrete, restart, transition
from envs.api import SUCCESS, JaxEnv, Space, Spaces, Step

OBS = ("symbolic",)
TAKES = ("max_episode_steps",)

INSTALL = "pip install --no-deps navix==4.0.0 && pip install distrax rlax wandb  # from Python 3.12 on"
"""It declares linters and more that it does not import."""

PREFIX, VERSION = "Navix-", "-v0"
CLASSES = {"object": 11, "color": 6, "state": 3}
DIRECTIONS = 4
SIZES = ("5x5", "6x6", "8x8", "16x16")
# Importing navix takes seconds, and so the names stand here.
TASKS = (
    *("BlockedUnlockPickup", "DistShift1", "DistShift2"),
    *(f"DoorKey-{size}" for size in SIZES),
    *(f"DoorKey-Random-{size}" for size in SIZES),
    *(f"Dynamic-Obstacles-{size}" for size in SIZES),
    *("Dynamic-Obstacles-5x5-Random", "Dynamic-Obstacles-6x6-Random"),
    *(f"Empty-{size}" for size in SIZES),
    *(f"Empty-Random-{size}" for size in SIZES),
    *("Fetch-5x5-N2", "Fetch-6x6-N2", "Fetch-8x8-N3"),
    *("FourRooms", *(f"FourRooms-{n}x{n}" for n in range(7, 19, 2))),
    *("GoToDoor-5x5", "GoToDoor-6x6", "GoToDoor-8x8", "GoToObject-6x6-N2", "GoToObject-8x8-N2"),
    *(f"KeyCorridor{rooms}" for rooms in ("S3R1", "S3R2", "S3R3", "S4R3", "S5R3", "S6R3")),
    *("LavaGapS5", "LavaGapS6", "LavaGapS7", "LockedRoom"),
    *(f"LavaCrossing{layout}" for layout in ("S9N1", "S9N2", "S9N3", "S11N5")),
    *(f"SimpleCrossing{layout}" for layout in ("S9N1", "S9N2", "S9N3", "S11N5")),
    *("MemoryS7", "MemoryS9", "MemoryS11", "MemoryS13", "MemoryS13Random", "MemoryS17Random"),
    *("MultiRoom-N2-S4", "MultiRoom-N4-S5", "MultiRoom-N6"),
    *(f"ObstructedMaze-{maze}" for maze in ("1Dl", "1Dlh", "1Dlhb", "2Dl", "2Dlh", "2Dlhb")),
    *("ObstructedMaze-1Q", "ObstructedMaze-2Q", "ObstructedMaze-Full", "Playground"),
    *("PutNear-6x6-N2", "PutNear-8x8-N3", "RedBlueDoors-6x6", "RedBlueDoors-8x8", "Unlock", "UnlockPickup"),
)
WITHOUT_GOAL = ("Playground",)
LIMITS = {
    **{"DoorKey-5x5": 250, "DoorKey-6x6": 360, "DoorKey-8x8": 640, "DoorKey-16x16": 2560},
    **{"DoorKey-Random-5x5": 250, "DoorKey-Random-6x6": 360},
    **{"DoorKey-Random-8x8": 640, "DoorKey-Random-16x16": 2560},
    **{"Fetch-5x5-N2": 125, "Fetch-6x6-N2": 180, "Fetch-8x8-N3": 320, "FourRooms": 100},
    **{"GoToObject-6x6-N2": 180, "GoToObject-8x8-N2": 320, "PutNear-6x6-N2": 30, "PutNear-8x8-N3": 40},
    **{"KeyCorridorS3R1": 270, "KeyCorridorS3R2": 270, "KeyCorridorS3R3": 270},
    **{"KeyCorridorS4R3": 480, "KeyCorridorS5R3": 750, "KeyCorridorS6R3": 1080},
    **{"RedBlueDoors-6x6": 720, "RedBlueDoors-8x8": 1280},
    **{"Unlock": 288, "UnlockPickup": 288, "BlockedUnlockPickup": 576},
}
"""Time limits of MiniGrid's tasks where NAVIX has others; MiniGrid's DoorKey is always random."""
TARGETS = ("Fetch", "GoTo", "PutNear", "ObstructedMaze")
"""How tasks begin whose mission names an object; that of Memory is a place, which the agent has to find."""


def ids() -> list[str]:
    """The short names of all tasks."""
    return list(TASKS)


def canonical(name: str) -> str:
    """The full id: `DoorKey-5x5` is `Navix-DoorKey-5x5-v0`.

    Raises:
      UnknownTask: with close matches.
    """
    short = name.removeprefix(PREFIX).removesuffix(VERSION)
    if short not in TASKS:
        raise UnknownTask(f"NAVIX has no task '{name}'{suggestion(short, TASKS)}")
    return PREFIX + short + VERSION


def note(name: str) -> str:
    """That these tasks are not MiniGrid's, whose names they have."""
    return (
        "NAVIX's tasks are not MiniGrid's of the same name, so their scores do not compare: rules, layouts "
        "and view differ, and success earns 1 however long it took."
    )


def make_jax(name: str, obs: str, *, max_episode_steps: int | None = None) -> JaxEnv:
    """One world.

    Raises:
      MissingExtra: if navix is older than 4, or lacks something that it imports.
    """
    return Navix(canonical(name), max_episode_steps)


def load() -> ModuleType:
    """The package navix, 4.0 or later.

    Raises:
      MissingExtra: if it is older, or lacks something that it imports.
    """
    version = importlib.metadata.version("navix")
    if version.startswith("0."):
        # What Python 3.11 gets: other rules, half the tasks.
        here = f"navix {version} and Python {platform.python_version()} are here"
        raise MissingExtra(f"navix tasks need navix 4 and Python 3.12, but {here}: {INSTALL}")
    try:
        # Its agents import packages that JAX warns about.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("navix")
    except ModuleNotFoundError as error:
        raise MissingExtra(f"navix tasks need {error.name} too: {INSTALL}") from None


def careful(drop: Callable[[Any], Any], in_front: Callable[[Any], Array]) -> Callable[[Any], Any]:
    """NAVIX's action to put down what is held, with MiniGrid's rule: only on an empty cell.

    NAVIX 4.0.0 counts a drop as walking into whatever is ahead, even if nothing is held: at a goal the
    episode is won, at lava or a moving ball the agent dies.
    """

    def put_down(world: Any) -> Any:
        there = in_front(world)
        taken = [jnp.all(kind.position == there, -1).any() for kind in world.entities.values()]
        return jax.lax.cond(jnp.stack(taken).any(), lambda world: world, drop, world)

    return put_down


class NavixState(NamedTuple):
    """A world and what its mission names."""

    time: Any
    """NAVIX's time step, without what is not needed: picture, observation, key."""
    target: dict[str, Array]
    """`target_object` and `target_color`, empty where the mission names none."""


class Navix:
    """A `JaxEnv`, whose chance comes from the caller alone.

    Args:
      max_steps: the time limit (None: that of MiniGrid's task of this name, where there is one).
    """

    def __init__(self, name: str, max_steps: int | None = None):
        navix = load()
        self.task = f"navix:{name}"
        self._whole, self._view = navix.observations.symbolic, navix.observations.symbolic_first_person
        short = name.removeprefix(PREFIX).removesuffix(VERSION)
        max_steps = max_steps or LIMITS.get(short)
        limit = {"max_steps": max_steps} if max_steps else {}
        env = navix.make(name, observation_fn=navix.observations.none, **limit)
        ahead = lambda player: navix.grid.translate(player.position, player.direction)
        drop = careful(navix.actions.drop, lambda world: ahead(world.get_player()))
        actions = (drop if action is navix.actions.drop else action for action in env.action_set)
        self._env = env.replace(action_set=tuple(actions))
        self._tells, self._has_target = short not in WITHOUT_GOAL, short.startswith(TARGETS)
        side = 2 * navix.observations.RADIUS + 1
        obs_space = {key: Space((side, side), "uint8", n) for key, n in CLASSES.items()}
        obs_space["direction"] = Space((), "int32", DIRECTIONS)
        if self._has_target:
            named = 2 if short.startswith("PutNear") else 1
            obs_space |= {
                f"target_{key}": Space((named,), "uint8", CLASSES[key]) for key in ("object", "color")
            }
        if self._tells:
            obs_space[SUCCESS] = Space((), "float32")
        self.obs_space: Spaces = obs_space
        self.act_space: Spaces = {"action": Space((), "int32", len(self._env.action_set))}

    def reset(self, *, key: Array) -> tuple[NavixState, Step]:
        """A world chosen at random, and its first step."""
        time = self._env.reset(key)
        state = NavixState(_lean(time), self._target(time.state) if self._has_target else {})
        return state, restart(self._observe(state, jnp.nan))

    def step(self, state: NavixState, action: dict[str, Array], *, key: Array) -> tuple[NavixState, Step]:
        """What the action leads to."""
        act = jnp.asarray(action["action"], jnp.int32)
        before = state.time.replace(state=state.time.state.replace(key=key))
        # `step` would compile the start of an episode into every step, even where it is not to begin one.
        after = self._env._step(before, act)
        state = NavixState(_lean(after), state.target)
        terminal, limit = after.is_termination(), after.is_truncation()
        success = (terminal & (after.reward > 0)).astype(jnp.float32)
        log_success = jnp.where(terminal | limit, success, jnp.nan)
        return state, transition(self._observe(state, log_success), after.reward, terminal, limit)

    def _target(self, world: Any) -> dict[str, Array]:
        cells = self._whole(world)
        object, color, _ = jnp.stack([cells[tuple(event.position)] for event in world.mission], -1)
        return {"target_object": object, "target_color": color}

    def _observe(self, state: NavixState, success: Array | float) -> dict[str, Array]:
        world = state.time.state
        # NAVIX counts rows, then columns; MiniGrid the other way round.
        layers = jnp.moveaxis(self._view(world), -1, 0).swapaxes(1, 2)
        obs = dict(zip(CLASSES, layers, strict=True)) | state.target
        obs["direction"] = world.get_player().direction.astype(jnp.int32)
        if self._tells:
            obs[SUCCESS] = jnp.asarray(success, jnp.float32)
        return obs


def _lean(time: Any) -> Any:
    """A time step without the picture of its grid, which nothing here draws, and the key of its chance."""
    return concrete(time.replace(observation=None, state=time.state.replace(key=None, cache=None)))
