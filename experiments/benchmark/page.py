"""The page of a benchmark: curves and tables beside what was published, aggregates, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamer import atomic
from dreamer.schema import ConfigError
from experiments import sidecar
from experiments.benchmark import bsuite, figures, published, report, scores
from experiments.benchmark.report import Variant, common_scores
from experiments.report import page
from experiments.report.figures import COLORS

PAGE, TABLE, EVERYTHING = "benchmark.html", "benchmark.csv", "benchmark.json"
BSUITE = "bsuite.csv"
"""Scores of experiments and tags, of benchmarks of bsuite."""
MEANINGS = {
    "iqm": "interquartile mean of all runs",
    "median": "median of the tasks' means",
    "mean": "mean of the tasks' means",
    "optimality_gap": "by how much 1 is missed; lower is better",
}


def write(variants: Sequence[Variant], out: Path) -> dict[str, Any]:
    """Write page, table and numbers into a folder; the numbers.

    Raises:
      ConfigError: the variants cannot be compared, or no episode has ended.
    """
    results = report.results(variants)
    if not any(run.rows for variant in variants for run in variant.runs):
        raise ConfigError(f"no episode of {variants[0].folder} has ended yet: there is nothing to report")
    out.mkdir(parents=True, exist_ok=True)
    sidecar.keep_damaged(out / EVERYTHING)
    atomic.write(out / EVERYTHING, json.dumps(results, indent=1) + "\n")
    atomic.write(out / TABLE, report.table(variants))
    if results["bsuite"]:
        atomic.write(out / BSUITE, report.bsuite_table(results))
    _render(out / PAGE, variants, results)
    return results


def _render(path: Path, variants: Sequence[Variant], results: Mapping[str, Any]) -> None:
    """Everything that is known in one file."""
    tasks = results["aggregated"]["tasks"]
    scale = scores.scoring(next(iter(results["tasks"]))).scale
    score = words(results["aggregated"]["score"]) + (f" / {scale:g}" if scale != 1 else "")
    profiles = {variant.name: common_scores(variant, tasks) for variant in variants} if tasks else {}
    page.write(
        path,
        "benchmark.html",
        results=results,
        variants=variants,
        curves=[svg for task in results["tasks"] if (svg := figures.curves(variants, task))],
        has_published=any(
            published.of(task, variants[0].plan.config.env.obs).curve for task in results["tasks"]
        ),
        profile=figures.profile(profiles, score) if profiles else "",
        radar=radar(results),
        tags=bsuite.TAGS,
        short_of=report.short_of,
        methods=methods(results),
        notes=list(dict.fromkeys(task["note"] for task in results["tasks"].values() if task["note"])),
        meanings=MEANINGS,
        scale=scale,
        has_players=any(task["human"] is not None for task in results["tasks"].values()),
        players=published.BOUND_NAMES.get(results["suite"], published.PLAYERS),
        colors=COLORS,
        words=words,
        leader=published.LEADER,
    )


def radar(results: Mapping[str, Any]) -> str:
    """The tags of bsuite around a circle; empty for other suites and before there is a score."""
    reached = {
        name: {tag: score["mean"] for tag, score in one["tags"].items()}
        for name, one in (results["bsuite"] or {"variants": {}})["variants"].items()
    }
    return figures.radar(reached, bsuite.TAGS) if any(reached.values()) else ""


def methods(results: Mapping[str, Any]) -> list[str]:
    """The methods that have a published score on any of the tasks."""
    return list(dict.fromkeys(m for task in results["tasks"].values() for m in task["published"]))


def words(name: str) -> str:
    """The name of a number, as prose has it."""
    return name.replace("_", " ")
