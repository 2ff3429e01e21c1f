"""Where the time of an update goes: `dreamer bench --profile`.

XLA records when each of its operations ran. In the text of the compiled program every operation has the named
scopes in which it was traced, so its time belongs to a part of the algorithm (`flops.PARTS`); what a gradient
adds counts for the part whose gradient it is. Operations run beside each other on several threads, so the
times are those of all threads: together they are more than the time that passes.

A part's rate is its counted operations over its time in products and convolutions.
"""

from __future__ import annotations

import json as jsonlib
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from experiments import machine
from experiments.bench import bench, flops

HEADS = ("part", "GFLOP", "products ms", "GFLOP/s there", "all else ms")
"""Columns of a table of parts."""
CALLS = 5
"""Updates that are recorded."""
PRODUCTS = re.compile(r" (?:dot|convolution)\(|custom_call_target=\"__(?:cublas|cudnn|onednn)")
CONTAINERS = ("while", "conditional")
"""Operations whose time is that of others, which are recorded themselves."""
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%(?P<name>[\w.-]+) = .*? (?P<opcode>[a-z][\w-]*)\(")
COMPUTATION = re.compile(r"^(?:ENTRY )?%(?P<name>[\w.-]+) \(.*\{$")
SCOPES = re.compile(r'op_name="(?P<stack>[^"]*)"')
CALLED = re.compile(r"(?:calls|to_apply)=%(?P<name>[\w.-]+)")


class Operation(NamedTuple):
    """What the text of a program says of one of its operations."""

    part: str
    is_product: bool
    """Whether it multiplies matrices or convolves, with whatever was fused to it."""
    is_container: bool


class Time(NamedTuple):
    """Seconds of an update, in threads."""

    products: float = 0.0
    rest: float = 0.0


def operations(text: str) -> dict[str, Operation]:
    """{name: what it is} of the operations of a compiled program (`Compiled.as_text`)."""
    multiplying, where = set(), ""
    for line in text.splitlines():
        if match := COMPUTATION.match(line):
            where = match["name"]
        elif PRODUCTS.search(line):
            multiplying.add(where)
    known = {}
    for line in text.splitlines():
        if not (match := INSTRUCTION.match(line)):
            continue
        stack, called = SCOPES.search(line), CALLED.search(line)
        is_product = bool(PRODUCTS.search(line)) or (called is not None and called["name"] in multiplying)
        part = flops.part(stack["stack"]) if stack else flops.OTHER
        known[match["name"]] = Operation(part, is_product, match["opcode"] in CONTAINERS)
    return known


def times(events: Iterable[tuple[str, float]], known: dict[str, Operation]) -> dict[str, Time]:
    """{part: its time} from (operation, seconds); containers do not count, what is not known is `OTHER`."""
    unknown = Operation(flops.OTHER, False, False)
    total: dict[str, Time] = defaultdict(Time)
    for name, seconds in events:
        part, is_product, is_container = known.get(name, unknown)
        if not is_container:
            products, rest = total[part]
            total[part] = Time(products + is_product * seconds, rest + (not is_product) * seconds)
    return dict(total)


def recorded(folder: Path, module: str) -> Iterator[tuple[str, float]]:
    """(operation, seconds) of all that a program ran while a profile was taken."""
    from jax.profiler import ProfileData

    for path in folder.rglob("*.xplane.pb"):
        for plane in ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    about = dict(event.stats)
                    if about.get("hlo_module") == module:
                        yield str(about["hlo_op"]), event.duration_ns / 1e9


def measure(size: str, obs: str, batch: int, length: int, dtype: str = "auto") -> dict[str, Any]:
    """One row: `size, obs, batch, length`, `update_ms` of wall-clock time without the recorder, the machine's
    `product_gflops`, and `parts`: {part: `gflop`, `product_ms`, `other_ms`, both in threads}.
    """
    import jax

    update = bench.compiled(size, obs, batch, length, dtype)
    update()
    wall, _ = bench.repeat(update, bench.SECONDS, *bench.UPDATES)
    known = operations(update.gradients.as_text() or "")
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(CALLS):
                update()
        spent = times(recorded(Path(folder), "jit_compute_gradients"), known)
    counted = update.operations
    return {
        "size": size,
        "obs": obs,
        "batch": batch,
        "length": length,
        "update_ms": round(1e3 * wall, 1),
        "product_gflops": round(bench.product_rate(update.agent.dtype) / 1e9, 1),
        "parts": {
            part: {
                "gflop": round(counted.get(part, 0) / 1e9, 3),
                "product_ms": round(1e3 * spent.get(part, Time()).products / CALLS, 2),
                "other_ms": round(1e3 * spent.get(part, Time()).rest / CALLS, 2),
            }
            for part in (*flops.PARTS, flops.OTHER)
        },
    }


def run(
    sizes: Iterable[str],
    obs: Iterable[str],
    batch: int,
    length: int,
    dtype: str = "auto",
    json: bool = False,
) -> int:
    """Measure every size with every kind of observation, print tables or one JSON object; the exit code.

    Args: as those of `bench.run`.
    """
    jobs, title = bench.updates(sizes, obs, batch, length, dtype), f"{batch} x {length} steps a batch"
    rows, about = bench.measured("experiments.bench.profile", jobs, bench.named, title)
    if json:
        print(jsonlib.dumps({"rows": rows, **about}))
    else:
        for row in rows:
            Console().print(table(row, about["device"]))
    return int(len(rows) < len(jobs))


def lines(row: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The cells of every part under `HEADS`, and of all together."""
    parts = row["parts"]
    total = {key: sum(part[key] for part in parts.values()) for key in ("gflop", "product_ms", "other_ms")}
    for name, part in (*parts.items(), ("together", total)):
        rate = f"{1e3 * part['gflop'] / part['product_ms']:.0f}" if part["product_ms"] else ""
        yield name, f"{part['gflop']:.2f}", f"{part['product_ms']:.1f}", rate, f"{part['other_ms']:.1f}"


def table(row: dict[str, Any], device: str) -> Table:
    """The parts of one update."""
    title = (
        f"{row['size']} {row['obs']}, {row['batch']} x {row['length']} steps on {device}: "
        f"{row['update_ms']:g} ms an update; a large product makes {row['product_gflops']:g} GFLOP/s"
    )
    view = Table(title=title, title_justify="left")
    for name in HEADS:
        view.add_column(name, justify="left" if name == "part" else "right")
    for cells in lines(row):
        view.add_row(*cells)
    view.caption = "milliseconds of all threads together; the optimiser is not among them"
    return view


if __name__ == "__main__":
    machine.release_when_compiled()  # as in training
    row = measure(**jsonlib.loads(sys.argv[1]))
    print(jsonlib.dumps(row | {"surroundings": bench.surroundings()}))
