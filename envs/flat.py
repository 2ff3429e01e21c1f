"""Flat: one Gymnasium environment in the terms of the agents here, for custom loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs.adapters import UnknownTask
from envs.adapters.gymnasium import is_minigrid
from envs.api import Space
from envs.spaces import box, flatten_action, flatten_observation


class Flat(gymnasium.Wrapper):
    """An environment that speaks and is spoken to in flat mappings {key: array}, as an agent's.

    Seeds, rewards, ends of episodes and infos stay Gymnasium's; the mappings are those of training.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        *,
        obs: str = "",
        pixels: Sequence[str] = (),
        categories: Sequence[str] = (),
    ):
        """Wrap an environment.

        Args:
          env: what `gymnasium.make` gives, also of MiniGrid and BabyAI, with any wrappers.
          obs: which observation, where the suite has several ("": its default).
          pixels, categories: keys of arrays to read as pictures and as categories, as in training.

        Raises:
          UnknownTask: there is no such observation.
          UnsupportedSpace: no agent here can handle its observations or actions.
        """
        super().__init__(_adapted(env, obs))
        self.notices: list[str] = []
        """How observations are read whose meaning had to be chosen, a sentence each."""
        self.obs_space, self._read = flatten_observation(
            self.env.observation_space, pixels=pixels, categories=categories, notices=self.notices
        )
        self.act_space, self._build = flatten_action(self.env.action_space)
        self.observation_space = gym.Dict({k: box(s) for k, s in self.obs_space.items()})
        self.action_space = gym.Dict({k: choices(s) for k, s in self.act_space.items()})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode."""
        raw, info = self.env.reset(seed=seed, options=options)
        return self._observe(raw), info

    def step(
        self, action: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], Any, bool, bool, dict[str, Any]]:
        """Advance by one step.

        Args:
          action: `{key: [...]}`; a class for discrete keys, [-1, 1] for continuous ones.

        Raises:
          ValueError: the action is no such mapping.
        """
        if not isinstance(action, Mapping) or not self.act_space.keys() <= action.keys():
            keys = ", ".join(f"'{key}'" for key in self.act_space)
            raise ValueError(f"the action is {action!r:.60}, expected a mapping with {keys}")
        built = self._build({k: np.asarray(action[k]) for k in self.act_space})
        raw, reward, terminated, truncated, info = self.env.step(built)
        return self._observe(raw), reward, terminated, truncated, info

    def _observe(self, raw: Any) -> dict[str, np.ndarray]:
        obs: dict[str, np.ndarray] = {}
        self._read(raw, obs)
        return {k: np.asarray(v) for k, v in obs.items()}


def _adapted(env: gymnasium.Env, obs: str) -> gymnasium.Env:
    """The environment as its suite's adapter has it."""
    if is_minigrid(env):
        from envs.adapters import minigrid

        return minigrid.adapt(env, obs or minigrid.OBS[0])
    if obs:
        name = env.spec.id if env.spec else type(env.unwrapped).__name__
        raise UnknownTask(f"{name} has one observation only, but '{obs}' was asked for")
    return env


def choices(space: Space) -> gymnasium.Space:
    """What an agent may choose there."""
    if space.classes is None:
        return gym.Box(-1, 1, space.shape, np.float32)
    if not space.shape:
        return gym.Discrete(space.classes)
    return gym.MultiDiscrete(np.full(space.shape, space.classes))
