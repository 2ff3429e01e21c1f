"""gymnax:<id>: classic control, MinAtar, bsuite and small worlds of gymnax 1.0 as pure functions.

What becomes of an observation:

    board of on and off   `board`, uint8 of 2 classes: MinAtar [10, 10, channels], Catch, DeepSea, Pong
    Box                   `vector`, float32
    Discrete              `token`, int32

A board is categorical, not a vector of numbers, because its cells are only ever 0 or 1: the decoder then
predicts a probability for each, and a replay holds it in one byte per cell instead of four.

A time limit ends an episode without being terminal, also the only end of Freeway-MinAtar (2,500 steps) and
DiscountingChain-bsuite (100 steps), which is terminal in MinAtar and bsuite. gymnax tells no success, so
neither does this suite. `MNISTBandit-bsuite` is left out: it downloads its images.

Classic control is Gymnasium's, step by step, but in float32: the same actions from the same state of
CartPole-v1 give different episodes after 160 steps or more, where rounding has grown to what can be seen.
MountainCarContinuous-v0 has no left wall in gymnax 1.0.1; here it has. PORTS.md has all that differs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from envs.adapters import MissingExtra, UnknownTask, suggestion
from envs.adapters.device import concrete, restart, transition
from envs.api import JaxEnv, Space, Spaces, Step, UnsupportedSpace
from envs.arguments import NONE, replaced

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps")

INSTALL = "pip install --no-deps gymnax==1.0.1 && pip install six seaborn matplotlib"
"""It demands an older Gymnasium than it needs, and does not declare all that it imports."""

# Importing gymnax takes seconds (it loads plotting), and so the names stand here.
TASKS = (
    *("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"),
    *("Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar", "SpaceInvaders-MinAtar"),
    *("Catch-bsuite", "DeepSea-bsuite", "MemoryChain-bsuite", "UmbrellaChain-bsuite"),
    *("DiscountingChain-bsuite", "SimpleBandit-bsuite", "FourRooms-misc", "MetaMaze-misc"),
    *("PointRobot-misc", "BernoulliBandit-misc", "GaussianBandit-misc", "Reacher-misc", "Swimmer-misc"),
    *("Pong-misc", "FrozenLake-misc"),
)
DOWNLOADS = ("MNISTBandit-bsuite",)
BOARDS = ("-MinAtar", "Catch-bsuite", "DeepSea-bsuite", "Pong-misc")
"""Ends of the names of tasks whose observation is all zeros and ones (the declared boxes do not say so)."""


def left_wall(state: Any, params: Any) -> Any:
    """A car that runs into the left end of its track stops there, as Gymnasium's does.

    gymnax 1.0.1 lets it keep its speed, so that it stays at the wall until its engine has used that up.
    """
    stopped = (state.position <= params.min_position) & (state.velocity < 0)
    return state.replace(velocity=jnp.where(stopped, 0.0, state.velocity))


MENDED: dict[str, Callable[[Any, Any], Any]] = {"MountainCarContinuous-v0": left_wall}
"""What (state, parameters) become after a step of tasks whose rules lack something in gymnax 1.0.1."""


def ids() -> list[str]:
    """The tasks that work offline."""
    return list(TASKS)


def canonical(name: str) -> str:
    """The name itself, if there is such a task.

    Raises:
      UnknownTask: with close matches.
    """
    if name in DOWNLOADS:
        raise UnknownTask(f"gymnax:{name} is left out because it downloads its images")
    if name not in TASKS:
        raise UnknownTask(f"gymnax has no task '{name}'{suggestion(name, TASKS)}")
    return name


def make_jax(name: str, obs: str, *, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int = 0) -> JaxEnv:
    """One world.

    Args:
      kwargs: its parameters, as `gravity`.

    Raises:
      UnknownTask: for a parameter that it does not have.
      MissingExtra: if gymnax is older than 1.0, or lacks something that it imports.
      UnsupportedSpace: if no agent here can handle its observations or actions.
    """
    env, params = load().make(canonical(name))
    params = replaced(f"gymnax:{name}", params, kwargs, limit="max_steps_in_episode")
    if max_episode_steps:
        params = params.replace(max_steps_in_episode=max_episode_steps)
    return Gymnax(name, env, params)


def load() -> ModuleType:
    """The package gymnax, 1.0 or later.

    Raises:
      MissingExtra: if it is older, or lacks something that it imports.
    """
    version = importlib.metadata.version("gymnax")
    if version.startswith("0."):
        # Its `step` has five values, of which none tells a time limit from an end.
        raise MissingExtra(f"gymnax tasks need gymnax 1.0.1, but {version} is installed: {INSTALL}")
    try:
        return importlib.import_module("gymnax")
    except ModuleNotFoundError as error:
        raise MissingExtra(f"gymnax tasks need {error.name} too: {INSTALL}") from None


class Gymnax:
    """A `JaxEnv` of a gymnax environment with given parameters."""

    def __init__(self, name: str, env: Any, params: Any):
        self.task = f"gymnax:{name}"
        self._env, self._params, self._mend = env, params, MENDED.get(name)
        key, space = observation(self.task, env.observation_space(params), board=name.endswith(BOARDS))
        self._key = key
        self.obs_space: Spaces = {key: space}
        act, self._act = action(self.task, env.action_space(params))
        self.act_space: Spaces = {"action": act}

    def reset(self, *, key: Array) -> tuple[Any, Step]:
        """A state at the start of an episode, and its first step."""
        raw, state = self._env.reset_env(key, self._params)
        return concrete(state), restart(self._observe(raw))

    def step(self, state: Any, action: dict[str, Array], *, key: Array) -> tuple[Any, Step]:
        """What the action leads to."""
        # `step` would start the next episode at once; `step_env` does not.
        raw, state, reward, terminated, _ = self._env.step_env(
            key, state, self._act(action["action"]), self._params
        )
        if self._mend is not None:
            state = self._mend(state, self._params)
            raw = self._env.get_obs(state)
        truncated = self._env.is_truncated(state, self._params)
        return concrete(state), transition(self._observe(raw), reward, terminated, truncated)

    def _observe(self, raw: Any) -> dict[str, Array]:
        return {self._key: jnp.asarray(raw, self.obs_space[self._key].dtype)}


def observation(task: str, space: Any, *, board: bool) -> tuple[str, Space]:
    """The key and space of what an environment shows.

    Raises:
      UnsupportedSpace: unless it is a Box or Discrete.
    """
    if _is(space, "Discrete"):
        return "token", Space((), "int32", int(space.n))
    if not _is(space, "Box"):
        raise UnsupportedSpace(f"the observation of {task} is {space}, supported are Box and Discrete")
    if board:
        return "board", Space(tuple(space.shape), "uint8", 2)
    return "vector", Space(tuple(space.shape), "float32")


def action(task: str, space: Any) -> tuple[Space, Callable[[Array], Array]]:
    """The space of actions, and how one becomes an action of the environment.

    Raises:
      UnsupportedSpace: unless it is Discrete or a Box with bounds.
    """
    if _is(space, "Discrete"):
        return Space((), "int32", int(space.n)), lambda act: jnp.asarray(act, jnp.int32)
    if not _is(space, "Box"):
        raise UnsupportedSpace(f"the action of {task} is {space}, supported are Discrete and Box")
    shape = tuple(space.shape)
    low, high = (np.broadcast_to(np.asarray(x, np.float32), shape) for x in (space.low, space.high))
    if not np.isfinite(high - low).all():
        raise UnsupportedSpace(f"the action of {task} is {space}, which lacks bounds to map [-1, 1] to")

    def scale(act: Array) -> Array:
        unit = jnp.clip(jnp.asarray(act, jnp.float32), -1, 1)
        return jnp.clip(low + (unit + 1) / 2 * (high - low), low, high)

    return Space(shape, "float32"), scale


def _is(space: Any, kind: str) -> bool:
    return type(space).__name__ == kind
