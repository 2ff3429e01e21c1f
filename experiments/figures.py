"""The README's pictures, drawn from the files in `experiments/results/` into that folder.

python -m experiments.figures
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments import statistics
from experiments.results_table import RESULTS

INK, QUIET, ACCENT, SECOND = "#222222", "#9a9a9a", "#1f6feb", "#d1622b"


def seeds(content: dict[str, Any], path: Path) -> None:
    """Training success of every seed, and their mean with its 95% interval over seeds."""
    from matplotlib.figure import Figure

    runs = content["runs"]
    steps = np.asarray(runs[0]["curve"]["env_steps"])
    curves = np.nan_to_num(np.asarray([run["curve"]["success"] for run in runs], float))
    low, high = np.transpose([statistics.bootstrap(column) for column in curves.T])
    rates = [run["success_rate"] for run in runs]
    first, last = statistics.bootstrap(rates)

    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        axes.plot(steps, curve, color=QUIET, lw=0.7, alpha=0.7)
    axes.fill_between(steps, low, high, color=ACCENT, alpha=0.25, lw=0)
    axes.plot(steps, curves.mean(0), color=ACCENT, lw=2.2)
    axes.set(
        xlabel="environment steps of each seed",
        ylabel="success while training",
        ylim=(-0.02, 1.04),
        xlim=(0, steps[-1]),
    )
    axes.set_title(
        f"{runs[0]['task']}: {len(runs)} seeds in one program, {runs[0]['seconds']:,.0f} s together.\n"
        f"Evaluated: mean success {np.mean(rates):.1%} [{first:.1%}, {last:.1%}], "
        f"worst seed {min(rates):.0%}",
        loc="left",
        fontsize=10,
    )
    _finish(figure, axes, path)


def loops(content: dict[str, Any], path: Path) -> None:
    """What a thousand environment steps cost in each loop, and for how many members together."""
    from matplotlib.figure import Figure

    rows = content["rows"]
    size = rows[0]["size"]
    rows = [row for row in rows if row["size"] == size]
    names = ["host loop" if r["loop"] == "host" else f"fused, {r['members']}" for r in rows]
    cost = [row["cpu_s_per_1000"] for row in rows]
    figure = Figure(figsize=(7.2, 0.42 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))[::-1]
    colors = [SECOND if row["loop"] == "host" else ACCENT for row in rows]
    axes.barh(places, cost, color=colors, height=0.62)
    axes.set_yticks(places, names)
    for place, row, value in zip(places, rows, cost, strict=True):
        told = f" {value:.2g} s, {row['env_steps_per_s']:,.0f} steps/s, {row['updates_per_s']:.3g} updates/s"
        axes.text(value, place, told, va="center", fontsize=8, color=INK)
    axes.set_xlim(0, 1.7 * max(cost))
    axes.set_xlabel("CPU seconds for 1,000 environment steps of one member")
    axes.set_title(
        f"DoorKey-5x5, size {size}, {rows[0]['batch']} x {rows[0]['length']}, train ratio 32; "
        f"{content['device']}",
        loc="left",
        fontsize=10,
    )
    _finish(figure, axes, path)


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


FIGURES = {"quickstart-16-seeds": seeds, "bench-loop": loops}
"""Files in `experiments/results/` and what draws them."""


def main() -> None:
    for name, draw in FIGURES.items():
        source = RESULTS / f"{name}.json"
        if source.exists():
            draw(json.loads(source.read_text()), source.with_suffix(".png"))
            print(source.with_suffix(".png"))


if __name__ == "__main__":
    main()
