"""envpool:<id>: what EnvPool makes, as `envpool:CoinrunHard-v0` (Procgen) or `envpool:WalkerWalk-v1`.

Every copy is an EnvPool of its own that is created for each episode, because EnvPool takes no seed later: so
an episode is a function of its seed and its actions. That takes time where episodes are short (0.01 s for
CartPole-v1, 0.35 s for WalkerWalk-v1); in training `--env.engine envpool` has one pool for all copies.

Arguments (`env.kwargs`) are EnvPool's options of a task, as {"frame_skip": 2}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym
from gymnasium.envs.registration import EnvSpec

from envs import engine
from envs.adapters import UnknownTask, suggestion
from envs.arguments import NONE, Wrap, check_names, making, wrapped

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps", "wrappers", "engine")
OURS = {
    *("num_envs", "batch_size", "num_threads", "thread_affinity_offset", "max_num_players", "base_path"),
    *("seed", "env_seed", "max_episode_steps", "gym_reset_return_info", "task", "task_name"),
}
"""Options of EnvPool that are not for a user to choose here."""


def ids() -> list[str]:
    """Every task of EnvPool."""
    import envpool

    return sorted(envpool.list_all_envs())


def canonical(name: str) -> str:
    """The id as EnvPool writes it.

    Raises:
      UnknownTask: with close matches.
    """
    known = {task.lower(): task for task in ids()}
    if name.lower() not in known:
        raise UnknownTask(f"EnvPool has no task '{name}'{suggestion(name, known)}")
    return known[name.lower()]


def make(
    name: str,
    obs: str,
    *,
    kwargs: Mapping[str, Any] = NONE,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Wrap] = (),
) -> gymnasium.Env:
    """One environment.

    Args:
      kwargs: EnvPool's options.
      max_episode_steps: its time limit (0: its own).
      wrappers: what goes around it, the first one innermost.

    Raises:
      UnknownTask: for an option that is not there.
      MissingExtra: it needs a library that is missing.
      EnvError: EnvPool does not take an option's value.
    """
    recipe = pool(name, obs, kwargs=kwargs, max_episode_steps=max_episode_steps)
    return wrapped(f"envpool:{recipe.name}", Single(recipe), wrappers)


def pool(
    name: str, obs: str, *, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int = 0
) -> engine.Recipe:
    """What the engine makes; arguments and errors as of `make`."""
    name = canonical(name)
    task = f"envpool:{name}"
    options = {**kwargs, **({"max_episode_steps": max_episode_steps} if max_episode_steps else {})}
    known = engine.described(name, {}).options
    check_names(task, kwargs, [option for option in known if option not in OURS])
    if max_episode_steps and "distribution_mode" in known:  # of Procgen
        raise UnknownTask(f"EnvPool has no other limits of {task}: leave out max_episode_steps")
    with making(task):
        original = engine.described(name, options)
    space = unbounded(original.observation)
    return engine.Recipe(name, options, space, original.action, lambda raw, _: raw)


def unbounded(space: gymnasium.Space) -> gymnasium.Space:
    """A space in which numbers without bound are declared so.

    EnvPool gives them the highest number of their type as the upper bound, the least above 0 as the lower.
    """
    if isinstance(space, gym.Dict):
        return gym.Dict({key: unbounded(part) for key, part in space.items()})
    if not isinstance(space, gym.Box) or space.dtype not in (np.float32, np.float64):
        return space
    limits = np.finfo(space.dtype)
    low = np.where(space.low == limits.tiny, -np.inf, space.low)
    high = np.where(space.high == limits.max, np.inf, space.high)
    return gym.Box(low.astype(space.dtype), high.astype(space.dtype), dtype=space.dtype)


class Single(gymnasium.Env):
    """One copy, in a new pool for every episode."""

    def __init__(self, recipe: engine.Recipe):
        limit = engine.described(recipe.name, recipe.options).limit
        self.spec = EnvSpec(recipe.name, max_episode_steps=limit)
        self._recipe = recipe
        self.observation_space, self.action_space = recipe.observation, recipe.action
        self._pool: Any = None
        self._return = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.close()
        self._pool, first = engine.started(self._recipe, [int(self.np_random.integers(2**31 - 1))])
        self._return = 0.0
        return self._recipe.read(engine.of(first, 0), self._return), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        raw, rewards, terminated, truncated, _ = self._pool.step(np.asarray(action)[None])
        self._return += (reward := float(rewards[0]))
        seen = self._recipe.read(engine.of(raw, 0), self._return)
        return seen, reward, bool(terminated[0]), bool(truncated[0]), {}

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
