"""Learning curves of runs, from their logs, in as many points as a screen can show.

    return, success, length    of training episodes (episodes.jsonl): means of the last hundred by when they
                               began, as in reports; of the last fifth where there are fewer than five hundred
    log/NAME                   what the task says of an episode besides, likewise
    anything else              what was measured (metrics.jsonl), as loss or eval/return_mean

A log is read when its curve is asked for, and from then on only what was appended to it.
"""

from __future__ import annotations

import json
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from experiments.board.contents import is_training, number
from experiments.board.files import Files, Stamp
from experiments.board.rows import EPISODES, METRICS

Clock = Literal["env_steps", "updates", "seconds"]
CLOCKS: tuple[Clock, ...] = ("env_steps", "updates", "seconds")
OF_EPISODES = ("return", "success", "length")
POINTS = 240
"""Points of a curve."""
RECENT, PARTS = 100, 5
"""Most episodes in a mean, and how many such means a curve has at least that do not overlap."""
KEPT = 10_000_000
"""Numbers of all logs that are kept in memory; those that were not asked for longest go first."""
MOST = 2000
"""Different curves of a log."""
Curve = tuple[list[float], list[float]]
"""A clock, and the values at its times."""


class Log:
    """The columns of a log that grows."""

    def __init__(self) -> None:
        self._stamp: Stamp | None = None
        self._at = 0
        self._forget()

    def _forget(self) -> None:
        self._clocks: dict[str, array[float]] = {clock: array("d") for clock in CLOCKS}
        self._began, self._length = array("d"), array("d")
        """Of episodes, as `experiments.learning_curve.Spans`."""
        self._columns: dict[str, tuple[array[int], array[float]]] = {}
        """Of every column the rows that have it, and its values."""

    @property
    def size(self) -> int:
        """How many numbers it has."""
        columns = sum(2 * len(values) for _, values in self._columns.values())
        return columns + (len(CLOCKS) + 2) * len(self._began)

    @property
    def names(self) -> list[str]:
        return list(self._columns)

    def update(self, files: Files, folder: str, name: str) -> None:
        """Read what was appended, or all of it if it is another file than before."""
        try:
            with files.folder(folder) as opened:
                for stamp, at, lines in opened.since(name, self._stamp, self._at):
                    if at < self._at or self._stamp is None:
                        self._forget()
                    self._stamp, self._at = stamp, at + len(lines)
                    for line in lines.splitlines():
                        self._add(line)
        except OSError:
            self._forget()
            self._stamp, self._at = None, 0

    def _add(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(row, dict) or number(row.get("env_steps")) is None or not is_training(row):
            return
        place = len(self._clocks["env_steps"])
        for clock, times in self._clocks.items():
            value = number(row.get(clock))
            times.append(float("nan") if value is None else value)
        began, length = number(row.get("began")), number(row.get("length"))
        self._began.append(self._clocks["env_steps"][-1] if began is None else began)
        self._length.append(length or 0)
        for key, value in _numbers(row):
            if key in self._columns or len(self._columns) < MOST:
                rows, values = self._columns.setdefault(key, (array("q"), array("d")))
                rows.append(place)
                values.append(value)

    def curve(self, name: str, clock: Clock, *, averaged: bool = False) -> Curve:
        """One of its columns over a clock, in at most `POINTS` points.

        Args:
          averaged: means of the last values, of episodes by when they began.
        """
        import numpy as np

        rows, values = self._columns.get(name, (array("q"), array("d")))
        if not rows:
            return [], []
        if averaged:
            x, y = self._by_beginning(np.asarray(rows), np.asarray(values))
            y = means(y, min(max(len(y) // PARTS, 1), RECENT))
            x = x[len(x) - len(y) :]
            last = np.append(x[1:] > x[:-1], True)[: len(x)]  # of those that began together
            return binned(x[last], y[last])
        return binned(np.asarray(self._clocks[clock])[np.asarray(rows)], np.asarray(values))

    def _by_beginning(self, rows: Any, values: Any) -> tuple[Any, Any]:
        """When episodes began and their values, without those for which an earlier one must be waited for."""
        import numpy as np

        from experiments.learning_curve import Spans, in_order

        began = np.asarray(self._began)
        order = in_order(Spans(began, np.asarray(self._clocks["env_steps"]), np.asarray(self._length)))
        every = np.full(len(began), np.nan)
        every[rows] = values
        known = order[np.isfinite(every[order])]
        return began[known], every[known]

    def clock(self, clock: Clock) -> tuple[array[float], array[float]]:
        """Environment steps and another clock at the same times."""
        return self._clocks["env_steps"], self._clocks[clock]


def _numbers(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a row apart from its clocks, those that the task says of an episode among them."""
    more = row.get("log")
    extra = {f"log/{key}": value for key, value in more.items()} if isinstance(more, dict) else {}
    for key, value in {**row, **extra}.items():
        if key not in (*CLOCKS, "began", "member") and (known := number(value)) is not None:
            yield key, float(known)


def means(y: Any, window: int) -> Any:
    """[N - window + 1] the mean of the last `window` values of y [N], from where there are so many.

    Of fewer it would say little: of episodes that begin together those end first that are short.
    """
    import numpy as np

    total = np.concatenate([[0.0], np.cumsum(y)])
    return (total[window:] - total[:-window]) / window


def binned(x: Any, y: Any, points: int = POINTS) -> Curve:
    """The means of points that are close to each other, in at most `points` equal parts of the range of x.

    Args:
      x, y: [N] arrays; where x is NaN, nothing is known.
    """
    import numpy as np

    known = np.isfinite(x)
    x, y = x[known], y[known]
    if len(x) > points:
        low, high = float(x.min()), float(x.max())
        part = np.minimum(((x - low) * (points / max(high - low, 1e-300))).astype(int), points - 1)
        count = np.bincount(part, minlength=points)
        full = count > 0
        x, y = (np.bincount(part, z, points)[full] / count[full] for z in (x, y))
    else:
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    return [float(f"{v:.7g}") for v in x], [float(f"{v:.5g}") for v in y]


class Curves:
    """The curves of the runs below a folder; for several threads."""

    def __init__(self, files: Files):
        self._files = files
        self._logs: OrderedDict[tuple[str, str], Log] = OrderedDict()
        self._lock = threading.Lock()

    def names(self, folder: str) -> list[str]:
        """The names of all curves of a run."""
        with self._lock:
            episodes, metrics = self._log(folder, EPISODES).names, self._log(folder, METRICS).names
        return [*_sorted(episodes), *sorted(set(metrics) - set(episodes))]

    def read(self, folder: str, names: Sequence[str], clock: Clock) -> dict[str, Curve]:
        """{name: curve} of those that a run has."""
        with self._lock:
            episodes, metrics = self._log(folder, EPISODES), self._log(folder, METRICS)
            curves = {}
            for name in names:
                if name in episodes.names:
                    curves[name] = self._of_episodes(episodes, metrics, name, clock)
                elif name in metrics.names:
                    curves[name] = metrics.curve(name, clock)
            return {name: curve for name, curve in curves.items() if curve[0]}

    def _of_episodes(self, episodes: Log, metrics: Log, name: str, clock: Clock) -> Curve:
        """A curve of episodes, whose rows of some formats have only one clock: metrics have all of them."""
        steps, values = episodes.curve(name, "env_steps", averaged=True)
        if clock == "env_steps":
            return steps, values
        import numpy as np

        known, times = (np.asarray(clock) for clock in metrics.clock(clock))
        both = np.isfinite(times)
        if not both.any():
            return [], []
        return [float(f"{t:.7g}") for t in np.interp(steps, known[both], times[both])], values

    def _log(self, folder: str, name: str) -> Log:
        """A log, with all that is in its file by now."""
        log = self._logs.setdefault((folder, name), Log())
        self._logs.move_to_end((folder, name))
        log.update(self._files, folder, name)
        while len(self._logs) > 2 and sum(log.size for log in self._logs.values()) > KEPT:
            self._logs.popitem(last=False)
        return log


def _sorted(names: Sequence[str]) -> list[str]:
    """Of the curves of episodes those that all tasks have come first."""
    return [name for name in OF_EPISODES if name in names] + sorted(set(names) - set(OF_EPISODES))
