"""What `dreamer benchmark` says while it trains: which runs there are, those that run, and those that ended.

Everything is read from the folder, and of the logs only their ends, so it is the same wherever workers are.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dreamer.logger import last_rows
from experiments import sidecar
from experiments.benchmark import scores
from experiments.benchmark.runs import DONE, FAILED, RUNS, Benchmark
from experiments.sweep import launch, trial
from experiments.sweep.trial import Part

EVERY = 30.0
"""Seconds between two lines about the runs that are being trained."""
RECENT = 10
"""Last episodes whose mean such a line shows."""
SHOWN = 8
"""Tasks, or runs, that a line names at most."""

Say = Callable[[str], None]


def introduction(bench: Benchmark) -> str:
    """Which runs there are, where, and how many have ended."""
    parts, first = bench.parts, bench.plan.config.seed
    last = first + bench.plan.seeds - 1
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    tasks = ", ".join(_some(bench.plan.tasks))
    states = [bench.state(part) for part in parts]
    ended = f"{states.count(DONE)} of {_runs(len(parts))} done"
    if failed := states.count(FAILED):
        ended += f", {failed} failed and will be tried again"
    return f"{bench.folder}: {tasks} with {seeds}; {ended}. Output of every run: {bench.folder / RUNS}/*.log"


def line(bench: Benchmark) -> str:
    """How many runs have ended, and how far those are that are being trained."""
    parts = bench.parts
    states = [bench.state(part) for part in parts]
    ended = f"{states.count(DONE)} of {_runs(len(parts))} done"
    if failed := states.count(FAILED):
        ended += f", {failed} failed"
    return "; ".join([ended, *_some([standing(part) for part in bench.going()])])


def standing(part: Part) -> str:
    """How far a run is, and what its last episodes reached."""
    rows = last_rows(part.folder / "episodes.jsonl", "env_steps", "return")
    rows = [row for row in rows if row.get("kind", "train") == "train"]
    steps = max([trial.steps_of(part.folder), *(int(row["env_steps"]) for row in rows[-1:])])
    if not steps:
        return f"{part.folder.name} has just begun"
    text = f"{part.folder.name} {steps:,} of {part.cfg.steps:,} steps"
    values = [value for _, value in scores.values(rows, part.cfg.task)][-RECENT:]
    return f"{text}, {scores.quantity(rows, part.cfg.task)} {np.mean(values):.4g}" if values else text


def ending(bench: Benchmark, part: Part) -> str:
    """How a run ended: its score, or why it failed."""
    run = f"{part.cfg.task} seed {part.cfg.seed}"
    if bench.state(part) == FAILED:
        return f"{run} failed: {bench.why(part)}"
    result = sidecar.read(part.folder / "result.json")
    return f"{run}: {scores.sentence(result.get('score') or {}) or 'done'}"


def _some(names: list[str] | tuple[str, ...]) -> list[str]:
    more = len(names) - SHOWN
    return [*names] if more <= 0 else [*names[:SHOWN], f"and {more} more"]


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


@contextlib.contextmanager
def shown(bench: Benchmark, say: Say, every: float | None = None) -> Iterator[None]:
    """Within it a line is printed for every run that ends, by any worker, and regularly for those that run.

    Args:
      every: seconds between the latter (default: `EVERY`).
    """
    watcher = _Watcher(bench, say, EVERY if every is None else every)
    thread = threading.Thread(target=watcher.watch, daemon=True, name="benchmark-lines")
    thread.start()
    try:
        yield
    finally:
        watcher.over.set()
        thread.join(10)
        watcher.look()


class _Watcher:
    """Looks at the folder of a benchmark again and again."""

    def __init__(self, bench: Benchmark, say: Say, every: float):
        # A benchmark of its own: the plan may be read again in another thread.
        self._bench, self._say, self._every = Benchmark(bench.folder), say, every
        self._ended: set[Path] = {part.folder for part in bench.parts if bench.state(part) == DONE}
        self.over = threading.Event()

    def watch(self) -> None:
        due = time.monotonic() + self._every
        while not self.over.wait(min(launch.POLL, self._every)):
            self.look()
            if time.monotonic() >= due:
                self._say(line(self._bench))
                due = time.monotonic() + self._every

    def look(self) -> None:
        """Report the runs that ended since the last look."""
        parts = self._bench.parts
        for part in parts:
            if part.folder not in self._ended and self._bench.state(part) in (DONE, FAILED):
                self._ended.add(part.folder)
                self._say(f"{ending(self._bench, part)}  ({len(self._ended)} of {len(parts)})")
