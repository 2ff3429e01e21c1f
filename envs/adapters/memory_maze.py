"""memory-maze:9x9 to 15x15: mazes in which coloured objects must be found again and again, from pictures.

    obs="image"      `image`, uint8 [64, 64, 3], with the colour of the wanted object as a border

There are six actions: nothing, forward, left, right, and forward while turning left or right. The reward is 1
for every wanted object that is reached. An episode has 1,000 steps in 9x9 and 2,000, 3,000 and 4,000 in the
larger ones, and its end is no terminal one. Each has a new maze, which takes seconds to make.

Arguments are some of the package's: `camera_resolution`, `good_visibility` and `randomize_colors`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs.adapters import MissingExtra, UnknownTask, listed
from envs.arguments import NONE, Wrap, check_names, wrapped
from envs.dm import World, control, loading

OBS = ("image",)
TAKES = ("kwargs", "max_episode_steps", "wrappers")

LIMITS = {"9x9": 1000, "11x11": 2000, "13x13": 3000, "15x15": 4000}
"""Steps of an episode in each maze."""
KWARGS = {"camera_resolution": 64, "good_visibility": False, "randomize_colors": False}
"""What a maze can be made with: pixels of the image, objects seen from afar, six colours in all."""
REPEATED = "Cannot set velocity on Entity with no free joint"
"""What dm_control warns of in every episode, because objects of a maze do not move."""


def ids() -> list[str]:
    """The four sizes."""
    return list(LIMITS)


def canonical(name: str) -> str:
    """The name itself, if there is such a maze.

    Raises:
      UnknownTask: with close matches.
    """
    return listed("memory-maze", name, LIMITS)


def make(
    name: str,
    obs: str,
    *,
    kwargs: Mapping[str, Any] = NONE,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Wrap] = (),
) -> gymnasium.Env:
    """One world.

    Args:
      kwargs: some of `KWARGS`, and not their defaults.
      max_episode_steps: a shorter time limit, inside of the wrappers (0: the maze's).
      wrappers: what goes around it, the first one innermost.

    Raises:
      MissingExtra: Gym, MuJoCo or OpenGL is missing, or of a version that dm_control does not work with.
      UnknownTask: for an argument or a wrapper that is not there, or a longer time limit.
      EnvError: if building it raises something else.
    """
    task, limit = f"memory-maze:{canonical(name)}", LIMITS[name]
    _check(task, kwargs)
    if max_episode_steps > limit:
        raise UnknownTask(f"{task} ends after {limit:,} steps: max_episode_steps can only be less")
    with loading(task):
        begin = _maze(task, name, kwargs)
        begin(0).close()
    size = kwargs.get("camera_resolution", KWARGS["camera_resolution"])
    spaces = (gym.Dict({"image": gym.Box(0, 255, (size, size, 3), np.uint8)}), gym.Discrete(6))
    observe = lambda world, seen: {"image": seen}
    env = World(task, begin, observe, spaces, max_episode_steps=max_episode_steps, limit=limit)
    return wrapped(task, env, wrappers)


def _check(task: str, kwargs: Mapping[str, Any]) -> None:
    """Raise an UnknownTask for an argument that is not there or is of another kind."""
    check_names(task, kwargs, KWARGS.keys())
    for name, value in kwargs.items():
        if type(value) is not type(KWARGS[name]) or (name == "camera_resolution" and value < 1):
            like = "a positive whole number" if name == "camera_resolution" else "true or false"
            raise UnknownTask(f"{task} takes {like} for '{name}', not {value!r}")


def _maze(task: str, name: str, kwargs: Mapping[str, Any]) -> Callable[[int], Any]:
    """A function from a seed to the world whose first episode is that of the seed."""
    if importlib.util.find_spec("gym") is None:
        raise MissingExtra(f"{task} needs gym, which memory-maze does not name: pip install gym==0.26.2")
    with contextlib.redirect_stderr(io.StringIO()):  # Gym advises to use Gymnasium
        tasks = control("memory_maze.tasks")
    logging.getLogger("absl").addFilter(_is_new)
    build = getattr(tasks, f"memory_maze_{name}")
    return lambda seed: build(seed=seed, image_only_obs=True, **kwargs)


def _is_new(record: logging.LogRecord) -> bool:
    return REPEATED not in record.getMessage()
