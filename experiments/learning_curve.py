"""Where training episodes count in a learning curve: where they began, once all that began before are over.

Of episodes that begin together the short ones end first. Where success ends an episode, those are the
successful ones, and a curve of the episodes that *ended* in a stretch of training opens with a peak that no
policy reached. Rows are those of `episodes.jsonl`. Where they lack `began`, as in logs of older versions,
episodes count where they ended.

Scores and curves that were published are of episodes by their ends: `experiments.benchmark` keeps to that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dreamer.logger import WAITING

Row = Mapping[str, Any]
ACTED_WITH = "acted_with"
"""Of a row: what acted, where that was not the sampled policy."""


class Spans(NamedTuple):
    """From when to when episodes ran, [N] each."""

    began: np.ndarray
    """Environment steps when they began; when they ended, where that is all that is known."""
    ended: np.ndarray
    length: np.ndarray
    """Their steps; 0 where they are not known."""


def spans(rows: Sequence[Row]) -> Spans:
    """Of rows that have `env_steps`."""
    columns = [(began(row), row["env_steps"], _number(row.get("length"), 0)) for row in rows]
    return Spans(*np.array(columns, float).reshape(-1, 3).T)


def began(row: Row) -> float:
    """Environment steps when an episode began; when it ended, where its row does not say."""
    return _number(row.get("began"), row["env_steps"])


def first_step(row: Row) -> float:
    """The environment step that places an episode in a window: its first; its last where that is unknown."""
    return _number(row.get("began"), row["env_steps"] - 1) + 1


def _number(value: Any, otherwise: float) -> float:
    return value if isinstance(value, int | float) else otherwise


def acted_with(rows: Iterable[Row]) -> str:
    """What played training episodes, as a part of a sentence; empty where all their actions were sampled."""
    actors = dict.fromkeys(str(row[ACTED_WITH]) for row in rows if row.get(ACTED_WITH))
    return f"acted with {' and '.join(actors)}, not with sampled actions" if actors else ""


def running_since(episodes: Spans) -> float:
    """Environment steps before which every episode that began is over, as far as a log goes.

    A copy of the environment begins its next episode in the slot after the end of the last one. So copies
    are still running where fewer episodes are known to have begun than were due. All copies begin at the
    start, and again where a run was resumed: what ran until then is lost, and not waited for.

    Returns:
      Infinity where nothing is known of when episodes began.
    """
    known = (episodes.began < episodes.ended) & (episodes.length > 0)
    if not known.any():
        return math.inf
    began, ended, length = (column[known] for column in episodes)
    begun, copies = Counter(began.tolist()), round(float(((ended - began) / length).max()))
    ends, count = np.unique(ended, return_counts=True)
    # A reset takes a slot of its copy, which the host loop does not count as a step, but the fused loop does.
    rules = (ends + copies - count, ends + copies)
    starts = min(rules, key=lambda starts: (begun - _due(starts, count)).total())
    due = _due(starts, count)
    restart = max((at for at, number in begun.items() if number > due[at]), default=0.0)
    if begun[restart] < copies:
        return restart
    later = starts[ends > restart].tolist()
    return min((at for at in later if begun[at] < due[at]), default=restart)


def _due(starts: np.ndarray, count: np.ndarray) -> Counter[float]:
    """How many episodes are due to begin at which environment steps."""
    return Counter(dict(zip(starts.tolist(), count.tolist(), strict=True)))


def in_order(episodes: Spans) -> np.ndarray:
    """[n] the episodes by when they began, up to the first that an earlier one must be waited for.

    As in the means that training shows, one that still runs when `WAITING` later ones have ended is not.
    """
    order = np.argsort(episodes.began, kind="stable")
    over = int((episodes.began < running_since(episodes)).sum())
    return order[: max(over, len(order) - WAITING)]


def points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """(environment steps when it began, value) of every episode that has one, as `in_order`."""
    counted = [rows[i] for i in in_order(spans(rows))]
    return [(began(row), float(row[key])) for row in counted if isinstance(row.get(key), int | float)]
