"""What actors of one agent reached on the same seeds, and which of them more than chance sets apart.

Every actor has a row: a summary of its episodes as of `dreamer eval`, each return and success, how many ended
in failure, what situations cost where costs are asked for, and what a decision took. Rows are compared with
that of the first actor.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from dreamer.agent import Params
from envs.rollout import Episode
from experiments import evaluate, statistics
from experiments.compare.results import paired_rates
from experiments.statistics import Difference

Row = Mapping[str, Any]
METRICS = {"success_rate": "success", "return_mean": "return"}
"""{what actors are judged by: its name}, the first one where the task reports it."""
FEW = 10
"""Pairs of returns below which their interval is not believed: it reaches no further than they do."""
BETTER, WORSE, EVEN = "better", "worse", "no difference"
COLUMNS = (
    *("actor", "verdict", "success_rate", "success_low", "success_high", "failed", "failed_low"),
    *("failed_high", "return_mean", "return_low", "return_high", "difference_in", "difference"),
    *("difference_low", "difference_high", "ms", "ms_low", "ms_high", "model_steps", "compile_seconds"),
    *("length_mean", "truncated_by_limit", "episodes", "seed"),
)
COST = ("mean", "ever_paid", "ever_spared")
"""Of a cost: its mean over situations, and the shares of episodes in which it was ever paid and spared."""


def fingerprint(params: Params) -> str:
    """16 hexadecimal digits that depend on every parameter."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(jax.device_get(leaf)).tobytes())
    return digest.hexdigest()[:16]


def row(
    episodes: Sequence[Episode],
    limit: int,
    timed: Row,
    steps: int,
    costs: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    imagined: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The row of an actor.

    Args:
      limit: steps after which episodes were cut short.
      timed: as of `timing.decisions`.
      steps: of the model that a decision takes.
      costs: what situations cost, as of `experiments.costs.summary`; {} where none are asked for.
      imagined: file, updates and fingerprint of an agent that learned in dreams; None of that of the run.
    """
    return {
        **evaluate.summary(episodes, limit),
        **_failed(episodes),
        "costs": dict(costs),
        "imagined": imagined and dict(imagined),
        "returns": [e.return_ for e in episodes],
        "successes": [e.success for e in episodes],
        "model_steps": steps,
        **timed,
    }


def _failed(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Which share of the episodes ended without success, and not by a limit; null where that is unknown."""
    known = [e for e in episodes if e.success is not None]
    count = sum(not e.success and e.discount == 0 for e in known)
    return {
        "failed": count / len(known) if known else None,
        "failed_interval": list(statistics.wilson(count, len(known))) if known else None,
    }


def usable(
    stored: Mapping[str, Any], asked: Mapping[str, Any], imagined: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """{actor: row} of a file, if it was made as is asked now.

    Args:
      imagined: as of `row`; the row of an agent with other parameters is left out.
    """
    if stored.get("asked") != dict(asked):
        return {}
    rows = {**stored.get("others", {}), **stored.get("actors", {})}
    mark = imagined and imagined["fingerprint"]
    is_meant = lambda row: row["imagined"] is None or mark in (None, row["imagined"]["fingerprint"])
    return {name: row for name, row in rows.items() if is_meant(row)}


def results(
    run: str, asked: Mapping[str, Any], rows: Mapping[str, Row], others: Mapping[str, Row], session: Row
) -> dict[str, Any]:
    """Everything that the page shows, as JSON can say it.

    Args:
      asked: all that the rows have in common.
      rows: {actor: its row}, the first one to compare the others with.
      others: of actors that are not asked for now, kept for a command that asks for them.
      session: where, when and by which command, as of `surroundings.session`.
    """
    return {
        "run": run,
        "asked": dict(asked),
        "metric": judged_by(rows),
        "actors": compared(rows),
        "others": dict(others),
        "session": dict(session),
    }


def judged_by(rows: Mapping[str, Row]) -> str:
    """What actors are judged by: success where the task reports it, else the return."""
    tells = all(row["success_rate"] is not None for row in rows.values())
    return "success_rate" if tells else "return_mean"


def compared(rows: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
    """{actor: its row with `difference` to the first one, `verdict`, `hurts`, `sentence`}, empty of that one.

    The difference is {success, return}, each {mean, interval}; success is null where the task does not tell.
    Search hurts where an actor that searches for the task's reward alone is worse than a first one that does
    not search.
    """
    reference, *others = rows
    metric = judged_by(rows)
    first = {**rows[reference], "difference": None, "verdict": "", "hurts": False, "sentence": ""}
    return {reference: first} | {
        name: {**rows[name], **_against(name, rows[name], reference, rows[reference], metric)}
        for name in others
    }


def _against(name: str, row: Row, reference: str, first: Row, metric: str) -> dict[str, Any]:
    pairs = zip(row["successes"], first["successes"], strict=True)
    tell = [(a, b) for a, b in pairs if a is not None and b is not None]
    gaps = {
        "success": paired_rates(tell) if tell else None,
        "return": statistics.paired_difference(row["returns"], first["returns"]),
    }
    gap = gaps[METRICS[metric]] or gaps["return"]
    assert gap is not None
    is_few = metric == "return_mean" and len(row["returns"]) < FEW
    verdict = EVEN if is_few else BETTER if gap.low > 0 else WORSE if gap.high < 0 else EVEN
    hurts = verdict == WORSE and row["model_steps"] > 0 == first["model_steps"] and not row["costs"]
    return {
        "difference": {
            kind: None if x is None else {"mean": x.mean, "interval": [x.low, x.high]}
            for kind, x in gaps.items()
        },
        "verdict": verdict,
        "hurts": hurts,
        "sentence": f"{_claim(name, reference, verdict, hurts)} ({_measured(gap, metric)}"
        + (f"; {FEW} episodes are needed to tell" if is_few else "")
        + f"){_price(row, first)}",
    }


def _claim(name: str, reference: str, verdict: str, hurts: bool) -> str:
    if verdict == EVEN:
        return f"{name}: no difference to {reference} that 95% intervals can tell"
    return f"{name} is {verdict} than {reference}" + (", search hurts" if hurts else "")


def _measured(gap: Difference, metric: str) -> str:
    form = "+.1%" if metric == "success_rate" else "+.3g"
    mean, low, high = (format(x, form) for x in gap)
    return f"{METRICS[metric]} {mean} [{low}, {high}]"


def _price(row: Row, first: Row) -> str:
    return f"; a decision takes {row['ms'] / first['ms']:.2g} times as long" if row["model_steps"] else ""


def hurting(results: Mapping[str, Any]) -> list[str]:
    """The planners that are worse than a first actor that does not search."""
    return [name for name, row in results["actors"].items() if row["hurts"]]


def table(results: Mapping[str, Any]) -> str:
    """Every actor as a line of CSV; what is not known is empty."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    judged, costs = METRICS[results["metric"]], list(next(iter(results["actors"].values()))["costs"])
    ends = ("", "_low", "_high")
    columns = (*COLUMNS, *(f"{cost} {kind}{end}" for cost in costs for kind in COST for end in ends))
    out.writerow(columns)
    for name, row in results["actors"].items():
        gap = row["difference"][judged] if row["difference"] else {"mean": None, "interval": None}
        values = {
            **row,
            "actor": name,
            **_ends("success", row["success_interval"]),
            **_ends("failed", row["failed_interval"]),
            **_ends("return", row["return_interval"]),
            "difference_in": judged,
            "difference": gap["mean"],
            **_ends("difference", gap["interval"]),
            **_ends("ms", row["ms_quartiles"]),
            **{key: value for cost in costs for key, value in _paid(cost, row["costs"][cost]).items()},
        }
        out.writerow("" if values[column] is None else values[column] for column in columns)
    return text.getvalue()


def paid(cost: Row, kind: str) -> tuple[float, Sequence[float]]:
    """One of `COST` of a cost, and its interval."""
    return cost[kind], cost["interval" if kind == "mean" else f"{kind}_interval"]


def _paid(name: str, cost: Row) -> dict[str, float | None]:
    """What situations cost, as columns of a table."""
    columns: dict[str, float | None] = {}
    for kind in COST:
        value, interval = paid(cost, kind)
        columns |= {f"{name} {kind}": value, **_ends(f"{name} {kind}", interval)}
    return columns


def _ends(name: str, interval: Sequence[float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
