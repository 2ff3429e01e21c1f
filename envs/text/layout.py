"""Layout: a board of cells in words, row by row, in runs of equal cells and groups of equal rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

Place = Callable[[int, int], str]
"""From the first and last of some neighbours (the same number, if it is one) to where they are."""


def rows(board: Sequence[Sequence[str]], row: Place, column: Place) -> str:
    """The board in words; cells named "" are left out.

    Args:
      board: rows of the names of cells, in the order in which they are told.
      row: says which rows are meant.
      column: says which columns are meant.
    """
    lines = []
    for line, group in _groups([runs(cells, column) for cells in board]):
        if line:
            lines.append(f"{row(group[0], group[-1])}: {line}.")
    return "\n".join(lines)


def runs(cells: Sequence[str], column: Place) -> str:
    """One row in words: "wall 3 left, floor 2 left to 1 right"."""
    return ", ".join(f"{name} {column(group[0], group[-1])}" for name, group in _groups(cells) if name)


def _groups(items: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Equal neighbours: what they are, and their places."""
    groups = itertools.groupby(range(len(items)), key=items.__getitem__)
    return [(name, list(places)) for name, places in groups]
