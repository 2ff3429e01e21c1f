"""The figures of a benchmark, as self-contained SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import learning_curve, statistics
from experiments.benchmark import published, scores
from experiments.benchmark.published import Curve
from experiments.benchmark.report import Run, Variant
from experiments.report.figures import COLORS, QUIET, STYLE, WIDTH, svg
from experiments.sweep.runset import DONE

BINS = 20
"""Points of a curve, or as many as the published one has up to there."""


def binned(points: Sequence[tuple[float, float]], width: float, steps: float) -> np.ndarray:
    """[bins] mean of the values at up to `width` steps before each multiple of it; NaN where there are none.

    Args:
      points: (steps, value) of every episode.
      steps: of the run; a last bin that is not full is left out.
    """
    bins = max(int(round(steps / width, 6)), 1)
    at, values = np.asarray(points, float).reshape(-1, 2).T
    index = np.maximum(np.ceil(at / width).astype(int) - 1, 0)
    index, values = index[index < bins], values[index < bins]
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        return np.bincount(index, weights=values, minlength=bins) / counts


def settled(points: Sequence[tuple[float, float]], width: float, until: float) -> np.ndarray:
    """[bins] as `binned`, of episodes by their first steps; no bin that reaches further than `until`.

    Args:
      until: what began before is over.
    """
    return binned(points, width, until) if until >= width else np.empty(0)


def curves(variants: Sequence[Variant], task: str) -> str:
    """Training curves of every variant: the mean over seeds with its interval, the published one in grey.

    A published curve is of episodes by their ends, and so is ours before it. Where there is none, episodes
    count where they began (`experiments.learning_curve`).
    """
    curve = published.of(task, variants[0].plan.config.env.obs).curve
    runs = [run for v in variants for run in v.runs if run.task == task and run.rows]
    if not runs:
        return ""
    steps = max(run.steps for run in runs)
    width = steps / BINS if curve is None else min(curve.width, steps / BINS)
    with rc_context(STYLE):
        ax = Figure(figsize=(WIDTH / 2, 2.5)).subplots()
        by_end = is_by_end(task, curve)
        if curve is not None and by_end:
            _behind(ax, curve)
            steps = max(steps, float(curve.steps[:2][-1]))
        for i, variant in enumerate(variants):
            ours = [run for run in variant.runs if run.task == task and run.rows]
            _ours(ax, ours, width, by_end, COLORS[i % len(COLORS)])
        ax.set(title=task.partition(":")[2], xlabel="environment steps", xlim=(0, steps))
        ax.set_ylabel(scores.quantity(runs[0].rows, task))
        ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
        return svg([ax])


def is_by_end(task: str, curve: Curve | None) -> bool:
    """Whether a published curve is drawn, which is of episodes by their ends."""
    return curve is not None and scores.scoring(task).headline in ("score", "return")


def _behind(ax: Axes, curve: Curve) -> None:
    ax.fill_between(curve.steps, curve.mean - curve.std, curve.mean + curve.std, color=QUIET, alpha=0.2, lw=0)
    ax.plot(curve.steps, curve.mean, color=QUIET, lw=1.4)


def _ours(ax: Axes, runs: Sequence[Run], width: float, by_end: bool, color: str) -> None:
    """Finished runs as their mean with its interval, the others each as a dotted line."""
    for run in runs:
        if run.state != DONE:
            line = _line(run, width, by_end)
            known = ~np.isnan(line)
            ax.plot(width * np.arange(1, len(line) + 1)[known], line[known], color=color, lw=1.2, ls=":")
    done = [_line(run, width, by_end) for run in runs if run.state == DONE]
    mean_with_interval(ax, done, width, color=color)


def mean_with_interval(ax: Axes, lines: Sequence[np.ndarray], width: float, **look: Any) -> None:
    """Draw the mean of curves and its interval, as far as the shortest one goes and where all are known.

    Args:
      lines: [bins] each, as of `binned`; none draws nothing.
      width: of a bin.
    """
    if not lines:
        return
    rows = np.stack([line[: min(map(len, lines))] for line in lines])
    known = ~np.isnan(rows).any(0)
    at, rows = width * np.arange(1, rows.shape[1] + 1)[known], rows[:, known]
    if len(rows) > 1:
        low, high = np.transpose([statistics.bootstrap(column.tolist()) for column in rows.T]).reshape(2, -1)
        ax.fill_between(at, low, high, color=look["color"], alpha=0.25, lw=0)
    ax.plot(at, rows.mean(0), marker="o" if len(at) == 1 else None, ms=4, **look)


def _line(run: Run, width: float, by_end: bool) -> np.ndarray:
    if by_end:
        return binned(scores.values(run.rows, run.task), width, run.steps)
    since = learning_curve.running_since(learning_curve.spans(run.rows))
    points = scores.values(run.rows, run.task, learning_curve.first_step)
    return settled(points, width, min(since, run.steps))


def radar(variants: Mapping[str, Mapping[str, float]], axes: Sequence[str]) -> str:
    """The score of every variant on axes around a circle, each from 0 in the middle to 1.

    Args:
      axes: names; a variant has a gap where it has no score, and an area where it has all.
    """
    angles = np.linspace(0, 2 * np.pi, len(axes), endpoint=False)
    with rc_context(STYLE):
        ax = Figure(figsize=(5.6, 3.4)).subplots(subplot_kw={"projection": "polar"})
        for i, reached in enumerate(variants.values()):
            color, values = COLORS[i % len(COLORS)], [reached.get(axis, np.nan) for axis in axes]
            closed = [*angles, angles[0]], [*values, values[0]]
            ax.plot(*closed, color=color, marker="o", ms=4, clip_on=False)
            if not np.isnan(values).any():
                ax.fill(*closed, color=color, alpha=0.2, lw=0)
        scored = {axis for reached in variants.values() for axis in reached}
        titles = [axis.replace("_", " ") + ("" if axis in scored else "\nnot played") for axis in axes]
        _round(ax, angles, titles)
        return svg([ax])


def _round(ax: Axes, angles: np.ndarray, titles: Sequence[str]) -> None:
    """Name the axes of a radar, outside of the circle."""
    ax.set(ylim=(0, 1), yticks=[0.25, 0.5, 0.75, 1.0], xticks=angles)
    ax.set_yticklabels(["", "0.5", "", "1"], fontsize=6, color=QUIET)
    for label, angle in zip(ax.set_xticklabels(titles), np.degrees(angles), strict=True):
        label.set_horizontalalignment("right" if 90 < angle < 270 else "left")
    ax.grid(color=QUIET, lw=0.5, ls=":")
    ax.spines["polar"].set_color(QUIET)


def profile(variants: Mapping[str, Sequence[Sequence[float]]], score: str) -> str:
    """Share of the runs above every score, {variant: [tasks][seeds]}, with its 95% interval."""
    every = [value for tasks in variants.values() for seeds in tasks for value in seeds]
    low, high = min(0.0, *every), max(1.0, *every)
    thresholds = np.linspace(low, high, 101)
    with rc_context(STYLE):
        ax = Figure(figsize=(4.8, 2.6)).subplots()
        for i, (name, table) in enumerate(variants.items()):
            drawn = statistics.performance_profile(table, thresholds.tolist())
            look: dict[str, Any] = {"color": COLORS[i % len(COLORS)]}
            if any(len(seeds) > 1 for seeds in table):
                ax.fill_between(thresholds, drawn.low, drawn.high, alpha=0.2, lw=0, step="post", **look)
            ax.step(thresholds, drawn.share, where="post", label=name, **look)
        ax.set(xlabel=score, ylabel="share of runs above it", xlim=(low, high), ylim=(0, 1.02))
        if len(variants) > 1:
            ax.legend(fontsize=7)
        return svg([ax])
