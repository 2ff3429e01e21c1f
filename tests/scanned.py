"""Copies of a world that step in a scan, as in the fused loop: what is true of every suite of the device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.api import Step
from envs.wrappers import Batched


def played(env: Batched, slots: int) -> Step:
    """The second of two scans with random actions, [slots, copies, ...], after what is true of every suite.

    One program plays both, an episode begins where one has ended, also across scans, and what begins it
    has no reward.
    """
    (space,) = env.act_space.values()

    def action(key) -> Any:
        shape = (env.num_envs, *space.shape)
        if space.is_discrete:
            return jax.random.randint(key, shape, 0, space.num_classes)
        return jax.random.uniform(key, shape, jnp.float32, -1, 1)

    def turn(worlds, key):
        act_key, key = jax.random.split(key)
        return env.step(worlds, {"action": action(act_key)}, key=key)

    play = jax.jit(lambda worlds, key: jax.lax.scan(turn, worlds, jax.random.split(key, slots)))
    keys = jax.random.split(jax.random.key(1), 2)
    worlds, _ = jax.jit(lambda key: env.reset(key=key))(jax.random.key(0))
    worlds, before = play(worlds, keys[0])
    _, step = play(worlds, keys[1])
    assert play._cache_size() == 1
    np.testing.assert_array_equal(step.is_first[1:], step.is_last[:-1])
    np.testing.assert_array_equal(step.is_first[0], before.is_last[-1])
    assert step.is_last.any() and not np.asarray(step.reward)[np.asarray(step.is_first)].any()
    return step
