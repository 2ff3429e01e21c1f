"""From one pure environment to many in step: batching and autoreset, in one compiled program."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from envs.api import JaxEnv, Step


class Worlds(NamedTuple):
    """The state of E copies."""

    state: Any
    """[E, ...] of the environment."""
    is_last: Array
    """[E] copies that start an episode at the next call."""


class Batched:
    """E copies of a `JaxEnv` with NEXT_STEP autoreset: the final observation keeps a slot of its own.

    Args:
      env: one pure environment without autoreset.
      num_envs: E.
      lazy_resets: compute new episodes only in calls where a copy needs one. Worth it where a reset costs
        much more than a step; inside another `vmap` it has no effect.
    """

    def __init__(self, env: JaxEnv, num_envs: int, *, lazy_resets: bool = False):
        self.env, self.num_envs, self._lazy = env, num_envs, lazy_resets
        self.task, self.obs_space, self.act_space = env.task, env.obs_space, env.act_space

    def reset(self, *, key: Array) -> tuple[Worlds, Step]:
        """Start an episode in every copy, each from its own key."""
        return self.reset_each(jax.random.split(key, self.num_envs))

    def reset_each(self, keys: Array) -> tuple[Worlds, Step]:
        """Start an episode in every copy from keys [E]."""
        state, step = jax.vmap(lambda key: self.env.reset(key=key))(keys)
        return Worlds(state, step.is_last), step

    def step(self, worlds: Worlds, action: Any, *, key: Array) -> tuple[Worlds, Step]:
        """Advance every copy by one slot; a copy that was `is_last` ignores its action and starts an episode.

        Args:
          action: {key: [E, ...]}.
        """
        reset_key, step_key = jax.random.split(key)
        advance = lambda state, action, key: self.env.step(state, action, key=key)
        moved = jax.vmap(advance)(worlds.state, action, jax.random.split(step_key, self.num_envs))

        def with_resets(moved: tuple[Any, Step]) -> tuple[Any, Step]:
            fresh, first = self.reset(key=reset_key)
            return jax.tree.map(
                lambda new, old: _where(worlds.is_last, new, old), (fresh.state, first), moved
            )

        if self._lazy:
            state, step = jax.lax.cond(worlds.is_last.any(), with_resets, lambda moved: moved, moved)
        else:
            state, step = with_resets(moved)
        return Worlds(state, step.is_last), step


def _where(mask: Array, new: Array, old: Array) -> Array:
    return jnp.where(mask.reshape(-1, *[1] * (jnp.ndim(new) - 1)), new, old)
