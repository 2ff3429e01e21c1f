"""Make faults on purpose and keep the table of what holds.

python -m tests.faults [ROW ...] [--short] [--minutes 60] [--out experiments/results/faults.json]

Every row that was made replaces that of the same name in the file, after which the table is written beside it
as Markdown; so rows can be made one at a time. The exit code is 1 if something was wrong. Linux only.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from experiments import surroundings  # noqa: E402

from . import company, damage, disk, growth, inputs, killed, phases, wires, worlds  # noqa: E402
from .ground import Ground, Trial, ground  # noqa: E402


class Row(NamedTuple):
    """One kind of fault."""

    what: str
    make: Callable[[Ground, int], Iterator[Trial]]
    count: int
    """How many are made at most."""
    short: int
    """How many with --short."""


ROWS = {
    "killed-host": Row("SIGKILL at random moments, host loop", partial(killed.killed, kind="host"), 15, 1),
    "killed-fused": Row(
        "SIGKILL at random moments, fused loop: the same arrays in the end as undisturbed",
        partial(killed.killed, kind="fused"),
        15,
        0,
    ),
    "killed-population": Row(
        "SIGKILL at random moments, population of two", partial(killed.killed, kind="population"), 10, 0
    ),
    "killed-sweep": Row("SIGKILL of workers and coordinators of a sweep", killed.sweep, 10, 0),
    "damaged-host": Row(
        "every file of the newest checkpoint flipped, shortened, deleted: host loop",
        partial(damage.damaged, kind="host"),
        999,
        6,
    ),
    "damaged-fused": Row("the same: fused loop", partial(damage.damaged, kind="fused"), 999, 0),
    "unreadable": Row("checkpoints that are links or may not be read", damage.unreadable, 2, 0),
    "histories": Row("a history without a usable checkpoint", company.histories, 3, 0),
    "records": Row("every record of a run empty, cut or of other bytes", company.records, 25, 0),
    "changes": Row("changes that cannot be made in place, with --force", company.changes, 6, 0),
    "trainers": Row("two trainers in one folder", company.trainers, 2, 0),
    "comparisons": Row("two comparisons in one folder", company.comparisons, 2, 0),
    "sweeps": Row("two coordinators on one study", company.sweeps, 3, 0),
    "signals": Row(
        "SIGTERM and SIGINT in every phase: gone within 10 s", phases.signalled, 2 * len(phases.PHASES), 1
    ),
    "disk": Row("a disk that is full at a later write each time, with TensorBoard", disk.full, 12, 0),
    "losses": Row("losses that are not finite", worlds.losses, 2, 0),
    "worlds": Row("environments that break their contract in every known way", worlds.broken, 99, 1),
    "processes": Row("the same in processes of their own", worlds.in_processes, 7, 0),
    "hanging": Row("environments that hang, with --env.timeout", worlds.hanging, 2, 0),
    "servers": Row("fifty requests at once beside five that never end", wires.servers, 2, 0),
    "endpoints": Row("faults of endpoints of language models", wires.endpoints, 99, 0),
    "inputs": Row("random values for random fields of every command", inputs.fuzzed, 10_000, 200),
    "files": Row("files of settings with random damage", inputs.files, 2_000, 50),
    "memory": Row("memory of runs that go on: host, fused, population", growth.watched, 3, 0),
}
"""{name: row}, in the order of the table."""


def make(name: str, row: Row, ground: Ground) -> dict[str, object]:
    """All faults of a row, with progress on standard error."""
    count, began = row.short if ground.short else row.count, time.monotonic()
    trials: list[Trial] = []
    for trial in row.make(ground, count):
        trials.append(trial)
        if trial.why or len(trials) % 100 == 0 or count < 100:
            print(f"{name} {len(trials)}: {trial.name}: {trial.why or 'right'}", file=sys.stderr, flush=True)
    wrong = [f"{trial.name}: {trial.why}" for trial in trials if trial.why]
    return {
        "what": row.what,
        "right": len(trials) - len(wrong),
        "made": len(trials),
        "wrong": wrong[:20],
        "seconds": round(time.monotonic() - began),
        "notes": [trial.name for trial in trials] if name == "memory" else [],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": surroundings.commit(),
    }


def table(made: dict[str, dict[str, object]]) -> str:
    """As Markdown."""
    lines = [
        "# Faults that were made on purpose",
        "",
        "`python -m tests.faults`: what is right, `tests/faults/` says (one sentence instead of a traceback,",
        f"nothing lost, nothing silently wrong). Made on {platform.system()} with Python "
        f"{platform.python_version()}, row by row.",
        "",
        "| row | fault | right | of | commit, day |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for name in [name for name in ROWS if name in made]:
        row = made[name]
        counts = f"{row['right']:,} | {row['made']:,}"
        lines.append(f"| {name} | {row['what']} | {counts} | {row['commit']}, {row['date']} |")
    notes = [note for row in made.values() for note in row["notes"]]
    wrong = [f"{name}: {why}" for name, row in made.items() for why in row["wrong"]]
    for title, items in (("Memory", notes), ("Wrong", wrong)):
        lines += ["", f"{title}:", "", *(f"- {item}" for item in items)] if items else []
    return "\n".join([*lines, ""])


def main(words: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--short", action="store_true", help="few faults of each kind")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long memory is watched")
    parser.add_argument("--out", type=Path, help="JSON file that keeps the table (default: none)")
    asked = parser.parse_args(words)
    if unknown := set(asked.rows) - set(ROWS):
        parser.error(f"there is no row {min(unknown)}; there are {', '.join(ROWS)}")
    kept = json.loads(asked.out.read_text()) if asked.out and asked.out.is_file() else {}
    new = {}
    with ground(asked.short, asked.minutes) as place:
        for name in asked.rows or ROWS:
            if asked.short and not ROWS[name].short:
                continue
            new[name] = make(name, ROWS[name], place)
            if asked.out:
                kept |= {name: new[name]}
                asked.out.write_text(json.dumps(kept, indent=1))
                asked.out.with_suffix(".md").write_text(table(kept))
    print(table(new))
    return int(any(row["wrong"] for row in new.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
