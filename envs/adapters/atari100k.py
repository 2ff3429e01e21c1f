"""atari100k:<Game>: the games of the suite `atari`, by the protocol of 400,000 frames.

`image` is [64, 64, 3] in colour, no action is repeated by chance, and only the actions are allowed that the
game uses; all else is as in `envs.adapters.atari`.

danijar/dreamerv3 e3f0224 asks for no sticky actions, too, but only after it has loaded the game, which ALE
(0.9.0, its version, and 0.12.1) ignores: what it plays has ALE's default of 0.25, here
`--env.kwargs '{"sticky": 0.25}'`.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from envs import engine
from envs.adapters import atari
from envs.adapters.atari import OBS, TAKES, canonical, ids

__all__ = ["OBS", "TAKES", "canonical", "ids", "make", "note", "pool"]


def make(name: str, obs: str, **how: Any) -> gymnasium.Env:
    """One game; arguments and errors as of `envs.adapters.atari.make`."""
    return atari.make(name, obs, **how, protocol=atari.ATARI100K)


def pool(name: str, obs: str, **how: Any) -> engine.Recipe:
    """What EnvPool makes of a game; arguments and errors as of `envs.adapters.atari.pool`."""
    return atari.pool(name, obs, **how, protocol=atari.ATARI100K)


def note(name: str) -> str:
    """The protocol in a sentence, and how the public code of DreamerV3 departs from it in another."""
    return (
        f"{atari.note(name, atari.ATARI100K)} Although configured likewise, danijar/dreamerv3 e3f0224 plays "
        "with sticky actions 0.25, because ALE ignores a setting that comes after the game is loaded."
    )
