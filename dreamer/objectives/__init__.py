"""The seam "what the representation must predict": `agent.objective` names one of `OBJECTIVES`.

An objective is a module (`dreamer.world.Objective` says what it offers): losses by name, which the caller
weighs and averages, so that all objectives log and weigh alike; slow copies of parameters where it needs
targets that move slowly; and, if it can, a way back from latents to observations. Adding one: a file here, a
line in the table and its weights in `LossConfig`.
"""

from typing import Protocol

from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer
from dreamer.objectives.none import Nothing
from dreamer.objectives.reconstruction import Reconstruction
from dreamer.world import Objective
from envs.api import Spaces


class MakeObjective(Protocol):
    """Constructor of an objective."""

    def __call__(self, obs_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer) -> Objective:
        """The objective of an agent that encodes `obs_space` as this many tokens."""
        ...


OBJECTIVES: dict[str, MakeObjective] = {"reconstruction": Reconstruction, "none": Nothing}
"""{name in `agent.objective`: how it is made}."""
