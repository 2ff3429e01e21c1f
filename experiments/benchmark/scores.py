"""The score of each suite, from the training episodes of a run: what is published is of those, too.

A score is a pure function of rows of `episodes.jsonl` (with the environment steps at which each episode
ended), the task and the environment steps of the run, and gives {name: number}. "Last" means the episodes
that ended in the last 5% of the run, as in the published files; where none did, those that ended last, in one
step of all copies.

    human-normalised   (score - random) / (human - random)
    Procgen            (return - lowest) / (highest - lowest) of the hard levels (Cobbe et al. 2020)
    Crafter            S = exp(mean_i ln(1 + s_i)) - 1, with s_i the percentage of all training episodes that
                       unlocked achievement i (Hafner 2021, Benchmarking the spectrum of agent capabilities)
    POPGym             MMER: the largest mean return in a window of training (Morad et al. 2023)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import envs
from dreamer.logger import read_rows
from experiments.benchmark import published

LAST = 0.05
"""Share of a run whose episodes count as its last ones."""
EPOCH, EPOCHS = 2**16, 20
"""Environment steps of a window of the MMER, and windows that a run has at least."""
MAXIMAL = {"Craftax-Classic": 22.0, "Craftax": 226.0}
"""Maximal return of the games of Craftax."""
ACHIEVEMENT = "achievements/"
"""Prefix of the percentage of episodes that unlocked an achievement."""

Row = Mapping[str, Any]
Numbers = dict[str, float]
Function = Callable[[Sequence[Row], str, int], Numbers]
"""(training episodes in their order, name of the task in its suite, environment steps) -> {name: number}."""


class Scoring(NamedTuple):
    """How the runs of a suite are judged."""

    function: Function
    headline: str
    """The number that tables and published figures show."""
    curve: Callable[[Row], float | None]
    """What a training curve shows of an episode."""
    common: str = ""
    """The number that is on one scale for all tasks, so that they can be aggregated; empty without one."""
    scale: float = 1.0
    """What that number is divided by, so that 1 is the best, or what a human reaches."""


def return_of(row: Row) -> float | None:
    """The return of an episode."""
    return _number(row.get("return"))


def game_of(row: Row) -> float | None:
    """The score of a whole game where lives split it into episodes, else the return.

    An adapter that splits games has `log/score`, finite only where a game is over.
    """
    log = row.get("log") or {}
    return _number(log["score"]) if "score" in log else return_of(row)


def success_of(row: Row) -> float | None:
    """1 for a success and 0 for a failure, where the task says so, else the return."""
    success = row.get("success")
    return return_of(row) if success is None else float(bool(success))


def ended(row: Row) -> float:
    """The environment steps when an episode ended."""
    return row["env_steps"]


def values(rows: Sequence[Row], task: str, at: Callable[[Row], float] = ended) -> list[tuple[float, float]]:
    """(environment steps, what a training curve shows) of every episode, of split games of every game.

    Args:
      at: which environment steps of an episode; of a split game, of its last episode.
    """
    of_row = scoring(task).curve
    games = [row for row in rows if "score" in (row.get("log") or {})] if of_row is game_of else []
    points = [(float(at(row)), of_row(row)) for row in games or rows]
    return [(steps, value) for steps, value in points if value is not None]


def quantity(rows: Sequence[Row], task: str) -> str:
    """The name of what a training curve shows of these episodes."""
    of_row = scoring(task).curve
    if of_row is success_of and any(row.get("success") is not None for row in rows):
        return "success"
    return "score" if of_row is game_of else "return"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def window(rows: Sequence[Row], low: float, high: float, value: Callable[[Row], float | None]) -> list[float]:
    """The values of the episodes that ended after `low` and at most at `high` environment steps."""
    values = [value(row) for row in rows if low < row["env_steps"] <= high]
    return [v for v in values if v is not None]


def last(rows: Sequence[Row], steps: int, value: Callable[[Row], float | None] = return_of) -> float | None:
    """Mean over the last episodes of a run; None if there is none."""
    recent = window(rows, (1 - LAST) * steps, steps, value)
    if not recent:  # copies whose episodes are long and equally long all end at once
        known = [(row["env_steps"], v) for row in rows if (v := value(row)) is not None]
        recent = [v for ended, v in known if ended == known[-1][0]]
    return float(np.mean(recent)) if recent else None


def _known(**numbers: float | None) -> Numbers:
    return {name: value for name, value in numbers.items() if value is not None}


def returns(rows: Sequence[Row], task: str, steps: int) -> Numbers:
    """The mean return of the last episodes."""
    return _known(**{"return": last(rows, steps)})


def success(rows: Sequence[Row], task: str, steps: int) -> Numbers:
    """The success rate of the last episodes, where the task reports success, and their mean return."""
    if any(row.get("success") is not None for row in rows):
        known = [row for row in rows if row.get("success") is not None]
        return _known(success_rate=last(known, steps, success_of)) | returns(rows, task, steps)
    return returns(rows, task, steps)


def atari(rows: Sequence[Row], task: str, steps: int) -> Numbers:
    """The mean score of the last games, and the same normalised by random and human players."""
    scored = [row for row in rows if "score" in (row.get("log") or {})]
    score = last(scored or rows, steps, game_of)
    known = published.of(f"atari:{task}")
    if score is None or known.random is None or known.human is None:
        return _known(score=score)
    return {"score": score, "human_normalized": (score - known.random) / (known.human - known.random)}


def procgen(rows: Sequence[Row], task: str, steps: int) -> Numbers:
    """The last return, and the same normalised by the lowest and the highest of the game's hard levels."""
    numbers, known = returns(rows, task, steps), published.of(f"procgen:{task}")
    if not numbers or known.random is None or known.human is None:
        return numbers
    return numbers | {"normalized": (numbers["return"] - known.random) / (known.human - known.random)}


def crafter(rows: Sequence[Row], task: str, steps: int, names: Sequence[str] | None = None) -> Numbers:
    """The Crafter score over all training episodes, the percentage of each achievement, and the last return.

    Args:
      names: of the achievements (default: as the adapter says, else their numbers).
    """
    unlocked = _unlocked(rows, steps)
    if unlocked is None:
        return returns(rows, task, steps)
    percent = 100 * unlocked.mean(0)
    score = float(np.expm1(np.log1p(percent).mean()))
    return {"crafter_score": score} | _rates(percent, names, "crafter", task) | returns(rows, task, steps)


def craftax(rows: Sequence[Row], task: str, steps: int, names: Sequence[str] | None = None) -> Numbers:
    """The last return in percent of the maximal one, and the percentage of episodes of each achievement.

    Args:
      names: as of `crafter`.
    """
    numbers = returns(rows, task, steps)
    if numbers and task in MAXIMAL:
        numbers = {"percent_of_maximum": 100 * numbers["return"] / MAXIMAL[task]} | numbers
    unlocked = _unlocked(rows, steps)
    return numbers if unlocked is None else numbers | _rates(100 * unlocked.mean(0), names, "craftax", task)


def _unlocked(rows: Sequence[Row], steps: int) -> np.ndarray | None:
    """[episodes, achievements] 0 or 1, of all training episodes up to these steps."""
    logs = [(row.get("log") or {}).get("achievements") for row in rows if row["env_steps"] <= steps]
    lists = [log for log in logs if isinstance(log, list) and log]
    lists = [log for log in lists if len(log) == len(lists[0])]
    return np.asarray(lists, float) > 0 if lists else None


def _rates(percent: np.ndarray, names: Sequence[str] | None, suite: str, task: str) -> Numbers:
    names = achievements(suite, task) if names is None else names
    if len(names) != len(percent):
        names = [str(i) for i in range(len(percent))]
    return {f"{ACHIEVEMENT}{name}": float(p) for name, p in zip(names, percent, strict=True)}


def achievements(suite: str, task: str) -> Sequence[str]:
    """The names of the achievements of a task; none where its adapter is missing or has no such names."""
    adapter = next((s for s in envs.suites() if s.name == suite and s.installed), None)
    named = getattr(adapter.adapter(), "achievements", None) if adapter is not None else None
    return () if named is None else tuple(named(task))


def popgym(rows: Sequence[Row], task: str, steps: int) -> Numbers:
    """The MMER, and the mean return of the last episodes.

    Windows are of 2^16 environment steps, or of a twentieth of the run where that is less, one after the
    other; the mean of one with few episodes is partly luck, so short runs have too high an MMER.
    """
    width = max(min(EPOCH, steps // EPOCHS), 1)
    episodes: dict[int, list[float]] = {}
    for row in rows:
        if row["env_steps"] <= steps and (value := return_of(row)) is not None:
            episodes.setdefault((row["env_steps"] - 1) // width, []).append(value)
    means = [float(np.mean(values)) for values in episodes.values()]
    return _known(mmer=max(means, default=None)) | returns(rows, task, steps)


SCORES: dict[str, Scoring] = {
    "atari": Scoring(atari, "score", game_of, "human_normalized"),
    "atari100k": Scoring(atari, "score", game_of, "human_normalized"),
    "crafter": Scoring(crafter, "crafter_score", return_of, "crafter_score", 100.0),
    "craftax": Scoring(craftax, "percent_of_maximum", return_of, "percent_of_maximum", 100.0),
    "procgen": Scoring(procgen, "return", return_of, "normalized"),
    "popgym": Scoring(popgym, "mmer", return_of, "mmer"),
    "dmc": Scoring(returns, "return", return_of, "return", 1000.0),
    **{
        suite: Scoring(success, "success_rate", success_of, "success_rate")
        for suite in ("minigrid", "babyai", "grid", "navix", "xminigrid")
    },
}
"""{suite: how it is judged}; the others by their mean return, which no two tasks of them share a scale of."""
OTHERS = Scoring(returns, "return", return_of)


def scoring(task: str) -> Scoring:
    """How the runs of a task, `suite:name`, are judged."""
    return SCORES.get(task.partition(":")[0], OTHERS)


def on_common_scale(task: str, headline: float | None, known: published.Published) -> float | None:
    """A headline number of a task, as a published one, on the scale that all tasks of its suite share."""
    how = scoring(task)
    if headline is None or not how.common:
        return None
    if how.common == how.headline:
        return headline / how.scale
    if known.random is None or known.human is None:
        return None
    return (headline - known.random) / (known.human - known.random)


def has_score(task: str) -> bool:
    """Whether the suite of a task has a score of its own."""
    return task.partition(":")[0] in SCORES


def of(task: str, rows: Sequence[Row], steps: int) -> Numbers:
    """The score of a run; empty where its suite has none of its own, or no episode ended.

    Args:
      rows: its training episodes.
      steps: its environment steps.
    """
    suite, _, name = task.partition(":")
    return SCORES[suite].function(rows, name, steps) if suite in SCORES and rows else {}


def training_episodes(folder: Path) -> list[dict[str, Any]]:
    """The training episodes of a run or a member, in their order."""
    path = folder / "episodes.jsonl"
    rows = read_rows(path, "env_steps", "return") if path.is_file() else []
    return [row for row in rows if row.get("kind", "train") == "train"]


def of_run(folder: Path, task: str, steps: int) -> dict[str, Numbers]:
    """`score` of a run or a member for its result; empty where it has none."""
    numbers = of(task, training_episodes(folder), steps)
    return {"score": numbers} if numbers else {}


def divided(numbers: Mapping[str, float]) -> tuple[Numbers, Numbers]:
    """A score without its achievements, and the percentage of each achievement by its bare name."""
    is_one = lambda name: name.startswith(ACHIEVEMENT)
    rest = {name: value for name, value in numbers.items() if not is_one(name)}
    return rest, {k.removeprefix(ACHIEVEMENT): v for k, v in numbers.items() if is_one(k)}


def sentence(numbers: Mapping[str, float]) -> str:
    """A score in one line, without single achievements."""
    rest, _ = divided(numbers)
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in rest.items())
