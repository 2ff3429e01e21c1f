"""Worlds and being in them; `envs.api` has the record and protocols that the rest is built on."""

from typing import TYPE_CHECKING, Any

from envs.adapters import MissingExtra, UnknownTask
from envs.api import EnvError, JaxEnv, Policy, Space, Spaces, Step, UnsupportedSpace, VectorEnv
from envs.check import Finding, check
from envs.make import canonical, is_on_device, made_of, make, make_jax, note, suites
from envs.rollout import Episode, Random, rollout

if TYPE_CHECKING:
    from envs.flat import Flat

__all__ = [
    "EnvError",
    "Episode",
    "Finding",
    "Flat",
    "JaxEnv",
    "MissingExtra",
    "Policy",
    "Random",
    "Space",
    "Spaces",
    "Step",
    "UnknownTask",
    "UnsupportedSpace",
    "VectorEnv",
    "canonical",
    "check",
    "is_on_device",
    "made_of",
    "make",
    "make_jax",
    "note",
    "rollout",
    "suites",
]


def __getattr__(name: str) -> Any:
    if name == "Flat":  # which imports Gymnasium
        from envs.flat import Flat

        return Flat
    raise AttributeError(f"module 'envs' has no attribute '{name}'")
