"""Predict nothing: only reward, continuation and value shape the representation.

The control of every comparison of objectives: what the others add, they add to this.
"""

from flax import nnx
from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer
from dreamer.numbers import Numbers
from dreamer.records import Batch, Latent, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Spaces


class Nothing(nnx.Module):
    """No losses, no parameters and no way back to observations."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        pass

    def slow(self, params: Params) -> Params:
        """No slow part."""
        return {}

    def follow(self, slow: Params, params: Params, numbers: Numbers) -> Params:
        """No slow part."""
        return slow

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """No losses."""
        return ObjectiveLosses({}, {})

    def decode(self, latent: Latent) -> None:
        """There is no decoder."""
        return None
