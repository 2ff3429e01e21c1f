"""The verdict on a finished run: whether it is solved, whether it learned, and what to try first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dreamer.config import Config
from experiments import statistics
from experiments.learning_curve import began

PAPER_RATE = 1e-4
"""Learning rates below it are for runs of a million steps and more."""
FEW_UPDATES = 1_000
"""Fewer updates than this rarely learn anything but the easiest tasks."""
FEW_EPISODES = 10
"""Fewer episodes than this do not say what random actions earn."""


def verdict(
    cfg: Config,
    *,
    run: str,
    progress: Any,
    solved: bool,
    reachable: bool = True,
    evaluation: Mapping[str, Any],
    episodes: Sequence[Mapping[str, Any]],
) -> str:
    """One or two sentences, empty where there is nothing to say.

    Args:
      run: its folder.
      progress: how far it is: `env_steps`, `updates` and `learning_since`.
      solved: whether it reached `until`.
      reachable: whether a check could have found that; not where the task never reported success.
      evaluation: the summary of its greedy episodes; empty where it was not evaluated.
      episodes: rows of the training episodes that ended.
    """
    if solved:
        return f"solved: {cfg.until} was reached after {progress.env_steps:,} steps"
    early = random_episodes(episodes, progress.learning_since)
    if evaluation and early and not _is_better(evaluation, early) and not _is_given(evaluation, episodes):
        what = "did not learn: no better than the random actions it began with"
    elif cfg.until and not reachable:
        return f"until {cfg.until} had no effect: the task does not report success (info['success'])"
    elif cfg.until:
        what = f"not solved: no check reached {cfg.until} within {cfg.steps:,} steps"
    else:
        return ""
    return f"{what}. First try {advice(cfg, run, progress, episodes)}. Why: dreamer doctor --run {run}"


def random_episodes(episodes: Sequence[Mapping[str, Any]], learning_since: int) -> list[Mapping[str, Any]]:
    """Rows of the episodes of random actions; none where they are too few, or mostly of a learned policy.

    All that began before learning count, even if they ended later: the first to end are those that succeeded
    by luck.
    """
    rows = [row for row in episodes if "env_steps" in row and began(row) < learning_since]
    steps = sum(row["env_steps"] - began(row) for row in rows)
    learned = sum(max(row["env_steps"] - learning_since, 0) for row in rows)
    return rows if len(rows) >= FEW_EPISODES and 2 * learned <= steps else []


def _is_better(evaluation: Mapping[str, Any], early: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the whole interval of the evaluation lies above the episodes before learning began."""
    successes = [float(row["success"]) for row in early if row.get("success") is not None]
    if successes and evaluation.get("success_rate") is not None:
        _, high = statistics.wilson(int(sum(successes)), len(successes))
        mean = sum(successes) / len(successes)
        return evaluation["success_rate"] > high or evaluation["success_interval"][0] > mean
    returns = [row["return"] for row in early if row.get("return") is not None]
    return not returns or evaluation["return_interval"][0] > sum(returns) / len(returns)


def _is_given(evaluation: Mapping[str, Any], episodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every episode earns the same, and something, whatever the actions."""
    low, high = evaluation["return_interval"]
    return low == high != 0 and all(row.get("return") in (None, low) for row in episodes)


def advice(cfg: Config, run: str, progress: Any, episodes: Sequence[Mapping[str, Any]]) -> str:
    """What to try first, the most likely cause before the others."""
    more = f"more steps: dreamer train --run {run} --steps {2 * cfg.steps}"
    returns = {row.get("return") for row in episodes}
    if not any(row.get("success") for row in episodes) and len(returns) <= 1:
        return (
            "a task in which random actions sometimes earn a reward (smaller, denser, shorter episodes), or "
            "more of them with --loop.prefill: no episode of this run earned anything else"
        )
    if cfg.agent.optim.lr < PAPER_RATE and progress.updates < 10 * FEW_UPDATES:
        return (
            f"a larger learning rate (--agent.optim.lr 1e-3 --agent.optim.warmup 100): "
            f"{cfg.agent.optim.lr:g} is for long runs, and this one had {progress.updates:,} updates"
        )
    if progress.updates < FEW_UPDATES:
        return f"more updates: {more}, or a larger --loop.train-ratio; this run had {progress.updates:,}"
    return more
