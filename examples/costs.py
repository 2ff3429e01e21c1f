"""Wishes for an agent of DoorKey that was only ever rewarded for reaching the goal.

    WISHES="examples/costs.py:without_key examples/costs.py:door_open=9"
    dreamer eval RUN --actor categorical_cem --cost $WISHES
    dreamer imagine RUN --cost $WISHES --reward-weight 0

The first plans with the costs, without any learning; the second has the policy learn them in dreams. A cost
is a function of N imagined states: the world model, their latents, and what they look like. Here what they
look like is enough: {object, color, state: [N, 7, 7]} as the agent of MiniGrid sees, from the middle of the
lowest row, where what it carries is drawn.
"""

from collections.abc import Mapping

from jax import Array

from dreamer.records import Latent
from dreamer.world import World
from envs.gridworld import AGENT, DOOR, KEY, LAVA, OPEN, STATE


def without_key(world: World, latent: Latent, decoded: Mapping[str, Array]) -> Array:
    """1 where the agent does not carry the key."""
    return decoded["object"][:, *AGENT] != KEY


def door_open(world: World, latent: Latent, decoded: Mapping[str, Array]) -> Array:
    """1 where an open door is in view."""
    is_open = (decoded["object"] == DOOR) & (decoded["state"] == OPEN // STATE)
    return is_open.any((1, 2))


def lava_ahead(world: World, latent: Latent, decoded: Mapping[str, Array]) -> Array:
    """1 where lava is in front of the agent."""
    x, y = AGENT
    return decoded["object"][:, x, y - 1] == LAVA
