"""The row of a run, a population or one of its members.

Of its logs only the ends are read, so a row costs the same however long the run has trained.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from experiments.board import settings
from experiments.board.contents import (
    TAIL,
    Damaged,
    is_training,
    json_of,
    mean,
    number,
    rows_of,
    settings_of,
    text,
    whole,
)
from experiments.board.files import Folder
from experiments.board.rows import (
    CONFIG,
    DAMAGED,
    DONE,
    EPISODES,
    FAILED,
    METRICS,
    PPO,
    RESULT,
    TRAINING,
    UNFINISHED,
    Place,
    Row,
)
from experiments.board.settings import Settings

RECENT = 100
"""Last episodes: means of those of training are shown of a run without an evaluation."""
ENOUGH = 3
"""Last rows of a log of which one is whole and has the newest clocks."""
FRESH = 60.0
"""Seconds within which a log that no process holds was written to, if its run is being trained elsewhere."""


class _Record(NamedTuple):
    """What the small files of a run say, and what is wrong with them."""

    fields: Settings
    result: Mapping[str, Any]
    problem: str


def read(folder: Folder, place: Place, base: Row) -> tuple[Row, Settings] | None:
    """The row of a run and its configuration; None for a folder with the configuration of another program."""
    fields, result, problem = record = _read(folder, base)
    if not settings.get(fields, "task") and not _is_begun(place):
        return None
    row = replace(
        base,
        task=text(settings.get(fields, "task") or result.get("task")),
        preset=text(settings.get(fields, "preset")),
        seed=whole(settings.get(fields, "seed")),
        total=whole(settings.get(fields, "steps")),
        problem=problem,
        acted_with=_acted_with(fields),
    )
    is_done = _is_complete(record, row.total) and not place.held
    row = _with_progress(folder, row, result, is_done)
    row = _with_scores(folder, row, result)
    row = replace(row, status=_status(row, place, is_done))
    if row.status == FAILED:
        row = replace(row, problem=place.failure)
    return (row if row.status == TRAINING else replace(row, left=None)), fields


def _read(folder: Folder, base: Row) -> _Record:
    fields: Settings = ()
    result, problems = {}, []
    try:
        if base.kind == PPO:
            fields = (settings.of_object(json_of(folder, "ppo.json", dict)),)
        else:
            fields = settings_of(folder, CONFIG)
    except Damaged as error:
        problems.append(str(error))
    try:
        result = json_of(folder, RESULT, dict)
    except Damaged as error:
        problems.append(str(error))
    return _Record(fields, result, "; ".join(problems))


def _acted_with(fields: Settings) -> str:
    actor = text(settings.get(fields, "loop.actor"))
    return "" if actor == "sampled" else actor


def _is_begun(place: Place) -> bool:
    return bool({METRICS, EPISODES, RESULT} & place.listing.files) or "checkpoints" in place.listing.folders


def _is_complete(record: _Record, total: int | None) -> bool:
    """Whether the result is of all that the configuration asks for: a resumed run has an earlier one."""
    result, updates = record.result, whole(settings.get(record.fields, "loop.updates"))
    if not result or result.get("solved") is True:
        return bool(result)
    if updates and (whole(result.get("updates")) or 0) >= updates:
        return True
    return total is None or (whole(result.get("env_steps")) or 0) >= total


def _with_progress(folder: Folder, row: Row, result: Mapping[str, Any], is_done: bool) -> Row:
    """With how far it is: as its result says or, unless that is the last word, the ends of its logs."""
    lines = [] if is_done else folder.tail(METRICS, TAIL)
    logged = rows_of([*lines[:-ENOUGH][:1], *lines[-ENOUGH:]])
    episodes = [] if is_done or logged else rows_of(folder.tail(EPISODES, TAIL)[-ENOUGH:])
    newest = max([*logged, *episodes], key=lambda entry: entry["env_steps"], default={})
    of = {**result, **newest}
    steps = whole(of.get("env_steps")) or 0
    return replace(
        row,
        ready=steps,
        updates=whole(of.get("updates")),
        seconds=number(of.get("seconds")),
        left=_seconds_left(logged, steps, row.total),
    )


def _seconds_left(rows: Sequence[Mapping[str, Any]], steps: int, total: int | None) -> float | None:
    """Until all steps are taken, at the pace of the last rows of a log."""
    clocks = [(row["env_steps"], s) for row in rows if (s := number(row.get("seconds"))) is not None]
    if total is None or len(clocks) < 2:
        return None
    (first, began), (last, ended) = clocks[0], clocks[-1]
    return (total - steps) * (ended - began) / (last - first) if last > first and ended > began else None


def _with_scores(folder: Folder, row: Row, result: Mapping[str, Any]) -> Row:
    """With return and success: of the evaluation or, if it trained on, of the last training episodes."""
    returned, success = number(result.get("return_mean")), number(result.get("success_rate"))
    if returned is not None and row.ready <= (whole(result.get("env_steps")) or row.ready):
        return replace(row, return_mean=returned, success_rate=success, judged="evaluation")
    episodes = [e for e in rows_of(folder.tail(EPISODES, TAIL)[-RECENT:]) if is_training(e)]
    return replace(
        row,
        return_mean=mean([number(episode.get("return")) for episode in episodes]),
        success_rate=mean([number(episode.get("success")) for episode in episodes]),
        judged="training" if episodes else "",
    )


def _status(row: Row, place: Place, is_done: bool) -> str:
    if place.held:
        return TRAINING
    if row.problem:
        return DAMAGED
    if is_done or row.kind == PPO and row.total is not None and row.ready >= row.total:
        return DONE
    if place.failure:
        return FAILED
    return TRAINING if _is_begun(place) and time.time() - row.changed < FRESH else UNFINISHED
