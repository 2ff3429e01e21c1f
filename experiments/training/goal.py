"""Train until solved: when an agent is good enough that a run may end before its last step.

    until = "success=0.95"        the mean over `eval.until_episodes` episodes, played with the most likely
    until = "return=450"          actions, is at least that

Every check plays on its own seeds, which neither training nor any other evaluation uses: so checks are
independent of each other and of the final evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamer.config import Config, EvalConfig, Goal
from envs.api import FIRST_TRAINING_SEED, Policy, VectorEnv
from envs.rollout import Episode, rollout

if TYPE_CHECKING:
    from dreamer.loops.clocks import Progress
    from dreamer.loops.outputs import EpisodeStats

FIRST_CHECK_SEED = 2**29
"""Seeds of checks lie from it on; evaluations begin at the low end, training above `FIRST_TRAINING_SEED`."""


def seeds(check: int, episodes: int) -> range:
    """The seeds of the check of that number, different for every number."""
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
    """The value of an episode; one whose success the task does not report counts as failed."""
    return episode.return_ if goal.metric == "return" else float(bool(episode.success))


class Until:
    """Which agents have reached `until`, and whether a check could find that.

    Args:
      stored: `meta` from the checkpoint; used if the criterion is the same now.
      episodes: rows of the training episodes before.
    """

    def __init__(
        self, cfg: Config, stored: Mapping[str, Any] | None = None, episodes: Sequence[Mapping[str, Any]] = ()
    ):
        self.goal, self._asked = cfg.goal, (cfg.until, cfg.eval.until_episodes)
        stored = stored or {}
        same = (stored.get("until"), stored.get("episodes", EvalConfig.until_episodes)) == self._asked
        self.solved: dict[int, dict[str, Any]] = (
            {int(member): counts for member, counts in stored["members"].items()} if same else {}
        )
        """{member: how far it was when it reached it}; a run of one agent is member 0."""
        self._tells_success = any(row.get("success") is not None for row in episodes)

    def hear(self, episode: EpisodeStats) -> None:
        """Record whether an episode reports its success."""
        self._tells_success |= episode.success is not None

    @property
    def is_reachable(self) -> bool:
        """Whether a check can find it reached; not for success where no episode reported it."""
        return self.goal is not None and (self.goal.metric != "success" or self._tells_success)

    def reach(self, member: int, progress: Progress, seconds: float) -> None:
        """Record that a member has reached it."""
        counts = {"env_steps": progress.env_steps, "updates": progress.updates}
        self.solved[member] = {**counts, "seconds": round(seconds, 1)}

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint stores of it."""
        until, episodes = self._asked
        return {"until": until, "episodes": episodes, "members": self.solved}
