"""Options of commands that take costs, without heavy imports."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dreamer.config import Scale
from dreamer.schema import ConfigError, Section


@dataclass(frozen=True)
class CostOptions(Section):
    """What is wanted beside the task's reward, or in its place."""

    cost: tuple[str, ...] = ()
    """What is not wanted, taken off the imagined reward: ending, failure (an end without reward), or a
    function of imagined states as FILE.py:function or module:function; each times a weight, as failure=5."""
    goal: str = ""
    """File (.npz) with an observation that shall be reached; being far from it is a cost, as GOAL.npz=2."""
    goal_distance: Literal["latent", "embedding"] = "latent"
    """How far from the goal a state is: the surprise of seeing it there, or between tokens of the encoder."""
    reward_weight: Scale = 1.0
    """How much the task's reward counts beside costs and goal; 0: only these count."""

    @property
    def wishes(self) -> tuple[str, ...]:
        """Costs and goal, as they were written."""
        return (*self.cost, *filter(None, [self.goal]))

    @property
    def described(self) -> dict[str, Any]:
        """All that decides what is wanted, as JSON: the words, and digests of the files among them."""
        if not self.wishes:
            return {}
        names = [wish.rpartition("=")[0] or wish for wish in self.wishes]
        files = dict.fromkeys(file for file in map(_file, names) if file.is_file())
        digests = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        words = {"wishes": list(self.wishes), "reward_weight": self.reward_weight, "files": digests}
        return words | ({"goal_distance": self.goal_distance} if self.goal else {})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward_weight != 1 and not self.wishes:
            raise ConfigError("--reward-weight weighs the task's reward beside a cost: add --cost or --goal")
        if self.goal_distance != "latent" and not self.goal:
            raise ConfigError("--goal-distance is that to a goal: add --goal FILE.npz")
        if twice := [wish for wish in self.wishes if self.wishes.count(wish) > 1]:
            raise ConfigError(f"--cost names {twice[0]} twice")


def _file(name: str) -> Path:
    """The file that FILE.py:function, module:function or a goal names, if it is one."""
    place, colon, _ = name.rpartition(":")
    if not colon or place.endswith(".py"):
        return Path(place or name)
    return Path(*place.split(".")).with_suffix(".py")
