"""grid:Catch in words: where the ball is, and where the paddle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.api import VectorEnv
from envs.text.world import Teller, Text, choice, joined, listed

VERSION = "catch-1"
ACTIONS = {
    "left": "move the paddle one column to the left.",
    "stay": "leave the paddle where it is.",
    "right": "move the paddle one column to the right.",
}


def catch(env: VectorEnv) -> Teller:
    """The text world of Catch."""
    key, _ = choice(env.task, env.act_space)
    height, width = env.obs_space["board"].shape
    rules = (
        f"A ball falls through a board of {height} rows, from row 1 at the top to row {height} at the"
        f" bottom, and {width} columns, from column 1 at the left to column {width} at the right: one row"
        f" with every action. You move a paddle in row {height}. Be in the ball's column when it lands: that"
        " gives a reward of 1, any other column -1."
    )
    return Teller(
        version=VERSION,
        privileged=False,
        sees="the places of ball and paddle on the board, and the rules",
        actions=tuple(ACTIONS),
        default="stay",
        rules=f"{rules}\n{listed(ACTIONS, tuple(ACTIONS))}",
        key=key,
        names=tuple(ACTIONS),
        describe=tell,
    )


def tell(obs: Mapping[str, np.ndarray]) -> Text:
    """Where ball and paddle are; the board does not say which is which once both are in the last row."""
    board = np.asarray(obs["board"])
    marks = [(int(row) + 1, int(column) + 1) for row, column in np.argwhere(board)]
    last = len(board)
    falling = [at for at in marks if at[0] < last]
    landed = [f"column {column}" for row, column in marks if row == last]
    if falling:
        (row, column), *_ = falling
        return Text(f"The ball is in row {row}, column {column}; the paddle is in {joined(landed)}.", "")
    return Text(f"The ball has landed; ball and paddle are in {joined(landed)}.", "")
