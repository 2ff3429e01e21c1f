"""Worlds and being in them; `envs.api` has the record and protocols that the rest is built on."""

from envs.adapters import MissingExtra, UnknownTask
from envs.api import EnvError, Policy, Space, Spaces, Step, UnsupportedSpace, VectorEnv
from envs.check import Finding, check
from envs.make import canonical, make, suites
from envs.rollout import Episode, Random, rollout

__all__ = [
    "EnvError",
    "Episode",
    "Finding",
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
    "make",
    "rollout",
    "suites",
]
