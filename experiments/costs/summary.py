"""What episodes cost, over all of them and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import statistics

HALF = 0.5
"""A cost above is paid, where it is a yes or no."""


def summary(rows: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """{cost: its mean, and in which share of the episodes it was ever, and never, above a half}."""
    result = {}
    for name in rows[0]:
        mean = [row[name]["mean"] for row in rows]
        ever = sum(row[name]["largest"] > HALF for row in rows)
        spared = sum(row[name]["least"] <= HALF for row in rows)
        result[name] = {
            "mean": float(np.mean(mean)),
            "interval": list(statistics.bootstrap(mean)),
            "ever_paid": ever / len(rows),
            "ever_paid_interval": list(statistics.wilson(ever, len(rows))),
            "ever_spared": spared / len(rows),
            "ever_spared_interval": list(statistics.wilson(spared, len(rows))),
        }
    return result


def sentences(costs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The summary as text, a line each."""
    share = lambda name, cost: "{:.1%} [{:.1%}, {:.1%}]".format(cost[name], *cost[f"{name}_interval"])
    return [
        "cost {}: {:.4g} [{:.4g}, {:.4g}] a situation; ".format(name, cost["mean"], *cost["interval"])
        + f"above 1/2 at some time in {share('ever_paid', cost)} of the episodes, "
        + f"below at some time in {share('ever_spared', cost)}"
        for name, cost in costs.items()
    ]
