"""A process that does one update whenever it is asked, so that two programs can be timed in turns.

For every line on its standard input it does one update and prints a line of JSON, {wall, cpu} in seconds;
before the first one {compile_s} and what the update says of itself, after the last {peak_mb}. What the
program itself prints goes to stderr. It needs no package but the standard library, because it also runs
in the Python of others.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable

Update = Callable[[], None]


def timed(update: Update) -> dict[str, float]:
    """Wall-clock and CPU seconds of one update."""
    wall, cpu = time.perf_counter(), time.process_time()
    update()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def serve(build: Callable[[], Update]) -> None:
    """Build the update, do two, then one for every line.

    `compile_s` is what the update says of itself (`about`), or how much longer the first one takes than the
    second.
    """
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        update = build()
        first, second = timed(update), timed(update)
        say = lambda row: print(json.dumps(row), file=out, flush=True)
        say({"compile_s": first["wall"] - second["wall"], **getattr(update, "about", {})})
        for _ in sys.stdin:
            say(timed(update))
        say({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10})
