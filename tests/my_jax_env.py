"""Worlds as a user would write them: one that counts, and some that cannot be."""

import jax.numpy as jnp

from envs.api import Space, Step


class Counting:
    """Ends after five steps; the reward is the action, the observation how far it is."""

    task = "jax:my_jax_env:Counting"
    obs_space = {
        "vector": Space((1,), "float32"),
        "log/counts": Space((2,), "int32"),
        "log/view": Space((9, 9), "float32"),
    }
    act_space = {"action": Space((), "int32", 2)}

    def __init__(self):
        self.until = 5

    def reset(self, *, key):
        count, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
        return count, Step(self._observe(count), jnp.zeros(()), ~no, no, no)

    def step(self, state, action, *, key):
        count = state + 1
        obs = self._observe(count)
        last, no = count == self.until, jnp.zeros((), bool)
        return count, Step(obs, action["action"].astype(jnp.float32), no, last, no)

    def _observe(self, count):
        counts = jnp.stack([count, 10 * count]).astype(jnp.int32)
        return {
            "vector": count[None].astype(jnp.float32),
            "log/counts": counts,
            "log/view": jnp.zeros((9, 9)),
        }


class NoWorld:
    """Has spaces but cannot step."""

    obs_space = act_space = {}


def broken():
    raise RuntimeError("no licence")


class Unseen(Counting):
    """Shows nothing to an agent."""

    obs_space = {"log/count": Space((), "int32")}


def lasting(until):
    world = Counting()
    world.until = until
    return world
