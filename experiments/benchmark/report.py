"""What the runs of benchmarks reached: per task beside what was published, and over all tasks.

Several benchmarks of one suite are variants of each other. Aggregates take the tasks on which every variant
has a finished run; what is left out is listed with the reason.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import envs
from dreamer.schema import ConfigError
from experiments import learning_curve, statistics, surroundings
from experiments.benchmark import bsuite, published, scores
from experiments.benchmark.published import LEADER, Published
from experiments.benchmark.runs import Benchmark, Plan
from experiments.sweep import trial
from experiments.sweep.runset import DONE
from experiments.sweep.trial import Part


@dataclass(frozen=True)
class Run:
    """One run of a benchmark."""

    task: str
    seed: int
    state: str
    """One of done, failed, unfinished, missing."""
    why: str
    """Why it is not done; empty where it is."""
    steps: int
    """Environment steps so far."""
    rows: list[dict[str, Any]]
    """Its training episodes."""
    numbers: dict[str, float]
    """Its score so far."""
    result: dict[str, Any]
    versions: dict[str, str]
    """Of the packages that it was trained with."""

    @property
    def headline(self) -> float | None:
        """The number that tables show."""
        return self.numbers.get(scores.scoring(self.task).headline)

    @property
    def common(self) -> float | None:
        """The score on the scale that all tasks share."""
        scoring = scores.scoring(self.task)
        value = self.numbers.get(scoring.common)
        return None if value is None else value / scoring.scale

    def recent(self, steps: float, width: float) -> float | None:
        """Mean of what its curve shows, over the episodes that ended in so many steps before these.

        By their ends, because the published curve beside which it stands is of those.
        """
        points = scores.values(self.rows, self.task)
        values = [value for at, value in points if steps - width < at <= steps]
        return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Variant:
    """A benchmark and its runs."""

    name: str
    folder: Path
    plan: Plan
    runs: list[Run]

    def done(self, task: str) -> list[Run]:
        """The finished runs of a task that have a score."""
        return [r for r in self.runs if r.task == task and r.state == DONE and r.headline is not None]


def read(folder: Path) -> Variant:
    """A benchmark with all of its runs.

    Raises:
      ConfigError: the folder is none.
    """
    bench = Benchmark(folder)
    runs = [_run(bench, part) for part in bench.parts]
    return Variant(folder.absolute().name, folder, bench.plan, runs)


def _run(bench: Benchmark, part: Part) -> Run:
    result = trial.result_of(part) or {}
    state, steps = bench.state(part), trial.steps_of(part.folder)
    steps = int(result.get("env_steps", steps))
    task, rows = part.cfg.task, scores.training_episodes(part.folder)
    numbers = scores.scoring(task).function(rows, task.partition(":")[2], steps) if rows else {}
    why = bench.why_not_done(part) or ("" if numbers else "no episode ended")
    sessions = surroundings.sessions(part.folder)
    versions = sessions[-1].get("versions", {}) if sessions else {}
    return Run(task, part.cfg.seed, state, why, steps, rows, numbers, result, versions)


def check_alike(variants: Sequence[Variant]) -> None:
    """Check that benchmarks can be compared.

    Raises:
      ConfigError: they are of several suites, or two have the same name.
    """
    suites = {variant.plan.suite: variant.folder for variant in variants}
    if len(suites) > 1:
        listed = ", ".join(f"{folder} is of {suite}" for suite, folder in suites.items())
        raise ConfigError(f"only benchmarks of one suite can be compared, but {listed}")
    names = [variant.name for variant in variants]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"variants are named after their folders, but two are called {double}: rename one")


def results(variants: Sequence[Variant]) -> dict[str, Any]:
    """Everything that the page shows in numbers, as JSON can say it."""
    check_alike(variants)
    tasks = list(dict.fromkeys(task for variant in variants for task in variant.plan.tasks))
    common, left_out = shared(variants, tasks)
    return {
        "suite": variants[0].plan.suite,
        "score": scores.scoring(tasks[0]).headline,
        "variants": [_about(variant) for variant in variants],
        "tasks": {task: _task(variants, task) for task in tasks},
        "excluded": excluded(variants),
        "aggregated": {"score": scores.scoring(tasks[0]).common, "tasks": common, "left_out": left_out},
        "aggregates": {v.name: _aggregates(v, common) for v in variants if common},
        "published": _published_aggregates(variants, common),
        "improvement": _improvements(variants, common),
        "bsuite": _bsuite(variants) if variants[0].plan.suite == "bsuite" else None,
    }


def _bsuite(variants: Sequence[Variant]) -> dict[str, Any]:
    """The package's own analysis of the finished runs of every variant, or why there is none."""
    suite = next(s for s in envs.suites() if s.name == "bsuite")
    if not suite.installed:
        return {"why": f"its analysis needs the package {suite.package}: {suite.how}", "variants": {}}
    return {"why": "", "variants": {v.name: bsuite.summary(_settings(v)) for v in variants}}


def _settings(variant: Variant) -> list[dict[str, list[dict[str, Any]]]]:
    """{setting: episodes} of the finished runs of every seed."""
    seeds: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for run in variant.runs:
        if run.state == DONE:
            seeds.setdefault(run.seed, {})[run.task.partition(":")[2]] = run.rows
    return list(seeds.values())


def _about(variant: Variant) -> dict[str, Any]:
    cfg = variant.plan.config
    steps = [variant.plan.steps_of(task) for task in variant.plan.tasks]
    versions: dict[str, set[str]] = {}
    for run in variant.runs:
        for package, version in run.versions.items():
            versions.setdefault(package, set()).add(version)
    return {
        "name": variant.name,
        "folder": str(variant.folder),
        "preset": cfg.preset,
        "steps": max(steps),
        "least_steps": min(steps),
        "seeds": variant.plan.seeds,
        "train_ratio": cfg.loop.train_ratio,
        "acted_with": learning_curve.acted_with(row for run in variant.runs for row in run.rows),
        "versions": {package: sorted(several) for package, several in sorted(versions.items())},
    }


def excluded(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """The runs that are in no table: failed, unfinished, missing, or without an episode."""
    rows = [(variant.name, run) for variant in variants for run in variant.runs]
    return [
        {"variant": name, "task": run.task, "seed": run.seed, "state": run.state, "why": run.why}
        for name, run in rows
        if run.state != DONE or run.headline is None
    ]


def shared(variants: Sequence[Variant], tasks: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The tasks to aggregate over, and {task: why it is left out}."""
    why: dict[str, str] = {}
    for task in tasks:
        for variant in variants:
            done = variant.done(task)
            if not done:
                why.setdefault(task, f"{variant.name} has no finished run")
            elif any(run.common is None for run in done):
                why.setdefault(task, "its score is not on a scale that tasks share")
    return [task for task in tasks if task not in why], why


def _task(variants: Sequence[Variant], task: str) -> dict[str, Any]:
    """What each variant reached on a task, and what was published on it."""
    obs = variants[0].plan.config.env.obs
    known = published.of(task, obs)
    methods = {m: score._asdict() for m, score in known.scores.items()}
    reached = {v.name: _reached(v.done(task), known) for v in variants if v.done(task)}
    return {
        "variants": reached,
        "published": methods,
        "published_score": known.unit,
        "random": known.random,
        "human": known.human,
        "note": envs.note(task),
    }


def _reached(done: Sequence[Run], known: Published) -> dict[str, Any]:
    """The scores of the seeds of one task, and the published curve at the same steps."""
    values = [run.headline for run in done if run.headline is not None]
    steps = min(run.steps for run in done)
    beside: dict[str, Any] = {"published": None, "window": None, "mean": None}
    theirs = known.curve.at(steps) if known.curve is not None else None
    if known.curve is not None and theirs is not None:
        width = known.curve.width
        ours = [mean for run in done if (mean := run.recent(steps, width)) is not None]
        beside = {"published": theirs, "window": width, "mean": float(np.mean(ours)) if ours else None}
    return {
        **_mean(values),
        "scores": values,
        "seeds": [run.seed for run in done],
        "steps": steps,
        "at_the_same_steps": beside,
        "numbers": _means([run.numbers for run in done]),
        "evaluated": _evaluated(done),
    }


def _mean(values: Sequence[float]) -> dict[str, Any]:
    """The mean of seeds, with its interval where there are several."""
    interval = list(statistics.bootstrap(values)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "interval": interval}


def _means(numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in numbers for name in row)
    return {name: float(np.mean([row[name] for row in numbers if name in row])) for name in names}


def _evaluated(done: Sequence[Run]) -> dict[str, float | None]:
    """Means of the evaluations at the end, which are apart from the score."""
    kinds = {"greedy": lambda result: result, "sampled": lambda result: result.get("sampled") or {}}
    mean = lambda values: float(np.mean(values)) if values else None
    return {
        f"{kind}_{key}": mean([x for run in done if (x := of(run.result).get(key)) is not None])
        for kind, of in kinds.items()
        for key in ("return_mean", "success_rate")
    }


def common_scores(variant: Variant, tasks: Sequence[str]) -> list[list[float]]:
    """[tasks][seeds] scores on the common scale."""
    return [[run.common for run in variant.done(task) if run.common is not None] for task in tasks]


def _aggregates(variant: Variant, tasks: Sequence[str]) -> dict[str, Any]:
    """Every aggregate with its interval; there is none where no task has two seeds."""
    table = common_scores(variant, tasks)
    several = any(len(seeds) > 1 for seeds in table)
    return {
        name: {"value": e.value, "interval": [e.low, e.high] if several else None}
        for name, e in statistics.aggregates(table).items()
    }


def _published_aggregates(variants: Sequence[Variant], tasks: Sequence[str]) -> dict[str, Any] | None:
    """Aggregates of the means that DreamerV3 has on the same tasks, at the same steps and at its end."""
    obs = variants[0].plan.config.env.obs
    steps = {task: min(run.steps for v in variants for run in v.done(task)) for task in tasks}
    rows = []
    for task in tasks:
        known = published.of(task, obs)
        if LEADER not in known.scores or known.unit != scores.scoring(task).headline:
            return None
        same = known.curve.at(steps[task]) if known.curve is not None else None
        values = {"same_steps": same, "end": known.scores[LEADER].mean}
        rows.append({name: scores.on_common_scale(task, value, known) for name, value in values.items()})
    summaries = {}
    for name in ("same_steps", "end"):
        values = [value for row in rows if (value := row[name]) is not None]
        if values and len(values) == len(rows):
            summaries[name] = {k: e.value for k, e in statistics.aggregates([[v] for v in values]).items()}
    return summaries or None


def _improvements(variants: Sequence[Variant], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """How probable it is that each variant beats each later one."""
    pairs = itertools.combinations(variants, 2) if tasks else ()
    rows = []
    for a, b in pairs:
        p = statistics.probability_of_improvement(common_scores(a, tasks), common_scores(b, tasks))
        rows.append({"first": a.name, "second": b.name, "probability": p.value, "interval": p[1:]})
    return rows


def lines(results: Mapping[str, Any]) -> list[str]:
    """The results in a few lines, for a terminal."""
    text = []
    for name, summary in results["aggregates"].items():
        several = len(results["aggregated"]["tasks"])
        words = ", ".join(f"{k.replace('_', ' ')} {_short(e)}" for k, e in summary.items())
        text.append(f"{name}, {several} task{'s' if several > 1 else ''}: {words}")
    text += _bsuite_lines(results["bsuite"] or {"why": "", "variants": {}})
    gone = results["excluded"]
    text += [f"excluded: {r['variant']} {r['task']} seed {r['seed']}, {r['state']}: {r['why']}" for r in gone]
    return text


def _bsuite_lines(analysed: Mapping[str, Any]) -> list[str]:
    text = [f"no scores of bsuite: {analysed['why']}"] if analysed["why"] else []
    for name, one in analysed["variants"].items():
        if one["tags"]:
            tags = ", ".join(f"{tag.replace('_', ' ')} {e['mean']:.3g}" for tag, e in one["tags"].items())
            text.append(f"{name}, scores by tag: {tags}")
        if one["short"]:
            text.append(f"{name}, not played to the end: {short_of(one['short'])}")
    return text


def short_of(settings: Mapping[str, Mapping[str, int]], most: int = 10) -> str:
    """The settings of bsuite that were not played to the end, as text."""
    words = [f"{name} ({e['episodes']:,} of {e['needed']:,} episodes)" for name, e in settings.items()]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def bsuite_table(results: Mapping[str, Any]) -> str:
    """Every experiment and tag of bsuite as a line, of every variant."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    counts = ("finished", "begun", "there")
    out.writerow(["variant", "kind", "name", "score", "seeds", *(f"settings_{name}" for name in counts)])
    for variant, one in results["bsuite"]["variants"].items():
        for name, settings in one["settings"].items():
            reached = one["experiments"].get(name, {"mean": "", "scores": []})
            played = [settings[key] for key in counts]
            out.writerow([variant, "experiment", name, reached["mean"], len(reached["scores"]), *played])
        for name, reached in one["tags"].items():
            out.writerow([variant, "tag", name, reached["mean"], len(reached["scores"]), "", "", ""])
    return text.getvalue()


def _short(estimate: Mapping[str, Any]) -> str:
    low_high = estimate["interval"]
    interval = "" if low_high is None else f" [{low_high[0]:.3g}, {low_high[1]:.3g}]"
    return f"{estimate['value']:.3g}{interval}"


def table(variants: Sequence[Variant]) -> str:
    """Every run as a line."""
    names = list(dict.fromkeys(n for v in variants for run in v.runs for n in run.numbers))
    evaluations = ("greedy_return_mean", "greedy_success_rate", "sampled_return_mean", "sampled_success_rate")
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["variant", "task", "seed", "state", "env_steps", *names, *evaluations, "why"])
    blank = lambda value: "" if value is None else value
    for variant in variants:
        for run in variant.runs:
            ours = [blank(run.numbers.get(name)) for name in names]
            evaluated = _evaluated([run])
            ends = [blank(evaluated[name]) for name in evaluations]
            out.writerow([variant.name, run.task, run.seed, run.state, run.steps, *ours, *ends, run.why])
    return text.getvalue()
