"""A trial as runs: their configurations, progress and joint score.

DIR/trials/0007/seed0/  seed1/  ...     one ordinary run folder each, on several tasks TASK-seed0/
DIR/trials/0007/log.txt                 the output of the runs
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import envs
from dreamer.config import Config
from dreamer.logger import last_rows, read_rows
from dreamer.schema import ConfigError
from experiments import sidecar, statistics
from experiments.sweep.spec import Spec


class Part(NamedTuple):
    """One run of a trial."""

    cfg: Config
    folder: Path


class Score(NamedTuple):
    """The score of the runs of a trial."""

    scores: list[float]
    """Of every seed, the mean over tasks."""
    interval: tuple[float, float]
    metric: str


class TrialFailed(Exception):
    """A trial has no score; the message says why."""


FAULTS = (TrialFailed, ConfigError, envs.EnvError, envs.UnknownTask, envs.MissingExtra)
"""Errors that fail a trial; anything else is a bug."""


def parts(spec: Spec, params: Mapping[str, Any], folder: Path, seeds: range | None = None) -> list[Part]:
    """The runs of a trial in the order in which they are trained.

    Args:
      seeds: of training (default: those of the sweep).

    Raises:
      ConfigError: the values exclude each other.
    """
    cfg = spec.config(params)
    seeds = seeds or range(cfg.seed, cfg.seed + spec.sweep.seeds)
    runs = []
    for task in spec.tasks:
        task_cfg = dataclasses.replace(cfg, task=task)
        before = f"{re.sub(r'[^a-zA-Z0-9_.-]+', '-', task)}-" if len(spec.tasks) > 1 else ""
        for seed in seeds:
            runs.append(Part(dataclasses.replace(task_cfg, seed=seed), folder / f"{before}seed{seed}"))
    return sorted(runs, key=lambda part: part.cfg.seed)


def beside(part: Part, kind: str) -> Path:
    """A file of a run that lies beside its folder, whose name may have dots."""
    return part.folder.with_name(f"{part.folder.name}.{kind}")


def result_of(part: Part) -> dict[str, Any] | None:
    """The result of a run that is done; None if it is not."""
    result = sidecar.read(part.folder / "result.json")
    return result if result.get("solved") or result.get("env_steps", -1) >= part.cfg.steps else None


def score(spec: Spec, done: Sequence[Part]) -> Score:
    """The score of every seed and an interval for their mean: over seeds, of one seed over its episodes.

    Raises:
      TrialFailed: a run has no result, or no such score.
    """
    by_task: dict[str, list[dict[str, Any]]] = {}
    for part in done:
        result = result_of(part)
        if result is None:
            raise TrialFailed(f"{part.folder.name} has no result")
        by_task.setdefault(part.cfg.task, []).append(result)
    results = [result for task in by_task.values() for result in task]
    metric = spec.sweep.metric
    if metric == "auto":
        tells = all(result.get("success_rate") is not None for result in results)
        metric = "success_rate" if tells else "return_mean"
    if any(not isinstance(result.get(metric), int | float) for result in results):
        raise TrialFailed(f"the task does not report {metric}; use another metric, such as return_mean")
    table = np.array([[result[metric] for result in task] for task in by_task.values()], float)
    if not np.isfinite(table).all():
        raise TrialFailed(f"{metric} is not a finite number")
    seeds = table.mean(0).tolist()
    if len(seeds) > 1:
        return Score(seeds, statistics.bootstrap(seeds), metric)
    interval = results[0].get(metric.replace("_rate", "_interval").replace("_mean", "_interval"))
    one = len(results) == 1 and metric in ("success_rate", "return_mean") and interval
    return Score(seeds, (interval[0], interval[1]) if one else (seeds[0], seeds[0]), metric)


def judged(spec: Spec, folder: Path) -> list[tuple[int, float]]:
    """(environment steps, score) of every evaluation during a run so far."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    points = []
    for row in read_rows(path, "env_steps"):
        wanted = ("success_rate", "return_mean") if spec.sweep.metric == "auto" else (spec.sweep.metric,)
        value = next((row[f"eval/{key}"] for key in wanted if row.get(f"eval/{key}") is not None), None)
        if value is not None:
            points.append((int(row["env_steps"]), float(value)))
    return points


def progress(runs: Sequence[Part]) -> float:
    """Share of the steps of all runs that are taken."""
    return sum(min(steps_of(part.folder) / part.cfg.steps, 1.0) for part in runs) / len(runs)


def steps_of(folder: Path) -> int:
    """Environment steps in the newest row of a run's metrics, without reading the others."""
    rows = last_rows(folder / "metrics.jsonl", "env_steps")
    return int(rows[-1]["env_steps"]) if rows else 0
