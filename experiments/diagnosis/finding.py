"""What a rule gives, and what it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from experiments.diagnosis.summary import Outcome, Summary


class Finding(NamedTuple):
    """Why a run does not learn."""

    sentence: str
    """What is wrong."""
    evidence: str
    """Numbers from the run."""
    changes: Mapping[str, Any] = MappingProxyType({})
    """{field: value to try}, the most important one first."""
    advice: str = ""
    """What else may be done, in a sentence."""

    @property
    def change(self) -> str:
        """The changes as text; empty without any."""
        number = lambda value: f"{value:,}" if isinstance(value, int) else f"{value:g}"
        shown = lambda value: value if isinstance(value, str) else number(value)
        return ", ".join(f"{field} to {shown(value)}" for field, value in self.changes.items())


class Rule(NamedTuple):
    """A rule, and which runs it is asked about."""

    check: Callable[[Summary], Finding | None]
    outcomes: tuple[Outcome, ...]
    """Where it could be the cause."""
    of_ppo: bool = False
    """Whether it is also for PPO."""
    of_dreamer: bool = True
    """Whether it is for Dreamer."""

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.check.__name__

    def is_for(self, run: Summary) -> bool:
        """Whether it is asked about a run."""
        return (self.of_ppo if run.is_ppo else self.of_dreamer) and run.outcome in self.outcomes


def rounded(x: float) -> int | float:
    """Two digits; a whole number from 1 on."""
    value = float(f"{x:.2g}")
    return int(value) if value >= 1 else value
