"""The figures of a sweep, as self-contained SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.report.figures import INK, MODEL, OTHER, QUIET, STYLE, WIDTH, svg
from experiments.sweep.space import Dimension
from experiments.sweep.spec import Spec
from experiments.sweep.study import FAILED, FINISHED, PRUNED, Row
from experiments.sweep.table import short_names


def importance(shares: Mapping[str, float]) -> str:
    """How much of the score each field explains."""
    names = short_names(list(shares))
    with rc_context(STYLE):
        ax = Figure(figsize=(WIDTH * 0.7, 0.34 * len(shares) + 0.8)).subplots()
        ax.barh(range(len(shares))[::-1], list(shares.values()), color=MODEL, height=0.6)
        ax.set_yticks(range(len(shares))[::-1], names)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.set(xlabel="importance", xlim=(0, None))
        return svg([ax])


def history(spec: Spec, rows: Sequence[Row], score: str) -> str:
    """The score of every trial in order of creation, and the best so far."""
    done = [row for row in rows if row.score is not None]
    numbers, scores = [row.number for row in done], np.array([row.score for row in done], float)
    best = np.maximum if spec.maximizes else np.minimum
    with rc_context(STYLE):
        ax = Figure(figsize=(WIDTH * 0.8, 2.6)).subplots()
        for row in done:
            _whisker(ax, row.number, row)
        ax.scatter(numbers, scores, s=22, color=MODEL, lw=0, label=FINISHED)
        ax.step(numbers, best.accumulate(scores), color=INK, lw=1, where="post")
        for state, color, mark in ((PRUNED, QUIET, "|"), (FAILED, OTHER, "x")):
            others = [row.number for row in rows if row.state == state]
            if others:
                look: dict[str, Any] = {"color": color, "marker": mark, "transform": ax.get_xaxis_transform()}
                ax.scatter(others, [0.02] * len(others), s=24, label=state, **look)
        if len({row.state for row in rows if row.ended}) > 1:
            ax.legend(fontsize=8)
        ax.set(xlabel="trial", ylabel=score)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        return svg([ax])


def _whisker(ax: Axes, x: float, row: Row) -> None:
    if row.interval is not None and row.interval[0] < row.interval[1]:
        ax.plot([x, x], row.interval, color=MODEL, lw=0.8, alpha=0.4)


def slices(spec: Spec, rows: Sequence[Row], score: str) -> str:
    """The score against every field alone."""
    done = [row for row in rows if row.score is not None]
    scores = np.array([row.score for row in done], float)
    with rc_context(STYLE):
        axes = []
        for path, name in zip(spec.space, short_names(list(spec.space)), strict=True):
            dimension = spec.space[path]
            ax = Figure(figsize=(WIDTH / 3, 2.1)).subplots()
            places = [_place(dimension, row.params[path]) for row in done]
            for x, row in zip(places, done, strict=True):
                _whisker(ax, x, row)
            ax.scatter(places, scores, s=18, color=MODEL, alpha=0.75, lw=0)
            ax.set(title=name, ylabel="" if axes else score)
            _label(ax, dimension)
            axes.append(ax)
        return svg(axes)


def _place(dimension: Dimension, value: Any) -> float:
    """Where a value stands on its axis: choices by their order, all others by themselves."""
    return float(dimension.choices.index(value)) if dimension.choices else float(value)


def _label(ax: Axes, dimension: Dimension) -> None:
    if dimension.choices:
        ax.set_xticks(range(len(dimension.choices)), list(map(str, dimension.choices)), fontsize=8)
        ax.set_xlim(-0.5, len(dimension.choices) - 0.5)
    elif dimension.kind == "log":
        ax.set_xscale("log")
    elif dimension.kind == "int":
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def parallel(spec: Spec, rows: Sequence[Row], score: str) -> str:
    """Every trial as a line through its values and its score; the better, the darker."""
    done = sorted((row for row in rows if row.score is not None), key=lambda row: row.score or 0.0)
    done = done if spec.maximizes else done[::-1]
    values = np.array([row.score for row in done], float)
    height = (values - values.min()) / (np.ptp(values) or 1.0)
    names = [*short_names(list(spec.space)), score]
    with rc_context(STYLE):
        ax = Figure(figsize=(WIDTH, 2.8)).subplots()
        for rank, (row, top) in enumerate(zip(done, height, strict=True)):
            line = [_share(d, row.params[path]) for path, d in spec.space.items()] + [top]
            shade = 0.15 + 0.85 * rank / max(len(done) - 1, 1)
            ax.plot(
                line, color=colormaps["Blues"](shade), lw=0.8 + 1.2 * (rank == len(done) - 1), clip_on=False
            )
        for x, dimension in enumerate(spec.space.values()):
            low, high = (dimension.ends[0], dimension.ends[-1])
            _ends(ax, x, low, high)
        _ends(ax, len(spec.space), values.min(), values.max())
        ax.set_xticks(range(len(names)), names)
        ax.tick_params(axis="x", length=0, pad=16, labelcolor=INK)
        ax.set_yticks([])
        ax.set(ylim=(0, 1), xlim=(0, len(names) - 1))
        ax.spines[:].set_visible(False)
        return svg([ax])


def _ends(ax: Axes, x: int, low: Any, high: Any) -> None:
    ax.axvline(x, color=QUIET, lw=0.8)
    for y, value, up in ((0, low, -1), (1, high, 1)):
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        ax.annotate(
            text, (x, y), xytext=(0, 7 * up), textcoords="offset points", ha="center", va="center", fontsize=7
        )


def _share(dimension: Dimension, value: Any) -> float:
    """Where a value stands between the ends of its dimension, 0 to 1."""
    if dimension.choices:
        return dimension.choices.index(value) / max(len(dimension.choices) - 1, 1)
    low, high = dimension.low, dimension.high
    if dimension.kind == "log":
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)
