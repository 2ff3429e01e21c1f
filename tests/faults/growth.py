"""Memory of runs that go on and on: flat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .ground import Ground, Running, Trial, logged
from .killed import KINDS

ALLOWED = 30.0
"""MB by which the median of the last quarter may exceed that of the second one, for an hour."""


def watched(ground: Ground, count: int) -> Iterator[Trial]:
    """All kinds of runs side by side, with a checkpoint five times a second."""
    kinds = list(KINDS)[:count]
    runs = {}
    for kind in kinds:
        changes = {**KINDS[kind], "steps": 10**9, "eval__every": 20_000}
        folder = ground.place(kind)
        runs[kind] = (folder, ground.start(*ground.train(folder, **changes)))
    began, sizes = time.monotonic(), {kind: [] for kind in kinds}
    while time.monotonic() - began < 60 * ground.minutes:
        time.sleep(min(5.0, ground.minutes))
        for kind, (_, process) in runs.items():
            if not process.is_over:
                sizes[kind].append(resident(process))
    for kind, (folder, process) in runs.items():
        if process.is_over:
            yield Trial(kind, f"it ended: {process.wait().last}")
            continue
        process.process.terminate()
        process.wait()
        parts = np.array_split(np.array(sizes[kind]), 4)
        before, after = (float(np.median(part)) for part in (parts[1], parts[3]))
        name = (
            f"{kind}: {before:.0f} MB, then {after:.0f} MB, in {ground.minutes:.0f} minutes with "
            f"{logged(folder)['updates']:,} updates"
        )
        yield Trial(name, "" if after - before <= ALLOWED * ground.minutes / 60 else f"grows: {name}")


def resident(process: Running) -> float:
    """MB of memory of a process."""
    lines = Path(f"/proc/{process.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
