"""The page of a report on planning, its table for a terminal, and its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

import envs
from dreamer import atomic
from experiments import sidecar
from experiments.plans import figures
from experiments.plans import results as reached
from experiments.plans.results import COST, METRICS
from experiments.report import page
from experiments.report.page import number

COST_HEADS = dict(zip(COST, ("a situation", "ever paid", "ever spared"), strict=True))
"""What a table calls the columns of a cost."""
MEANS = {"success": "success_rate", "failed": "failed", "return": "return_mean"}
"""{what there is of an actor whose successes are known: its mean in a row}."""
PAGE, TABLE, EVERYTHING = "plans.html", "plans.csv", "plans.json"


def _percent(share: float) -> str:
    return f"{share:.0%}"


FORMS = {"success": _percent, "failed": _percent, "return": number}
"""How these means are written."""


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
        costs=_costs(results),
        heads=COST_HEADS,
        hurting=reached.hurting(results),
        figure=figures.against_time(results),
        about=envs.note(results["asked"]["task"]),
    )


def shown(results: Mapping[str, Any]) -> Table:
    """The results for a terminal, an actor a line; the page has more columns."""
    asked, judged, reports = results["asked"], METRICS[results["metric"]], _reports(results)
    count = f"{asked['episodes']} episode{'' if asked['episodes'] == 1 else 's'}"
    title = f"{asked['task']}, {count} of each actor, from seed {asked['seed']} on"
    view = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    view.add_column("actor", overflow="fold", min_width=16)
    for name in (*reports, "to the first", "ms"):
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("")
    for name, row in results["actors"].items():
        view.add_row(
            _breakable(name),
            *(_estimate(row, kind) if kind == judged else _mean(row, kind) for kind in reports),
            _difference(row, judged),
            number(row["ms"]),
            row["verdict"] + (": search hurts" if row["hurts"] else ""),
        )
    return view


def shown_costs(results: Mapping[str, Any]) -> Table:
    """What situations cost for a terminal, an actor and a cost a line."""
    view = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    for name in ("actor", "cost"):
        view.add_column(name, overflow="fold", min_width=12)
    for name in COST_HEADS.values():
        view.add_column(name, justify="right", overflow="fold")
    for name, cost, *numbers in _costs(results):
        view.add_row(_breakable(name), cost.rpartition("/")[2], *numbers)
    return view


def _breakable(name: str) -> str:
    """The name of an actor with spaces where a line may break."""
    return name.replace(":", ": ", 1).replace(",", ", ")


def lines(results: Mapping[str, Any]) -> list[str]:
    """A sentence for every actor but the first, and one where search hurts."""
    first, *_ = results["actors"]
    said_of = [row["sentence"] for row in results["actors"].values() if row["sentence"]]
    worse = reached.hurting(results)
    hurt = f"search hurts this agent: {first} is better than {', '.join(worse)}"
    return said_of + ([hurt] if worse else [])


def _reports(results: Mapping[str, Any]) -> tuple[str, ...]:
    """What there is of every actor."""
    return tuple(MEANS) if results["metric"] == "success_rate" else ("return",)


def _mean(row: Mapping[str, Any], kind: str) -> str:
    return FORMS[kind](row[MEANS[kind]])


def _estimate(row: Mapping[str, Any], kind: str) -> str:
    """A mean with its interval."""
    return _between(FORMS[kind], row[MEANS[kind]], row[f"{kind}_interval"])


def _costs(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Actor, cost, and what `COST` says of it with intervals, a row each."""
    forms = {kind: number if kind == "mean" else _percent for kind in COST}
    return [
        (name, text, *(_between(forms[kind], *reached.paid(cost, kind)) for kind in COST))
        for name, row in results["actors"].items()
        for text, cost in row["costs"].items()
    ]


def _between(form: Callable[[float], str], mean: float, interval: Sequence[float]) -> str:
    return f"{form(mean)} [{', '.join(map(form, interval))}]"


def _difference(row: Mapping[str, Any], kind: str) -> str:
    """The difference to the first actor with its interval; empty of the first."""
    if row["difference"] is None:
        return ""
    form = (lambda x: f"{x:+.0%}") if kind == "success" else (lambda x: f"{x:+.3g}")
    gap = row["difference"][kind]
    return f"{form(gap['mean'])} [{', '.join(map(form, gap['interval']))}]"
