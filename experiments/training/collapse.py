"""A notice while a run trains: the representation has collapsed.

Objectives without a decoder log how many directions their tokens use (`tokens/rank`) and how many are not
constant (`tokens/live`). Both are compared with the first logged row of the run: a world that shows little
has few from the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dreamer.logger import read_rows
from experiments.report.meanings import LIVE_KEPT, RANK_KEPT

RANK, LIVE = "tokens/rank", "tokens/live"


def of(folder: Path) -> CollapseWatch:
    """The watch of a run, which knows what it logged before it was resumed."""
    return CollapseWatch(read_rows(Path(folder) / "metrics.jsonl"))


class CollapseWatch:
    """Speaks once.

    Args:
      rows: logged before, of a run that is resumed.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()):
        self._first: tuple[float, float] | None = None
        self._has_spoken = False
        for row in rows:
            self.hear(row)

    def hear(self, row: Mapping[str, Any]) -> str:
        """What to say after a row of metrics; empty for nothing."""
        rank, live = row.get(RANK), row.get(LIVE)
        if not isinstance(rank, int | float) or not isinstance(live, int | float):
            return ""
        if self._first is None:
            self._first = rank, live
        before, live_before = self._first
        if self._has_spoken or not (rank < RANK_KEPT * before or live < LIVE_KEPT * live_before):
            return ""
        self._has_spoken = True
        return (
            "the representation has collapsed: the encoder says nearly the same of everything it sees "
            f"(effective rank of the tokens {before:.3g} at first, {rank:.3g} now; live {live_before:.0%} at "
            f"first, {live:.0%} now); dreamer doctor --run says what to change"
        )
