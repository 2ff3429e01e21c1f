"""pinpad:three to pinpad:eight: Visual Pin Pad, a test of plans over hundreds of steps (Hafner et al. 2022).

    image    uint8 [64, 64, 3]: a room of 16 x 14 cells seen from above, 4 pixels a cell

A black square moves in a room with coloured pads at the walls; it starts in any cell. Stepping on a pad
activates it, unless it was the last one that was activated. Once the last N pads are 1, 2, ..., N in this
order, that earns 10; the room turns green, and ten steps later the square is put in any cell and the history,
which is shown below the room, is empty. Nothing else earns or costs anything. The only end is a time limit of
10,000 steps, which is not terminal.

Actions: stay, down, up, right, left.

Rules, layouts and colours are those of `pinpad` in the public code of DreamerV3 (danijar/dreamerv3), by the
authors of the task; the code is ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs.adapters import listed
from envs.arguments import Wrap, wrapped
from envs.distractor import Distractor

OBS = ("",)
TAKES = ("max_episode_steps", "wrappers", "distractor")
LIMIT = 10_000
REWARD = 10.0
PAUSE = 10
"""Steps between the reward and the next start."""

WIDTH, HEIGHT = 16, 14
"""Cells of the room, walls included."""
CELL = 4
"""Pixels of a cell."""
MOVES = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
"""(right, down) of every action."""
FLOOR, WALL = 0, -1
"""What a cell is that is no pad 1..N."""

WHITE, GREEN, GREY, BLACK = (255, 255, 255), (223, 255, 223), (192, 192, 192), (0, 0, 0)
COLORS = (
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)),
    *((255, 0, 255), (0, 255, 255), (128, 0, 128), (0, 128, 128)),
)
"""Of the pads, from the first on."""
PALE = 0.9
"""Share of white in a pad that the square is not on."""

Rectangle = tuple[int, int, int, int, int]
"""pad, left, top, width, height"""

_CORNERS: tuple[Rectangle, ...] = (
    *((1, 1, 1, 3, 2), (1, 1, 3, 2, 1), (4, 12, 1, 3, 2), (4, 13, 3, 2, 1)),
    *((3, 1, 5, 2, 4), (5, 13, 5, 2, 4)),
    *((6, 1, 10, 2, 1), (6, 1, 11, 3, 2), (2, 13, 10, 2, 1), (2, 12, 11, 3, 2)),
    (7, 6, 11, 4, 2),
)
LAYOUTS: dict[str, tuple[Rectangle, ...]] = {
    "three": ((1, 1, 1, 4, 4), (3, 11, 1, 4, 4), (2, 6, 9, 4, 4)),
    "four": ((1, 1, 1, 4, 4), (4, 11, 1, 4, 4), (3, 1, 9, 4, 4), (2, 11, 9, 4, 4)),
    "five": ((4, 11, 1, 4, 3), (1, 1, 2, 3, 4), (5, 12, 5, 3, 4), (3, 1, 8, 3, 4), (2, 11, 10, 4, 3)),
    "six": (
        *((1, 1, 1, 3, 3), (5, 12, 1, 3, 3), (3, 1, 5, 2, 4), (6, 13, 5, 2, 4)),
        *((4, 1, 10, 3, 3), (2, 12, 10, 3, 3)),
    ),
    "seven": _CORNERS,
    "eight": (*_CORNERS, (8, 6, 1, 4, 2)),
}
"""Where the pads of every task are."""


def ids() -> list[str]:
    """The tasks, which are named by their number of pads."""
    return list(LAYOUTS)


def canonical(name: str) -> str:
    """The name itself, if there is such a task.

    Raises:
      UnknownTask: with close matches.
    """
    return listed("pinpad", name, LAYOUTS)


def make(
    name: str,
    obs: str,
    *,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Wrap] = (),
    distractor: str = "",
) -> gymnasium.Env:
    """One room.

    Args:
      max_episode_steps: its time limit (0: 10,000).
      wrappers: what goes around it, the first one innermost.
      distractor: what moves on the floor where that is white.
    """
    name = canonical(name)
    room: gymnasium.Env = PinPad(name, max_episode_steps or LIMIT)
    if distractor:
        room = Distractor(room, np.full((1, CELL, CELL, 3), WHITE, np.uint8))
    return wrapped(f"pinpad:{name}", room, wrappers)


def layout(name: str) -> np.ndarray:
    """The room of a task: [HEIGHT, WIDTH] of `WALL`, `FLOOR` or the number of a pad."""
    room = np.full((HEIGHT, WIDTH), WALL)
    room[1:-1, 1:-1] = FLOOR
    for pad, left, top, width, height in LAYOUTS[name]:
        room[top : top + height, left : left + width] = pad
    return room


class PinPad(gymnasium.Env):
    """A room with pads.

    Args:
      name: of the task.
      max_steps: the time limit.
    """

    def __init__(self, name: str, max_steps: int = LIMIT):
        self.room, self.max_steps = layout(name), max_steps
        self.pads = int(self.room.max())
        self.history: deque[int] = deque(maxlen=self.pads)
        """The last pads that were activated."""
        self.place = (0, 0)
        """(x, y) of the square."""
        self.action_space = gym.Discrete(len(MOVES))
        self.observation_space = gym.Dict({"image": gym.Box(0, 255, (64, 64, 3), np.uint8)})
        self._starts = [(int(x), int(y)) for y, x in np.argwhere(self.room != WALL)]
        self._pictures = {
            (pad, is_green): _picture(self.room, pad, is_green)
            for pad in range(self.pads + 1)
            for is_green in (False, True)
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start in any cell with an empty history."""
        super().reset(seed=seed)
        self._steps, self._pause = 0, 0
        self._start()
        return self._see(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move, activate the pad that the square is on then, and pay if the pads were in order."""
        self._steps += 1
        if self._pause:
            self._pause -= 1
            if not self._pause:
                self._start()
        self._move(*MOVES[int(action)])
        is_paid = not self._pause and list(self.history) == list(range(1, self.pads + 1))
        if is_paid:
            self._pause = PAUSE
        return self._see(), REWARD * is_paid, False, self._steps >= self.max_steps, {}

    def _start(self) -> None:
        self.history.clear()
        self.place = self._starts[self.np_random.integers(len(self._starts))]

    def _move(self, right: int, down: int) -> None:
        x, y = self.place[0] + right, self.place[1] + down
        if self.room[y, x] == WALL:
            return
        self.place, pad = (x, y), int(self.room[y, x])
        if pad != FLOOR and (not self.history or self.history[-1] != pad):
            self.history.append(pad)

    def _see(self) -> dict[str, Any]:
        x, y = self.place
        cells = self._pictures[int(self.room[y, x]), self._pause > 0].copy()
        cells[y, x] = BLACK
        for i, pad in enumerate(self.history):
            cells[HEIGHT, 2 * i + 1] = COLORS[pad - 1]
        return {"image": cells.repeat(CELL, 0).repeat(CELL, 1)}


def _picture(room: np.ndarray, current: int, is_green: bool) -> np.ndarray:
    """A room without square and history, in which one pad (or none, 0) has its full colour: [16, 16, 3]."""
    cells = np.full((WIDTH, WIDTH, 3), GREY, np.uint8)
    cells[:HEIGHT][room == FLOOR] = GREEN if is_green else WHITE
    for pad, color in enumerate(COLORS[: room.max()], 1):
        share = 0.0 if pad == current else PALE
        cells[:HEIGHT][room == pad] = (1 - share) * np.array(color) + share * np.array(WHITE)
    return cells
