"""`dreamer eval`: how good a trained agent is, with honest intervals."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import envs
from envs.api import Policy, VectorEnv
from envs.rollout import Episode, rollout
from experiments import machine

CONFIDENCE = 0.95


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """95% interval of a success rate (Wilson score): never outside [0, 1], never of width 0."""
    from scipy.stats import binomtest

    interval = binomtest(successes, episodes).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of a mean (percentile bootstrap, 2,000 resamples with a fixed seed)."""
    from scipy.stats import bootstrap as resample

    if len(values) < 2 or np.ptp(values) == 0:
        return float(np.mean(values)), float(np.mean(values))
    result = resample(
        (np.asarray(values),),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """What the episodes say together; success is null where the task does not tell."""
    returns = [e.return_ for e in episodes]
    told = [e.success for e in episodes if e.success is not None]
    return {
        "episodes": len(episodes),
        "seed": episodes[0].seed,
        "success_rate": float(np.mean(told)) if told else None,
        "success_interval": list(wilson(sum(told), len(told))) if told else None,
        "return_mean": float(np.mean(returns)),
        "return_interval": list(bootstrap(returns)),
        "length_mean": float(np.mean([e.length for e in episodes])),
    }


def over_members(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the summaries of several agents say together: means over agents, with intervals over agents."""
    column = lambda name: [result[name] for result in results]
    tells = results[0]["success_rate"] is not None
    return {
        "episodes": sum(column("episodes")),
        "seed": results[0]["seed"],
        "success_rate": float(np.mean(column("success_rate"))) if tells else None,
        "success_interval": list(bootstrap(column("success_rate"))) if tells else None,
        "return_mean": float(np.mean(column("return_mean"))),
        "return_interval": list(bootstrap(column("return_mean"))),
        "length_mean": float(np.mean(column("length_mean"))),
    }


def sentence(result: dict[str, Any]) -> str:
    """The same for people."""
    low, high = result["return_interval"]
    text = f"return {result['return_mean']:.3f} [{low:.3f}, {high:.3f}], length {result['length_mean']:.1f}"
    if result["success_rate"] is not None:
        low, high = result["success_interval"]
        text = f"success {result['success_rate']:.1%} [{low:.1%}, {high:.1%}], " + text
    return f"{text} over {result['episodes']} episodes (95% intervals)"


def play(policy: Policy, env: VectorEnv, episodes: int, seed: int) -> dict[str, Any]:
    """Play `episodes` episodes on the seeds `seed, seed + 1, ...` and sum them up."""
    return summary(rollout(policy, env, range(seed, seed + episodes), key=seed))


def evaluate(run: Path, *, episodes: int, seed: int, sampled: bool, num_envs: int, json: bool) -> int:
    """Evaluate the newest checkpoint of a run; the exit code."""
    import dreamer

    machine.prepare()
    player = dreamer.load(run, greedy=not sampled)
    cfg = player.config
    assert cfg is not None
    env = envs.make(cfg.task, min(num_envs, episodes), obs=cfg.env.obs, parallel=cfg.env.parallel)
    try:
        result = play(player, env, episodes, seed)
    finally:
        env.close()
    if json:
        print(jsonlib.dumps(result))
    else:
        how = "sampled" if sampled else "greedy"
        print(f"{cfg.task}, {how} actions, seeds {seed} to {seed + episodes - 1}", file=sys.stderr)
        print(sentence(result))
    return 0
