"""Catch: a ball falls through a board of 10 by 5, and a paddle on the lowest row catches it or does not.

Reward 1 for catching, -1 for missing, both at the end of the nine steps.

Source of the rules: bsuite (Osband et al. 2020).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from envs.adapters.device import restart, transition
from envs.api import SUCCESS, Space, Step

ROWS, COLUMNS = 10, 5


class CatchState(NamedTuple):
    """Where ball and paddle are, all [] int32."""

    row: Array
    """Of the ball."""
    column: Array
    """Of the ball."""
    paddle: Array
    """Its column."""


class Catch:
    """A `JaxEnv`: the actions are left, stay, right."""

    def __init__(self) -> None:
        self.task = "grid:Catch"
        self.obs_space = {
            "board": Space((ROWS, COLUMNS), "uint8", 2),
            SUCCESS: Space((), "float32"),
        }
        self.act_space = {"action": Space((), "int32", 3)}

    def reset(self, *, key: Array) -> tuple[CatchState, Step]:
        """The ball in a column of the highest row, the paddle in the middle."""
        zero = jnp.zeros((), jnp.int32)
        state = CatchState(zero, jax.random.randint(key, (), 0, COLUMNS), zero + COLUMNS // 2)
        return state, restart(self._observe(state, jnp.nan))

    def step(self, state: CatchState, action: dict[str, Array], *, key: Array) -> tuple[CatchState, Step]:
        """Move the paddle, then the ball falls by one row; chance plays no part."""
        del key
        paddle = jnp.clip(state.paddle + jnp.asarray(action["action"], jnp.int32) - 1, 0, COLUMNS - 1)
        state = CatchState(state.row + 1, state.column, paddle)
        over, caught = state.row == ROWS - 1, state.column == paddle
        reward = jnp.where(over, jnp.where(caught, 1.0, -1.0), 0.0)
        success = jnp.where(over, caught.astype(jnp.float32), jnp.nan)
        return state, transition(self._observe(state, success), reward, over, over)

    def _observe(self, state: CatchState, success: Array | float) -> dict[str, Array]:
        row, column = jnp.arange(ROWS)[:, None], jnp.arange(COLUMNS)[None]
        ball = (row == state.row) & (column == state.column)
        paddle = (row == ROWS - 1) & (column == state.paddle)
        return {
            "board": (ball | paddle).astype(jnp.uint8),
            SUCCESS: jnp.asarray(success, jnp.float32),
        }
