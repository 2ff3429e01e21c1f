"""The seam "how an action is chosen at decision time": `ACTORS` names them.

An agent follows its episodes with the posterior and asks an actor for every action. An actor that plans asks
the world model; what it keeps until the next step (a plan to start the next search from) is its own memory,
which travels in the agent's `Carry`. Adding one: a file here and a line in the table.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from jax import Array

from dreamer import schema
from dreamer.actors.categorical_cem import CategoricalCEM, CategoricalCEMConfig
from dreamer.actors.cem import CEM, CEMConfig
from dreamer.actors.gumbel import Gumbel, GumbelConfig
from dreamer.actors.icem import ICEM, ICEMConfig
from dreamer.actors.mppi import MPPI, MPPIConfig
from dreamer.actors.policy import Policy
from dreamer.actors.uniform import Random
from dreamer.records import Latent
from dreamer.schema import ConfigError, Section
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


def model_steps(actor: Actor[Any]) -> int:
    """Steps of the world model that an actor takes for a decision of one environment.

    An actor says so in a property `model_steps`, which it need not have: 0 without one.
    """
    return getattr(actor, "model_steps", 0)


def expected_return(memory: Any) -> Array | None:
    """[N] what the plans are expected to earn whose first actions an actor took last, discounted.

    An actor says so in a field `expected` of its memory, which it need not have: None without one. It is NaN
    where an action is of no plan.
    """
    return getattr(memory, "expected", None)


@dataclass(frozen=True)
class Planner:
    """How a planner with options is made."""

    kind: Callable[[Spaces, Any], Actor[Any]]
    options: type[Section]

    def __call__(self, act_space: Spaces, values: Mapping[str, Any] = MappingProxyType({})) -> Actor[Any]:
        """The planner with these options, {name: value}.

        Raises:
          ConfigError: there is no such option, its value is not allowed, it cannot plan such actions, or it
            needs a package that is not installed.
        """
        return self.kind(act_space, self.read(values))

    def read(self, values: Mapping[str, Any]) -> Section:
        """The options, checked.

        Raises:
          ConfigError: there is no such option, or its value is not allowed.
        """
        return schema.build(self.options, values)


ACTORS: dict[str, Callable[[Spaces], Actor[Any]]] = {
    "greedy": lambda act_space: Policy(greedy=True),
    "sampled": lambda act_space: Policy(greedy=False),
    "random": Random,
    "mppi": Planner(MPPI, MPPIConfig),
    "cem": Planner(CEM, CEMConfig),
    "icem": Planner(ICEM, ICEMConfig),
    "categorical_cem": Planner(CategoricalCEM, CategoricalCEMConfig),
    "gumbel": Planner(Gumbel, GumbelConfig),
}
"""{name: made from the action space}."""


def named(text: str) -> Callable[[Spaces], Actor[Any]]:
    """How an actor is made: NAME, or NAME:OPTION=VALUE,OPTION=VALUE as mppi:horizon=3,samples=128.

    Raises:
      ConfigError: there is none of that name, or it has no such option; the message lists those.
    """
    name, _, rest = text.partition(":")
    if name not in ACTORS:
        close = schema.closest(name, ACTORS)
        hint = f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(ACTORS)}"
        raise ConfigError(f"there is no actor '{name}'{hint}")
    make = ACTORS[name]
    if not rest:
        return make
    if not isinstance(make, Planner):
        raise ConfigError(f"the actor {name} has no options, but '{text}' gives it some")
    values = _options(make, text, rest)
    make.read(values)
    return lambda act_space: make(act_space, values)


def _options(planner: Planner, text: str, rest: str) -> dict[str, Any]:
    types = {f.name: f.type for f in dataclasses.fields(planner.options)}
    values = {}
    for entry in rest.split(","):
        option, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(f"'{text}' should be NAME:OPTION=VALUE,..., but '{entry}' has no =")
        if option not in types:
            raise ConfigError(
                f"the actor {text.partition(':')[0]} has no option '{option}'; it has {', '.join(types)}"
            )
        if option in values:
            raise ConfigError(f"'{text}' gives {option} twice")
        values[option] = schema.parse_text(types[option], value)
    return values
