"""Worlds and being in them; `envs.api` has the record and protocols that the rest is built on."""

from envs.adapters import MissingExtra, UnknownTask
from envs.api import EnvError, JaxEnv, Policy, Space, Spaces, Step, UnsupportedSpace, VectorEnv
from envs.check import Finding, check
from envs.make import canonical, is_on_device, make, make_jax, suites
from envs.rollout import Episode, Random, rollout

__all__ = [
    "EnvError",
    "Episode",
    "Finding",
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
    "make",
    "make_jax",
    "rollout",
    "suites",
]
