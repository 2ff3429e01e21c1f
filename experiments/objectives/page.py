"""The page of a comparison of objectives, its table for a terminal, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

import envs
from dreamer import atomic
from experiments import sidecar
from experiments.objectives import figures
from experiments.objectives import results as reached
from experiments.objectives.results import Run
from experiments.objectives.runs import Plan
from experiments.report import page
from experiments.report.page import number

PAGE, TABLE, EVERYTHING, PICTURE = "objectives.html", "objectives.csv", "objectives.json", "objectives.png"
NAMES = {"success_rate": "success", "return_mean": "return"}
"""{what evaluations are judged by: its name in tables}."""


def write(plan: Plan, runs: Sequence[Run], costs: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write page, table, numbers and picture into a folder; the numbers."""
    results = reached.results(plan, runs, costs)
    curves = figures.curves(results, runs)
    sidecar.keep_damaged(out / EVERYTHING)
    atomic.write(out / EVERYTHING, json.dumps(results, indent=1) + "\n")
    atomic.write(out / TABLE, reached.table(runs, results))
    atomic.write(out / PICTURE, figures.as_png(curves))
    page.write(
        out / PAGE,
        "objectives.html",
        results=results,
        judged=NAMES[results["metric"]],
        curves=figures.as_svg(curves),
        horizon=figures.horizon(results),
        about=envs.note(results["task"]),
        machine=results["machine"],
    )
    return results


def shown(results: Mapping[str, Any]) -> Table:
    """The results for a terminal, an objective a line; the error is that of predictions one step ahead."""
    judged, budget = NAMES[results["metric"]], results["cpu_budget"]
    view = Table(title=_title(results), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    view.add_column("objective", no_wrap=True)
    at_cpu = "at equal CPU s" if budget is None else f"at {budget:,.0f} CPU s"
    for name in (f"{judged}, greedy", "sampled", at_cpu, "error", "ms/update", "parameters"):
        view.add_column(name, justify="right")
    for name, row in results["objectives"].items():
        update, sampled = row["cost"] or {}, row["sampled"]
        params = update.get("params")
        view.add_row(
            name,
            estimate(row["greedy"]),
            number(sampled and sampled["mean"]),
            estimate(row["at_equal_cpu"]),
            number((row["probe_error"] or [None])[0]),
            number(update.get("update_ms")),
            "–" if params is None else f"{params:,}",
        )
    return view


def _title(results: Mapping[str, Any]) -> str:
    seeds = results["seeds"]
    return f"{results['task']}, {results['steps']:,} steps, {seeds} seed{'' if seeds == 1 else 's'} each"


def estimate(value: Mapping[str, Any] | None) -> str:
    """A mean with its interval; a dash where there is none."""
    if value is None:
        return "–"
    interval = value["interval"]
    return number(value["mean"]) + (
        f" [{number(interval[0])}, {number(interval[1])}]" if interval is not None else ""
    )


def lines(results: Mapping[str, Any]) -> list[str]:
    """What is left out, and why."""
    return [
        f"excluded: {row['objective']} seed {row['seed']}, {row['state']}: {row['why']}"
        for row in results["excluded"]
    ]
