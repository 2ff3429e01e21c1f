"""Uniformly random actions: the baseline of every other actor."""

from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dreamer.records import Latent
from dreamer.world import World
from envs.api import Space, Spaces


@dataclass(frozen=True)
class Random:
    """Draws every entry of an action uniformly, whatever the agent believes; it remembers nothing."""

    act_space: Spaces

    @property
    def modules(self) -> tuple[str, ...]:
        """None."""
        return ()

    def init(self, batch: int) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def act(
        self, world: World, latent: Latent, memory: tuple[()], is_first: Array, *, key: Array
    ) -> tuple[dict[str, Array], tuple[()]]:
        """Classes from all classes, numbers from [-1, 1): latents [N, ...] -> {key: [N, ...]}."""
        chex.assert_rank(is_first, 1)
        chex.assert_tree_shape_prefix(latent, is_first.shape)
        keys = jax.random.split(key, len(self.act_space))
        spaces = zip(keys, self.act_space.items(), strict=True)
        return {name: _uniform(space, len(is_first), key) for key, (name, space) in spaces}, memory


def _uniform(space: Space, batch: int, key: Array) -> Array:
    shape = (batch, *space.shape)
    if space.is_discrete:  # in 32 bits, because a small dtype need not hold the number of classes itself
        return jax.random.randint(key, shape, 0, space.num_classes, jnp.int32).astype(space.dtype)
    return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0).astype(space.dtype)
