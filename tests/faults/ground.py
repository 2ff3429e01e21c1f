"""Where faults are made: a folder, processes of the console script in it, and what they said."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tiny

from dreamer import schema
from dreamer.logger import read_rows

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent


class Trial(NamedTuple):
    """One fault that was made."""

    name: str
    why: str = ""
    """What was wrong with what followed; empty where it was right."""


class Ended(NamedTuple):
    """A process that is over; `code` is None where it had to be killed because it did not end in time."""

    code: int | None
    text: str
    seconds: float

    def refused(self, *words: str) -> str:
        """Why this is not a failure that one sentence with these words explains; empty if it is."""
        return (
            ("not back in time" if self.code is None else "")
            or ("it ended as if all were well" if self.code == 0 else "")
            or self.plain()
            or next((f"does not say {word!r}: {self.last}" for word in words if word not in self.text), "")
        )

    def went_well(self) -> str:
        """Why this is no success; empty if it is."""
        return (f"exit code {self.code}: {self.last}" if self.code else "") or self.plain()

    def plain(self) -> str:
        """Why this is not meant for people; empty if it is."""
        return "a traceback" if "Traceback (most recent call last)" in self.text else ""

    @property
    def last(self) -> str:
        """The last line."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1][:200] if lines else "nothing said"


@dataclass
class Ground:
    """A temporary folder, and dreamer in it.

    Args:
      short: few faults of each kind instead of all.
      minutes: how long a run goes whose memory is watched.
    """

    folder: Path
    short: bool = False
    minutes: float = 60.0

    def __post_init__(self) -> None:
        self._number = 0
        self._runs: dict[str, Path] = {}
        self.environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "NO_COLOR": "1",
            "COLUMNS": "400",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(TESTS))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "jax-cache"),
        }

    def place(self, name: str) -> Path:
        """A path that is not used yet."""
        self._number += 1
        return self.folder / f"{name}-{self._number}"

    def settings(self, **changes: Any) -> Path:
        """A file with the settings of a run that is as small as can be."""
        path = self.place("settings").with_suffix(".toml")
        fields = {name.replace("__", "."): value for name, value in changes.items()}
        fields = {"checkpoint.every": 0.2, **fields}  # often, so that there is something to damage
        path.write_text(schema.dump_toml(schema.replace_paths(tiny.RUN, fields)))
        return path

    def train(self, folder: Path, **changes: Any) -> list[str]:
        """The words that train such a run."""
        return ["train", "quickstart", "--config", str(self.settings(**changes)), "--run", str(folder)]

    def start(self, *words: Any, **surroundings: str) -> Running:
        """Begin a command."""
        out = self.place("output").open("w+")
        # A shell lets what it starts behind a & ignore SIGINT, and children inherit that.
        heed = ["env", "--default-signal=INT"]
        command = [*heed, sys.executable, "-m", "experiments.cli", *map(str, words)]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment | surroundings,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return Running(process, Path(out.name))

    def call(self, *words: Any, seconds: float = 300, **surroundings: str) -> Ended:
        """Run a command to its end."""
        return self.start(*words, **surroundings).wait(seconds)

    def finished(self, task: str, **changes: Any) -> Path:
        """A copy of a small run that went to its end and has kept several checkpoints."""
        key = f"{task} {sorted(changes.items())}"
        if key not in self._runs:
            folder = self.place("whole")
            ended = self.call(*self.train(folder, task=task, **changes))
            if why := ended.went_well():
                raise RuntimeError(f"the run that the faults need: {why}\n{ended.text}")
            self._runs[key] = folder
        copy = self.place("copy")
        shutil.copytree(self._runs[key], copy)
        return copy


@dataclass
class Running:
    """A command that was begun."""

    process: subprocess.Popen
    output: Path

    def __post_init__(self) -> None:
        self._began = time.monotonic()

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    def wait(self, seconds: float = 300) -> Ended:
        """Until it is over; killed after so many seconds."""
        code = None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        return Ended(code, self.text, time.monotonic() - self._began)

    def kill(self) -> None:
        """End it, and all that it started."""
        for process in (self.process.pid, *children(self.process.pid)):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def children(session: int) -> list[int]:
    """All processes of a session that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it is over
            continue
        if int(fields[3]) == session and fields[0] != "Z" and int(path.parent.name) != session:
            found.append(int(path.parent.name))
    return found


def left_behind(session: int) -> str:
    """Says so if processes of a session that ended are still there five seconds later."""
    gone = until(lambda: not children(session), 5)
    return "" if gone else f"{len(children(session))} of its processes are still there"


def until(condition: Callable[[], Any], seconds: float = 120) -> bool:
    """Wait for something; whether it came in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def newest(run: Path) -> int:
    """Steps at the newest whole checkpoint of a run; -1 without one."""
    found = (path.parent.name for path in run.glob("checkpoints/step-*/manifest.json"))
    return max((int(name.removeprefix("step-")) for name in found), default=-1)


def logged(run: Path) -> dict[str, Any]:
    """The last row of the metrics of a run."""
    rows = read_rows(run / "metrics.jsonl") if (run / "metrics.jsonl").is_file() else []
    return rows[-1] if rows else {"env_steps": 0, "updates": 0}


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in paths}


@contextmanager
def ground(short: bool = False, minutes: float = 60.0) -> Iterator[Ground]:
    """A ground that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        yield Ground(Path(folder), short, minutes)
