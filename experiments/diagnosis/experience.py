"""Rules about experience: whether there is any, whether it holds reward, and what the agent made of it."""

from __future__ import annotations

import math

import numpy as np

from dreamer.config import Config
from experiments import statistics
from experiments.diagnosis import limits
from experiments.diagnosis.finding import Finding, rounded
from experiments.diagnosis.learning import heavier_losses
from experiments.diagnosis.summary import Episodes, Summary

EASIER = (
    "Better still: a smaller or denser task, in which random actions earn something more often "
    "(env.kwargs, env.wrappers, env.max_episode_steps)."
)


def not_finite(run: Summary) -> Finding | None:
    """A loss or gradient was not finite."""
    if not run.is_diverged:
        return None
    return Finding(
        "Learning ended because a loss or a gradient was not finite.",
        f"after {run.updates:,} updates, with a learning rate of {run.lr:g}",
        {"agent.optim.lr": rounded(run.lr / 10)},
        "See also whether the environment gives huge rewards or observations.",
    )


def no_update(run: Summary) -> Finding | None:
    """Nothing was learned from."""
    if run.updates:
        return None
    if run.is_ppo:
        return Finding("No update has been made yet.", f"{run.env_steps:,} environment steps")
    loop = run.cfg.loop
    evidence = f"{run.env_steps:,} of {run.cfg.steps:,} steps, loop.prefill = {loop.prefill:,}"
    if not run.is_finished and run.env_steps < min(loop.prefill, run.cfg.steps):
        return Finding("Learning has not begun: the run still collects its first experience.", evidence)
    if run.env_steps > loop.prefill:
        due = (run.env_steps - loop.prefill) * loop.train_ratio / (loop.batch_size * loop.batch_length)
        return Finding(
            "No update was made: the run ended before one was due.",
            f"{evidence}; {due:.1f} updates by loop.train_ratio = {loop.train_ratio:g}, and the replay must "
            f"hold a sequence of {loop.batch_length} steps",
            {"steps": rounded(loop.prefill + 30_000)},
        )
    return Finding(
        "No update was made: the whole run only collected experience.",
        evidence,
        {"loop.prefill": rounded(run.env_steps / 10), "steps": rounded(loop.prefill + 30_000)},
    )


def no_episode(run: Summary) -> Finding | None:
    """Nothing ended."""
    if len(run.episodes) or not run.env_steps:
        return None
    each = run.env_steps // run.num_envs
    is_endless = run.is_finished or each > limits.ENDLESS
    return Finding(
        "No episode has ended, so nothing says how good the agent is.",
        f"{run.env_steps:,} steps in {run.num_envs} copies, {each:,} each",
        {"env.max_episode_steps": 1000} if is_endless else {},
        "Where the task has a longer time limit, take more steps instead." if is_endless else "Let it run.",
    )


def few_episodes(run: Summary) -> Finding | None:
    """Too little ended to say anything."""
    if not len(run.episodes) or len(run.after) >= limits.START:
        return None
    length = run.episodes.typical_length
    needed = run.env_steps + 2 * limits.START * max(length if math.isfinite(length) else 1.0, 1.0)
    return Finding(
        "Too few episodes ended after learning began to say whether it learns.",
        f"{len(run.after)} of {len(run.episodes)} episodes, {length:,.0f} steps long; {limits.START} are the "
        "least",
        {"steps": rounded(needed)},
    )


def constant_return(run: Summary) -> Finding | None:
    """Reward was never seen."""
    returns = run.episodes.return_
    if len(returns) < limits.START or np.ptp(returns) > 1e-9:
        return None
    evidence = f"{len(returns):,} episodes, return {returns[0]:g} in each"
    if run.by_success:
        evidence += f", {int(run.episodes.scores.sum()):,} of them successful"
    what = "No episode of this run ever earned a reward, so there is nothing to learn from."
    if returns[0]:
        what = "Every episode earned exactly the same, so nothing says which actions are better."
    return Finding(what, evidence, _exploration(run), EASIER)


def rare_reward(run: Summary) -> Finding | None:
    """Hardly any episode earned anything unusual."""
    returns = run.episodes.return_
    if len(returns) < limits.ENOUGH_EPISODES or np.ptp(returns) <= 1e-9:
        return None
    values, counts = np.unique(returns, return_counts=True)
    others = len(returns) - counts.max()
    if others / len(returns) >= limits.RARE:
        return None
    return Finding(
        "Reward was seen too rarely to learn from.",
        f"{others:,} of {len(returns):,} episodes earned anything else than {values[counts.argmax()]:g}",
        _exploration(run),
        EASIER,
    )


def _exploration(run: Summary) -> dict[str, float]:
    """More of what random actions see, in a run that is long enough for it."""
    entropy = {"agent.behavior.entropy": rounded(3 * max(run.entropy, 1e-3))}
    if run.is_ppo:
        return entropy
    prefill = max(3 * run.cfg.loop.prefill, 10_000)
    return {"loop.prefill": prefill, **entropy, "steps": 4 * prefill}


def avoids_ending(run: Summary) -> Finding | None:
    """The policy learned never to end an episode, although some endings are good."""
    limit = run.limit
    if limit is None or run.start.at_least(limit) > limits.ENDED_BEFORE:
        return None
    evidence = _never_ends(run, limit)
    if not evidence:
        return None
    horizon = {"agent.behavior.horizon": max(round(limit / 2), 5)}
    return Finding(
        "The policy avoids ending: episodes run into the time limit, and earn no more than random actions.",
        f"{evidence}; {run.shown(run.start.estimate.value)} at the start, {run.number(_ending(run))} now",
        {} if run.is_ppo else heavier_losses(run) | horizon,
        "While it cannot tell a right choice from a wrong one, waiting looks as good as choosing. It must "
        "remember what decides (heavier losses), and waiting must cost something (a shorter horizon).",
    )


def _never_ends(run: Summary, limit: float) -> str:
    """How it shows that episodes run into their limit to no avail; empty where they do not."""
    share = run.late.at_least(limit)
    if share >= limits.ENDS_AT_LIMIT and (run.is_worse or not run.by_success):
        before = run.start.at_least(limit)
        return (
            f"{share:.0%} of the last {len(run.late)} training episodes take all of the {limit:,.0f} steps, "
            f"{before:.0%} at the start"
        )
    greedy = run.greedy
    if greedy is None or greedy.length < limits.ENDS_AT_LIMIT * limit or not run.judged:
        return ""
    judged, start = run.judged[0], run.start.estimate
    if judged.value >= start.value or not statistics.is_apart(start, judged):
        return ""
    return (
        f"with the most likely actions episodes take {greedy.length:,.0f} of at most {limit:,.0f} steps, "
        f"{run.start.length.mean():,.0f} at the start"
    )


def _ending(run: Summary) -> float:
    """What is reached at the end: with the most likely actions, where that was evaluated."""
    return run.judged[0].value if run.judged else run.late.estimate.value


def forgot(run: Summary) -> Finding | None:
    """It was good once."""
    peak = _best_window(run.after, len(run.late))
    if len(peak) < limits.START:
        return None
    drop = peak.scores.mean() - run.late.scores.mean()
    rise = peak.scores.mean() - run.start.scores.mean()
    is_sure = min(_errors(peak, run.late), _errors(peak, run.start)) > limits.SURE
    kept = max((estimate.value for estimate in run.judged), default=-math.inf)
    if not is_sure or drop < limits.DROP * rise or kept > peak.scores.mean() - limits.DROP * rise:
        return None
    what = "It had learned more than it knows now: it forgot."
    evidence = (
        f"{run.shown(peak.estimate.value)} around step {np.nanmedian(peak.env_steps):,.0f}, "
        f"{run.number(run.late.estimate.value)} in the last {len(run.late)} episodes"
    )
    if isinstance(run.config, Config) and run.cfg.replay.capacity < run.env_steps:
        evidence += f"; the replay holds the last {run.cfg.replay.capacity:,} of {run.env_steps:,} steps"
        return Finding(what, evidence, {"replay.capacity": rounded(2 * run.env_steps)})
    advice = "Or end it while it is good (--until success=0.95 or --until return=NUMBER)."
    return Finding(what, evidence, {"agent.optim.lr": rounded(run.lr / 3)}, advice)


def _best_window(episodes: Episodes, width: int) -> Episodes:
    """The consecutive episodes with the best mean score; none where there are not twice as many."""
    if width < limits.START or len(episodes) < 2 * width:
        return episodes[:0]
    values = np.nan_to_num(episodes.success if episodes.reports_success else episodes.return_)
    total = np.concatenate([[0.0], np.cumsum(values)])
    first = int(np.argmax(total[width:] - total[:-width]))
    return episodes[first : first + width]


def _errors(better: Episodes, worse: Episodes) -> float:
    """By how many standard errors the means of two samples differ."""
    a, b = better.scores, worse.scores
    if len(a) < 2 or len(b) < 2:
        return 0.0
    gap, error = float(a.mean() - b.mean()), math.sqrt(a.var() / len(a) + b.var() / len(b))
    return gap / error if error > 0 else math.copysign(math.inf, gap) if gap else 0.0
