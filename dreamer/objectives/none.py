"""Predict nothing: only reward, continuation and value shape the representation.

The control of every comparison of objectives: what the others add, they add to this.
"""

from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer
from dreamer.objectives.decoder_free import DecoderFree
from dreamer.records import Batch, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Spaces


class Nothing(DecoderFree):
    """No losses, no parameters and no way back to observations."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        pass

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """No losses."""
        return ObjectiveLosses({}, {})
