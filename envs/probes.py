"""Probes: worlds of a few steps whose best return and values are known, for tests of learning.

Each isolates one thing an agent must be able to do; the first that fails says what is broken:

    constant     predict a reward that never changes
    observed     read a reward off the observation
    delayed      carry value back through time
    chosen       prefer the better action
    remembered   keep in memory what is no longer seen
    continuous   place a continuous action

Values follow the convention of `envs.api`: the reward on arriving at the next step is not
discounted, so the value at the start of an episode is r[1] + discount * r[2] + discount^2 * r[3] +
...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs.adapters import UnknownTask, suggestion

OBS = ("",)


class Probe(gymnasium.Env, ABC):
    """A world of a fixed number of steps that draws a secret at its start.

    `optimal_return` is the mean return of the best policy, `optimal_value(discount)` the mean value
    of the first observation under it.
    """

    length: ClassVar[int] = 1
    optimal_return: ClassVar[float] = 1.0
    random_return: ClassVar[float] = 1.0
    observation_space = gym.Box(-1, 1, (2,), np.float32)
    action_space: gymnasium.Space = gym.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._time = 0
        self._bit = int(self.np_random.integers(2))
        self._target = float(self.np_random.uniform(-0.8, 0.8))
        return self._see(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._time += 1
        return self._see(), self._reward(action), self._time == self.length, False, {}

    def _see(self) -> np.ndarray:
        """The observation: whatever there is to see, and how much of the episode has passed."""
        return np.array([self._shown(), self._time / self.length], np.float32)

    @abstractmethod
    def _shown(self) -> float:
        """What is to be seen at this moment."""

    @abstractmethod
    def _reward(self, action: Any) -> float:
        """What the action earns on arriving at this moment."""

    @classmethod
    def optimal_value(cls, discount: float) -> float:
        """What the best policy earns from the first observation on."""
        return discount ** (cls.length - 1) * cls.optimal_return


class Constant(Probe):
    """One step, reward 1. Return 1 and value 1, whatever one does."""

    def _shown(self) -> float:
        return 0.0

    def _reward(self, action: Any) -> float:
        return 1.0


class Observed(Probe):
    """One step whose reward, 1 or -1, is seen beforehand. The value is what is seen."""

    optimal_return = 0.0
    random_return = 0.0

    def _shown(self) -> float:
        return 2.0 * self._bit - 1

    def _reward(self, action: Any) -> float:
        return 2.0 * self._bit - 1


class Delayed(Probe):
    """Two steps, reward 1 on arriving at the second. Return 1, value `discount`, then 1."""

    length = 2

    def _shown(self) -> float:
        return 0.0

    def _reward(self, action: Any) -> float:
        return float(self._time == self.length)


class Chosen(Probe):
    """One step; action 1 earns 1, action 0 nothing. Best return and value 1, at random 1/2."""

    random_return = 0.5

    def _shown(self) -> float:
        return 0.0

    def _reward(self, action: Any) -> float:
        return float(action == 1)


class Remembered(Probe):
    """Three steps; the first observation shows 1 or -1, the last action must repeat it (1 for 1, 0
    for -1).

    Best return 1, value `discount`^2 at the start; without a memory 1/2 of both.
    """

    length = 3
    random_return = 0.5

    def _shown(self) -> float:
        return 2.0 * self._bit - 1 if self._time == 0 else 0.0

    def _reward(self, action: Any) -> float:
        return float(self._time == self.length and action == self._bit)


class Continuous(Probe):
    """One step; a target is seen and the action a earns 1 - (a - target)^2.

    Best return and value 1. A uniform action earns 1 - 1/3 - 0.8^2/3 on average.
    """

    action_space = gym.Box(-1, 1, (1,), np.float32)
    random_return = 1 - 1 / 3 - 0.64 / 3

    def _shown(self) -> float:
        return self._target

    def _reward(self, action: Any) -> float:
        return 1.0 - (float(action[0]) - self._target) ** 2


PROBES: dict[str, type[Probe]] = {
    "constant": Constant,
    "observed": Observed,
    "delayed": Delayed,
    "chosen": Chosen,
    "remembered": Remembered,
    "continuous": Continuous,
}


def ids() -> list[str]:
    """The names of all probes."""
    return list(PROBES)


def canonical(name: str) -> str:
    """The name itself, if there is such a probe.

    Raises:
      UnknownTask: with close matches.
    """
    if name not in PROBES:
        raise UnknownTask(f"there is no probe '{name}'" + suggestion(name, ids()))
    return name


def make(name: str, obs: str) -> gymnasium.Env:
    """One probe."""
    return PROBES[canonical(name)]()
