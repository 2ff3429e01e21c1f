"""The log of a run: rows in files, numbers for TensorBoard, W&B and MLflow, a live panel.

    metrics.jsonl    env_steps, updates, seconds, then whatever was measured
    episodes.jsonl   env_steps, updates, return, length, success (null where the task has none), then more

A row is appended whole, and a number that is not finite is written as null, so both files are valid
JSON lines at every moment. Progress goes to standard error: standard output belongs to `--json`.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import json
import math
import os
import resource
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from dreamer import atomic
from dreamer.status import History, Status, status_line, status_panel
from dreamer.trackers import LoggerError, Mlflow, TensorBoard, Tracker, Wandb

RECENT = 100
"""Episodes in the means that are shown."""

SHOWN = ("return", "length", "success", "planned", "realised")
"""Numbers of an episode that trackers get."""

WAITING = 100
"""Most ended episodes that may wait for one that began before them."""

RATE_SECONDS = 30.0
"""Speeds are means over this long."""


def read_rows(path: str | Path, *numbers: str) -> list[dict[str, Any]]:
    """The rows of a `.jsonl` file; a line torn by a crash is left out; a missing file has no rows.

    Args:
      numbers: required fields; rows in which one of them is not a number are left out too.
    """
    try:
        return _rows(Path(path).read_bytes().splitlines(), numbers)
    except FileNotFoundError:
        return []


def last_rows(path: str | Path, *numbers: str, size: int = 16384) -> list[dict[str, Any]]:
    """The rows within the last bytes of a `.jsonl` file, without reading the others; as `read_rows`."""
    try:
        with Path(path).open("rb") as file:
            start = max(file.seek(0, 2) - size, 0)
            file.seek(start)
            lines = file.read(size).splitlines()
    except OSError:
        return []
    return _rows(lines[1:] if start else lines, numbers)  # the first one may be cut


def _rows(lines: Sequence[bytes], numbers: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and all(_is_number(row.get(k)) for k in numbers)]


class Logger:
    """Rows, events and progress of one run; a context manager that restores the terminal.

    Args:
      folder: of the run; created if absent.
      total_steps: environment steps of the whole run.
      title: of the panel.
      seconds: training time of the sessions before this one.
      tensorboard: write events to `<folder>/tensorboard`.
      wandb: a Weights & Biases project to log to, or None.
      wandb_offline: keep that in the folder, for `wandb sync`.
      mlflow: an MLflow experiment to log to, or None.
      config: {dotted path: value} of the configuration, for W&B and MLflow.
      every: seconds between plain lines, where there is no terminal.
      console: where progress goes; a `rich.console.Console`, by default of standard error.
      clock: seconds that never go back.

    If TensorBoard, W&B or MLflow fails, it is dropped with a notice.

    Raises:
      LoggerError: W&B or MLflow was asked for and is not installed, or a file cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        total_steps: int,
        title: str = "",
        seconds: float = 0.0,
        tensorboard: bool = True,
        wandb: str | None = None,
        wandb_offline: bool = False,
        mlflow: str | None = None,
        config: Mapping[str, Any] | None = None,
        every: float = 10.0,
        console: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console

        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.env_steps = 0
        self.updates = 0
        self.longest_episode = 0
        """Steps of the longest training episode that ended."""
        self._total_steps = max(total_steps, 1)
        self._title = title
        self._every = every
        self._console = console or Console(stderr=True)
        self._console.on_broken_pipe = self._mute  # else Rich would end the program
        self._clock = clock
        self._offset, self._start = seconds, clock()
        self._metrics = _Lines(self.folder / "metrics.jsonl")
        self._episodes = _Lines(self.folder / "episodes.jsonl")
        self._trackers: list[Tracker] = []
        if tensorboard:
            self._trackers.append(TensorBoard(self.folder / "tensorboard"))
        if wandb:
            with self._dropping(Wandb):
                self._trackers.append(Wandb(self.folder, wandb, config or {}, offline=wandb_offline))
        if mlflow:
            with self._dropping(Mlflow):
                self._trackers.append(Mlflow(self.folder, mlflow, config or {}))
        self._lock = threading.Lock()  # the panel is drawn by a thread of its own
        self._losses: tuple[tuple[str, float], ...] = ()
        self._checkpoint: float | None = None
        self._marks: deque[tuple[float, int, int]] = deque()
        self._said = self._start
        self._shown = (0, 0)
        """Environment steps and updates of the last line that was printed."""
        self._live: Any = None
        self._forget()

    @property
    def seconds(self) -> float:
        """Training time in seconds, earlier sessions included."""
        return self._offset + self._clock() - self._start

    def __enter__(self) -> Logger:
        if _wants_panel(self._console, os.environ):
            from rich.live import Live

            self._live = Live(
                console=self._console,
                get_renderable=self._panel,
                refresh_per_second=2,
                redirect_stdout=False,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Show the last state and close everything; a second call does nothing."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
        else:
            self.show()
        self._said = math.inf
        self._metrics.close()
        self._episodes.close()
        trackers, self._trackers = self._trackers, []
        for tracker in trackers:
            with self._dropping(tracker):
                tracker.close()

    def show(self) -> None:
        """Print where the run is, if there is no panel and the last line is not of now."""
        at = self.env_steps, self.updates
        if self._live is None and self._said != math.inf and at != self._shown:
            self._said, self._shown = self._clock(), at
            self._say(status_line(self.status()))

    def tick(self, env_steps: int, updates: int, running_since: int | None = None) -> None:
        """Record how far the run is; rows carry these numbers. Cheap enough for every step.

        Args:
          running_since: environment steps when the oldest episode that still runs began (None: none runs).
        """
        now = self._clock()
        with self._lock:
            self.env_steps, self.updates = env_steps, updates
            self._chart(self._recent.settle(math.inf if running_since is None else running_since))
            if not self._marks or now - self._marks[-1][0] >= 0.5:
                self._marks.append((now, env_steps, updates))
            while len(self._marks) > 2 and now - self._marks[1][0] > RATE_SECONDS:
                self._marks.popleft()
        if now - self._said >= self._every:
            self.show()

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Append a row of numbers. Names that contain `loss/` are shown while the run continues.

        Raises:
          LoggerError: a value is not a single number.
        """
        row = {key: _scalar(key, value) for key, value in values.items()}
        self._metrics.append({**self._clocks(), **row})
        losses = [(key, value) for key, value in row.items() if "loss/" in key]
        if losses:
            with self._lock:
                self._losses = tuple(
                    (key.rsplit("loss/", 1)[1], math.nan if value is None else value) for key, value in losses
                )
        self._events(row)

    def episode(self, row: Mapping[str, Any]) -> None:
        """Append an episode that ended.

        Args:
          row: `return` and `length`, `success` where the task reports it, and what else is known (`seed`;
            `began`, the environment steps when it began; `planned` and `realised`, of an actor that plans;
            `kind`: "train", the default, or "eval", which is not part of the shown means; and `log`, what the
            task says besides, {name: number or list}).

        Raises:
          LoggerError: `return` or `length` is missing, or a value is neither one number nor text.
        """
        if not {"return", "length"} <= set(row):
            raise LoggerError(f"an episode needs return and length, but has {', '.join(row)}")
        plain = {key: _scalar(key, value) for key, value in row.items() if key != "log"}
        clocks = {"env_steps": self.env_steps, "updates": self.updates}
        plain = {**clocks, "return": None, "length": None, "success": None} | plain
        log: Mapping[str, Any] = row.get("log") or {}
        self._episodes.append({**plain, "log": log} if log else plain)
        self._remember(plain)
        kind = plain.get("kind", "train")
        prefix = "episode" if kind == "train" else kind
        shown = {key: plain[key] for key in SHOWN if key in plain}
        shown |= {name: value for name, value in log.items() if isinstance(value, int | float)}
        self._events({f"{prefix}/{key}": value for key, value in shown.items()})

    def checkpoint_saved(self) -> None:
        """The age of the last checkpoint counts from now."""
        self._checkpoint = self._clock()

    def notice(self, text: str) -> None:
        """Print a line for the user; above the panel where there is one."""
        self._say(text)

    def rewind(self, env_steps: int, updates: int | None = None) -> int:
        """Go back to a checkpoint: drop what was logged after it by either clock, remember what was before.

        Args:
          updates: of the checkpoint; None goes by `env_steps` alone.

        Returns:
          How many rows were dropped.
        """
        limits = {"env_steps": env_steps, "updates": math.inf if updates is None else updates}
        is_kept = lambda row: all(not _is_number(row.get(k)) or row[k] <= n for k, n in limits.items())
        dropped = sum(lines.keep(is_kept) for lines in (self._metrics, self._episodes))
        self._all(lambda tracker: tracker.rewind(env_steps))
        self.env_steps, self.updates = self._shown = env_steps, updates or 0
        self._marks.clear()
        self._forget()
        for row in read_rows(self._episodes.path, "env_steps"):
            self._remember({k: v for k, v in row.items() if _is_number(v) or k == "kind"})
        return dropped

    def status(self) -> Status:
        """The present status of the run."""
        now = self._clock()
        with self._lock:
            steps, updates = _rates(self._marks, now)
            return Status(
                env_steps=self.env_steps,
                total_steps=self._total_steps,
                updates=self.updates,
                seconds=self.seconds,
                steps_per_second=steps,
                updates_per_second=updates,
                returns=tuple(self._recent.returns),
                successes=tuple(self._recent.successes),
                return_means=tuple(self._return_history.means()),
                success_means=tuple(self._success_history.means()),
                losses=self._losses,
                memory=memory_used(),
                checkpoint_age=None if self._checkpoint is None else now - self._checkpoint,
            )

    def _panel(self) -> Any:
        return status_panel(self.status(), self._title, min(self._console.width, 100))

    def _say(self, text: str) -> None:
        try:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        except OSError:  # its destination is full
            self._mute()

    def _mute(self) -> None:
        """Show nothing more: a run is worth more than its progress."""
        self._console.quiet = True

    def _clocks(self) -> dict[str, Any]:
        return {
            "env_steps": self.env_steps,
            "updates": self.updates,
            "seconds": round(self.seconds, 3),
        }

    def _forget(self) -> None:
        self.longest_episode = 0
        self._recent = Recent()
        self._return_history = History(self._total_steps)
        self._success_history = History(self._total_steps)

    def _remember(self, row: Mapping[str, Any]) -> None:
        if row.get("kind", "train") != "train":
            return
        self.longest_episode = max(self.longest_episode, row.get("length") or 0)
        with self._lock:
            self._chart(self._recent.add(row))

    def _chart(self, episodes: Sequence[Counted]) -> None:
        """Count episodes into the means over the run."""
        for episode in episodes:
            if episode.return_ is not None:
                self._return_history.add(episode.began, episode.return_)
            if episode.success is not None:
                self._success_history.add(episode.began, episode.success)

    def _events(self, row: Mapping[str, Any]) -> None:
        numbers = {key: float(value) for key, value in row.items() if _is_number(value)}
        clocks = self._clocks()
        self._all(lambda tracker: tracker.write(numbers, clocks))

    def _all(self, call: Callable[[Tracker], None]) -> None:
        """Do something with every tracker."""
        for tracker in list(self._trackers):
            with self._dropping(tracker):
                call(tracker)

    @contextlib.contextmanager
    def _dropping(self, tracker: Tracker | type[Tracker]) -> Iterator[None]:
        """Around calls of a tracker: one that fails is dropped with a notice; rows continue."""
        try:
            yield
        except LoggerError:
            raise
        except Exception as error:
            if not isinstance(tracker, type) and tracker in self._trackers:
                self._trackers.remove(tracker)
                with contextlib.suppress(Exception):
                    tracker.abandon()
            why = " ".join(str(error).split()) or type(error).__name__
            self._say(f"{tracker.name} failed and gets nothing more of this run: {why}")


class Counted(NamedTuple):
    """An episode that ended, as means count it."""

    began: int
    number: int
    """Of all in the order in which they ended."""
    return_: float | None
    success: float | None


class Recent:
    """The last `RECENT` episodes by when they began, so that short ones do not count more than long ones.

    Of episodes that begin at the same time the short ones end first. So an episode counts once all that began
    before it have ended; those that still run when `WAITING` later ones have ended are not waited for.
    """

    def __init__(self) -> None:
        self.returns: deque[float] = deque(maxlen=RECENT)
        self.successes: deque[float] = deque(maxlen=RECENT)
        """Of those whose task reports success."""
        self._waiting: list[Counted] = []
        self._number = 0
        self._running_since = math.inf

    def add(self, row: Mapping[str, Any]) -> list[Counted]:
        """Take in an episode that ended, and return what counts now, as `settle`.

        One without `began` counts as begun when it ended.
        """
        began = row.get("began", row.get("env_steps", 0))
        success = row.get("success")
        entry = Counted(began, self._number, row.get("return"), None if success is None else float(success))
        self._number += 1
        heapq.heappush(self._waiting, entry)
        return self.settle(self._running_since)

    def settle(self, running_since: float) -> list[Counted]:
        """Count and return what began before the oldest episode that still runs, which began at this step."""
        self._running_since = running_since
        counted: list[Counted] = []
        while self._waiting and (self._waiting[0].began < running_since or len(self._waiting) > WAITING):
            counted.append(self._count())
        return counted

    def _count(self) -> Counted:
        episode = heapq.heappop(self._waiting)
        if episode.return_ is not None:
            self.returns.append(episode.return_)
        if episode.success is not None:
            self.successes.append(episode.success)
        return episode


class _Lines:
    """A `.jsonl` file that is only ever appended to in whole lines, or rewritten as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row.

        Raises:
          LoggerError: it cannot be written, and the file is as it was.
        """
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        if self._file is None:
            self.keep(lambda row: True)  # a torn last line must not swallow this one
        try:
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
            before = os.fstat(self._file.fileno()).st_size
            if self._file.write(line) < len(line):  # as much as there was room for
                os.truncate(self._file.fileno(), before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> int:
        """Rewrite the file with the wanted rows, if that changes it; returns the number of dropped rows.

        Raises:
          LoggerError: it cannot be written, and the file is as it was.
        """
        self.close()
        rows = read_rows(self.path)
        kept = [row for row in rows if wanted(row)]
        content = b"".join(json.dumps(row).encode() + b"\n" for row in kept)
        if self.path.exists() and self.path.read_bytes() != content:
            try:
                atomic.write(self.path, content)
            except OSError as error:
                raise _unwritable(self.path, error) from None
        return len(rows) - len(kept)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _unwritable(path: Path, error: OSError) -> LoggerError:
    return LoggerError(f"{path} cannot be written ({error.strerror})")


def memory_used() -> int:
    """Resident memory of this process in bytes (its peak, where /proc is missing)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def _wants_panel(console: Any, environ: Mapping[str, str]) -> bool:
    plain = environ.get("NO_COLOR") or environ.get("CI") or console.is_dumb_terminal
    return console.is_terminal and not plain


def _rates(marks: Sequence[tuple[float, int, int]], now: float) -> tuple[float, float]:
    """Environment steps and updates per second since the oldest mark."""
    if not marks or now <= marks[0][0]:
        return 0.0, 0.0
    (then, steps, updates), (_, last_steps, last_updates) = marks[0], marks[-1]
    return (last_steps - steps) / (now - then), (last_updates - updates) / (now - then)


def _scalar(key: str, value: Any) -> Any:
    """A number, boolean or text as JSON holds it; null for a number that is not finite."""
    if value is None or isinstance(value, str | bool):
        return value
    try:
        value = value.item() if hasattr(value, "item") else value
        return value if isinstance(value, bool | int) else _finite(float(value))
    except (TypeError, ValueError):
        raise LoggerError(f"{key} is not one number but {type(value).__name__}") from None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)
