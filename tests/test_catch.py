"""Catch: nine steps of falling, known rewards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.catch import COLUMNS, ROWS, Catch, CatchState

KEY = jax.random.key(0)


def play(column, moves):
    """The steps of an episode whose ball falls in `column`."""
    env, zero = Catch(), jnp.zeros((), jnp.int32)
    state, steps = CatchState(zero, zero + column, zero + 2), []
    for move in moves:
        state, step = env.step(state, {"action": move}, key=KEY)
        steps.append(step)
    return steps


@pytest.mark.parametrize("column", range(COLUMNS))
def test_catch_paddle_follows_ball_has_return_one(column):
    move = 1 + np.sign(column - 2)
    moves = [move] * abs(column - 2) + [1] * (ROWS - 1 - abs(column - 2))
    steps = play(column, moves)
    assert [float(step.reward) for step in steps] == [0] * (ROWS - 2) + [1]
    assert [bool(step.is_last) for step in steps] == [False] * (ROWS - 2) + [True]
    assert bool(steps[-1].is_terminal) and float(steps[-1].obs["log/success"]) == 1
    assert all(np.isnan(step.obs["log/success"]) for step in steps[:-1])


def test_catch_paddle_elsewhere_has_return_minus_one_and_stays_on_board():
    steps = play(4, [0] * (ROWS - 1))
    assert float(steps[-1].reward) == -1 and float(steps[-1].obs["log/success"]) == 0
    assert np.argwhere(np.asarray(steps[-1].obs["board"])[-1]).ravel().tolist() == [0, 4]


def test_catch_reset_places_ball_uniformly_over_columns():
    _, step = jax.vmap(lambda key: Catch().reset(key=key))(jax.random.split(KEY, 1000))
    counts = np.asarray(step.obs["board"])[:, 0].sum(0)
    assert counts.sum() == 1000 and counts.min() > 150
    assert (np.asarray(step.obs["board"])[:, -1] == [0, 0, 1, 0, 0]).all()
