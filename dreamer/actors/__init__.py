"""The seam "how an action is chosen at decision time": `ACTORS` names them.

An agent follows its episodes with the posterior and asks an actor for every action. An actor that plans asks
the world model; what it keeps until the next step (a plan to start the next search from) is its own memory,
which travels in the agent's `Carry`. Adding one: a file here and a line in the table.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from jax import Array

from dreamer.actors.policy import Policy
from dreamer.actors.uniform import Random
from dreamer.records import Latent
from dreamer.schema import ConfigError
from dreamer.world import World
from envs.api import Spaces

MemoryT = TypeVar("MemoryT")
"""Of an actor's memory: a pytree of arrays [N, ...], `()` where nothing is remembered."""


class Actor(Protocol[MemoryT]):
    """The interface of an actor."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose parameters it needs, besides those that follow the episode (encoder and rssm)."""
        ...

    def init(self, batch: int) -> MemoryT:
        """The memory with which `batch` episodes start, [batch, ...]."""
        ...

    def act(
        self, world: World, latent: Latent, memory: MemoryT, is_first: Array, *, key: Array
    ) -> tuple[dict[str, Array], MemoryT]:
        """Choose an action for each of N environments.

        Args:
          world: the world model with the modules that the actor needs; `world.choose` is the policy.
          latent: [N, ...] what the agent believes after looking.
          memory: [N, ...] as the last call returned it; state of an episode must not survive `is_first`.
          is_first: [N] whether an episode starts here.

        Returns:
          {key: [N, ...]} actions and the new memory.
        """
        ...


ACTORS: dict[str, Callable[[Spaces], Actor[Any]]] = {
    "greedy": lambda act_space: Policy(greedy=True),
    "sampled": lambda act_space: Policy(greedy=False),
    "random": Random,
}
"""{name: made from the action space}."""


def named(name: str) -> Callable[[Spaces], Actor[Any]]:
    """How the actor of this name is made.

    Raises:
      ConfigError: there is none; the message lists the names.
    """
    if name not in ACTORS:
        raise ConfigError(f"there is no actor '{name}'; there are {', '.join(ACTORS)}")
    return ACTORS[name]
