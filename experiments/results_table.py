"""Measured runs as files in `experiments/results/`, and the README's tables made from them.

python -m experiments.results_table record quickstart runs/quickstart-seed*
python -m experiments.results_table write
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dreamer import atomic
from experiments import learning_curve

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- {}: written by python -m experiments.results_table -->\n"
END = "<!-- end of {} -->"


def record(name: str, runs: list[Path]) -> Path:
    """Gather finished runs of one preset (or members of a population) into `results/<name>.json`.

    Raises:
      SystemExit: a folder is not a finished run.
    """
    rows = []
    for run in runs:
        home = run if (run / "environment.json").exists() else run.parent.parent  # a member's population
        try:
            result = json.loads((run / "result.json").read_text())
            session = json.loads((home / "environment.json").read_text())["sessions"][-1]
            episodes = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            sys.exit(f"{run} is not a finished run: {error}")
        about = {k: session[k] for k in ("time", "command", "cpus", "devices", "versions", "commit")}
        rows.append(result | {"curve": curve(episodes, result["env_steps"])} | about)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    atomic.write(path, json.dumps({"name": name, "machine": machine(), "runs": rows}, indent=1) + "\n")
    return path


def curve(
    episodes: list[dict[str, Any]], steps: int, points: int = 40, window: int = 100
) -> dict[str, list[float | None]]:
    """How training went: means of return and success over the last episodes.

    Not over those of a stretch of time: episodes that fail last longest, and those that began together
    end together. And by when they began, because the first to end are those that succeeded by luck
    (`experiments.learning_curve`).

    Returns:
      `env_steps` of so many points; `return` and `success` of the last `window` episodes that had begun by
      then, null while there were less than a fifth of that.
    """
    ends = [round(steps * (i + 1) / points) for i in range(points)]
    columns: dict[str, list[float | None]] = {"env_steps": [float(end) for end in ends]}
    for name in ("return", "success"):
        known = learning_curve.points(episodes, name)
        last = [[value for at, value in known if at <= end][-window:] for end in ends]
        columns[name] = [
            round(float(np.mean(values)), 4) if len(values) >= max(1, window // 5) else None
            for values in last
        ]
    return columns


def machine() -> str:
    """The processor, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table() -> str:
    """One row for every file of runs, as Markdown."""
    lines = [
        "| file | task | steps | seeds | success of each seed | return, mean over seeds | wall-clock |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        content = json.loads(path.read_text())
        if "runs" in content:
            lines.append(_row(content["name"], content["runs"]))
    return "\n".join(lines) + "\n"


def _row(name: str, runs: list[dict[str, Any]]) -> str:
    first = runs[0]
    seconds = [run["seconds"] for run in runs]
    rates = [run["success_rate"] for run in runs if run["success_rate"] is not None]
    success = ", ".join(f"{rate:.0%}" for rate in rates)
    if len(rates) > 5:
        success = f"{np.mean(rates):.1%} on average, {min(rates):.0%} the worst"
    cells = [
        f"`{name}`",
        f"{first['task']}",
        _range([f"{steps:,}" for steps in sorted(run["env_steps"] for run in runs)]),
        str(len(runs)),
        success or "not reported by the task",
        f"{np.mean([run['return_mean'] for run in runs]):.3g}",
        _range([f"{number:,.0f} s" for number in sorted(seconds)]),
    ]
    return "| " + " | ".join(cells) + " |"


def _range(texts: list[str]) -> str:
    """From the first to the last, where they differ."""
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"


def speed() -> str:
    """What an update costs, ours and the reference's in turns, as Markdown."""
    content = json.loads((RESULTS / "bench.json").read_text())
    lines = [
        "| an update of | wall-clock | reference | ratio (pairs) | CPU | compilation | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in content["rows"]:
        lowest, highest = row["wall_range"].split()
        cells = [
            f"{row['size']}, {row['obs']}",
            f"{row['ours_ms']:,.0f} ms",
            f"{row['reference_ms']:,.0f} ms",
            f"**{row['wall']:.2f}** ({lowest} to {highest})",
            f"{row['cpu']:.2f}",
            f"{row['ours_compile_s']:.0f} s ({row['compile']:.2f})",
            f"{row['ours_mb']:,} MB ({row['memory']:.2f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def with_tables(readme: str) -> str:
    """The README's text with the tables as they should be now."""
    for name, text in (("speed", speed()), ("results", table())):
        begin, end = BEGIN.format(name), END.format(name)
        head, rest = readme.split(begin)
        readme = head + begin + text + end + rest.split(end, 1)[1]
    return readme


def main(words: list[str]) -> None:
    if words[:1] == ["record"] and len(words) > 2:
        print(record(words[1], [Path(word) for word in words[2:]]))
    elif words == ["write"]:
        atomic.write(README, with_tables(README.read_text()))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
