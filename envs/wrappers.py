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


PARTS = 64
"""New episodes are begun so many at a time: a part of the copies, because few end in the same slot."""


class Batched:
    """E copies of a `JaxEnv` with NEXT_STEP autoreset: the final observation keeps a slot of its own.

    What an episode's beginning costs is paid for those copies that need one, a few at a time, and not at all
    in a slot where none does.

    Args:
      env: one pure environment without autoreset.
      num_envs: E.
    """

    def __init__(self, env: JaxEnv, num_envs: int):
        self.env, self.num_envs = env, num_envs
        self.task, self.obs_space, self.act_space = env.task, env.obs_space, env.act_space

    def reset(self, *, key: Array) -> tuple[Worlds, Step]:
        """Start an episode in every copy, each from its own key."""
        state, step = self._begin(key, jnp.arange(self.num_envs))
        return Worlds(state, step.is_last), step

    def _begin(self, key: Array, copies: Array) -> tuple[Any, Step]:
        return jax.vmap(lambda copy: self.env.reset(key=jax.random.fold_in(key, copy)))(copies)

    def step(self, worlds: Worlds, action: Any, *, key: Array) -> tuple[Worlds, Step]:
        """Advance every copy by one slot; a copy that was `is_last` ignores its action and starts an episode.

        Args:
          action: {key: [E, ...]}.
        """
        reset_key, step_key = jax.random.split(key)
        advance = lambda state, action, key: self.env.step(state, action, key=key)
        moved = jax.vmap(advance)(worlds.state, action, jax.random.split(step_key, self.num_envs))
        part = -(-self.num_envs // PARTS)

        def begin_some(carry: tuple[Array, Any]) -> tuple[Array, Any]:
            waiting, worlds = carry
            copies = jnp.nonzero(waiting, size=part, fill_value=self.num_envs)[0]
            fresh = self._begin(reset_key, copies)
            put = lambda old, new: old.at[copies].set(new, mode="drop")
            return put(waiting, False), jax.tree.map(put, worlds, fresh)

        _, (state, step) = jax.lax.while_loop(
            lambda carry: carry[0].any(), begin_some, (worlds.is_last, moved)
        )
        return Worlds(state, step.is_last), step
