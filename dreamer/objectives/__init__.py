"""The seam "what the representation is trained to predict".

An objective is a module that gives one loss per step and name; the caller scales and averages them, so all
objectives log and weight alike. Adding one: a file here and the line of `Agent` that makes it.
"""

from collections.abc import Mapping
from typing import Protocol

from jax import Array

from dreamer.records import Latent


class Objective(Protocol):
    """What an objective must offer."""

    def loss(self, obs: Mapping[str, Array], latent: Latent) -> dict[str, Array]:
        """{name: [B, T]} losses of the latents of recorded steps."""
        ...

    def decode(self, latent: Latent) -> dict[str, Array]:
        """What latents look like, in the units and dtypes of the observations."""
        ...
