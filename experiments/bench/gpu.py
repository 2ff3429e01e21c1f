"""What an accelerator is worth, within minutes: `python -m experiments.bench.gpu --out gpu.json`.

Updates of several sizes in the float type of the device, both loops, a population and worlds alone, each
in a process of its own, the most telling first; with a Python that has the reference's packages also its
updates on the same device, in turns with ours. Every result is written as soon as it is there, so a run
that is cut off keeps what it has; what there was no time for is listed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dreamer import atomic
from experiments.bench import against, bench

B, T = 16, 64
"""The published batch."""
SIZES = ("1m", "12m", "50m", "200m")
MEMBERS = (1, 16)
COPIES = (1_024, 65_536)
"""Of worlds alone."""


class Job(NamedTuple):
    """One measurement: its name, and from the seconds it may take to its row or why there is none."""

    name: str
    measure: Callable[[float], dict[str, Any] | str]


def jobs(sizes: Sequence[str], python: str, reference: str) -> Iterator[Job]:
    """All measurements, the most telling first.

    Args:
      python, reference: as of `against.run`; empty for none.
    """
    place = "experiments.bench."
    alone = lambda module, job: lambda seconds: bench.within_own_process(place + module, job, seconds)
    update = lambda size, obs: {"size": size, "obs": obs, "batch": B, "length": T}
    loop = lambda kind, members: {"loop": kind, "members": members, "size": sizes[0], "batch": B, "length": T}
    worlds = lambda copies: {"task": "grid:DoorKey-5x5", "copies": copies}
    first, *later = sizes
    yield Job(f"update {first} vector", alone("bench", update(first, "vector")))
    if python:
        yield Job(f"against {first} vector", _against(python, reference, first, "vector"))
    for size in later[:1]:
        yield Job(f"update {size} image", alone("bench", update(size, "image")))
    for members in MEMBERS:
        yield Job(f"fused loop, {members} members", alone("loop", loop("fused", members)))
    for size in later:
        yield Job(f"update {size} vector", alone("bench", update(size, "vector")))
    yield Job("host loop", alone("loop", loop("host", 1)))
    for copies in COPIES:
        yield Job(f"worlds x {copies:,}", alone("env", worlds(copies)))
    if python and later:
        yield Job(f"against {later[0]} image", _against(python, reference, later[0], "image"))


def _against(python: str, reference: str, size: str, obs: str) -> Callable[[float], dict[str, Any] | str]:
    def measure(seconds: float) -> dict[str, Any] | str:
        try:
            return against.measure(Path(python), Path(reference), size, obs, B, T, pairs=9, seconds=seconds)
        except RuntimeError as error:
            return str(error)

    return measure


def run(wanted: Sequence[Job], out: Path, seconds: float, clock: Callable[[], float] = time.monotonic) -> int:
    """Measure one after the other until the time is over; the number of those that failed.

    Args:
      out: the JSON that is written after each: `rows` (each with `name` and `seconds`), `failed` {name: why},
        `left_out` [names], and what it was measured on.
    """
    began, about = clock(), {}
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    waiting = [job.name for job in wanted]
    for job in wanted:
        started = clock()
        left = seconds - (started - began)
        if left <= 0:
            break
        row = job.measure(left)
        waiting.remove(job.name)
        if isinstance(row, str):
            failed[job.name] = row
        else:
            about = row.pop("surroundings", about)
            rows.append({"name": job.name, "seconds": round(clock() - started, 1), **row})
        print(f"{job.name}: {row if isinstance(row, str) else json.dumps(row)}", flush=True)
        result = {"rows": rows, "failed": failed, "left_out": waiting, **about}
        atomic.write(out, json.dumps(result, indent=1))
    for name in waiting:
        print(f"{name}: no time was left")
    return len(failed)


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and measure; the exit code, 1 if something could not be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--sizes", nargs="+", default=SIZES, choices=tuple(bench.SIZES))
    parser.add_argument(
        "--against", default="", metavar="PYTHON", help="that has what danijar/dreamerv3 needs"
    )
    parser.add_argument("--reference", default="dreamerv3", metavar="FOLDER", help="of that repository")
    options = parser.parse_args(words)
    wanted = list(jobs(options.sizes, options.against, options.reference))
    return int(run(wanted, options.out, 60 * options.minutes) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
