"""Options of learning in dreams, without heavy imports."""

from dataclasses import dataclass
from typing import Annotated

from dreamer.config import Count, Seed
from dreamer.schema import Range
from experiments.costs.options import CostOptions


@dataclass(frozen=True)
class ImagineOptions(CostOptions):
    """How actor and critics of a run learn on in dreams; its world model stays as it is."""

    updates: Count = 500
    """Updates of actor and critics; each dreams from one batch of recorded sequences."""
    lr: Annotated[float, Range(0)] = 0.0
    """Learning rate; 0 takes that of the run."""
    seed: Seed = 0
    """Seed of batches and dreams."""
    out: str = ""
    """File of the agent (default: imagined.safetensors in the folder of the run); OUT.json says what was
    wanted and how the dreams changed."""
    force: bool = False
    """Overwrite an existing file."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print one JSON object, and nothing else on standard output."""
