"""The agent: `load` a trained one or build an `Agent`; JAX is imported when one is asked for."""

from typing import TYPE_CHECKING, Any

from dreamer.config import AgentConfig, Config
from dreamer.packages import claim

if TYPE_CHECKING:
    from dreamer.agent import Agent
    from dreamer.player import load

__all__ = ["Agent", "AgentConfig", "Config", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Agent", "load"):
        claim("envs")  # which both need; a user's folder of that name may stand before it on the path
    if name == "Agent":
        from dreamer.agent import Agent

        return Agent
    if name == "load":
        from dreamer.player import load

        return load
    raise AttributeError(f"module 'dreamer' has no attribute '{name}'")
