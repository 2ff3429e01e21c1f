"""N dreams side by side, advanced by one compiled program: actions in, what the world model expects out.

A dream that ended starts another at the next step and ignores its action (Gymnasium's NEXT_STEP autoreset).
All its chance comes from its seed, the number of its episode and that of its step, so a dream is the same
alone as among others, up to the rounding of products of another size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dreamer.agent import Agent
from dreamer.numbers import Numbers
from dreamer.player import Player
from dreamer.records import Latent, Params
from dreamer.schema import ConfigError
from dreamer.world import World
from experiments.decoding import nothing_decodes

MODULES = ("rssm", "objective", "reward", "cont")
"""What dreaming needs of an agent, besides its probe decoder if it has one."""


class State(NamedTuple):
    """Where N dreams are."""

    latent: Latent
    """[N, ...]."""
    seed: Array
    """[N] int32."""
    episode: Array
    """[N] int32, counted from 0."""
    steps: Array
    """[N] int32 taken in it."""
    over: Array
    """[N] bool: the next step starts an episode."""


class Dreamt(NamedTuple):
    """What one step of N dreams shows."""

    obs: Any
    """{key: [N, ...]} decoded."""
    reward: Any
    """[N] float32, expected on arriving; 0 at the start of an episode."""
    survival: Any
    """[N] float32 probability that the episode continues there, without the discount."""
    terminated: Any
    truncated: Any
    """[N] bool."""


class Dreams:
    """N dreams of an agent.

    Args:
      starts: [K, ...] latents, of which each episode takes one at random.
      limit: steps after which an episode is truncated.
      sampled: whether an episode ends with the probability that the model expects, or where it is above 1/2.

    Raises:
      ConfigError: the agent has no decoder.
    """

    def __init__(self, player: Player, starts: Latent, num: int, *, limit: int, sampled: bool):
        self._advance, self._numbers = _compiled(player.agent, sampled), player.numbers
        check_decodes(player)
        needed = (*MODULES, *(["probe"] if player.agent.decoder == "probe" else []))
        self._params = {name: player.everything[name] for name in needed}
        self._starts, self._limit = starts, limit
        blank = lambda dtype: jnp.zeros(num, dtype)
        latent = jax.tree.map(lambda x: jnp.zeros((num, *x.shape[1:]), x.dtype), starts)
        self._state = State(latent, blank(jnp.int32), blank(jnp.int32), blank(jnp.int32), blank(bool))
        self._blank = {k: np.zeros((num, *s.shape), s.dtype) for k, s in player.agent.act_space.items()}

    def reset(self, seeds: Sequence[int] | None) -> Dreamt:
        """Start an episode in every dream: the first one of new seeds, or (None) the next one."""
        over = jnp.ones_like(self._state.over)
        self._state = self._state._replace(over=over)
        if seeds is not None:
            first = jnp.full_like(self._state.episode, -1)
            self._state = self._state._replace(seed=jnp.asarray(seeds, jnp.int32), episode=first)
        return self.step(self._blank)

    def step(self, action: Mapping[str, np.ndarray]) -> Dreamt:
        """Advance every dream by an action {key: [N, ...]}, or start its next episode after its end."""
        self._state, dreamt = self._advance(
            self._params, self._numbers, self._starts, self._state, dict(action), self._limit
        )
        return jax.tree.map(np.array, jax.device_get(dreamt))


def check_decodes(player: Player) -> None:
    """See that latents can be shown as observations, if only through a probe.

    Raises:
      ConfigError: the agent has no decoder.
    """
    if not player.agent.decoder:
        raise ConfigError(nothing_decodes(player.agent.cfg.objective, "its dreams show nothing to act on"))


@lru_cache(maxsize=16)
def _compiled(agent: Agent, sampled: bool) -> Callable[..., tuple[State, Dreamt]]:
    """One program for all dreams of an agent."""
    return jax.jit(partial(_advance, agent, sampled))


def _advance(
    agent: Agent,
    sampled: bool,
    params: Params,
    numbers: Numbers,
    starts: Latent,
    state: State,
    action: dict[str, Array],
    limit: int,
) -> tuple[State, Dreamt]:
    world, first = agent.world(params, numbers), state.over
    episode, steps = state.episode + first, jnp.where(first, 0, state.steps + 1)
    latent, chance = jax.vmap(partial(_reach, world, starts))(
        state.latent, action, first, jnp.stack([state.seed, episode, steps], -1)
    )
    survival = jnp.where(first, 1.0, world.survival(latent.feat))
    reward = jnp.where(first, 0.0, world.reward(latent.feat))
    terminated = (chance if sampled else 0.5) >= survival
    truncated = (steps >= limit) & ~terminated
    shown = world.decode(latent)
    state = State(latent, state.seed, episode, steps, terminated | truncated)
    return state, Dreamt(shown, reward, survival, terminated, truncated)


def _reach(
    world: World, starts: Latent, latent: Latent, action: dict[str, Array], first: Array, counts: Array
) -> tuple[Latent, Array]:
    """Where an action leads one dream, or the start of its next episode, and a number to draw its end with.

    Args:
      counts: [3] its seed, the number of its episode and that of its step.
    """
    seed, episode, steps = counts
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), episode), steps)
    start_key, step_key, end_key = jax.random.split(key, 3)
    one = lambda tree: jax.tree.map(lambda x: x[None], tree)
    reached = jax.tree.map(lambda x: x[0], world.step(one(latent), one(action), key=step_key))
    index = jax.random.randint(start_key, (), 0, len(starts.deter))
    latent = jax.tree.map(lambda pool, x: jnp.where(first, pool[index], x), starts, reached)
    return latent, jax.random.uniform(end_key)
