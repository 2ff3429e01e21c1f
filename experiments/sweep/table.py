"""A sweep while it runs: a table that changes in a terminal, else a line for every trial that ends."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dreamer.status import span
from experiments.sweep import answer, trial
from experiments.sweep.spec import Spec
from experiments.sweep.study import ENDED, FINISHED, RUNNING, Row, Study

EVERY = 2.0
"""Seconds between updates."""
LATEST, LEADING = 6, 3
"""Trials shown beside those that run: that ended last, that are best."""


class Display:
    """Polls the storage while it is open as a context manager, and displays the progress.

    Args:
      open_study: opens a separate connection, for the thread of the display.
      before: trials of earlier sessions.
      workers: trials at the same time, for the time that is left.
    """

    def __init__(self, open_study: Callable[[], Study], before: Sequence[Row], workers: int):
        from rich.console import Console

        self._open, self._workers = open_study, workers
        self._console = Console(stderr=True)
        plain = os.environ.get("NO_COLOR") or os.environ.get("CI") or self._console.is_dumb_terminal
        self._live = self._console.is_terminal and not plain
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="sweep-table")
        self._reported = {row.number for row in before if row.ended}

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _watch(self) -> None:
        study = self._open()
        try:
            if self._live:
                self._draw(study)
            else:
                self._lines(study)
        finally:
            study.close()

    def _draw(self, study: Study) -> None:
        from rich.live import Live

        look = lambda: panel(study.spec, study.rows(), progress_of(study), self._workers)
        with Live(look(), console=self._console, auto_refresh=False) as live:
            while not self._over.wait(EVERY):
                live.update(look(), refresh=True)
            live.update(look(), refresh=True)

    def _lines(self, study: Study) -> None:
        over = False
        while not over:
            over = self._over.wait(EVERY)
            rows = study.rows()
            for row in rows:
                if row.ended and row.number not in self._reported:
                    self._reported.add(row.number)
                    self.say(line(study.spec, row, rows, self._workers))


def progress_of(study: Study) -> dict[int, float]:
    """{trial: share of its steps} of those that run."""
    running = [
        row for row in study.rows() if row.state == RUNNING and set(row.params) == set(study.spec.space)
    ]
    runs = {
        row.number: trial.parts(study.spec, row.params, study.trial_folder(row.number)) for row in running
    }
    return {number: trial.progress(parts) for number, parts in runs.items()}


def line(spec: Spec, row: Row, rows: Sequence[Row], workers: int) -> str:
    """A trial that ended, and how far the sweep is."""
    ended = sum(r.ended for r in rows)
    result = outcome(row) if row.state == FINISHED else f"{row.state}: {row.reason}"
    left = seconds_left(spec, rows, {}, workers)
    about = f", about {span(left)} left" if left else ""
    return f"trial {row.number} {result}  ({values(row)})  {ended} of {spec.sweep.trials}{about}"


def outcome(row: Row) -> str:
    """The score with its interval, or the state."""
    if row.score is None or row.interval is None:
        return row.state
    low, high = row.interval
    several = f" [{low:.3g}, {high:.3g}]" if low != high else ""
    return f"{row.metric.replace('_', ' ')} {row.score:.4g}{several}"


def values(row: Row) -> str:
    """The values of a trial, with short names."""
    return ", ".join(
        f"{name}={_short(value)}"
        for name, value in zip(short_names(row.params), row.params.values(), strict=True)
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def short_names(paths: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """The last words of dotted paths, or the whole where two end alike."""
    paths = list(paths)
    last = [path.rpartition(".")[2] for path in paths]
    return [name if last.count(name) == 1 else path for name, path in zip(last, paths, strict=True)]


def seconds_left(
    spec: Spec, rows: Sequence[Row], progress: Mapping[int, float], workers: int
) -> float | None:
    """Until all trials ended, if those to come take as long as those that did; None before one did."""
    took = [row.seconds for row in rows if row.state in ENDED and row.seconds]
    if not took:
        return None
    waiting = spec.sweep.trials - sum(row.ended for row in rows) - sum(progress.values())
    return max(waiting, 0.0) * sum(took) / len(took) / max(min(workers, math.ceil(waiting)), 1)


def shown(spec: Spec, rows: Sequence[Row]) -> list[Row]:
    """The trials worth a line: the best, those that ended last, and all that run."""
    best = answer.ranked(spec, rows)[:LEADING]
    latest = [row for row in rows if row.ended][-LATEST:]
    running = [row for row in rows if row.state == RUNNING]
    return best + [row for row in latest if row not in best] + running


def panel(spec: Spec, rows: Sequence[Row], progress: Mapping[int, float], workers: int) -> Any:
    """The table."""
    from rich.table import Table

    counted = {state: sum(row.state == state for row in rows) for state in (*ENDED, RUNNING)}
    states = ", ".join(f"{count} {state}" for state, count in counted.items() if count)
    left = span(seconds_left(spec, rows, progress, workers))
    title = f"{', '.join(spec.tasks)}: {states or 'starting'} of {spec.sweep.trials}; {left} left"
    table = Table(title=title)
    for name in ("trial", *short_names(list(spec.space)), "score", "state", "left"):
        table.add_column(name, overflow="fold")
    best = answer.ranked(spec, rows)[:1]
    for row in shown(spec, rows):
        share = progress.get(row.number)
        state = f"{row.state} {share:.0%}" if share is not None else row.state
        remains = _remains(rows, share) if row.state == RUNNING else ""
        cells = [str(row.number), *(_short(row.params.get(path, "")) for path in spec.space)]
        cells += [outcome(row) if row.state == FINISHED else row.reason, state, remains]
        table.add_row(*cells, style="bold" if row in best else None)
    return table


def _remains(rows: Sequence[Row], share: float | None) -> str:
    took = [row.seconds for row in rows if row.state == FINISHED and row.seconds]
    return span(sum(took) / len(took) * (1 - (share or 0.0))) if took else "?"
