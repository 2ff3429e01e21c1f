"""Which actors are compared: those that are named, or the policy and the planners for such actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dreamer.actors import Actor, named
from dreamer.schema import ConfigError
from envs.api import Spaces

POLICY = ("greedy", "sampled")
DISCRETE = ("categorical_cem", "categorical_cem:proposals=0", "gumbel")
CONTINUOUS = ("mppi", "mppi:proposals=0", "icem", "gumbel")
MIXED = ("gumbel",)


def usual(act_space: Spaces, critics: int) -> tuple[str, ...]:
    """Greedy, sampled, the planners for such actions with their ablations.

    Args:
      critics: of the agent; with several, also a planner that does not take the least of their values.
    """
    kinds = {space.is_discrete for space in act_space.values()}
    planners = MIXED if len(kinds) > 1 else DISCRETE if True in kinds else CONTINUOUS
    trusting = (f"{planners[0]}:end_value=mean",) if critics > 1 else ()
    return (*POLICY, *planners, *trusting)


def check(words: Sequence[str]) -> None:
    """Check names and options before anything is read.

    Raises:
      ConfigError: there is no such actor, or it has no such option.
    """
    for text in words:
        named(text)


def contenders(
    words: Sequence[str], act_space: Spaces, critics: int, say: Callable[[str], None]
) -> Mapping[str, Actor[Any]]:
    """{text: actor} of those that are named, or of the usual ones that work here.

    Raises:
      ConfigError: one that is named cannot plan such actions, or needs a package that is not installed.
    """
    actors = {}
    for text in dict.fromkeys(words) or usual(act_space, critics):
        try:
            actors[text] = named(text)(act_space)
        except ConfigError as error:
            if words:
                raise
            say(f"{text} is left out: {error}")
    return actors
