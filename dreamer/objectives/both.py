"""Two objectives at once, as reconstruction+barlow: the sum of their losses."""

from collections.abc import Callable

import jax
from flax import nnx
from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer
from dreamer.numbers import Numbers
from dreamer.records import Batch, Latent, ObjectiveLosses, Observed, Params
from dreamer.schema import ConfigError
from dreamer.world import Objective, World
from envs.api import Spaces


class Both(nnx.Module):
    """Each with its losses, its slow part and its parameters; the first that decodes does."""

    def __init__(
        self,
        makes: tuple[Callable[..., Objective], Callable[..., Objective]],
        obs_space: Spaces,
        act_space: Spaces,
        tokens: int,
        cfg: AgentConfig,
        *,
        init: Initializer,
    ):
        self.first, self.second = (make(obs_space, act_space, tokens, cfg, init=init) for make in makes)

    def slow(self, params: Params) -> Params:
        """The slow parts of both."""
        return {"first": self.first.slow(params), "second": self.second.slow(params)}

    def follow(self, slow: Params, params: Params, numbers: Numbers) -> Params:
        """Each follows as it does alone."""
        return {
            "first": self.first.follow(slow["first"], params, numbers),
            "second": self.second.follow(slow["second"], params, numbers),
        }

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """The losses and diagnostics of both."""
        keys = jax.random.split(key)
        first = self.first.loss(world, batch, seen, slow["first"], keys[0])
        second = self.second.loss(world, batch, seen, slow["second"], keys[1])
        if common := first.losses.keys() & second.losses.keys():
            raise ConfigError(
                f"both parts of agent.objective have a loss '{min(common)}'; rename one of them"
            )
        return ObjectiveLosses(first.losses | second.losses, first.metrics | second.metrics)

    def decode(self, latent: Latent) -> dict[str, Array] | None:
        """As the first of them that has a decoder."""
        decoded = self.first.decode(latent)
        return self.second.decode(latent) if decoded is None else decoded
