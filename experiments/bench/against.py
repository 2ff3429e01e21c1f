"""`dreamer bench --against PYTHON`: an update of ours and one of the reference, in turns.

Machines change their speed from minute to minute, so only what is timed in turns can be compared. Both sides
are processes that do one update when they are asked (`turns.py`); a pair is one update of each, and the first
of a pair changes from pair to pair. What is printed are medians of the ratios of the pairs.
"""

from __future__ import annotations

import contextlib
import json as jsonlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from dreamer.schema import ConfigError
from experiments import machine
from experiments.bench import bench
from experiments.bench.bench import table

COLUMNS = {
    "size": "size",
    "obs": "obs",
    "dtype": "dtype",
    "pairs": "pairs",
    "wall": "update, ratio",
    "wall_range": "  of pairs, from to",
    "cpu": "CPU s, ratio",
    "compile": "compile, ratio",
    "memory": "peak memory, ratio",
    "ours_ms": "ours ms",
    "reference_ms": "reference ms",
    "ours_compile_s": "ours compile s",
    "reference_compile_s": "reference compile s",
    "ours_mb": "ours peak MB",
    "reference_mb": "reference peak MB",
}
"""Keys of a row and their labels; a ratio below 1 says that ours needs less."""
REFERENCE = Path(__file__).with_name("reference.py")
SHARED = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Surroundings of both sides: on an accelerator neither takes its memory from the other."""
NEEDED = "dreamerv3/agent.py"
"""What a folder with the reference's repository has."""


class Side:
    """One of the two processes, ended with the block that uses it.

    Its functions raise RuntimeError, with what it printed last, if it ended too early.
    """

    def __init__(self, command: list[str], errors: Path):
        self._errors = errors
        with errors.open("w") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, env=SHARED
            )

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # which closes its pipes
            self._process.kill()

    def ready(self) -> dict[str, Any]:
        """Wait until it is ready: the seconds that its program took to compile, and what else it says."""
        return self._line()

    def update(self) -> dict[str, float]:
        """One update: its {wall, cpu} in seconds."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self._line()

    def end(self) -> float:
        """Let it end, and say how many megabytes it held at its peak."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._line()["peak_mb"]

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            lines = self._errors.read_text().strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"it ended with code {self._process.wait()}")
        return jsonlib.loads(line)


def run(
    python: Path,
    reference: Path,
    sizes: Iterable[str],
    obs: Iterable[str],
    batch: int,
    length: int,
    pairs: int,
    dtype: str = "auto",
    json: bool = False,
) -> int:
    """Time every size with every kind of observation on both sides, print a table; the exit code.

    Args:
      python: an interpreter that can import what the reference needs.
      reference: its repository.
      pairs: updates of each side that count.
      dtype: of activations, of both.

    Raises:
      ConfigError: there is no such Python, or no such repository.
    """
    console = Console(stderr=True)
    for path, what in (
        (python, "Python"),
        (reference / NEEDED, "repository of danijar/dreamerv3"),
    ):
        if not path.is_file():
            raise ConfigError(
                f"there is no {what} at {path}: give --against its Python and --reference its folder"
            )
    rows, failed = [], 0
    for size in sizes:
        for kind in obs:
            with console.status(f"{size} {kind}: compiling both, then {pairs} pairs"):
                try:
                    rows.append(measure(python, reference, size, kind, batch, length, pairs, dtype))
                except RuntimeError as error:
                    failed += 1
                    console.print(f"{size} {kind} could not be measured: {error}", markup=False)
    if json:
        print(jsonlib.dumps({"rows": rows, **bench.surroundings()}))
    elif rows:
        title = f"{batch} x {length} steps a batch, ours / reference, medians"
        Console().print(table(rows, COLUMNS, title))
    return 1 if failed else 0


def measure(
    python: Path,
    reference: Path,
    size: str,
    obs: str,
    batch: int,
    length: int,
    pairs: int,
    dtype: str = "auto",
    seconds: float | None = None,
) -> dict[str, Any]:
    """One row: medians over the pairs, and the smallest and the largest ratio of wall-clock times.

    Args:
      seconds: after which no further pair begins; one is measured in any case.

    Raises:
      RuntimeError: a side ended too early.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        job = {"size": size, "obs": obs, "batch": batch, "length": length, "dtype": dtype}
        start = lambda name, command: stack.enter_context(Side(command, folder / f"{name}.txt"))
        ours = start("ours", machine.command("experiments.bench.against", jsonlib.dumps(job)))
        about = {"ours": ours.ready()}
        dtype = str(about["ours"]["dtype"])
        words = jsonlib.dumps({**job, "dtype": dtype, "folder": str(folder)})
        theirs = start("reference", [str(python), str(REFERENCE), str(reference.resolve()), words])
        about["reference"] = theirs.ready()
        took = []
        for pair in turns(ours, theirs, pairs):
            took.append(pair)
            if seconds is not None and time.monotonic() - began > seconds:
                break
        peaks = {"ours": ours.end(), "reference": theirs.end()}
    ratios = {key: [mine[key] / other[key] for mine, other in took] for key in ("wall", "cpu")}
    walls = {"ours": [mine["wall"] for mine, _ in took], "reference": [other["wall"] for _, other in took]}
    compile_s = {name: reported["compile_s"] for name, reported in about.items()}
    return {
        "size": size,
        "obs": obs,
        "dtype": dtype,
        "pairs": len(took),
        "wall": round(median(ratios["wall"]), 3),
        "wall_range": f"{min(ratios['wall']):.2f} {max(ratios['wall']):.2f}",
        "cpu": round(median(ratios["cpu"]), 3),
        "compile": round(compile_s["ours"] / compile_s["reference"], 3),
        "memory": round(peaks["ours"] / peaks["reference"], 3),
        **{f"{name}_ms": round(1e3 * median(times), 1) for name, times in walls.items()},
        **{f"{name}_compile_s": round(took, 1) for name, took in compile_s.items()},
        **{f"{name}_mb": round(peak) for name, peak in peaks.items()},
    }


def turns(ours: Side, reference: Side, pairs: int) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """Pairs of updates, (ours, the reference's); who is first changes from pair to pair."""
    for number in range(pairs):
        if number % 2:
            theirs = reference.update()
            yield ours.update(), theirs
        else:
            yield ours.update(), reference.update()


if __name__ == "__main__":
    from experiments.bench import turns as protocol

    machine.release_when_compiled()  # as in training
    protocol.serve(lambda: bench.compiled(**jsonlib.loads(sys.argv[1])))
