"""A user's environments that take arguments, and wrappers for them."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Sized(gymnasium.Env):
    """Needs a size; takes nested values. It never ends by itself."""

    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)

    def __init__(self, size, *, nested=None, bonus=0.0):
        self.size, self.nested, self.bonus = size, nested, bonus

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), float(self.bonus), False, False, {}


class Collecting(Sized):
    """Hands all other arguments on."""

    def __init__(self, extra=1, **more):
        super().__init__(**more)
        self.extra = extra


def built(kind="sized", **arguments):
    return {"sized": Sized, "collecting": Collecting}[kind](**arguments)


gymnasium.register("Sized-v0", entry_point=Sized)
gymnasium.register("Three-v0", entry_point="my_arguments_env:Sized", kwargs={"size": 3}, max_episode_steps=7)
gymnasium.register("Collecting-v0", entry_point=Collecting)
gymnasium.register("Built-v0", entry_point=built)
gymnasium.register("NoEntry-v0", vector_entry_point=built)


class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


def plus_one(env):
    return gymnasium.wrappers.TransformReward(env, lambda reward: reward + 1)


def nothing(env):
    """Forgets to give it back."""


def number(env):
    return 3


def raises(env):
    raise ValueError("no\nwrapper")


def lacks(env):
    import no_such_package  # noqa: F401


not_callable = 3
