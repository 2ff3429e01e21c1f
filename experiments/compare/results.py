"""From transcripts to numbers.

    results.json    what was reached and what it took: the same in however many sittings it was played
    results.csv     the same as a table, a row for every agent on every task
    timing.json     how long it took and what failed on the way, which is never the same twice

What is unknown is null, never 0: tokens that a server does not report, the price of an unknown model.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer import atomic
from experiments import statistics
from experiments.compare.transcript import Played, is_repeated
from experiments.compare.transcript import seconds as seconds_of
from experiments.llm.transcript import COUNTED as SLIPS
from experiments.llm.transcript import tally
from experiments.statistics import Difference

TOKENS = ("tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning")
"""Cached ones are part of those read, those of reasoning part of those written."""


def judged(players: Mapping[str, Sequence[Played]]) -> dict[str, list[Played]]:
    """The episodes of all players on one task; those that a cap cut short have failed.

    Many tasks tell success only at the end of an episode. If one told it of any episode, then those that were
    cut short before it said anything were not solved in their steps.
    """
    results = [p.result for played in players.values() for p in played if p.result is not None]
    tells = any(result["success"] is not None for result in results)

    def settled(p: Played) -> Played:
        if not tells or p.result is None or p.result["success"] is not None or not p.result["cut"]:
            return p
        return p._replace(result=p.result | {"success": False})

    return {name: [settled(p) for p in played] for name, played in players.items()}


def summary(planned: int, played: Sequence[Played]) -> dict[str, Any]:
    """What an agent reached on a task, and what it took: scores of finished episodes, costs of all.

    Args:
      planned: episodes it is to play.
      played: those that were begun.
    """
    finished = [p for p in played if p.result is not None]
    errors = Counter(p.error for p in played if p.error is not None)
    counts = tally([line for p in played for line in p.lines])
    return {
        "planned": planned,
        "finished": len(finished),
        "errored": errors.total(),
        **_scores([p.result for p in finished if p.result is not None]),
        "decisions": sum(len(p.decisions) for p in played),
        **{slip: getattr(counts, slip) for slip in SLIPS},
        "calls": counts.calls,
        "repeated": counts.repeated,
        **dict(zip(TOKENS, (counts.input, counts.cached, counts.output, counts.reasoning), strict=True)),
        "usd": counts.usd if counts.calls else None,
        "unsent": list(counts.unsent),
        "rungs": counts.rungs,
        "served": list(counts.models),
        "errors": dict(sorted(errors.items())),
    }


def _scores(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    returns = [result["return"] for result in results]
    successes = [result["success"] for result in results if result["success"] is not None]
    return {
        "success_rate": sum(successes) / len(successes) if successes else None,
        "success_interval": list(statistics.wilson(sum(successes), len(successes))) if successes else None,
        "return_mean": float(np.mean(returns)) if returns else None,
        "return_interval": list(statistics.bootstrap(returns)) if returns else None,
        "length_mean": float(np.mean([r["length"] for r in results])) if results else None,
        "truncated_by_limit": sum(bool(r["cut"]) for r in results),
    }


def difference(ours: Sequence[Played], theirs: Sequence[Played]) -> dict[str, Any]:
    """How much better one agent is than another, over the seeds that both finished."""
    mine, other = ({p.seed: p.result for p in x if p.result is not None} for x in (ours, theirs))
    both = [(mine[seed], other[seed]) for seed in mine if seed in other]
    successes = [(a["success"], b["success"]) for a, b in both if None not in (a["success"], b["success"])]
    returns = [(a["return"], b["return"]) for a, b in both]
    return {
        "pairs": len(both),
        "success": _estimate(paired_rates(successes)) if successes else None,
        "return": _estimate(statistics.paired_difference(*zip(*returns, strict=True))) if returns else None,
    }


def _estimate(estimate: Difference) -> dict[str, Any]:
    return {"mean": estimate.mean, "interval": [estimate.low, estimate.high]}


def paired_rates(pairs: Sequence[tuple[bool, bool]]) -> Difference:
    """How much higher the success rate of the first is on the same seeds: never certain, not even at 0 or 1.

        low  = d - sqrt((p - l)^2 - 2 phi (p - l) (v - q) + (v - q)^2)
        high = d + sqrt((u - p)^2 - 2 phi (u - p) (q - k) + (q - k)^2)

    with d = p - q, the Wilson intervals [l, u] of p and [k, v] of q, and phi the correlation of the two.

    Reference: Newcombe (1998), Improved confidence intervals for paired proportions, method 10.
    """
    first, second = np.asarray(pairs, bool).T
    n, a, b = len(first), int(first.sum()), int(second.sum())
    (p, q), ((l, u), (k, v)) = (a / n, b / n), (statistics.wilson(a, n), statistics.wilson(b, n))
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    alike = both * neither - int((first & ~second).sum()) * int((~first & second).sum())
    spread = math.sqrt(a * (n - a) * b * (n - b))
    phi = (max(alike - n / 2, 0) if alike > 0 else alike) / spread if spread else 0.0
    side = lambda x, y: math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))
    return Difference(p - q, p - q - side(p - l, v - q), p - q + side(u - p, q - k))


def timing(played: Sequence[Played], disclosure: Mapping[str, Any], watts: float) -> dict[str, Any]:
    """How long the decisions of an agent took, and its training, and what failed and was fixed by a retry.

    Decisions that repeat an earlier reply of a model took no time and are left out.

    Args:
      watts: of this machine, for an estimate of its energy (0: none).
    """
    seconds = [seconds_of(line) for p in played for line in p.decisions if not is_repeated(line)]
    counts = tally([line for p in played for line in p.lines])
    total, trained = float(sum(seconds)), disclosure.get("training_seconds")
    energy = lambda spent: watts * spent / 3600 if watts and spent and not disclosure.get("remote") else None
    return {
        "decisions_per_second": len(seconds) / total if total else None,
        "latency_p50": float(np.quantile(seconds, 0.5)) if seconds else None,
        "latency_p95": float(np.quantile(seconds, 0.95)) if seconds else None,
        "policy_seconds": total,
        "episode_seconds": float(sum(p.result["seconds"] for p in played if p.result is not None)),
        "training_seconds": trained,
        "energy_wh_estimate": energy(total),
        "training_energy_wh_estimate": energy(trained),
        "faults": counts.failures,
        "lost": {"replies": counts.lost, "tokens": counts.lost_tokens, "usd": counts.lost_usd},
    }


Table = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""`[task][agent]` what is known of it."""

COLUMNS = (
    *("task", "agent", "planned", "finished", "errored", "success_rate", "success_low", "success_high"),
    *("return_mean", "return_low", "return_high", "length_mean", "decisions", *SLIPS),
    *("calls", "repeated", *TOKENS, "usd", "parameters", "training_steps", "truncated_by_limit"),
)


def as_csv(tasks: Table) -> str:
    """A row for every agent on every task; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for task, agents in tasks.items():
        for agent, row in agents.items():
            ends = {}
            for score in ("success", "return"):
                low, high = row[f"{score}_interval"] or (None, None)
                ends |= {f"{score}_low": low, f"{score}_high": high}
            writer.writerow({"task": task, "agent": agent, **row, **ends})
    return text.getvalue()


def write(folder: Path, results: Mapping[str, Any], timings: Mapping[str, Any]) -> None:
    """`results.json`, `results.csv` and `timing.json`."""
    atomic.write(folder / "results.json", json.dumps(results, indent=1) + "\n")
    atomic.write(folder / "results.csv", as_csv(results["tasks"]))
    atomic.write(folder / "timing.json", json.dumps(timings, indent=1) + "\n")
