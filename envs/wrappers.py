"""From one pure environment to others: many in step with autoreset, or one with so many steps or worlds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from envs.api import FIRST_TRAINING_SEED, JaxEnv, Step


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
        begin = lambda copies: self._begin(reset_key, copies)
        state, step = begin_where(worlds.is_last, begin, moved)
        return Worlds(state, step.is_last), step


def begin_where(starts: Array, begin: Callable[[Array], Any], moved: Any) -> Any:
    """Put new episodes in the place of those copies that start one.

    What a beginning costs is paid for the copies that need one, a few at a time, and not at all where none
    does.

    Args:
      starts: [E] which they are.
      begin: copies [P] -> what each has at its beginning, [P, ...]; a copy E is asked for to fill up.
      moved: [E, ...] what all have otherwise.
    """
    count = len(starts)
    part = -(-count // PARTS)

    def begin_some(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        waiting, worlds = carry
        copies = jnp.nonzero(waiting, size=part, fill_value=count)[0]
        put = lambda old, new: old.at[copies].set(new, mode="drop")
        return put(waiting, False), jax.tree.map(put, worlds, begin(copies))

    return jax.lax.while_loop(lambda carry: carry[0].any(), begin_some, (starts, moved))[1]


class LimitedState(NamedTuple):
    """A world and its clock."""

    world: Any
    """State of the environment."""
    steps: Array
    """[] int32, steps taken."""


class Limited:
    """A `JaxEnv` whose episodes end after `max_steps` steps without being terminal, if they have not before.

    Args:
      env: any world.
      max_steps: the time limit.
    """

    def __init__(self, env: JaxEnv, max_steps: int):
        self.env, self.max_steps = env, max_steps
        self.task, self.obs_space, self.act_space = env.task, env.obs_space, env.act_space

    def reset(self, *, key: Array) -> tuple[LimitedState, Step]:
        """As without a limit."""
        state, step = self.env.reset(key=key)
        return LimitedState(state, jnp.zeros((), jnp.int32)), step

    def step(self, state: LimitedState, action: Any, *, key: Array) -> tuple[LimitedState, Step]:
        """As without a limit, until it is reached."""
        world, step = self.env.step(state.world, action, key=key)
        steps = state.steps + 1
        return LimitedState(world, steps), step._replace(is_last=step.is_last | (steps >= self.max_steps))


class Levels:
    """A `JaxEnv` that starts only so many worlds: those of `FIRST_TRAINING_SEED` and the seeds after it.

    A seed gives the world that it gives in `DeviceCopies`; what chance does later is new in every episode.

    Args:
      env: any world.
      levels: how many.
    """

    def __init__(self, env: JaxEnv, levels: int):
        self.env, self.levels = env, levels
        self.task, self.obs_space, self.act_space = env.task, env.obs_space, env.act_space

    def reset(self, *, key: Array) -> tuple[Any, Step]:
        """One of the worlds, all equally likely, and its first step."""
        level = jax.random.randint(key, (), 0, self.levels)
        return self.env.reset(key=jax.random.key(FIRST_TRAINING_SEED + level))

    def step(self, state: Any, action: Any, *, key: Array) -> tuple[Any, Step]:
        """As without levels."""
        return self.env.step(state, action, key=key)
