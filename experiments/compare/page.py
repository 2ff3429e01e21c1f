"""The page of a comparison: one file that shows what each agent reached, its cost, and what it had seen."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamer.logger import read_rows
from envs.api import EnvError
from experiments import learning_curve
from experiments.compare import figures, replay
from experiments.compare.figures import Band, Curve, score_of
from experiments.compare.transcript import Played
from experiments.report import page as pages
from experiments.report.report import smooth

if TYPE_CHECKING:
    from experiments.compare.options import CompareOptions
    from experiments.compare.play import Entry
    from experiments.compare.question import Question

PUBLISHED = Path(__file__).with_name("published.toml")
FEW = 20
"""Training episodes whose mean says nothing yet."""
MOST_BESIDE = 4
"""Players in one replay."""


def write(
    path: Path,
    asked: Question,
    entries: Sequence[Entry],
    summary: Mapping[str, Any],
    timings: Mapping[str, Any],
    options: CompareOptions,
) -> Path:
    """Render everything that is known into one file."""
    by_task = {task: [e for e in entries if e.task == task] for task in asked.tasks}
    tasks = [
        _task(task, by_task[task], summary["tasks"][task], timings["tasks"][task], options)
        for task in asked.tasks
    ]
    plays = [shown for task in asked.tasks for shown in _plays(task, by_task[task])]
    astray = any(player["astray"] for play in plays for player in play["players"])
    fields = {"asked": asked, "options": options, "tasks": tasks, "plays": plays, "astray": astray}
    return pages.write(path, "contest.html", **fields)


def _task(
    task: str,
    entries: Sequence[Entry],
    rows: Mapping[str, Any],
    timings: Mapping[str, Any],
    options: CompareOptions,
) -> dict[str, Any]:
    """What the page says of one task."""
    curves, passed = _learning(entries, rows)
    bands = _bands(entries, rows)
    here = {name: row for name, row in rows.items() if row["absent"] is None}
    score = score_of(rows[entries[0].agent])[0].replace("_", " ").replace(" mean", "")
    return {
        "name": task,
        "rows": here,
        "score": score,
        "priced": any(row["usd"] is not None for row in here.values()),
        "reasons": any(row["tokens_reasoning"] is not None for row in here.values()),
        "absent": {name: row["absent"] for name, row in rows.items() if row["absent"] is not None},
        "timings": timings,
        "shares": {name: _shares(row) for name, row in rows.items()},
        "forest": figures.forest(here, entries[0].agent),
        "cost": figures.cost(here),
        "learning": figures.learning(curves, bands, score) if curves else "",
        "passed": passed,
        "acted": {curve.name: curve.acted_with for curve in curves if curve.acted_with},
        "even": _break_even(rows, timings, options.usd_per_hour),
        "errors": {name: row["errors"] for name, row in rows.items() if row["errors"]},
        "faults": {name: time["faults"] for name, time in timings.items() if time["faults"]},
        "lost": {name: time["lost"] for name, time in timings.items() if time["lost"]["replies"]},
        "published": published(task),
    }


def _shares(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Parts of the decisions that were no plain answer, and what a call, an episode and a success took."""
    decisions, usd, asked = row["decisions"], row["usd"], row["calls"] - row["repeated"]
    of = lambda count: count / decisions if decisions else None
    per_call = lambda tokens: None if tokens is None or not asked else tokens / asked
    success = (row["success_rate"] or 0) * row["finished"]
    return {
        **{slip: of(row[slip]) for slip in ("invalid", "empty", "truncated", "defaulted")},
        "repeated": row["repeated"] / row["calls"] if row["calls"] else None,
        "tokens_in": per_call(row["tokens_in"]),
        "tokens_out": per_call(row["tokens_out"]),
        "usd_per_episode": usd / row["finished"] if usd is not None and row["finished"] else None,
        "usd_per_success": usd / success if usd is not None and success else None,
    }


def _learning(
    entries: Sequence[Entry], rows: Mapping[str, Any]
) -> tuple[list[Curve], list[tuple[str, str, float | None]]]:
    """Training curves of the learners on this task, and the step at which each passes each model."""
    curves = [curve for e in entries for curve in _curve(e, score_of(rows[e.agent])[0])]
    passed = [
        (curve.name, band.name, figures.passes(curve.steps, curve.score, band.mean))
        for curve in curves
        for band in _bands(entries, rows)
    ]
    return curves, passed


def _curve(entry: Entry, score: str) -> list[Curve]:
    path = entry.seat.curve
    if path is None or not path.is_file():
        return []
    key = "success" if score == "success_rate" else "return"
    rows = read_rows(path, "env_steps")
    points = learning_curve.points(rows, key)
    if len(points) <= FEW:
        return []
    steps, mean = smooth(points)
    first = next(i for i, step in enumerate(steps) if step >= points[FEW][0])
    return [Curve(entry.agent, steps[first:], mean[first:], learning_curve.acted_with(rows))]


def _bands(entries: Sequence[Entry], rows: Mapping[str, Any]) -> list[Band]:
    """The language models that finished an episode."""
    names = [e.agent for e in entries if e.agent.startswith("llm:")]
    scores = {name: score_of(rows[name]) for name in names}
    return [
        Band(n, s[1], s[2][0], s[2][1]) for n, s in scores.items() if s[1] is not None and s[2] is not None
    ]


def _break_even(
    rows: Mapping[str, Any], timings: Mapping[str, Any], usd_per_hour: float
) -> list[dict[str, Any]]:
    """After how many episodes a learner, its training included, has cost less than a language model.

    episodes = training / (price of an episode - what the machine costs in the learner's decisions)
    """
    per_second = usd_per_hour / 3600
    pairs = []
    for learner, time in timings.items():
        if not time["training_seconds"] or not usd_per_hour or not rows[learner]["finished"]:
            continue
        training = time["training_seconds"] * per_second
        playing = time["policy_seconds"] * per_second / rows[learner]["finished"]
        for model, row in rows.items():
            if row["usd"] and row["finished"]:
                saved = row["usd"] / row["finished"] - playing
                episodes = math.ceil(training / saved) if saved > 0 else None
                pairs.append({"learner": learner, "model": model, "training": training, "episodes": episodes})
    return pairs


def published(task: str) -> dict[str, Any] | None:
    """Figures that others published on tasks like this one, by other protocols; None if there are none."""
    tables = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["tables"]
    return next((t for t in tables if any(part in task for part in t["tasks"])), None)


def _plays(task: str, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Episodes to look at: one seed side by side, then failures."""
    seated = [e for e in entries if e.played]
    beside = _beside(seated)
    seed = replay.side_by_side({e.agent: e.played for e in beside})
    plays = []
    if seed is not None:
        players = [(e, p) for e in beside for p in e.played if p.seed == seed]
        plays.append({"title": f"{task}, seed {seed}: side by side", "players": _shown(players)})
    for entry in seated:
        if entry.agent.startswith(("llm:", "run:")):
            failed = (
                replay.failures(entry.played)
                + [p for p in entry.played if p.error is not None and p.steps][:1]
            )
            plays += [
                {
                    "title": f"{task}, seed {p.seed}: {entry.agent}, {replay.outcome(p)}",
                    "players": _shown([(entry, p)], expected=True),
                }
                for p in failed
            ]
    return [play for play in plays if play["players"]]


def _beside(seated: Sequence[Entry]) -> list[Entry]:
    """Those that finished something; if they are too many, learners and language models before the others."""
    finished = [e for e in seated if any(p.result is not None for p in e.played)]
    order = sorted(finished, key=lambda e: not e.agent.startswith(("llm:", "run:")))
    kept = [e.agent for e in order[:MOST_BESIDE]]
    return [e for e in finished if e.agent in kept]


def _shown(players: Sequence[tuple[Entry, Played]], *, expected: bool = False) -> list[dict[str, Any]]:
    shown = []
    for entry, played in players:
        try:
            shown.append(replay.recording(entry.agent, entry.seat, played, expected=expected))
        except EnvError:  # a world that broke once breaks again
            continue
    return shown
