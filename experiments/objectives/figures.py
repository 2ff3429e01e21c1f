"""The figures of a comparison of objectives."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.benchmark.figures import mean_with_interval, settled
from experiments.objectives.results import WINDOWS, Run
from experiments.report.figures import COLORS, QUIET, STYLE, WIDTH, svg

DASHES = ("-", "--", ":", "-.")
"""Of lines, once all colours are taken."""


def look(i: int) -> dict[str, Any]:
    """How the objective at a place in the list is drawn."""
    return {"color": COLORS[i % len(COLORS)], "ls": DASHES[i // len(COLORS) % len(DASHES)]}


def curves(results: Mapping[str, Any], runs: Sequence[Run]) -> Figure:
    """Learning curves of the finished runs of every objective, against environment steps and CPU time."""
    done = [run for run in runs if run.is_done]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0))
        by_steps, by_cpu = figure.subplots(1, 2, sharey=True)
        for i, name in enumerate(results["objectives"]):
            of_name = [run for run in done if run.objective == name]
            _against_steps(by_steps, of_name, results["steps"], label=name, **look(i))
            _against_cpu(by_cpu, of_name, _longest(done), **look(i))
        by_steps.set(xlabel="environment steps", ylabel=results["curve"], xlim=(0, results["steps"]))
        by_steps.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
        by_cpu.set(xlabel="CPU seconds", xlim=(0, None))
        if (budget := results["cpu_budget"]) is not None:
            by_cpu.axvline(budget, color=QUIET, lw=1, ls=":")
        figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _against_steps(ax: Axes, runs: Sequence[Run], steps: int, **look: Any) -> None:
    width = steps / WINDOWS
    lines = [settled(run.points().tolist(), width, min(run.settled, steps)) for run in runs]
    mean_with_interval(ax, lines, width, **look)


def _longest(done: Sequence[Run]) -> float:
    """CPU seconds of the run that took most of them."""
    return max((float(run.clock.seconds[-1]) for run in done if run.clock is not None), default=0.0)


def _against_cpu(ax: Axes, runs: Sequence[Run], longest: float, **look: Any) -> None:
    """The curve of each run over its CPU time, in windows that all runs share."""
    width, lines = longest / WINDOWS, []
    for run in runs:
        if run.clock is not None and width:
            at, values = run.points().T
            seconds = run.clock.seconds_at(at)
            timed = np.stack([seconds, values], 1)[~np.isnan(seconds)]
            until = np.interp(run.settled, run.clock.steps, run.clock.seconds)
            lines.append(settled(timed.tolist(), width, float(until)))
    mean_with_interval(ax, lines, width, **look)


def horizon(results: Mapping[str, Any]) -> str:
    """The error of open-loop predictions by steps ahead; empty where no objective has one."""
    errors = {name: reached["probe_error"] for name, reached in results["objectives"].items()}
    if not any(errors.values()):
        return ""
    with rc_context(STYLE):
        ax = Figure(figsize=(WIDTH * 0.6, 2.6)).subplots()
        for i, (name, error) in enumerate(errors.items()):
            if error:
                ax.plot(range(1, len(error) + 1), np.array(error, float), label=name, **look(i))
        ax.set(xlabel="steps ahead", ylabel="error", ylim=(0, None))
        ax.legend(fontsize=7)
        return svg([ax])


def as_svg(figure: Figure) -> str:
    """A figure of several panels as one SVG element."""
    return svg(figure.axes[:1])


def as_png(figure: Figure) -> bytes:
    """A figure as a picture."""
    content = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(content, format="png", dpi=150)
    return content.getvalue()
