"""xminigrid:<id>: the MiniGrid tasks of XLand-MiniGrid as pure functions.

The observation is `tile` and `color`, both categorical and [7, 7] (Memory: [3, 3]), seen from the agent, who
stands in the middle of the lower edge and sees through walls; what it carries is not shown. The tasks have
the rules and time limits of MiniGrid's namesakes, but other numbers for what is in a cell, and their worlds
are drawn otherwise (PORTS.md).

In XLand-MiniGrid 0.9.3 one in ten worlds of BlockedUnlockPickUp cannot be solved as it should be: the object
that blocks the door lies where the key was (6%), or is just like the one to be fetched, and fetching it wins
(3%). Such worlds are drawn again here, at most `DRAWS` times.

An episode succeeds if it ends with a reward; `Playground` has no goal, and so no success. The ids that begin
with XLand are left out: without the rule sets that XLand-MiniGrid downloads they have no goal either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from envs.adapters import UnknownTask, suggestion
from envs.adapters.device import concrete, restart, transition
from envs.api import SUCCESS, JaxEnv, Space, Spaces, Step
from envs.arguments import NONE, replaced

OBS = ("symbolic",)
TAKES = ("kwargs", "max_episode_steps")

PREFIX = "MiniGrid-"
# Importing xminigrid takes most of a second, and so the names stand here.
TASKS = (
    *("BlockedUnlockPickUp", "DoorKey-5x5", "DoorKey-6x6", "DoorKey-8x8", "DoorKey-16x16"),
    *("Empty-5x5", "Empty-6x6", "Empty-8x8", "Empty-16x16"),
    *("EmptyRandom-5x5", "EmptyRandom-6x6", "EmptyRandom-8x8", "EmptyRandom-16x16"),
    *("FourRooms", "LockedRoom", "MemoryS8", "MemoryS16", "MemoryS32", "MemoryS64", "MemoryS128"),
    *("Playground", "Unlock", "UnlockPickUp"),
)
WITHOUT_GOAL = ("Playground",)
FLAWED = ("BlockedUnlockPickUp",)
"""Tasks of which some worlds lack something."""
DRAWS = 16
"""Worlds drawn for an episode at most: of one in ten all but one in 10^16 are found by then."""


def ids() -> list[str]:
    """The short names of all tasks."""
    return list(TASKS)


def canonical(name: str) -> str:
    """The full id: `DoorKey-5x5` is `MiniGrid-DoorKey-5x5`.

    Raises:
      UnknownTask: with close matches.
    """
    short = name.removeprefix(PREFIX)
    if short in TASKS:
        return PREFIX + short
    if name.startswith("XLand-"):
        raise UnknownTask(f"xminigrid:{name} is left out because its goals are downloaded")
    raise UnknownTask(f"XLand-MiniGrid has no task '{name}'{suggestion(short, TASKS)}")


def make_jax(
    name: str, obs: str, *, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int | None = None
) -> JaxEnv:
    """One world.

    Args:
      kwargs: its parameters, as `height` and `width`.

    Raises:
      UnknownTask: for a parameter that it does not have.
    """
    return XMiniGrid(canonical(name), max_episode_steps, kwargs)


class XMiniGrid:
    """A `JaxEnv`, whose state is XLand-MiniGrid's time step.

    Args:
      max_steps: the time limit (None: that of the task).
      kwargs: its parameters.
    """

    def __init__(self, name: str, max_steps: int | None = None, kwargs: Mapping[str, Any] = NONE):
        import xminigrid  # pyrefly: ignore
        from xminigrid.core.constants import NUM_COLORS, NUM_TILES, Tiles  # pyrefly: ignore

        self.task = f"xminigrid:{name}"
        self._env, params = xminigrid.make(name, **({"max_steps": max_steps} if max_steps else {}))
        self._params = replaced(self.task, params, kwargs, limit="max_steps")
        short = name.removeprefix(PREFIX)
        self._tells, self._flawed = short not in WITHOUT_GOAL, short in FLAWED
        self._key_tile = Tiles.KEY
        *view, _ = (int(n) for n in self._env.observation_shape(self._params))
        obs_space = {
            "tile": Space(tuple(view), "uint8", NUM_TILES),
            "color": Space(tuple(view), "uint8", NUM_COLORS),
        }
        if self._tells:
            obs_space[SUCCESS] = Space((), "float32")
        self.obs_space: Spaces = obs_space
        self.act_space: Spaces = {"action": Space((), "int32", self._env.num_actions(self._params))}

    def reset(self, *, key: Array) -> tuple[Any, Step]:
        """A world chosen at random, and its first step."""
        state = self._drawn(key) if self._flawed else self._draw(key)
        return state, restart(self._observe(state, jnp.nan))

    def _draw(self, key: Array) -> Any:
        state = self._env.reset(self._params, key)
        # It keeps a key for wrappers that reset by themselves; here chance comes from the caller alone.
        return concrete(state.replace(state=state.state.replace(key=None)))

    def _drawn(self, key: Array) -> Any:
        """The world of a key, or the first of those of further keys that can be solved as it should be."""

        def lacking(drawn: tuple[Array, Any]) -> Array:
            count, state = drawn
            return (count < DRAWS) & ~self._is_whole(state.state)

        def again(drawn: tuple[Array, Any]) -> tuple[Array, Any]:
            count, _ = drawn
            return count + 1, self._draw(jax.random.fold_in(key, count))

        return jax.lax.while_loop(lacking, again, (jnp.int32(1), self._draw(key)))[1]

    def _is_whole(self, world: Any) -> Array:
        """Whether there is a key, and nothing else like what is to be held in the end."""
        goal = world.goal_encoding[None, None, 1:3].astype(world.grid.dtype)
        return (world.grid[..., 0] == self._key_tile).any() & ((world.grid == goal).all(-1).sum() == 1)

    def step(self, state: Any, action: dict[str, Array], *, key: Array) -> tuple[Any, Step]:
        """What the action leads to; chance plays no part, so the key is not used."""
        del key
        act = jnp.asarray(action["action"], jnp.int32)
        state = concrete(self._env.step(self._params, state, act))
        last = state.last()
        # At a time limit the discount stays 1.
        terminal = last & (state.discount == 0)
        success = jnp.where(last, (terminal & (state.reward > 0)).astype(jnp.float32), jnp.nan)
        return state, transition(self._observe(state, success), state.reward, terminal, last)

    def _observe(self, state: Any, success: Array | float) -> dict[str, Array]:
        tile, color = jnp.moveaxis(state.observation.astype(jnp.uint8), -1, 0)
        obs = {"tile": tile, "color": color}
        if self._tells:
            obs[SUCCESS] = jnp.asarray(success, jnp.float32)
        return obs
