"""The agent: `train` one, `load` it, or `build` what trains it; JAX is imported on first use."""

from typing import TYPE_CHECKING, Any

from dreamer.config import AgentConfig, Config
from dreamer.packages import claim
from dreamer.schema import ConfigError

if TYPE_CHECKING:
    from dreamer.agent import Agent
    from dreamer.player import load
    from experiments.training.api import TrainingStopped, build, preset, train

__all__ = [
    "Agent",
    "AgentConfig",
    "Config",
    "ConfigError",
    "TrainingStopped",
    "build",
    "load",
    "preset",
    "train",
]

TRAINING = ("TrainingStopped", "build", "preset", "train")
"""Names that come from above: nothing else of `dreamer` imports `experiments`."""


def __getattr__(name: str) -> Any:
    if name in ("Agent", "load"):
        claim("envs")  # which both need; a user's folder of that name may precede it on the path
    if name == "Agent":
        from dreamer.agent import Agent

        return Agent
    if name == "load":
        from dreamer.player import load

        return load
    if name in TRAINING:
        claim("envs", "experiments")
        from experiments.training import api

        return getattr(api, name)
    raise AttributeError(f"module 'dreamer' has no attribute '{name}'")
