"""What every scripted player says about itself, and how it gives up."""

from __future__ import annotations

from typing import Protocol

from envs.api import Policy


class GaveUp(Exception):
    """A scripted player cannot finish this episode; the message names the task and says why."""


class Scripted(Policy, Protocol):
    """A player by rules."""

    privileged: bool
    """Whether it knows more than the agent's own observation holds."""
    sees: str
    """One sentence for a disclosure table: what it knows."""
