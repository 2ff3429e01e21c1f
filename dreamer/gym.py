"""Dreams as Gymnasium environments, in which any library can train.

    from dreamer.gym import DreamEnv, DreamVectorEnv, TaskEnv

    PPO("MlpPolicy", DreamEnv("runs/cartpole-seed0")).learn(100_000)     # of Stable-Baselines3, for one

`gymnasium.make("dreamer.gym:dreamer/Dream-v0", run=...)` and `gymnasium.make_vec` make them by name.
"""

import gymnasium

from dreamer.packages import claim

claim("envs", "experiments")  # which a user's folder of that name may precede on the path

from experiments.dream.env import DreamEnv, DreamVectorEnv, TaskEnv  # noqa: E402

__all__ = ["DreamEnv", "DreamVectorEnv", "TaskEnv"]

gymnasium.register(
    "dreamer/Dream-v0",
    entry_point="dreamer.gym:DreamEnv",
    vector_entry_point="dreamer.gym:DreamVectorEnv",
)
