"""Predict nothing: only reward, continuation and value shape the representation.

The control of every comparison of objectives: what the others add, they add to this.
"""

from collections.abc import Mapping

from flax import nnx
from jax import Array

from dreamer.config import DecoderConfig
from dreamer.nets.layers import Initializer
from dreamer.records import Latent
from envs.api import Spaces


class Nothing(nnx.Module):
    """No losses, no parameters and no way back to observations."""

    def __init__(self, obs_space: Spaces, deter: int, stoch: int, cfg: DecoderConfig, *, init: Initializer):
        pass

    def loss(self, obs: Mapping[str, Array], latent: Latent) -> dict[str, Array]:
        """No losses."""
        return {}

    def decode(self, latent: Latent) -> None:
        """Latents do not look like anything."""
        return None
