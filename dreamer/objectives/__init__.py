"""The seam "what the representation must predict": `agent.objective` names one of `OBJECTIVES`.

An objective is a module (`dreamer.world.Objective` says what it offers): losses by name, which the caller
weighs and averages, so that all objectives log and weigh alike; slow copies of parameters where it needs
targets that move slowly; and, if it can, a way back from latents to observations. Adding one here: a file, a
line in the table and its weights in `LossConfig`. Anywhere else: a class, which is named `module:Class` and
whose losses are called `rec/<name>`. The configuration keeps that name, so every process that resumes, loads
or evaluates the run imports it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from flax import nnx

from dreamer.objectives.barlow import Barlow
from dreamer.objectives.both import Both
from dreamer.objectives.cdp import CDP
from dreamer.objectives.infonce import InfoNCE
from dreamer.objectives.next_embedding import NextEmbedding
from dreamer.objectives.none import Nothing
from dreamer.objectives.reconstruction import Reconstruction
from dreamer.objectives.sigreg import SIGReg
from dreamer.objectives.value_equivalent import ValueEquivalent
from dreamer.objectives.visreg import VISReg
from dreamer.schema import ConfigError
from dreamer.world import Objective
from envs import modules

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "reconstruction": Reconstruction,
    "none": Nothing,
    "barlow": Barlow,
    "infonce": InfoNCE,
    "next_embedding": NextEmbedding,
    "cdp": CDP,
    "sigreg": SIGReg,
    "visreg": VISReg,
    "value_equivalent": ValueEquivalent,
}
"""{name in `agent.objective`: made from (obs_space, act_space, width of tokens, cfg of the agent, init=)}."""
OFFERS = ("slow", "follow", "loss", "decode")
"""Methods of every objective."""


def named(name: str) -> Callable[..., Objective]:
    """How the objective of this name is made; `module:Class` is imported, of a+b both are.

    Raises:
      ConfigError: it is no objective.
      UnknownTask, MissingExtra: there is no such class, importing it fails, or `envs.trust` forbids that.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if "+" in name:
        first, second = map(named, name.split("+"))
        return partial(Both, (first, second))
    kind = modules.attribute(name)
    if not _is_objective(kind):
        raise ConfigError(
            f"agent.objective names {name}, which is no objective: that is a class of flax.nnx.Module with "
            f"{', '.join(OFFERS)} (dreamer/world.py says what they do)"
        )
    return kind


def _is_objective(kind: Any) -> bool:
    offers = all(callable(getattr(kind, method, None)) for method in OFFERS)
    return offers and isinstance(kind, type) and issubclass(kind, nnx.Module)


def check_stored(name: str) -> None:
    """See that the objective of a stored agent may be imported: a file alone never decides that.

    Under a command `envs.trust` does. A program of one's own imports the module itself, before it loads.

    Raises:
      ConfigError: it did not.
    """
    for part in name.split("+"):
        module = part.partition(":")[0]
        if part not in OBJECTIVES and not modules.is_allowed(module):
            raise ConfigError(
                f"it was trained with the objective {part}, which is code: `import {module}` before loading "
                "it, if you trust that module"
            )
