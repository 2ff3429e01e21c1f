"""Train until solved: when an agent is good enough that a run may end before its last step.

    until = "success=0.95"        the mean over `eval.until_episodes` episodes, played with the most likely
    until = "return=450"          actions, is at least that

Every check plays worlds of its own, whose seeds neither training nor any other evaluation uses: so no check
is passed because an earlier one was, and the final evaluation says something new.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dreamer.config import Goal
from envs.api import FIRST_TRAINING_SEED, Policy, VectorEnv
from envs.rollout import Episode, rollout

FIRST_CHECK_SEED = 2**29
"""Seeds of checks lie from it on; evaluations begin at the low end, training above `FIRST_TRAINING_SEED`."""


def seeds(check: int, episodes: int) -> range:
    """The seeds of the check of that number, other ones for every number."""
    room = (FIRST_TRAINING_SEED - FIRST_CHECK_SEED) // episodes
    first = FIRST_CHECK_SEED + check % room * episodes
    return range(first, first + episodes)


def reached(
    goal: Goal, policy: Policy, env: VectorEnv, seeds: Sequence[int], max_steps: int | None = None
) -> tuple[bool, float]:
    """Whether a policy reaches a goal on these seeds, and its mean over the episodes that were played.

    Success is played a round of all copies at a time, and not further than to the failure that decides: an
    agent that is far from it costs one round.
    """
    at_once = env.num_envs if goal.metric == "success" else len(seeds)
    values: list[float] = []
    for i in range(0, len(seeds), at_once):
        values += [_value(goal, e) for e in rollout(policy, env, seeds[i : i + at_once], max_steps=max_steps)]
        possible = sum(values) + len(seeds) - len(values)
        if goal.metric == "success" and possible / len(seeds) < goal.target:
            break
    mean = float(np.mean(values))
    return len(values) == len(seeds) and mean >= goal.target, mean


def _value(goal: Goal, episode: Episode) -> float:
    """What an episode counts; one of which the task does not say whether it was solved was not."""
    return episode.return_ if goal.metric == "return" else float(bool(episode.success))
