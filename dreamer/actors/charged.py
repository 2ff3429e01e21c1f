"""Plan with a cost that a person has added."""

from dataclasses import dataclass
from typing import Any, Generic

from jax import Array

from dreamer.actors import Actor, MemoryT, model_steps
from dreamer.records import Latent
from dreamer.world import Cost, World


@dataclass(frozen=True)
class Charged(Generic[MemoryT]):
    """An actor that plans as it does, in a world with a cost (`World.with_cost`).

    Args:
      actor: a planner; one that does not ask the world model for rewards acts as it did.
      decoder: the module that decodes states for the cost, "" where nothing does (`Agent.decoder`).
      reward_weight: how much the task's reward counts beside the cost; 0: only the cost counts.
    """

    actor: Actor[MemoryT]
    cost: Cost
    decoder: str
    reward_weight: Array | float = 1.0

    @property
    def modules(self) -> tuple[str, ...]:
        """Those of the actor and what a cost may ask: heads, and what decodes or says that it cannot."""
        return tuple(dict.fromkeys((*self.actor.modules, "reward", "cont", self.decoder or "objective")))

    @property
    def model_steps(self) -> int:
        """Those of the actor."""
        return model_steps(self.actor)

    def init(self, batch: int) -> MemoryT:
        """That of the actor."""
        return self.actor.init(batch)

    def act(
        self, world: World, latent: Latent, memory: Any, is_first: Array, *, key: Array
    ) -> tuple[dict[str, Array], MemoryT]:
        """As the actor, in a world with the cost: latents [N, ...] -> {key: [N, ...]}."""
        world = world.with_cost(self.cost, self.reward_weight)
        return self.actor.act(world, latent, memory, is_first, key=key)
