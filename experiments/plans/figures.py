"""The figure of a report on planning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from experiments.plans.results import METRICS
from experiments.report.figures import COLORS, QUIET, STYLE, WIDTH, svg

MARKERS = ("o", "s", "^", "D", "v", "P")
"""Of actors, once all colours are taken."""
WIDE = 48
"""Letters of a name beside which there is no room for another one."""


def against_time(results: Mapping[str, Any]) -> str:
    """What every actor reached against what a decision took, with intervals of both, as SVG."""
    metric = results["metric"]
    interval = f"{METRICS[metric]}_interval"
    columns = 1 if max(map(len, results["actors"])) > WIDE else 2
    lines = -(-len(results["actors"]) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.8 + 0.18 * lines))
        ax = figure.subplots()
        for i, (name, row) in enumerate(results["actors"].items()):
            color, marker = COLORS[i % len(COLORS)], MARKERS[i // len(COLORS) % len(MARKERS)]
            if i == 0:
                ax.axhline(row[metric], color=QUIET, lw=1, ls="--", zorder=0)
            ax.plot([row["ms"]] * 2, row[interval], color=color, lw=1.4)
            ax.plot(row["ms_quartiles"], [row[metric]] * 2, color=color, lw=1.4)
            ax.scatter(row["ms"], row[metric], s=42, color=color, marker=marker, lw=0, zorder=3, label=name)
        ax.set(xscale="log", xlabel="milliseconds a decision", ylabel=METRICS[metric])
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        ax.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:.0e}"[0] in "25" else "")
        figure.legend(loc="outside lower left", fontsize=8, ncols=columns)
        return svg([ax])
