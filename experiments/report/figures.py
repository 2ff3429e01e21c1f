"""The figures of a report card, as self-contained SVG.

Every panel is a separate SVG, so that a narrow page can stack them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import statistics
from experiments.report.card import Card, OpenLoop, Reliability
from experiments.report.meanings import FAR

INK, QUIET = "#2b2f36", "#9aa1ab"
MODEL, OTHER, THIRD = "#2f6fde", "#d1622b", "#3a9d6e"
COLORS = (MODEL, OTHER, THIRD, "#8a5fd1", "#b0892b", "#5b6470")
"""Of curves beside each other, in order."""
WIDTH = 7.2
"""Inches that the panels of a row have together."""
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dreamer",
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Segoe UI", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
}


NOTHING = {name: None for name in ("Date", "Creator", "Format", "Type")}


def svg(axes: Sequence[Axes]) -> str:
    """Panels as SVG elements, one after the other."""
    return "".join(_element(ax.get_figure()) for ax in axes)


def _element(figure: Any) -> str:
    text = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(text, format="svg", transparent=True, metadata=NOTHING)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _axes(count: int = 1, width: float = 3.4, height: float = 2.4) -> list[Axes]:
    """Panels, each in a figure of its own."""
    return [Figure(figsize=(width, height)).subplots() for _ in range(count)]


def draw(card: Card) -> dict[str, str]:
    """{name: SVG} of every figure of a card."""
    with rc_context(STYLE):
        drawn = {
            "open_loop": open_loop(card.open_loop) if card.open_loop.error else "",
            "calibration": calibration(card.cont, card.reward),
            "spread": spread(*card.spread),
            "value": value(*card.returns),
            "surprise": surprise(*card.surprise),
            "latents": latents(card.perplexity),
        }
        return {name: figure for name, figure in drawn.items() if figure}


def open_loop(loop: OpenLoop) -> str:
    """Error by steps ahead: the model, the model with other actions, and predicting no change."""
    keys = [k for k in loop.error if np.nansum(loop.still[k]) > 0][:6] or list(loop.error)[:1]
    axes = _axes(len(keys), min(WIDTH / min(len(keys), 3), 4.8))
    for ax, key in zip(axes, keys, strict=True):
        steps = np.arange(1, len(loop.error[key]) + 1)
        ax.plot(steps, loop.still[key], color=QUIET, ls="--", label="nothing changes")
        ax.plot(steps, loop.shuffled[key], color=OTHER, label="other actions")
        ax.plot(steps, loop.error[key], color=MODEL, label="model", clip_on=False, zorder=3)
        ax.set(title=key, ylim=(0, None), xlabel="steps ahead", ylabel="error")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].legend(fontsize=8)
    return svg(axes)


def calibration(cont: Sequence[Reliability], reward: Sequence[Reliability]) -> str:
    """What was expected against what happened, one step ahead and several."""
    axes = _axes(2, height=3.0)
    for ax, pair, name in zip(axes, (cont, reward), ("the episode goes on", "reward"), strict=True):
        both = [x for r in pair for x in (*r.expected, *r.happened)] or [0.0, 1.0]
        low, high = (0.0, 1.0) if pair is cont else (min(0.0, *both), max(0.0, *both))
        ax.plot([low, high], [low, high], color=QUIET, lw=1, ls="--")
        for r, steps, color in zip(pair, (1, FAR), (MODEL, OTHER), strict=True):
            size = 12 + 120 * r.count / max(r.count.sum(), 1)
            ax.scatter(r.expected, r.happened, s=size, color=color, alpha=0.75, label=f"{steps} ahead", lw=0)
        ax.set(title=name, xlabel="expected", ylabel="happened")
    axes[0].legend(fontsize=8)
    return svg(axes)


def spread(unsure: np.ndarray, wrong: np.ndarray) -> str:
    """Error of a predicted reward by its spread."""
    (ax,) = _axes(width=4.2)
    ax.scatter(unsure, wrong, s=7, color=MODEL, alpha=0.35, lw=0)
    ax.set(xlabel="how unsure", ylabel="how wrong", xlim=(0, None), ylim=(0, None))
    return svg([ax])


def value(happened: np.ndarray, promised: np.ndarray, dreamt: np.ndarray) -> str:
    """Returns of the critic and imagined ones, against those that then happened."""
    axes = _axes(2, height=3.0)
    everything = np.concatenate([happened, promised, dreamt])
    low, high = float(everything.min(initial=0)), float(everything.max(initial=1e-3))
    for ax, expected, name, color in zip(
        axes, (promised, dreamt), ("critic", "imagined return"), (MODEL, THIRD), strict=True
    ):
        ax.plot([low, high], [low, high], color=QUIET, lw=1, ls="--")
        ax.scatter(happened, expected, s=7, alpha=0.3, color=color, lw=0)
        ax.set(title=name, xlabel="happened", ylabel="promised")
    return svg(axes)


def surprise(kl: np.ndarray, posterior: np.ndarray, prior: np.ndarray) -> str:
    """Surprise and doubt by step of the episode."""
    (ax,) = _axes(width=4.8)
    steps = np.arange(len(kl))
    for curve, name, color in ((prior, "doubt before looking", QUIET), (posterior, "doubt after", THIRD)):
        ax.plot(steps, curve, color=color, label=name)
    ax.plot(steps, kl, color=MODEL, label="surprise")
    ax.set(xlabel="step of the episode", ylabel="nats", ylim=(0, None))
    ax.legend(fontsize=8)
    return svg([ax])


def latents(perplexity: np.ndarray) -> str:
    """How many values each categorical latent takes."""
    (ax,) = _axes(width=4.8)
    ax.bar(np.arange(len(perplexity)), perplexity, color=MODEL, width=0.8)
    ax.axhline(1, color=QUIET, lw=1)
    ax.set(xlabel="latents, the busiest first", ylabel="values in use", ylim=(0, None))
    return svg([ax])


def vectors(truth: np.ndarray, expected: np.ndarray, context: int, name: str) -> str:
    """[T, D] true values and open-loop predictions from `context` on."""
    shown = min(truth.shape[1], 4)
    with rc_context(STYLE):
        axes = _axes(shown, width=min(WIDTH / shown, 3.4), height=1.9)
        for i, ax in enumerate(axes):
            ax.plot(truth[:, i], color=INK, lw=1.2, label="truth")
            ax.plot(
                np.arange(context, len(truth)), expected[context:, i], color=MODEL, ls="--", label="model"
            )
            ax.axvline(context - 0.5, color=QUIET, lw=0.8)
            ax.set_title(f"{name} {i}")
        axes[0].legend(fontsize=7)
        return svg(axes)


def behaviour(names: Sequence[str], shares: np.ndarray) -> str:
    """[actions, quarters] how often each action is taken, by the value of the state."""
    with rc_context(STYLE):
        (ax,) = _axes(width=4.8, height=0.28 * len(names) + 1.0)
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks(range(shares.shape[1]), ["lowest", "low", "high", "highest"][: shares.shape[1]])
        ax.set_xlabel("what the critic expects there, in quarters")
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.05:
                color = "white" if share > 0.6 else INK
                ax.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color=color)
        ax.spines[:].set_visible(False)
        return svg([ax])


class Curve:
    """The curve of one quantity during training, over one seed or several.

    Args:
      label: of its line, where a panel has several quantities.
    """

    def __init__(self, runs: Sequence[tuple[Sequence[float], Sequence[float]]], label: str = ""):
        self.label = label
        self.runs = [run for run in runs if len(run[0])]

    def on(self, ax: Axes, color: str, points: int = 60) -> None:
        """Seeds thin, their mean thick with its 95% interval."""
        if not self.runs:
            return
        steps = np.linspace(max(x[0] for x, _ in self.runs), max(max(x) for x, _ in self.runs), points)
        rows = np.stack([np.interp(steps, x, y) for x, y in self.runs])
        if len(rows) > 1:
            for row in rows:
                ax.plot(steps, row, color=color, lw=0.6, alpha=0.4)
            low, high = np.transpose([statistics.bootstrap(column) for column in rows.T])
            ax.fill_between(steps, low, high, color=color, alpha=0.2, lw=0)
        ax.plot(steps, rows.mean(0), color=color, label=self.label or None)


def curves(panels: Mapping[str, Sequence[Curve]]) -> str:
    """One panel for every quantity, with a curve for every run or group of runs."""
    with rc_context(STYLE):
        axes = _axes(len(panels), width=WIDTH / max(len(panels), 2), height=2.6)
        for ax, (name, lines) in zip(axes, panels.items(), strict=True):
            for i, line in enumerate(lines):
                line.on(ax, COLORS[i % len(COLORS)])
            if any(line.label for line in lines):
                ax.legend(fontsize=8)
            ax.set(title=name, xlabel="environment steps", xlim=(0, None))
            ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
        return svg(axes)


def profile(settings: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Share of the runs above every success rate, {setting: [tasks][seeds]}, with its 95% interval."""
    thresholds = np.linspace(0, 1, 101)
    with rc_context(STYLE):
        (ax,) = _axes(width=4.8)
        for i, (name, scores) in enumerate(settings.items()):
            curve = statistics.performance_profile(scores, thresholds.tolist())
            color = COLORS[i % len(COLORS)]
            ax.fill_between(thresholds, curve.low, curve.high, color=color, alpha=0.2, lw=0, step="post")
            ax.step(thresholds, curve.share, color=color, where="post", label=name)
        ax.set(xlabel="success rate", ylabel="share of runs above it", xlim=(0, 1), ylim=(0, 1.02))
        if len(settings) > 1:
            ax.legend(fontsize=7)
        return svg([ax])
