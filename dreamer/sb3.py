"""Agents where Stable-Baselines3 expects a model; the package itself is not needed.

from dreamer.sb3 import Predictor

evaluate_policy(Predictor("runs/cartpole-seed0", env), env)
"""

from dreamer.packages import claim

claim("envs", "experiments")  # which a user's folder of that name may precede on the path

from experiments.predictor import Predictor  # noqa: E402

__all__ = ["Predictor"]
