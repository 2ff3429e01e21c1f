"""The seam "what the representation must predict": `agent.objective` names one of `OBJECTIVES`.

An objective is a module (`dreamer.world.Objective` says what it offers): losses by name, which the caller
weighs and averages, so that all objectives log and weigh alike; slow copies of parameters where it needs
targets that move slowly; and, if it can, a way back from latents to observations. Adding one: a file here, a
line in the table and its weights in `LossConfig`.
"""

from collections.abc import Callable

from dreamer.objectives.none import Nothing
from dreamer.objectives.reconstruction import Reconstruction
from dreamer.world import Objective

OBJECTIVES: dict[str, Callable[..., Objective]] = {"reconstruction": Reconstruction, "none": Nothing}
"""{name in `agent.objective`: made from (obs_space, width of the tokens, cfg of the agent, init=)}."""
