"""The learning curves of both sides in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments import statistics

COLORS = {"reference": "#d1622b", "ours": "#1f6feb"}


def draw(content: dict[str, Any], path: Path) -> None:
    """Every seed of each side, and its mean with the 95% interval over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.subplots()
    for side, color in COLORS.items():
        _side(axes, content[side], side, color)
    settings = content["settings"]
    axes.set(xlabel="steps of all environments (a reset counts)", ylabel="return while training")
    axes.set_title(
        f"{settings['task']}, size {settings['size']}, {_seeds(content)}.\n{_verdict(content['difference'])}",
        loc="left",
        fontsize=10,
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def _side(axes: Any, side: dict[str, Any], name: str, color: str) -> None:
    curves = np.asarray(side["curves"], float)
    known = ~np.isnan(curves).any(0)
    steps, curves = np.asarray(side["steps"])[known], curves[:, known]
    for curve in curves:
        axes.plot(steps, curve, color=color, lw=0.6, alpha=0.45)
    if not len(steps):
        return
    low, high = np.transpose([statistics.bootstrap(column.tolist()) for column in curves.T])
    axes.fill_between(steps, low, high, color=color, alpha=0.2, lw=0)
    axes.plot(steps, curves.mean(0), color=color, lw=2, label=name)


def _seeds(content: dict[str, Any]) -> str:
    count = len(content["ours"]["last_half"])
    return f"{count} seeds of each" if count > 1 else "one seed of each"


def _verdict(gap: dict[str, Any]) -> str:
    text = f"Second half, ours minus reference: {gap['ours_minus_reference']:+.3g}"
    if gap["interval"] is None:
        return f"{text} (one seed: no test)"
    low, high = gap["interval"]
    return f"{text} [{low:+.3g}, {high:+.3g}], permutation test p = {gap['permutation_p']:.2g}"
