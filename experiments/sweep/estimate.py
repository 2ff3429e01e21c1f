"""`dreamer sweep --dry-run`: what would be tried, and what it would cost, from the beginning of one run."""

from __future__ import annotations

import json as jsonlib
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from dreamer import schema
from dreamer.logger import read_rows
from dreamer.status import span
from experiments.sweep import lock, trial
from experiments.sweep.executor import RunDied, SingleExecutor, executor_of, train_in_process
from experiments.sweep.spec import Spec
from experiments.sweep.trial import Part, TrialFailed
from experiments.training import session
from experiments.training.run import TrainingStopped

ENOUGH = 4_000
"""Environment steps after the prefill that are measured,"""
LONGEST = 60.0
"""or as many as there are in so many seconds of learning."""


class Cost(NamedTuple):
    """What runs take, in seconds."""

    run: float
    """One run."""
    runs: int
    """Of all trials."""
    whole: float
    """The sweep, with so many runs at the same time as there are workers."""


def dry_run(spec: Spec, *, workers: int, json: bool) -> int:
    """List the space and estimate the cost; the exit code.

    Where the short run fails, the cost is unknown, and the reason is printed.
    """
    lines = describe(spec)
    if not json:
        print("\n".join(lines))
    print("measuring the beginning of a run; this takes a minute or two", file=sys.stderr)
    cost, reason = None, None
    try:
        cost = measure(spec, workers or spec.sweep.concurrency)
    except TrainingStopped as error:
        reason = str(error)
    if json:
        space = {path: str(dimension) for path, dimension in spec.space.items()}
        counts = {"trials": spec.sweep.trials, "seeds": spec.sweep.seeds, "tasks": list(spec.tasks)}
        costs = cost._asdict() if cost else {"reason": reason}
        print(jsonlib.dumps({**counts, "space": space, **costs}))
    elif cost is None:
        print(f"cost      not known, as {reason}")
    else:
        early = "; pruning makes it less" if spec.sweep.pruner != "none" else ""
        print(
            f"cost      about {span(cost.run)} for each of {cost.runs} runs, {span(cost.whole)} in all{early}"
        )
    return 0


def describe(spec: Spec) -> list[str]:
    """What would be tried, in lines."""
    sweep, first = spec.sweep, spec.point(0)
    seeds = f"{sweep.seeds} seed{'s' if sweep.seeds > 1 else ''}"
    lines = [
        f"task      {', '.join(spec.tasks)}, {spec.base.steps:,} steps",
        f"score     {sweep.metric}, {sweep.direction}d over {seeds}".replace("ed over", "ed, mean of"),
        f"trials    {sweep.trials} by {sweep.sampler}, pruner {sweep.pruner}",
        *(f"fixed     {path} = {value}" for path, value in spec.fixed.items()),
        *(f"space     {path}: {dimension}" for path, dimension in spec.space.items()),
        *(f"first     {dict(entry)}" for entry in spec.enqueue),
    ]
    return lines if first is None or spec.enqueue else [*lines, f"first     {first}"]


def measure(spec: Spec, workers: int) -> Cost:
    """Train the beginning of the first trial, and multiply."""
    with tempfile.TemporaryDirectory(prefix="dreamer-sweep-") as name:
        folder = Path(name)
        runs = trial.parts(spec, spec.point(0) or {}, folder)
        part = _beginning(runs[0])
        began = time.monotonic()
        held = lock.take(folder / "lock")
        assert held is not None
        try:
            train_in_process(part, _Enough(part), held.descriptor)
        except (TrialFailed, RunDied) as error:
            raise TrainingStopped(f"the short run failed: {error}") from None
        finally:
            held.release()
        took, learned, seconds = time.monotonic() - began, *_learning(part)
    begin, rate = took - seconds, seconds / learned if learned else 0.0
    learn = rate * max(runs[0].cfg.steps - runs[0].cfg.loop.prefill, 0)
    count = len(runs) * spec.sweep.trials
    rounds = math.ceil(spec.sweep.trials / workers) * len(runs)
    begins = rounds if isinstance(executor_of(spec), SingleExecutor) else 1  # one program begins once
    return Cost(begin + learn, count, begins * begin + rounds * learn)


def _beginning(part: Part) -> Part:
    cfg = part.cfg
    steps = min(cfg.steps, max(cfg.loop.prefill, session.least_steps(cfg)) + ENOUGH)
    short: dict[str, Any] = {"steps": steps, "log.every": 0.5, "report.episodes": 0, "eval.every": 0}
    return Part(schema.replace_paths(cfg, short), part.folder)


class _Enough:
    """Whether a short run has learned long enough."""

    def __init__(self, part: Part):
        self._part = part
        self._began = math.inf

    def __call__(self) -> bool:
        if self._began == math.inf and trial.steps_of(self._part.folder) > self._part.cfg.loop.prefill:
            self._began = time.monotonic()
        return time.monotonic() - self._began > LONGEST


def _learning(part: Part) -> tuple[int, float]:
    """Environment steps and seconds between the first and the last row of metrics after the prefill."""
    path = part.folder / "metrics.jsonl"
    rows = read_rows(path, "env_steps", "seconds")
    rows = [row for row in rows if row["env_steps"] > part.cfg.loop.prefill]
    rows = [row for row in rows if not any(key.startswith(("eval/", "score/")) for key in row)]
    if len(rows) < 2:
        return 0, 0.0
    return rows[-1]["env_steps"] - rows[0]["env_steps"], rows[-1]["seconds"] - rows[0]["seconds"]
