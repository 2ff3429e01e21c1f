"""Catcher: the player of Catch, which always catches."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.api import Step

LEFT, RIGHT = 0, 2


class Catcher:
    """A `Policy` that walks under the ball: the paddle is at most two columns away and has nine steps."""

    privileged = False
    sees = "the board, as the agent does"

    def init(self, batch: int) -> Any:
        """Nothing: the board says it all."""
        return None

    def act(self, carry: Any, step: Step, *, key: Any) -> tuple[dict[str, np.ndarray], Any]:
        """A step towards the column of the ball, staying once there."""
        del key
        board = np.asarray(step.obs["board"])
        ball, paddle = board[:, :-1].any(1).argmax(1), board[:, -1].argmax(1)
        towards = 1 + np.sign(ball - paddle)
        return {"action": towards.clip(LEFT, RIGHT).astype(np.int32)}, carry
