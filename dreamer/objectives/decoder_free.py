"""What objectives share that have neither slow copies nor a decoder: only their loss is left to say."""

from abc import ABC, abstractmethod

from flax import nnx
from jax import Array

from dreamer.numbers import Numbers
from dreamer.records import Batch, Latent, ObjectiveLosses, Observed, Params
from dreamer.world import World


class DecoderFree(nnx.Module, ABC):
    """An objective that is its loss."""

    @abstractmethod
    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """As in `dreamer.world.Objective`."""
        ...

    def slow(self, params: Params) -> Params:
        """No slow part."""
        return {}

    def follow(self, slow: Params, params: Params, numbers: Numbers) -> Params:
        """No slow part."""
        return slow

    def decode(self, latent: Latent) -> None:
        """There is no decoder."""
        return None
