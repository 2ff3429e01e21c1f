"""The pictures of a comparison, as SVG that stands in a page by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from experiments.report.figures import COLORS, INK, MODEL, QUIET, STYLE, WIDTH, svg

LONGEST = 32
"""Letters of a name in a picture."""

Rows = Mapping[str, Mapping[str, Any]]
"""`[agent]` its results on a task."""


class Curve(NamedTuple):
    """A learner's score in training."""

    name: str
    steps: Sequence[float]
    score: Sequence[float]
    acted_with: str = ""
    """What played its episodes, where that was not the sampled policy."""


class Band(NamedTuple):
    """A player that does not learn: its score with its interval."""

    name: str
    mean: float
    low: float
    high: float


def brief(name: str) -> str:
    """A name that fits into a picture: of a long one the kind and the end."""
    if len(name) <= LONGEST:
        return name
    kind, colon, rest = name.partition(":")
    return f"{kind}{colon}…{rest[-(LONGEST - len(kind) - 2) :]}"


def score_of(row: Mapping[str, Any]) -> tuple[str, float | None, Sequence[float] | None]:
    """The score that counts: success where the task tells it, else the return."""
    kind = "success_rate" if row["success_rate"] is not None else "return_mean"
    return kind, row[kind], row[kind.replace("_rate", "_interval").replace("_mean", "_interval")]


def forest(rows: Rows, reference: str) -> str:
    """How much better each agent is than the reference, paired by seed; empty without any pair."""
    shown = []
    for name, row in rows.items():
        gap = row["difference"] and (row["difference"]["success"] or row["difference"]["return"])
        if gap:
            shown.append((name, gap["mean"], *gap["interval"]))
    if not shown:
        return ""
    with rc_context(STYLE):
        ax = Figure(figsize=(WIDTH * 0.7, 0.34 * len(shown) + 0.9)).subplots()
        ax.axvline(0, color=QUIET, lw=1, ls="--")
        for y, (_, mean, low, high) in enumerate(reversed(shown)):
            ax.plot([low, high], [y, y], color=MODEL, solid_capstyle="butt")
            ax.scatter([mean], [y], s=28, color=MODEL, zorder=3, lw=0)
        ax.set_yticks(range(len(shown)), [brief(name) for name, *_ in reversed(shown)])
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        has_success = any(row["difference"] and row["difference"]["success"] for row in rows.values())
        ax.set(
            xlabel=f"difference in {'success' if has_success else 'return'} to {brief(reference)}",
            ylim=(-0.6, len(shown) - 0.4),
        )
        return svg([ax])


def cost(rows: Rows) -> str:
    """Score against dollars per episode; unpriced agents stand apart, not at 0. Empty if none has a price."""
    scores = {name: score_of(row) for name, row in rows.items() if score_of(row)[1] is not None}
    priced = {
        name: row["usd"] / row["finished"] for name, row in rows.items() if row["usd"] and name in scores
    }
    free = [name for name in scores if name not in priced]
    if not priced:
        return ""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 0.8, 2.8))
        apart, ax = figure.subplots(1, 2, sharey=True, width_ratios=(0.6 + 0.3 * len(free), 2.5))
        for i, name in enumerate(scores):
            _, mean, interval = scores[name]
            place, x = (ax, priced[name]) if name in priced else (apart, free.index(name))
            color = COLORS[i % len(COLORS)]
            if interval:
                place.plot([x, x], interval, color=color, lw=1.2)
            place.scatter([x], [mean], s=36, color=color, zorder=3, lw=0)
            if name in priced:
                place.annotate(
                    brief(name), (x, mean), xytext=(6, 4), textcoords="offset points", fontsize=8, color=color
                )
        apart.set_xticks(
            range(len(free)), [brief(name) for name in free], rotation=60, ha="right", fontsize=8
        )
        apart.set(xlabel="no price", ylabel=next(iter(scores.values()))[0].replace("_", " "))
        apart.set_xlim(-0.6, max(len(free), 1) - 0.4)
        ax.set_xscale("log")
        ax.set_xlabel("US dollars per episode")
        return svg([ax])


def learning(curves: Sequence[Curve], bands: Sequence[Band], score: str) -> str:
    """Learners over their training, and language models as bands across."""
    with rc_context(STYLE):
        ax = Figure(figsize=(WIDTH * 0.7, 2.8)).subplots()
        for i, curve in enumerate(curves):
            ax.plot(curve.steps, curve.score, color=COLORS[i % len(COLORS)], label=brief(curve.name))
        for i, band in enumerate(bands, len(curves)):
            color = COLORS[i % len(COLORS)]
            ax.axhspan(band.low, band.high, color=color, alpha=0.15, lw=0)
            ax.axhline(band.mean, color=color, lw=1, ls="--", label=brief(band.name))
        ax.set(xlabel="environment steps", ylabel=score, xlim=(0, None))
        ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
        ax.legend(fontsize=8, loc="best")
        return svg([ax])


def passes(steps: Sequence[float], score: Sequence[float], level: float) -> float | None:
    """The first step from which on a curve stays above a level; None if it does not."""
    above = np.asarray(score, float) > level
    if not len(above) or not above[-1]:
        return None
    below = np.flatnonzero(~above)
    return float(steps[below[-1] + 1 if len(below) else 0])
