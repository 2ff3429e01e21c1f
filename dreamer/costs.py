"""Costs and goals that a person adds at decision time, in a planner or in imagination.

A cost is a function of imagined states (`dreamer.world.Cost`), which `World.with_cost` takes off the reward:

    r' = w r - sum_i c_i(h, z, decoded)

Any such function will do; here are those that every agent understands. None of them needs new data: the
world model has learned what leads where, and the cost says what of it is wanted.

Reference: LeCun (2022), A path towards autonomous machine intelligence (intrinsic costs); goals as distances
between embeddings as in Zhou et al. (2024), DINO-WM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dreamer.ops import dists
from dreamer.records import Latent
from dreamer.schema import ConfigError
from dreamer.world import Cost, World
from envs.api import Spaces

REWARDED = 0.1
"""An ending where less reward than this is expected is a failure."""


def ending(world: World, latent: Latent, decoded: dict[str, Array] | None) -> Array:
    """``1 - P(the episode continues)``: to live on, whatever ends it."""
    return 1 - world.survival(latent.feat)


def failure(world: World, latent: Latent, decoded: dict[str, Array] | None) -> Array:
    """``1 - P(the episode continues)`` where less than 0.1 of reward is expected."""
    return ending(world, latent, decoded) * (world.reward(latent.feat) < REWARDED)


COSTS: dict[str, Cost] = {"ending": ending, "failure": failure}
"""Those that have a name of their own."""


@dataclass(frozen=True)
class Sum:
    """Several costs at once, each times its weight."""

    terms: tuple[tuple[Cost, float], ...]

    def __call__(self, world: World, latent: Latent, decoded: dict[str, Array] | None) -> Array:
        return jnp.stack([w * jnp.asarray(cost(world, latent, decoded)) for cost, w in self.terms]).sum(0)


@dataclass(frozen=True, eq=False)
class Goal:
    """How far a state is from an observation that shall be reached.

        latent       KL(q(z | h, goal) || p(z | h)) / S    surprise of seeing the goal there, nats per group
        embedding    1 - cos(e(decoded), e(goal))          e: the tokens of the encoder

    Args:
      obs: {key: array} one observation without an axis of a batch (`goal` checks it).

    Raises:
      ValueError: the distance is that of embeddings, and the agent has no decoder.
    """

    obs: Mapping[str, Any]
    distance: Literal["latent", "embedding"] = "latent"

    def __call__(self, world: World, latent: Latent, decoded: dict[str, Array] | None) -> Array:
        tokens = world.encoder({k: jnp.asarray(v)[None] for k, v in self.obs.items()}, 1, world.dtype)
        if self.distance == "latent":
            prior = world.prior(latent.deter)
            there = jnp.broadcast_to(tokens, (len(latent.deter), tokens.shape[-1]))
            return dists.categorical_kl(world.after_looking(latent.deter, there), prior).mean(-1)
        if decoded is None:
            raise ValueError(
                "a goal's distance between embeddings needs decoded observations, and this agent has no "
                "decoder: take the distance between latents"
            )
        seen = world.encoder({k: decoded[k] for k in self.obs}, 1, world.dtype)
        unit = lambda x: x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-8)
        return 1 - (unit(seen.astype(jnp.float32)) * unit(tokens.astype(jnp.float32))).sum(-1)


def goal(obs: Any, space: Spaces, distance: Literal["latent", "embedding"] = "latent") -> Goal:
    """The cost of being far from an observation.

    Args:
      obs: {key: array} as the agent observes, or an array where it has a single key; other keys are ignored.
      space: what the agent observes.

    Raises:
      ConfigError: a key is missing, or has another shape.
    """
    if not isinstance(obs, Mapping):
        obs = {next(iter(space)): obs} if len(space) == 1 else {}
    if missing := [name for name in space if name not in obs]:
        raise ConfigError(
            f"the goal lacks {', '.join(missing)}: it must be an observation with {', '.join(space)}"
        )
    taken = {name: np.asarray(obs[name]) for name in space}
    for name, value in taken.items():
        if value.shape != space[name].shape:
            shapes = f"{value.shape}, but {space[name].shape} is needed"
            raise ConfigError(f"'{name}' of the goal has shape {shapes}: one observation, without a batch")
    return Goal(
        {name: jax.device_get(value.astype(space[name].dtype)) for name, value in taken.items()}, distance
    )
