"""DeviceCopies: a `JaxEnv` for callers on the host that pass seeds and numpy arrays.

For evaluation, for `envs.check`, and for host loops. A copy's chance comes from the seed of its
episode and the number of its steps alone, so an episode is the same in any copy and next to any others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from envs.api import JaxEnv, Spaces, Step
from envs.copies import GO_ON, Batched
from envs.wrappers import begin_where


class Copy(NamedTuple):
    """One copy."""

    state: Any
    """Of the environment."""
    seed: Array
    """[] of its episode."""
    steps: Array
    """[] taken in it."""


class DeviceCopies:
    """Copies of one pure environment, stepped in one compiled program."""

    def __init__(self, env: JaxEnv, num_envs: int):
        self._env = env
        start = jax.vmap(self._start)
        blank = jax.eval_shape(start, jnp.zeros(num_envs, jnp.int32))[0]
        self._copies = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank)

        def step(copies: Copy, action: dict[str, Array], seeds: Array) -> tuple[Copy, Step]:
            moved = jax.vmap(self._advance)(copies, action)
            return begin_where(seeds != GO_ON, lambda which: start(seeds[which]), moved)

        self._step = jax.jit(step, donate_argnums=0)
        self._moved: Step | None = None

    def _start(self, seed: Array) -> tuple[Copy, Step]:
        state, step = self._env.reset(key=jax.random.key(seed))
        return Copy(state, seed, jnp.zeros((), jnp.int32)), step

    def _advance(self, copy: Copy, action: dict[str, Array]) -> tuple[Copy, Step]:
        steps = copy.steps + 1
        key = jax.random.fold_in(jax.random.key(copy.seed), steps)
        state, step = self._env.step(copy.state, action, key=key)
        return Copy(state, copy.seed, steps), step

    def spaces(self) -> tuple[Spaces, Spaces]:
        """Of observations and actions."""
        return self._env.obs_space, self._env.act_space

    def notices(self) -> list[str]:
        """None: a `JaxEnv` says itself what its observations are."""
        return []

    def send(self, action: Mapping[str, np.ndarray], seeds: np.ndarray) -> None:
        """Have every copy start an episode with its seed, or take its action where that is `GO_ON`."""
        self._copies, self._moved = self._step(self._copies, dict(action), np.asarray(seeds, np.int32))

    def receive(self) -> Batched:
        """What came of it."""
        step, self._moved = self._moved, None
        return tuple(jax.tree.map(np.array, jax.device_get(step))), {}

    def worlds(self) -> list[Any]:
        """The state of each copy, as numpy arrays."""
        states = jax.device_get(self._copies.state)
        return [jax.tree.map(lambda x, i=i: x[i], states) for i in range(len(self._copies.seed))]

    def close(self) -> None:
        """Nothing to close."""
