"""What objectives reached with the same environment steps, with the same CPU time, and what they cost.

Success and return are of the evaluations at the end of the runs, over seeds; where a point on the way is
needed (equal CPU time), of the training episodes before it, by when they began
(`experiments.learning_curve`). CPU time counts from the first row of a run's log, because what starting and
compiling take depends on what was compiled before.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamer.logger import read_rows
from experiments import learning_curve, sidecar, statistics, surroundings
from experiments.benchmark import scores
from experiments.objectives.runs import Comparison, Plan
from experiments.sweep import trial
from experiments.sweep.runset import DONE
from experiments.sweep.trial import Part

WINDOWS = 20
"""Of a run: a point of a learning curve is the mean over the episodes that began in one of them."""
KINDS = ("greedy", "sampled")
METRICS = {"success_rate": "success_interval", "return_mean": "return_interval"}
"""{what an evaluation is judged by: its interval over episodes}, the first one where the task reports it."""


class Clock(NamedTuple):
    """CPU time against environment steps, by the rows of a log."""

    steps: np.ndarray
    """[rows] environment steps."""
    seconds: np.ndarray
    """[rows] CPU seconds since the first row."""

    def steps_at(self, seconds: float) -> float:
        """Environment steps that were taken by then."""
        return float(np.interp(seconds, self.seconds, self.steps))

    def seconds_at(self, steps: np.ndarray) -> np.ndarray:
        """CPU seconds after so many steps; NaN where the log does not reach."""
        return np.interp(steps, self.steps, self.seconds, left=np.nan, right=np.nan)


@dataclass(frozen=True)
class Run:
    """One run of a comparison."""

    objective: str
    seed: int
    task: str
    state: str
    """One of done, failed, unfinished, missing."""
    why: str
    """Why it is not done; empty where it is."""
    steps: int
    """Environment steps so far."""
    rows: list[dict[str, Any]]
    """Its training episodes."""
    clock: Clock | None
    """None where its log has fewer than two rows with CPU time."""
    result: dict[str, Any]
    card: dict[str, Any]
    """Of its report; empty without."""
    sessions: int

    @property
    def is_done(self) -> bool:
        return self.state == DONE

    def points(self) -> np.ndarray:
        """[episodes, 2] the first step of each and what a learning curve shows."""
        points = scores.values(self.rows, self.task, learning_curve.first_step)
        return np.asarray(points, float).reshape(-1, 2)

    @property
    def settled(self) -> float:
        """Environment steps up to which all episodes that began are over."""
        return min(learning_curve.running_since(learning_curve.spans(self.rows)), self.steps)

    def recent(self, steps: float, width: float) -> float | None:
        """Mean of what the curve shows, over the last `width` steps in which episodes began that are over.

        Args:
          steps: so far: what ended later is not known yet.
        """
        known = replace(self, rows=[row for row in self.rows if row["env_steps"] <= steps])
        at, values = known.points().T
        last = at[at <= known.settled].max(initial=-np.inf)
        inside = values[(at > last - width) & (at <= last)]
        return float(inside.mean()) if len(inside) else None

    def evaluated(self, kind: str) -> dict[str, Any]:
        """The evaluation at its end, greedy or sampled; empty without."""
        return self.result if kind == "greedy" else self.result.get("sampled") or {}


def read(comparison: Comparison) -> list[Run]:
    """Every run of a comparison."""
    return [_run(comparison, part) for part in comparison.parts]


def _run(comparison: Comparison, part: Part) -> Run:
    result = trial.result_of(part) or {}
    return Run(
        part.cfg.agent.objective,
        part.cfg.seed,
        part.cfg.task,
        comparison.state(part),
        comparison.why_not_done(part),
        int(result.get("env_steps", trial.steps_of(part.folder))),
        scores.training_episodes(part.folder),
        clock(part.folder),
        result,
        sidecar.read(part.folder / "card.json"),
        len(surroundings.sessions(part.folder)),
    )


def clock(folder: Path) -> Clock | None:
    """The CPU time of a run; None where its log has fewer than two rows with it."""
    rows = read_rows(folder / "metrics.jsonl", "env_steps", "cpu_seconds")
    if len(rows) < 2:
        return None
    steps, seconds = np.array([[row["env_steps"], row["cpu_seconds"]] for row in rows], float).T
    return Clock(steps, seconds - seconds[0])


def results(plan: Plan, runs: Sequence[Run], costs: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the page shows in numbers, as JSON can say it.

    Args:
      costs: of updates, as `cost.measured`.
    """
    done = [run for run in runs if run.is_done]
    metric, budget = judged_by(done), cpu_budget(done)
    cfg, width = plan.config, plan.config.steps / WINDOWS
    of = lambda name: [run for run in done if run.objective == name]
    return {
        "task": cfg.task,
        "preset": cfg.preset,
        "steps": cfg.steps,
        "seeds": plan.seeds,
        "train_ratio": cfg.loop.train_ratio,
        "metric": metric,
        "curve": scores.quantity([row for run in runs for row in run.rows], cfg.task),
        "acted_with": learning_curve.acted_with(row for run in runs for row in run.rows),
        "cpu_budget": budget,
        "objectives": {
            name: _reached(of(name), metric, budget, width) | {"cost": costs["objectives"].get(name)}
            for name in plan.objectives
        },
        "excluded": [
            {"objective": run.objective, "seed": run.seed, "state": run.state, "why": run.why}
            for run in runs
            if not run.is_done
        ],
        "resumed": [{"objective": r.objective, "seed": r.seed} for r in done if r.sessions > 1],
        "machine": costs.get("surroundings"),
        "not_measured": costs.get("why", ""),
    }


def judged_by(done: Sequence[Run]) -> str:
    """What evaluations are judged by: success where the task reports it, else the return."""
    tells = [run.result.get("success_rate") is not None for run in done]
    return "success_rate" if tells and all(tells) else "return_mean"


def cpu_budget(done: Sequence[Run]) -> float | None:
    """The CPU seconds that every finished run had; None where one does not say."""
    clocks = [run.clock for run in done]
    known = [float(clock.seconds[-1]) for clock in clocks if clock is not None]
    return min(known) if known and len(known) == len(clocks) else None


def _reached(done: Sequence[Run], metric: str, budget: float | None, width: float) -> dict[str, Any]:
    """The numbers of one objective, from its finished runs."""
    mean = lambda values: float(np.mean(known)) if (known := [v for v in values if v is not None]) else None
    return {
        "seeds": [run.seed for run in done],
        **{kind: _final(done, kind, metric) for kind in KINDS},
        "at_equal_cpu": _at_budget(done, budget, width),
        "cpu_seconds_per_1000_steps": mean([_pace(run.clock) for run in done]),
        "peak_mb": max((x for run in done if (x := run.result.get("peak_mb")) is not None), default=None),
        "prediction_skill": mean([run.card.get("numbers", {}).get("prediction_skill") for run in done]),
        "probe_error": _probe_error(done),
    }


def _final(done: Sequence[Run], kind: str, metric: str) -> dict[str, Any] | None:
    """The mean of the evaluations at the end, with its interval over seeds, of one seed over its episodes."""
    evaluated = [e for run in done if (e := run.evaluated(kind)).get(metric) is not None]
    if not evaluated:
        return None
    if len(evaluated) == 1:
        value, interval = evaluated[0][metric], evaluated[0].get(METRICS[metric])
        return {"mean": value, "interval": interval, "over": "episodes", "scores": [value]}
    return _over_seeds([e[metric] for e in evaluated])


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """The mean of seeds, with its interval where there are several."""
    interval = list(statistics.bootstrap(values)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "interval": interval, "over": "seeds", "scores": list(values)}


def _at_budget(done: Sequence[Run], budget: float | None, width: float) -> dict[str, Any] | None:
    """What the training episodes reached that were over when the budget was spent."""
    if budget is None:
        return None
    ends = [(run, run.clock.steps_at(budget)) for run in done if run.clock is not None]
    known = [(value, at) for run, at in ends if (value := run.recent(at, width)) is not None]
    if not known:
        return None
    values, steps = zip(*known, strict=True)
    return _over_seeds(values) | {"steps": float(np.mean(steps))}


def _pace(clock: Clock | None) -> float | None:
    """CPU seconds for 1,000 environment steps, acting and learning together."""
    if clock is None or clock.steps[-1] <= clock.steps[0]:
        return None
    return float(1000 * clock.seconds[-1] / (clock.steps[-1] - clock.steps[0]))


def _probe_error(done: Sequence[Run]) -> list[float | None] | None:
    """[H] the error of open-loop predictions by steps ahead, mean over observation keys and seeds."""
    tables = [
        [np.array(error, float) for error in run.card.get("representation", {}).get("error", {}).values()]
        for run in done
    ]
    rows = [row for table in tables for row in table]
    if not rows or len({len(row) for row in rows}) > 1:
        return None
    known = ~np.isnan(rows)
    count = known.sum(0)
    mean = np.where(known, rows, 0.0).sum(0) / np.maximum(count, 1)
    return [float(value) if n else None for value, n in zip(mean, count, strict=True)]


COLUMNS = (
    *("objective", "seed", "state", "env_steps", "cpu_seconds", "seconds", "updates"),
    *("greedy_return_mean", "greedy_success_rate", "sampled_return_mean", "sampled_success_rate"),
    *("at_equal_cpu", "prediction_skill", "peak_mb", "why"),
)


def table(runs: Sequence[Run], results: Mapping[str, Any]) -> str:
    """Every run as a line of CSV; what is not known is empty."""
    text = io.StringIO()
    out = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    out.writeheader()
    width, budget = results["steps"] / WINDOWS, results["cpu_budget"]
    for run in runs:
        known = _at_budget([run], budget, width) if run.is_done else None
        row = {
            "objective": run.objective,
            "seed": run.seed,
            "state": run.state,
            "env_steps": run.steps,
            **{key: run.result.get(key) for key in ("cpu_seconds", "seconds", "updates", "peak_mb")},
            **{f"{kind}_{key}": run.evaluated(kind).get(key) for kind in KINDS for key in METRICS},
            "at_equal_cpu": known and known["mean"],
            "prediction_skill": run.card.get("numbers", {}).get("prediction_skill"),
            "why": run.why,
        }
        out.writerow({key: "" if value is None else value for key, value in row.items()})
    return text.getvalue()
