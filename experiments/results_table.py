"""Measured runs as files in `experiments/results/`, and the README's table made from them.

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

from experiments.session import write_atomically

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- results: written by python -m experiments.results_table -->\n"
END = "<!-- end of results -->"


def record(name: str, runs: list[Path]) -> Path:
    """Gather finished runs of one preset (or members of a population) into `results/<name>.json`.

    Raises:
      SystemExit: a folder is not a finished run.
    """
    rows = []
    for run in runs:
        told = run if (run / "environment.json").exists() else run.parent.parent  # a member's population
        try:
            result = json.loads((run / "result.json").read_text())
            session = json.loads((told / "environment.json").read_text())["sessions"][-1]
            episodes = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
        except (OSError, ValueError, KeyError) as error:
            sys.exit(f"{run} is not a finished run: {error}")
        about = {k: session[k] for k in ("time", "command", "cpus", "devices", "versions", "commit")}
        rows.append(result | {"curve": curve(episodes, result["env_steps"])} | about)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    write_atomically(path, json.dumps({"name": name, "machine": machine(), "runs": rows}, indent=1) + "\n")
    return path


def curve(episodes: list[dict[str, Any]], steps: int, points: int = 40) -> dict[str, list[float | None]]:
    """How training went: means of return and success over the episodes in equal shares of the steps.

    Returns:
      `env_steps`, where a share ends; `return` and `success`, null before the first episode; a share
      without episodes has what the one before it had.
    """
    ends = [round(steps * (i + 1) / points) for i in range(points)]
    found: dict[str, list[float | None]] = {"env_steps": [float(end) for end in ends]}
    for name in ("return", "success"):
        means: list[float | None] = []
        for start, end in zip([0, *ends], ends, strict=False):
            values = [e[name] for e in episodes if start < e["env_steps"] <= end and e[name] is not None]
            before = means[-1] if means else None
            means.append(round(float(np.mean(values)), 4) if values else before)
        found[name] = means
    return found


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
        "| file | task | steps | seeds | success, each seed | return, mean over seeds | wall-clock |",
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
    success = ", ".join(f"{run['success_rate']:.0%}" for run in runs if run["success_rate"] is not None)
    spread = f"{min(seconds):.0f} s" if len(runs) == 1 else f"{min(seconds):.0f} to {max(seconds):.0f} s"
    cells = [
        f"`{name}`",
        f"{first['task']}",
        f"{first['env_steps']:,}",
        str(len(runs)),
        success or "not told by the task",
        f"{np.mean([run['return_mean'] for run in runs]):.3g}",
        spread,
    ]
    return "| " + " | ".join(cells) + " |"


def with_table(readme: str) -> str:
    """The README's text with the table as it should be now."""
    head, rest = readme.split(BEGIN)
    return head + BEGIN + table() + END + rest.split(END, 1)[1]


def main(words: list[str]) -> None:
    if words[:1] == ["record"] and len(words) > 2:
        print(record(words[1], [Path(word) for word in words[2:]]))
    elif words == ["write"]:
        write_atomically(README, with_table(README.read_text()))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
