"""atari100k:<Game>: the games of the suite `atari`, by the protocol of 400,000 frames.

`image` is [64, 64, 3] in colour, no action is repeated by chance, and only the actions are allowed that the
game uses; all else is as in `envs.adapters.atari`.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from envs.adapters import atari
from envs.adapters.atari import OBS, TAKES, canonical, ids

__all__ = ["OBS", "TAKES", "canonical", "ids", "make", "note"]


def make(name: str, obs: str, **how: Any) -> gymnasium.Env:
    """One game; arguments and errors as of `envs.adapters.atari.make`."""
    return atari.make(name, obs, **how, protocol=atari.ATARI100K)


def note(name: str) -> str:
    """The protocol in a sentence."""
    return atari.note(name, atari.ATARI100K)
