"""What a command says while it trains many runs: which runs there are, those that run, and those that ended.

Everything is read from the folder, and of the logs only their ends, so it is the same wherever workers are.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dreamer.logger import last_rows
from experiments import sidecar
from experiments.benchmark import scores
from experiments.sweep import launch, trial
from experiments.sweep.runset import DONE, FAILED, RUNS, RunSet
from experiments.sweep.trial import Part

EVERY = 30.0
"""Seconds between two lines about the runs that are being trained."""
RECENT = 10
"""Last episodes whose mean such a line shows."""
SHOWN = 8
"""Tasks, or runs, that a line names at most."""

Say = Callable[[str], None]


def introduction(runs: RunSet, varied: Sequence[str]) -> str:
    """Which runs there are, where, and how many have ended.

    Args:
      varied: in what they differ besides their seeds.
    """
    parts = runs.parts
    first, last = parts[0].cfg.seed, parts[-1].cfg.seed
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    names = ", ".join(_some([*varied]))
    states = [runs.state(part) for part in parts]
    ended = f"{states.count(DONE)} of {_runs(len(parts))} done"
    if failed := states.count(FAILED):
        ended += f", {failed} failed and will be tried again"
    return f"{runs.folder}: {names} with {seeds}; {ended}. Output of every run: {runs.folder / RUNS}/*.log"


def line(runs: RunSet) -> str:
    """How many runs have ended, and how far those are that are being trained."""
    parts = runs.parts
    states = [runs.state(part) for part in parts]
    ended = f"{states.count(DONE)} of {_runs(len(parts))} done"
    if failed := states.count(FAILED):
        ended += f", {failed} failed"
    return "; ".join([ended, *_some([standing(part) for part in runs.going()])])


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


def ending(runs: RunSet, part: Part) -> str:
    """How a run ended: its score, or why it failed."""
    run = runs.title(part)
    if runs.state(part) == FAILED:
        return f"{run} failed: {runs.why(part)}"
    result = sidecar.read(part.folder / "result.json")
    return f"{run}: {scores.sentence(result.get('score') or {}) or 'done'}"


def _some(names: list[str]) -> list[str]:
    more = len(names) - SHOWN
    return [*names] if more <= 0 else [*names[:SHOWN], f"and {more} more"]


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


@contextlib.contextmanager
def shown(runs: RunSet, say: Say, every: float | None = None) -> Iterator[None]:
    """Within it a line is printed for every run that ends, by any worker, and regularly for those that run.

    Args:
      every: seconds between the latter (default: `EVERY`).
    """
    watcher = _Watcher(runs, say, EVERY if every is None else every)
    thread = threading.Thread(target=watcher.watch, daemon=True, name="run-lines")
    thread.start()
    try:
        yield
    finally:
        watcher.over.set()
        thread.join(10)
        watcher.look()


class _Watcher:
    """Looks at a set of runs again and again."""

    def __init__(self, runs: RunSet, say: Say, every: float):
        # A copy of its own: the plan may be read again in another thread.
        self._runs, self._say, self._every = copy.copy(runs), say, every
        self._ended: set[Path] = {part.folder for part in runs.parts if runs.state(part) == DONE}
        self.over = threading.Event()

    def watch(self) -> None:
        due = time.monotonic() + self._every
        while not self.over.wait(min(launch.POLL, self._every)):
            self.look()
            if time.monotonic() >= due:
                self._say(line(self._runs))
                due = time.monotonic() + self._every

    def look(self) -> None:
        """Report the runs that ended since the last look."""
        parts = self._runs.parts
        for part in parts:
            if part.folder not in self._ended and self._runs.state(part) in (DONE, FAILED):
                self._ended.add(part.folder)
                self._say(f"{ending(self._runs, part)}  ({len(self._ended)} of {len(parts)})")
