"""A user's own module: a world whose observation does not say whether it is a picture."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Cells(gymnasium.Env):
    """A map of four kinds of cells; ends after five steps."""

    observation_space = spaces.Dict({"map": spaces.Box(0, 3, (5, 5), np.uint8), "at": spaces.Discrete(25)})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        return self.observe(), 0.0, self.steps == 5, False, {}

    def observe(self):
        return {"map": self.np_random.integers(0, 4, (5, 5)).astype(np.uint8), "at": self.steps}


gymnasium.register("Cells-v0", entry_point=Cells)
