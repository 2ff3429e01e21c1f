"""Where dreams start: latents that follow real observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.player import Player
from dreamer.records import Latent
from dreamer.schema import ConfigError
from envs.api import VectorEnv


def of_task(player: Player, env: VectorEnv, count: int, random_steps: int, seed: int) -> Latent:
    """[count, ...] latents after the first observations of episodes, or after some random steps of these.

    Args:
      env: a single copy; its training seeds choose the episodes, so that those of evaluations stay unseen.
      random_steps: episodes are followed for 0 to this many steps, all equally likely, at most to their last
        but one.
      seed: of the actions and of all sampling.
    """
    follower = Player(player.agent, player.everything, player.numbers, actor="random")
    rng = np.random.default_rng(seed)
    lengths = rng.integers(random_steps + 1, size=count)
    latents = [_follow(follower, env, int(length), rng) for length in lengths]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *latents)


def _follow(follower: Player, env: VectorEnv, length: int, rng: np.random.Generator) -> Latent:
    """[1, ...] the latent after so many random steps of a new episode, or before its last one."""
    carry, step = follower.init(1), env.reset()
    draw = lambda: int(rng.integers(2**31))
    for _ in range(length):
        action, carry = follower.act(carry, step, key=draw())
        step = env.step(action)
        if step.is_last[0]:
            return carry.latent
    return follower.act(carry, step, key=draw())[1].latent


def given(player: Player, starts: Any) -> Latent:
    """[K, ...] latents as they are, or those after the first observations [K, ...] of an agent.

    Args:
      starts: a `Latent`, {key: [K, ...]} observations, or an array where the agent has a single key.

    Raises:
      ConfigError: they are none of these, or of other shapes.
    """
    if isinstance(starts, Latent):
        return _checked(player, starts)
    keys = list(player.agent.obs_space)
    if not isinstance(starts, Mapping):
        if len(keys) > 1 or isinstance(starts, str):
            raise ConfigError(
                f"starts is {starts!r:.60}, but it must be 'task', latents or observations with the keys "
                f"{', '.join(keys)}"
            )
        starts = {keys[0]: starts}
    missing = [key for key in keys if key not in starts]
    obs = {key: np.asarray(starts[key]) for key in keys if key not in missing}
    sizes = {value.shape[:1] for value in obs.values()}
    if missing or len(sizes) != 1 or sizes & {(), (0,)}:
        raise ConfigError(f"starts must have observations [K, ...] of each of these keys: {', '.join(keys)}")
    ((size,),) = sizes
    try:
        _, carry = player.act(player.init(size), obs)
    except ValueError as error:
        raise ConfigError(f"starts do not fit the agent: {error}") from None
    return carry.latent


def _checked(player: Player, latent: Latent) -> Latent:
    """Latents of the shapes of this agent, in its dtypes."""
    wanted = player.init(1).latent
    shapes = lambda tree: [x.shape[1:] for x in jax.tree.leaves(tree)]
    sizes = {np.shape(x)[:1] for x in jax.tree.leaves(latent)}
    if shapes(latent) != shapes(wanted) or len(sizes) != 1 or sizes & {(), (0,)}:
        parts = ", ".join(str(["K", *shape]) for shape in shapes(wanted))
        raise ConfigError(f"starts are latents of another agent: this one has arrays {parts}")
    return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), latent, wanted)
