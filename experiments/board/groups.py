"""The rows of sweeps, benchmarks and comparisons, by what their small files say and by the runs in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.board.contents import Damaged, json_of, number, text, toml_of, whole
from experiments.board.files import Folder
from experiments.board.rows import (
    BENCHMARK,
    COMPARISON,
    DAMAGED,
    DONE,
    FAILED,
    OBJECTIVES,
    PAGE,
    SWEEP,
    TRAINING,
    UNFINISHED,
    Place,
    Row,
    page,
)

HEAD = b'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
"""How the pages of this program begin."""
ENDED = ("finished", "pruned", "failed")
"""States of trials that ended."""


def read(folder: Folder, place: Place, base: Row) -> Row | None:
    """The row of anything that is no run; None for a page of another program."""
    readers = {
        SWEEP: _sweep,
        BENCHMARK: _benchmark,
        OBJECTIVES: _objectives,
        COMPARISON: _comparison,
        PAGE: _page,
    }
    try:
        return readers[base.kind](folder, place, base)
    except Damaged as error:
        return replace(base, status=DAMAGED, problem=str(error), unit="")


def _page(folder: Folder, place: Place, base: Row) -> Row | None:
    """A report that lies apart from what it is about."""
    is_ours = HEAD in folder.head(page(place.listing), 512)
    return replace(base, status=DONE, unit="") if is_ours else None


def _sweep(folder: Folder, place: Place, base: Row) -> Row:
    asked = _inner(toml_of(folder, "sweep.toml"), "sweep")
    trials = [trial for trial in json_of(folder, "trials.json", list) if isinstance(trial, dict)]
    ended = [trial for trial in trials if trial.get("state") in ENDED]
    total = whole(asked.get("trials"))
    best = _best(ended, is_less=asked.get("direction") == "minimize")
    reached, metric = number(best.get("score")), best.get("metric")
    return replace(
        base,
        task=_joined(asked.get("task")),
        preset=text(asked.get("preset")),
        status=DONE if ended and len(ended) >= (len(trials) if total is None else total) else UNFINISHED,
        ready=len(ended),
        total=total,
        unit="trials",
        return_mean=reached if metric == "return_mean" else None,
        success_rate=reached if metric == "success_rate" else None,
        judged="best trial" if best else "",
        seconds=sum(number(trial.get("seconds")) or 0.0 for trial in ended) or None,
    )


def _best(trials: Sequence[Mapping[str, Any]], *, is_less: bool) -> Mapping[str, Any]:
    scored = [(score, trial) for trial in trials if (score := number(trial.get("score"))) is not None]
    choose = min if is_less else max
    return choose(scored, key=lambda pair: pair[0])[1] if scored else {}


def _benchmark(folder: Folder, place: Place, base: Row) -> Row:
    plan = toml_of(folder, "benchmark.toml")
    tasks, seeds = plan.get("tasks"), whole(plan.get("seeds"))
    return replace(
        base,
        task=text(plan.get("suite")),
        preset=text(_inner(plan, "config").get("preset")),
        total=len(tasks) * seeds if isinstance(tasks, list) and seeds else None,
        unit="runs",
    )


def _objectives(folder: Folder, place: Place, base: Row) -> Row:
    plan = toml_of(folder, "objectives.toml")
    names, seeds, cfg = plan.get("objectives"), whole(plan.get("seeds")), _inner(plan, "config")
    return replace(
        base,
        task=text(cfg.get("task")),
        preset=text(cfg.get("preset")),
        total=len(names) * seeds if isinstance(names, list) and seeds else None,
        unit="runs",
    )


def _comparison(folder: Folder, place: Place, base: Row) -> Row:
    question, results = json_of(folder, "compare.json", dict), json_of(folder, "results.json", dict)
    agents = [
        agent for task in _values(results.get("tasks")) for agent in _values(task) if isinstance(agent, dict)
    ]
    ready = sum(whole(agent.get("finished")) or 0 for agent in agents)
    total = sum(whole(agent.get("planned")) or 0 for agent in agents)
    return replace(
        base,
        task=_joined(question.get("tasks")),
        seed=whole(question.get("seed")),
        status=TRAINING if place.held else DONE if agents and ready >= total else UNFINISHED,
        ready=ready,
        total=total or None,
        unit="episodes",
    )


def gathered(base: Row, runs: Sequence[Row]) -> Row:
    """A sweep, a benchmark or a comparison of objectives with what its runs say of it."""
    training = any(run.status == TRAINING for run in runs)
    if base.kind == SWEEP or base.status == DAMAGED:
        return replace(base, status=TRAINING if training else base.status)
    done, failed = (sum(run.status == status for run in runs) for status in (DONE, FAILED))
    complete = bool(done) and done >= (len(runs) if base.total is None else base.total)
    return replace(
        base,
        status=TRAINING if training else DONE if complete else FAILED if failed else UNFINISHED,
        ready=done,
        seconds=sum(run.seconds or 0.0 for run in runs) or None,
        problem=f"{failed} of its runs failed" if failed else "",
    )


def _inner(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table within another one; empty where it is something else."""
    return inner if isinstance(inner := content.get(name), dict) else {}


def _values(content: Any) -> Sequence[Any]:
    return list(content.values()) if isinstance(content, dict) else []


def _joined(names: Any) -> str:
    """One name or several, as text."""
    return text(", ".join(text(name) for name in names) if isinstance(names, list) else names)
