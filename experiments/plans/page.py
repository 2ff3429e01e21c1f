"""The page of a report on planning, its table for a terminal, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

import envs
from dreamer import atomic
from experiments import sidecar
from experiments.plans import figures
from experiments.plans import results as reached
from experiments.plans.results import METRICS
from experiments.report import page
from experiments.report.page import number

PAGE, TABLE, EVERYTHING = "plans.html", "plans.csv", "plans.json"


def write(results: Mapping[str, Any], out: Path) -> None:
    """Write page, table and numbers into a folder."""
    sidecar.keep_damaged(out / EVERYTHING)
    atomic.write(out / EVERYTHING, json.dumps(results, indent=1) + "\n")
    atomic.write(out / TABLE, reached.table(results))
    page.write(
        out / PAGE,
        "plans.html",
        results=results,
        reports=_reports(results),
        judged=METRICS[results["metric"]],
        estimate=_estimate,
        difference=_difference,
        hurting=reached.hurting(results),
        figure=figures.against_time(results),
        about=envs.note(results["asked"]["task"]),
    )


def shown(results: Mapping[str, Any]) -> Table:
    """The results for a terminal, an actor a line; the page has more columns."""
    asked, judged = results["asked"], METRICS[results["metric"]]
    count = f"{asked['episodes']} episode{'' if asked['episodes'] == 1 else 's'}"
    title = f"{asked['task']}, {count} of each actor, from seed {asked['seed']} on"
    view = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    view.add_column("actor", overflow="fold", min_width=16)
    for name in (judged, *(["return"] if judged == "success" else []), "to the first", "ms"):
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("")
    for name, row in results["actors"].items():
        view.add_row(
            name.replace(":", ": ", 1).replace(",", ", "),  # where a line may break
            _estimate(row, judged),
            *([number(row["return_mean"])] if judged == "success" else []),
            _difference(row, judged),
            number(row["ms"]),
            row["verdict"] + (": search hurts" if row["hurts"] else ""),
        )
    return view


def lines(results: Mapping[str, Any]) -> list[str]:
    """A sentence for every actor but the first, and one where search hurts."""
    first, *_ = results["actors"]
    said_of = [row["sentence"] for row in results["actors"].values() if row["sentence"]]
    worse = reached.hurting(results)
    hurt = f"search hurts this agent: {first} is better than {', '.join(worse)}"
    return said_of + ([hurt] if worse else [])


def _reports(results: Mapping[str, Any]) -> tuple[str, ...]:
    """What there is of every actor."""
    return ("success", "return") if results["metric"] == "success_rate" else ("return",)


def _estimate(row: Mapping[str, Any], kind: str) -> str:
    """A mean with its interval."""
    form = (lambda x: f"{x:.0%}") if kind == "success" else number
    mean, (low, high) = row["success_rate" if kind == "success" else "return_mean"], row[f"{kind}_interval"]
    return f"{form(mean)} [{form(low)}, {form(high)}]"


def _difference(row: Mapping[str, Any], kind: str) -> str:
    """The difference to the first actor with its interval; empty of the first."""
    if row["difference"] is None:
        return ""
    form = (lambda x: f"{x:+.0%}") if kind == "success" else (lambda x: f"{x:+.3g}")
    gap = row["difference"][kind]
    return f"{form(gap['mean'])} [{', '.join(map(form, gap['interval']))}]"
