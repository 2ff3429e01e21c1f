"""Rules about settings under which a run cannot learn, whatever the task."""

from __future__ import annotations

import numpy as np

from experiments.diagnosis import limits
from experiments.diagnosis.finding import Finding, rounded
from experiments.diagnosis.learning import objective_weights
from experiments.diagnosis.summary import Summary

RATIO, RATE, WARMUP, ENTROPY = 32, 1e-3, 100, 3e-3
"""What the presets for a laptop have or come near: train ratio, learning rate, warm-up and entropy weight."""


def loss_off(run: Summary) -> Finding | None:
    """The weight of a loss is zero."""
    weights = run.cfg.agent.loss
    needed = {
        "reward": "rewards",
        "cont": "endings",
        "policy": "which actions are better",
        "value": "what a state is worth",
        **{field.removeprefix("agent.loss."): "what it sees" for field in objective_weights(run)},
    }
    off = [name for name in needed if getattr(weights, name) == 0]
    if not off:
        return None
    return Finding(
        f"A loss is switched off, so the agent cannot learn {' nor '.join(needed[name] for name in off)}.",
        ", ".join(f"agent.loss.{name} = 0" for name in off),
        {f"agent.loss.{name}": 1.0 for name in off},
    )


def prefill(run: Summary) -> Finding | None:
    """Most steps were taken before the first update."""
    steps = run.cfg.loop.prefill
    if steps <= limits.LARGEST_PREFILL * run.env_steps or run.updates >= limits.FEW_UPDATES:
        return None
    return Finding(
        "The prefill eats the run: most of its steps were taken before learning began.",
        f"loop.prefill is {steps:,} of {run.env_steps:,} steps, which left {run.updates:,} updates",
        {"loop.prefill": rounded(run.env_steps / 10), "steps": _steps(run, 2 * limits.FEW_UPDATES)},
    )


def train_ratio(run: Summary) -> Finding | None:
    """Steps are hardly replayed."""
    ratio = run.cfg.loop.train_ratio
    if run.updates >= limits.FEW_UPDATES or ratio >= limits.LOW_RATIO:
        return None
    return Finding(
        "The train ratio is so low that few updates were made.",
        f"{run.updates:,} updates in {run.env_steps:,} steps: every step is replayed {ratio:g} times; "
        f"{RATIO} times would make about {run.updates * RATIO / ratio:,.0f} updates",
        {"loop.train_ratio": RATIO},
    )


def warmup(run: Summary) -> Finding | None:
    """The learning rate was still rising."""
    optim, updates = run.cfg.agent.optim, max(run.updates, 1)
    if optim.warmup <= limits.SHORT_WARMUP or updates >= limits.FULL_RATE * optim.warmup:
        return None
    return Finding(
        "The run is too short for its warm-up: the learning rate was still rising in most of its updates.",
        f"{updates:,} updates, and the warm-up takes {optim.warmup:,}; the mean rate was "
        f"{run.travel / updates:.2g} of {optim.lr:g}",
        {"agent.optim.lr": max(optim.lr, RATE), "agent.optim.warmup": WARMUP},
        f"Or take {_steps(run, 10 * optim.warmup):,} steps or more, for which these settings are.",
    )


def low_rate(run: Summary) -> Finding | None:
    """All updates together hardly move a parameter."""
    lr = run.cfg.agent.optim.lr
    if run.travel >= limits.TRAVEL or lr >= RATE or warmup(run):
        return None
    return Finding(
        "The learning rate is too low for so few updates: the parameters have hardly moved.",
        f"{run.updates:,} updates with at most {lr:g} sum to {run.travel:.2g}; anything that learns reaches "
        f"{limits.TRAVEL:g}",
        {"agent.optim.lr": RATE, "agent.optim.warmup": min(run.cfg.agent.optim.warmup, WARMUP)},
    )


def high_rate(run: Summary) -> Finding | None:
    """Updates tear the parameters apart."""
    first, last = run.metrics.early("opt/param_norm"), run.metrics.late("opt/param_norm")
    lr, optim = run.cfg.agent.optim.lr, run.cfg.agent.optim
    is_torn = bool(first and last and last > limits.GROWTH * first)
    if not is_torn and lr <= limits.HIGH_RATE:
        return None
    norms = f"; the norm of all parameters went from {first:.3g} to {last:.3g}" if first and last else ""
    return Finding(
        "The learning rate is too high: every update undoes what others learned.",
        f"agent.optim.lr is {lr:g}{norms}",
        {"agent.optim.lr": min(rounded(lr / 10), RATE), "agent.optim.warmup": max(optim.warmup, WARMUP)},
    )


def entropy_weight(run: Summary) -> Finding | None:
    """Being random pays more than any action."""
    spread, random = run.metrics.late("advantage_std"), run.metrics.late("randomness/")
    if run.entropy <= limits.HIGH_ENTROPY or spread is None or spread >= limits.TEMPERATURE * run.entropy:
        return None
    is_random = "" if random is None else f"; randomness of the policy {random:.2f} (1 draws blindly)"
    return Finding(
        "The weight of the entropy is too large: being random pays more than choosing well.",
        f"agent.behavior.entropy is {run.entropy:g}, and advantages differ by {spread:.2g}{is_random}",
        {"agent.behavior.entropy": ENTROPY},
    )


def reward_scale(run: Summary) -> Finding | None:
    """Returns are so small that the entropy outweighs them."""
    spread, scale = run.metrics.late("advantage_std"), run.metrics.late("return_range")
    least, random = run.cfg.agent.behavior.return_limit, run.metrics.late("randomness/")
    if spread is None or scale is None or random is None:
        return None
    is_outweighed = random > limits.BLIND and spread < limits.TEMPERATURE * run.entropy
    earned = float(np.ptp(run.episodes.return_))
    if not is_outweighed or scale > 1.001 * least or not 0 < earned < least:
        return None
    return Finding(
        "Rewards are so small that the entropy outweighs them.",
        f"returns differ by {earned:.2g} and are divided by at least agent.behavior.return_limit = {least:g}"
        f"; advantages differ by {spread:.2g}, the weight of the entropy is {run.entropy:g}",
        {"agent.behavior.return_limit": max(float(f"{earned / 10:.1g}"), 1e-6)},
        "Or multiply the rewards (env.wrappers).",
    )


def discount_reach(run: Summary) -> Finding | None:
    """What an episode ends with is worth nothing at its start."""
    length, horizon = run.start.typical_length, run.cfg.agent.behavior.horizon
    worth = (1 - 1 / horizon) ** length
    if not worth < limits.WORTH:
        return None
    return Finding(
        "The discount horizon is too short: what episodes end with hardly counts at their start.",
        f"agent.behavior.horizon is {horizon:g}, episodes take {length:,.0f} steps: a reward at the end is "
        f"worth {worth:.1g} of itself at the start",
        {"agent.behavior.horizon": rounded(max(length, 30))},
    )


def few_updates(run: Summary) -> Finding | None:
    """There were few updates, and no single setting is to blame."""
    if run.updates >= limits.FEW_UPDATES or prefill(run) or train_ratio(run) or warmup(run):
        return None
    return Finding(
        "The run is too short: it made too few updates to learn more than the easiest tasks.",
        f"{run.updates:,} updates in {run.env_steps:,} steps; below {limits.FEW_UPDATES:,} little is learned",
        {"steps": _steps(run, 2 * limits.FEW_UPDATES)},
        "A larger loop.train_ratio makes more updates of the same steps.",
    )


def imagination_reach(run: Summary) -> Finding | None:
    """Dreams are very short."""
    length, episode = run.cfg.agent.behavior.imag_length, run.start.typical_length
    if length >= limits.IMAGINED or not episode > length:
        return None
    return Finding(
        "Dreams are so short that the actor learns little more than what the critic believes already.",
        f"agent.behavior.imag_length is {length}, episodes take {episode:,.0f} steps",
        {"agent.behavior.imag_length": 15},
    )


def sequence_reach(run: Summary) -> Finding | None:
    """What must be remembered may lie outside a training sequence."""
    length, episode = run.cfg.loop.batch_length, run.start.typical_length
    if not episode > limits.SEQUENCES * length:
        return None
    return Finding(
        "Training sequences are short against the episodes: what must be remembered for longer is hardly "
        "learned.",
        f"loop.batch_length is {length}, episodes take {episode:,.0f} steps",
        {"loop.batch_length": max(64, 2 * length)},
        "This matters only where the agent must remember.",
    )


def _steps(run: Summary, updates: int) -> int:
    """Steps that make this many updates, with the prefill as it is."""
    loop = run.cfg.loop
    return int(rounded(loop.prefill + updates * loop.batch_size * loop.batch_length / loop.train_ratio))
