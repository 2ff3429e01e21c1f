"""dm: worlds of `dm_env`, as those of dm_control are, as environments of Gymnasium.

An episode that ends with discount 0 is terminal; one that ends with another, as at a limit, is truncated.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from envs import opengl
from envs.adapters import MissingExtra, UnknownTask, versions_of
from envs.api import EnvError
from envs.modules import described

Begin = Callable[[int], Any]
"""From a seed to a `dm_env.Environment` whose next reset starts the episode of that seed."""
Observe = Callable[[Any, Mapping[str, Any]], dict[str, np.ndarray]]
"""From such a world and its observation to ours."""


class World(gymnasium.Env):
    """A world of `dm_env`."""

    def __init__(
        self,
        task: str,
        begin: Begin,
        observe: Observe,
        spaces: tuple[gymnasium.spaces.Dict, gymnasium.Space],
        *,
        action_repeat: int = 1,
        max_episode_steps: int = 0,
        limit: float = np.inf,
    ):
        """A world that is begun by its first reset.

        Args:
          spaces: of observations and actions.
          action_repeat: steps of the world to a step here, whose rewards are summed.
          max_episode_steps: steps here after which an episode is truncated (0: none but the world's).
          limit: the time limit that the world keeps itself, in its steps.
        """
        self._begin, self._observe = begin, observe
        self._world: Any = None
        self.observation_space, self.action_space = spaces
        self._repeat, self._limit, self._steps = action_repeat, max_episode_steps, 0
        steps = max_episode_steps or (int(np.ceil(limit / action_repeat)) if np.isfinite(limit) else None)
        self.spec = EnvSpec(id=task.replace(":", "/"), max_episode_steps=steps)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        before = self._world
        self._world = self._begin(int(self.np_random.integers(2**31)) if seed is None else seed)
        if before is not None and before is not self._world:
            before.close()
        self._steps = 0
        return self._observe(self._world, self._world.reset().observation), {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        now = self._world.step(action)
        reward = now.reward
        for _ in range(self._repeat - 1):
            if now.last():
                break
            now = self._world.step(action)
            reward += now.reward
        self._steps += 1
        terminated = bool(now.last() and now.discount == 0)
        truncated = not terminated and bool(now.last() or self._steps == self._limit)
        return self._observe(self._world, now.observation), float(reward), terminated, truncated, {}

    @property
    def world(self) -> Any:
        """The `dm_env.Environment` of this episode."""
        return self._world

    def close(self) -> None:
        if self._world is not None:
            self._world.close()
        self._world = None  # those of dm_control's composer can be closed once


def control(module: str) -> ModuleType:
    """A module that imports dm_control, also where nothing can be drawn."""
    opengl.choose()
    try:
        return importlib.import_module(module)
    except Exception:  # what OpenGL raises where its libraries are missing is of many kinds
        opengl.renounce()
        return importlib.import_module(module)


@contextlib.contextmanager
def loading(task: str) -> Iterator[None]:
    """Where dm_control fails to make a task, say what to install: its own MuJoCo, or OpenGL."""
    try:
        yield
    except (MissingExtra, UnknownTask, EnvError):
        raise
    except Exception as error:
        _refuse_version(task, error)
        if isinstance(error, ModuleNotFoundError):
            raise MissingExtra(f"{task} needs a missing package: {described(error)}") from None
        if opengl.is_about(error):
            raise opengl.missing(task, error) from None
        raise EnvError(f"{task} cannot be built: it raised {described(error)}") from None


def _refuse_version(task: str, error: Exception) -> None:
    """Raise the sentence for a MuJoCo that this dm_control was not written for, if that may be the cause."""
    installed = versions_of(("dm-control", "mujoco"))
    right = written_for()
    if right and installed.get("mujoco", right) != right:
        raise MissingExtra(
            f"{task} cannot be built, as dm_control {installed['dm-control']} does not work with mujoco "
            f"{installed['mujoco']} ({described(error)[:200]}): pip install mujoco=={right}"
        ) from None


def written_for() -> str:
    """The version of MuJoCo that dm_control was released for: the lowest that its metadata allow.

    It reads the fields of MuJoCo's model by name, and so later ones may fail, too.
    """
    with contextlib.suppress(metadata.PackageNotFoundError):
        for need in metadata.requires("dm-control") or ():
            if lowest := re.match(r"mujoco\s*\(?>=\s*([\d.]+)", need):
                return lowest[1]
    return ""
