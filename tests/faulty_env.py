"""A user's own module: one sound environment and one for each way to break the contract."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Sound(gymnasium.Env):
    """A counter with a seeded offset; ends after 12 steps, or at 5 if the last action was 1."""

    observation_space = spaces.Dict(
        {"count": spaces.Discrete(13), "offset": spaces.Box(-1, 1, (2,), np.float32)}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        self.offset = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.observe(), {}

    def step(self, action):
        self.count += 1
        terminated = self.count >= 5 and action == 1
        return self.observe(), float(action), terminated, self.count == 12, {}

    def observe(self):
        return {"count": self.count, "offset": self.offset}


class NaNObservation(Sound):
    def observe(self):
        offset = self.offset * (np.nan if self.count == 3 else 1)
        return {"count": self.count, "offset": offset}


class WrongShape(Sound):
    def observe(self):
        return {"count": self.count, "offset": self.offset[: 1 + (self.count < 3)]}


class WrongDtype(Sound):
    def observe(self):
        return {"count": self.count + 0.5, "offset": self.offset}


class WrongKeys(Sound):
    def observe(self):
        return {"count": self.count}


class WrongClass(Sound):
    def observe(self):
        return {"count": self.count + 10, "offset": self.offset}


class NaNReward(Sound):
    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, np.nan if self.count == 4 else 0.0, terminated, truncated, info


class ArrayReward(Sound):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, np.array([reward]), terminated, truncated, info


class Raises(Sound):
    def step(self, action):
        if self.count == 2:
            raise ZeroDivisionError("division by zero\nwith a second line")
        return super().step(action)


class IgnoresSeed(Sound):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None)


class Leaks(Sound):
    """What happened in earlier episodes decides where the next one starts."""

    plays = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.plays += 1
        self.offset[:] = self.plays / 1000
        return self.observe(), {}


class LimitAsEnd(Sound):
    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, self.count == 12, False, info


class LosesTheEnd(Sound):
    """Resets itself like an environment with its own autoreset."""

    observation_space = spaces.Discrete(13)

    def observe(self):
        return self.count

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return 0 if terminated or truncated else obs, reward, terminated, truncated, info


class Dies(Sound):
    """Takes its process with it, as a crash in native code does."""

    def step(self, action):
        import os

        os._exit(1)


class CannotBeBuilt(Sound):
    def __init__(self):
        raise TypeError("no licence")


FAULTS = [env for env in Sound.__subclasses__()]

for env in (Sound, *FAULTS):
    gymnasium.register(f"{env.__name__}-v0", entry_point=env)
