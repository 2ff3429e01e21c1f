"""What an actor would do, in the world and in the dream, with costs that a person switches on and off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dreamer.actors import Actor
from dreamer.actors.charged import Charged
from dreamer.agent import Carry
from dreamer.player import Player
from dreamer.records import Latent
from dreamer.world import Cost, World
from envs.api import Step
from experiments.costs import reading
from experiments.costs.reading import Terms

Choice = tuple[dict[str, np.ndarray], Carry[Any]]
"""{key: [1, ...]} what it would do, and its memory then."""


class Adviser:
    """An actor that is asked what it would do, with some of the costs.

        r' = w r - sum over costs that are on of w_i c_i        w = 1 while none is on

    Which are on is an argument of the compiled program: switching compiles nothing.

    Args:
      player: its actor is asked; costs change nothing of one that does not plan.
      name: of the actor, to be shown.
      terms: {cost as it was written: the cost and its weight}.
      reward_weight: w, how much the task's reward counts beside costs.
    """

    def __init__(self, player: Player, name: str, terms: Terms | None = None, reward_weight: float = 1.0):
        self.player, self.name = player, name
        self.terms, self.reward_weight = dict(terms or {}), reward_weight
        self._act, self._dream = jax.jit(self._at_step), jax.jit(self._at_dream)
        self._charge, self._charge_dream = reading.charge(player.agent, self.terms), jax.jit(self._dreamt)

    @property
    def plans(self) -> bool:
        """Whether it asks the world model, so that costs change what it would do."""
        return reading.plans(self.player.actor)

    def act(self, carry: Carry[Any], step: Step, on: Sequence[bool], *, key: int) -> Choice:
        """Follow a step of the world, and say what to do there.

        Args:
          on: which costs count.
        """
        return self._ask(self._act, carry, step, on, key)

    def dream(self, carry: Carry[Any], latent: Latent, on: Sequence[bool], *, key: int) -> Choice:
        """Say what to do at a latent [1] of a dream; of the memory only that of the actor changes."""
        return self._ask(self._dream, carry, latent, on, key)

    def _ask(self, program: Any, carry: Carry[Any], now: Any, on: Sequence[bool], key: int) -> Choice:
        player = self.player
        choice, carry = program(player.everything, player.numbers, carry, now, np.array(on, bool), key)
        return jax.device_get(choice), carry

    def _at_step(self, params: Any, numbers: Any, carry: Carry[Any], step: Step, on: Array, key: int) -> Any:
        actor = self._actor(on)
        return self.player.agent.act(params, carry, step, numbers, key=jax.random.key(key), actor=actor)

    def _at_dream(
        self, params: Any, numbers: Any, carry: Carry[Any], latent: Latent, on: Array, key: int
    ) -> Any:
        world, is_first = self.player.agent.world(params, numbers), jnp.zeros(1, bool)
        actor = self._actor(on)
        choice, memory = actor.act(world, latent, carry.memory, is_first, key=jax.random.key(key))
        return choice, carry._replace(memory=memory)

    def _actor(self, on: Array) -> Actor[Any]:
        """The actor with the costs that are on, [K]."""
        actor = self.player.actor
        if not self.terms or not self.plans:
            return actor
        weight = jnp.where(on.any(), self.reward_weight, 1.0)
        return Charged(actor, _counted(self.terms, on), self.player.agent.decoder, weight)

    def paid(self, carry: Carry[Any], step: Step, dream: Latent) -> list[tuple[float, float]]:
        """What every cost says, without its weight: of what was really seen, and of the dreamt state."""
        if not self.terms:
            return []
        params, numbers = self.player.everything, self.player.numbers
        obs = {name: step.obs[name] for name in self.player.agent.obs_space}
        real = self._charge(params, numbers, carry.latent, obs)
        dreamt = self._charge_dream(params, numbers, dream)
        both = np.concatenate(jax.device_get((real, dreamt)), 1)
        return [(float(seen), float(imagined)) for seen, imagined in both]

    def _dreamt(self, params: Any, numbers: Any, dream: Latent) -> Array:
        """[K, N] what dreamt states cost, as planners have it from `World.charge`."""
        world = self.player.agent.world(params, numbers)
        return jnp.stack([world.with_cost(cost).charge(dream.feat) for cost, _ in self.terms.values()])


def _counted(terms: Terms, on: Array) -> Cost:
    """The sum of the costs that are on, whatever the others give."""

    def cost(world: World, latent: Latent, decoded: dict[str, Array] | None) -> Array:
        every = [weight * jnp.asarray(one(world, latent, decoded)) for one, weight in terms.values()]
        return jnp.stack([jnp.where(on[k], paid, 0.0) for k, paid in enumerate(every)]).sum(0)

    return cost
