"""Rules about how an agent is judged: greedy or sampled, in training or evaluation, and when it ended."""

from __future__ import annotations

from dreamer.config import Config
from experiments import statistics
from experiments.diagnosis import limits
from experiments.diagnosis.finding import Finding, rounded
from experiments.diagnosis.summary import Summary, gain


def greedy_differs(run: Summary) -> Finding | None:
    """The most likely actions and sampled ones do not reach the same."""
    if run.greedy is None or run.sampled is None or len(run.judged) < 2:
        return None
    greedy, sampled = run.judged
    gap = sampled.value - greedy.value
    share = limits.GREEDY_WORSE if gap > 0 else limits.SAMPLED_WORSE
    if abs(gap) < share * _worth(run, max(greedy.value, sampled.value)) or not statistics.is_apart(
        greedy, sampled
    ):
        return None
    evidence = f"{run.shown(greedy.value)} with the most likely actions, "
    evidence += f"{run.number(sampled.value)} with sampled ones"
    entropy = {"agent.behavior.entropy": rounded(run.entropy / 3)}
    if gap < 0:
        what = "Sampled actions are worse than the most likely ones"
        return Finding(
            f"{what}." if run.planned_with else f"{what}: training looks worse than the agent is.",
            evidence,
            entropy,
        )
    return Finding(
        "The most likely actions are worse than sampled ones: the policy needs chance to get anywhere.",
        evidence,
        {"steps": rounded(2 * run.env_steps), **entropy},
        "Until it is more certain, play with sampled actions: dreamer eval RUN --actor sampled.",
    )


def generalisation(run: Summary) -> Finding | None:
    """Training went far better than the evaluation."""
    if not run.judged or not len(run.late.scores):
        return None
    trained, judged = run.late.estimate, max(run.judged)
    is_apart = statistics.is_apart(trained, judged)
    if not is_apart or trained.value - judged.value < limits.GAP * _worth(run, trained.value):
        return None
    evidence = f"{run.shown(trained.value)} in training, {run.number(judged.value)} in the evaluation"
    if played := run.greedy or run.sampled:
        evidence += f", where {played.cut} of {played.episodes} episodes were cut short" if played.cut else ""
    if actor := run.planned_with:
        return Finding(
            "Training is far above the evaluation: what acted in training reaches more than the policy.",
            f"{evidence}; training acted with {actor}",
            {},
            f"Evaluate it as well: dreamer eval RUN --actor {actor}.",
        )
    what = "Training is far above the evaluation: what was learned does not carry over."
    if isinstance(run.config, Config) and run.cfg.env.levels:
        evidence += f"; env.levels is {run.cfg.env.levels}"
        return Finding(what, evidence, {"env.levels": 0}, "With 0 every episode has a new level.")
    return Finding(
        what,
        evidence,
        {},
        "See what differs there: seeds that training never sees, whole games (env.lives), a limit of steps "
        "(eval.max_steps); or it swings, and ended badly: a rate that falls helps (agent.optim.schedule).",
    )


def still_rising(run: Summary) -> Finding | None:
    """It was getting better when it ended."""
    count = len(run.late)
    previous = run.after[max(len(run.after) - 2 * count, 0) : len(run.after) - count]
    if run.is_solved or run.is_at_its_best or len(previous) < limits.START:
        return None
    if not run.is_better or gain(run.late, previous) <= 0:
        return None
    return Finding(
        "It was still getting better when the run ended.",
        f"{run.shown(previous.estimate.value)} before, and in the last {count} episodes "
        f"{run.number(run.late.estimate.value)}",
        {"steps": rounded(2 * run.env_steps)},
    )


def _worth(run: Summary, best: float) -> float:
    """What differences are measured by: 1 for success, the gain since the start for returns."""
    return 1.0 if run.by_success else max(best - run.start.estimate.value, 1e-9)
