"""The README's pictures, drawn into `experiments/results/`.

python -m experiments.figures                          from the measured files there
python -m experiments.figures curves NAME              of a benchmark there, beside the published curves
python -m experiments.figures inside EARLIER LATER     from two runs of a task: what their models predict
python -m experiments.figures page report.html         the top of the page of a comparison, in Chromium
python -m experiments.figures dream RUN --out FILE.gif   one episode beside the dream of it, moving
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.checkpoint import CheckpointError
from dreamer.schema import ConfigError
from experiments import animation, statistics
from experiments.results_table import RESULTS

INK, QUIET, ACCENT, SECOND = "#222222", "#9a9a9a", "#1f6feb", "#d1622b"


def seeds(content: dict[str, Any], path: Path) -> None:
    """Training success of every seed, and their mean with its 95% interval over seeds."""
    from matplotlib.figure import Figure

    runs = content["runs"]
    curves = np.asarray([run["curve"]["success"] for run in runs], float)
    known = ~np.isnan(curves).any(0)
    steps, curves = np.asarray(runs[0]["curve"]["env_steps"])[known], curves[:, known]
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
        xlim=(0, runs[0]["curve"]["env_steps"][-1]),
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
        label = f" {value:.2g} s, {row['env_steps_per_s']:,.0f} steps/s, {row['updates_per_s']:.3g} updates/s"
        axes.text(value, place, label, va="center", fontsize=8, color=INK)
    axes.set_xlim(0, 1.7 * max(cost))
    axes.set_xlabel("CPU seconds for 1,000 environment steps of one member")
    axes.set_title(
        f"DoorKey-5x5, size {size}, {rows[0]['batch']} x {rows[0]['length']}, train ratio 32; "
        f"{content['device']}",
        loc="left",
        fontsize=10,
    )
    _finish(figure, axes, path)


def sweep(content: dict[str, Any], path: Path) -> None:
    """How much every field of a sweep matters, and the score of each trial by each field."""
    from matplotlib.figure import Figure

    importance, trials = content["importance"], content["trials"]
    fields = sorted(importance, key=lambda field: -importance[field])
    names = [field.rpartition(".")[2] for field in fields]
    figure = Figure(figsize=(9.6, 2.6), layout="constrained")
    bars, *panels = figure.subplots(1, 1 + len(fields), width_ratios=[1.3] + [1] * len(fields))
    bars.barh(names[::-1], [importance[field] for field in fields[::-1]], color=ACCENT, height=0.55)
    bars.set(xlabel="importance", xlim=(0, 1))
    bars.set_title(f"{content['task']}: {len(trials)} trials", loc="left", fontsize=10)
    for axes, field, name in zip(panels, fields, names, strict=True):
        values = [trial["params"][field] for trial in trials]
        for value, trial in zip(values, trials, strict=True):
            axes.plot([value] * 2, trial["interval"], color=ACCENT, lw=1)
            axes.scatter(value, trial["score"], s=22, color=ACCENT, zorder=3, lw=0)
        axes.set(xlabel=name, xscale="log", ylim=(-0.03, 1.03))
        axes.minorticks_off()
        axes.set_xticks([float(f"{value:.1g}") for value in (min(values), max(values))])
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    panels[0].set_ylabel(content["metric"].replace("_", " "))
    for axes in (bars, *panels):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def curves(content: Mapping[str, Any], episodes: Sequence[Mapping[str, str]], path: Path) -> None:
    """Training returns of a benchmark's tasks, before DreamerV3's published curves in grey.

    Args:
      content: what `dreamer benchmark report` wrote, of one variant.
      episodes: rows with `task`, `env_steps` and `return` of finished runs.

    Raises:
      ConfigError: there are several variants, or no episode to draw.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from experiments.report.figures import STYLE

    tasks = [task for task in content["tasks"] if any(row["task"] == task for row in episodes)]
    if len(content["variants"]) != 1 or not tasks:
        raise ConfigError(
            f"one variant with finished runs can be drawn, not {len(content['variants'])} "
            f"with finished runs of {len(tasks)} tasks"
        )
    (variant,) = content["variants"]
    columns = len(tasks) if len(tasks) <= 3 else 2
    rows = -(-len(tasks) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(max(5.4, 3.6 * columns), 2.3 * rows + 0.6))
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
        for ax, task in zip(panels, tasks, strict=False):
            points = [
                (float(row["env_steps"]), float(row["return"])) for row in episodes if row["task"] == task
            ]
            _curve(ax, task, np.array(points), variant["steps"])
        figure.supxlabel("environment steps", fontsize=9, color=QUIET)
        figure.supylabel("return of training episodes", fontsize=9, color=QUIET)
        figure.suptitle(_protocol(variant), x=0.01, ha="left", fontsize=9.5, color=INK)
        figure.savefig(path, dpi=150)


def _curve(ax: Any, task: str, points: np.ndarray, steps: int) -> None:
    """One task: every episode as a dot, the mean of those that ended together as a line.

    By their ends, as the published curve behind them.
    """
    from experiments.benchmark import published

    at, returns = points.T
    curve = published.of(task).curve
    if curve is not None:
        band = curve.mean - curve.std, curve.mean + curve.std
        ax.fill_between(curve.steps, *band, color=QUIET, alpha=0.25, lw=0)
        ax.plot(curve.steps, curve.mean, color=QUIET, lw=1.8, label="published")
    ends = np.unique(at)
    means = [returns[at == end].mean() for end in ends]
    ax.scatter(at, returns, s=10, color=ACCENT, alpha=0.35, lw=0)
    ax.plot(ends, means, color=ACCENT, lw=2, marker="o", ms=4.5, label="this toolkit")
    ax.set(title=task, xlim=(0, 2 * steps))
    if task.startswith("dmc:"):
        ax.set_ylim(0, 1000)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    ax.legend(loc="upper left")


def _protocol(variant: Mapping[str, Any]) -> str:
    """What was run, and how much less that is than what was published."""
    from experiments.presets import PRESETS

    name = variant["preset"]
    share = PRESETS[name.removesuffix("-small")]().loop.train_ratio / variant["train_ratio"]
    count = "one seed" if variant["seeds"] == 1 else f"{variant['seeds']} seeds"
    less = f", 1/{share:g} of the published updates a step" if share > 1 else ""
    return (
        f"{name}: {count}, {variant['steps']:,} steps{less}\n"
        "blue: each dot an episode; grey: DreamerV3 as published, mean and standard deviation over seeds"
    )


def benchmark(name: str) -> Path:
    """Draw the curves of `results/benchmarks/<name>.json` and the episodes beside it."""
    folder = RESULTS / "benchmarks"
    content = json.loads((folder / f"{name}.json").read_text())
    with (folder / f"{name}-episodes.csv").open(newline="") as file:
        curves(content, list(csv.DictReader(file)), folder / f"{name}.png")
    return folder / f"{name}.png"


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def inside(earlier: Path, later: Path, path: Path, context: int = 4, steps: int = 7) -> None:
    """One episode of the later agent, and what both world models predict of it open loop."""
    import jax
    from matplotlib.figure import Figure

    import dreamer
    import envs
    from dreamer.inspection import Inspector
    from envs.draw import picture
    from experiments.decoding import caption, nothing_decodes
    from experiments.report.recording import record
    from experiments.report.report import SEED, read_run

    players = [dreamer.load(run, actor="sampled") for run in (earlier, later)]
    cfg = players[1].config
    assert cfg is not None
    env = envs.make(cfg.task, 8, **cfg.env.world)
    _, episodes = record(players[1], env, range(SEED, SEED + 32))
    env.close()
    n = int(np.argmax(episodes.length >= context + steps + 1))
    only = jax.tree.map(lambda x: x[n : n + 1], episodes)
    action = {k: v[:, context - 1 : context - 1 + steps] for k, v in only.action.items()}
    rows = {"what happened": {k: v[0, context : context + steps] for k, v in only.obs.items()}}
    for player, run in zip(players, (earlier, later), strict=True):
        inspector = Inspector(player.agent, player.everything, player.numbers)
        start = jax.tree.map(lambda x: x[:, context - 1], inspector.read(only).latent)
        _, forecast = inspector.forecast(start, action)
        result = read_run(run).result
        if forecast.obs is None:
            raise ConfigError(nothing_decodes(player.agent.cfg.objective, f"nothing of {run} can be drawn"))
        name = caption(
            player.agent,
            f"expected after\n{player.counters['updates']:,} updates\n({result['success_rate']:.0%} success)",
        )
        rows[name] = {k: np.asarray(v[0]) for k, v in forecast.obs.items()}

    figure = Figure(figsize=(1.15 * steps + 1.4, 1.25 * len(rows) + 0.35), layout="constrained")
    for axes, (name, obs) in zip(figure.subplots(len(rows), steps), rows.items(), strict=True):
        for t, ax in enumerate(axes):
            spaces = {k: env.obs_space[k] for k in obs if k in env.obs_space and not k.startswith("log/")}
            ax.imshow(picture({k: obs[k][t] for k in spaces}, spaces))
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if name == "what happened":
                ax.set_title(f"{t + 1} ahead", fontsize=9, color=INK)
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, color=INK)
    figure.savefig(path, dpi=110)


def cards(earlier: Path, later: Path, path: Path) -> None:
    """The report cards of both, a dot for every number: green where it is healthy."""
    from matplotlib.figure import Figure

    from experiments.report.meanings import grade
    from experiments.report.page import number

    contents = [json.loads((run / "card.json").read_text()) for run in (earlier, later)]
    columns = [grade(content["numbers"]) for content in contents]
    judged = [i for i, g in enumerate(columns[0]) if any(column[i].ok is not None for column in columns)]
    figure = Figure(figsize=(7.2, 0.3 * len(judged) + 0.6), layout="constrained")
    ax = figure.subplots()
    for row, i in enumerate(judged):
        y = -row
        ax.text(0, y, columns[0][i].meaning.title, va="center", fontsize=9, color=INK)
        for x, column in zip((2.9, 4.2), columns, strict=True):
            g = column[i]
            color = QUIET if g.ok is None else "#2c8a5b" if g.ok else "#c9502c"
            ax.scatter([x], [y], s=45, color=color, lw=0)
            ax.text(x + 0.12, y, number(g.value), va="center", fontsize=9, color=INK)
        ax.text(5.5, y, columns[0][i].meaning.healthy.split(";")[0], va="center", fontsize=8, color=QUIET)
    for x, content in zip((2.9, 4.2), contents, strict=True):
        ax.text(
            x - 0.05,
            1.0,
            f"{content['updates']:,} updates",
            va="center",
            fontsize=9,
            weight="bold",
            color=INK,
        )
    ax.text(5.5, 1.0, "healthy", va="center", fontsize=9, color=QUIET)
    ax.set(xlim=(0, 7.2), ylim=(-len(judged) + 0.4, 1.5))
    ax.set_axis_off()
    figure.savefig(path, dpi=120)


def photograph(page: Path, path: Path, width: int = 960) -> None:
    """The top of a page as a browser shows it, down to the end of its first figure."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 800})
        tab.goto(page.absolute().as_uri())
        box = tab.locator("figure").first.bounding_box()
        assert box is not None
        clip = {"x": 0, "y": 0, "width": width, "height": box["y"] + box["height"] + 16}
        tab.screenshot(path=path, clip=clip, full_page=True)
        browser.close()


FIGURES = {"quickstart-16-seeds": seeds, "bench-loop": loops, "sweep-quickstart": sweep}
"""Files in `experiments/results/` and what draws them."""


def main(words: list[str]) -> None:
    if words[:1] == ["inside"] and len(words) == 3:
        earlier, later = map(Path, words[1:])
        inside(earlier, later, RESULTS / "open-loop.png")
        cards(earlier, later, RESULTS / "report-cards.png")
        return
    if words[:1] == ["page"] and len(words) == 2:
        photograph(Path(words[1]), RESULTS / "compare-minigrid.png")
        return
    if words[:1] == ["curves"] and len(words) == 2:
        print(benchmark(words[1]))
        return
    if words[:1] == ["dream"]:
        try:
            return animation.main(words[1:])
        except (ConfigError, CheckpointError) as error:
            sys.exit(str(error))
    if words:
        sys.exit(__doc__)
    for name, draw in FIGURES.items():
        source = RESULTS / f"{name}.json"
        if source.exists():
            draw(json.loads(source.read_text()), source.with_suffix(".png"))
            print(source.with_suffix(".png"))


if __name__ == "__main__":
    main(sys.argv[1:])
