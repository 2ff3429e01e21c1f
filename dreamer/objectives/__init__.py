"""The seam "what the representation is trained to predict": `agent.objective` names one of `OBJECTIVES`.

An objective is a module that gives one loss per step and name; the caller scales and averages them, so all
objectives log and weight alike. Adding one: a file here and a line in the table.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from jax import Array

from dreamer.objectives.none import Nothing
from dreamer.objectives.reconstruction import Reconstruction
from dreamer.records import Latent


class Objective(Protocol):
    """What an objective must offer."""

    def loss(self, obs: Mapping[str, Array], latent: Latent) -> dict[str, Array]:
        """{name: [B, T]} losses of the latents of recorded steps."""
        ...

    def decode(self, latent: Latent) -> dict[str, Array] | None:
        """What latents look like, in the units and dtypes of the observations; None if it cannot say."""
        ...


OBJECTIVES: dict[str, Callable[..., Objective]] = {"reconstruction": Reconstruction, "none": Nothing}
"""{name: made from observation space, widths of h and z, configuration and `init`}."""
