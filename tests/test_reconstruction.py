"""How wrong a prediction is, by hand for every kind of observation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.objectives.reconstruction import Reconstruction, as_observation, step_loss
from dreamer.ops.transforms import symlog
from dreamer.records import Latent, Observed
from envs.api import Space

NUMBERS, IMAGE = Space((3,), "float32"), Space((2, 2, 1), "uint8")
CELLS, TOKEN = Space((2,), "int32", 4), Space((), "uint8", 4)


def test_step_loss_numbers_is_the_summed_squared_symlog_error():
    target = jnp.array([[np.e - 1, 0.0, -(np.e - 1)]])
    pred = jnp.array([[0.0, 3.0, -1.0]])
    np.testing.assert_allclose(step_loss(pred, target, NUMBERS), [1 + 9 + 0], rtol=1e-6)


def test_step_loss_pixels_is_the_summed_squared_error_from_0_to_1():
    target = jnp.array([0, 51, 255, 102], jnp.uint8).reshape(1, 2, 2, 1)
    pred = jnp.array([0.0, 0.0, 0.0, 0.4]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(step_loss(pred, target, IMAGE), [0.2**2 + 1], rtol=1e-5)


def test_step_loss_categories_is_the_summed_cross_entropy():
    pred = jnp.log(jnp.array([[[0.5, 0.25, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1]]]))
    loss = step_loss(pred, jnp.array([[1, 0]]), CELLS)
    np.testing.assert_allclose(loss, [-np.log(0.25) - np.log(0.7)], rtol=1e-5)
    loss = step_loss(pred[:, 0], jnp.array([0], jnp.uint8), TOKEN)
    np.testing.assert_allclose(loss, [np.log(2)], rtol=1e-5)


def test_step_loss_missing_entries_have_no_cost_and_no_gradient():
    for pred, target, space in (
        (jnp.ones((1, 3)), jnp.array([[0.0, -jnp.inf, 0.0]]), NUMBERS),
        (jnp.zeros((1, 2, 4)), jnp.array([[2, -1]]), CELLS),
    ):
        loss, grad = jax.value_and_grad(lambda p, t=target, s=space: step_loss(p, t, s).sum())(pred)
        np.testing.assert_allclose(loss, 2.0 if space is NUMBERS else np.log(4), rtol=1e-5)
        np.testing.assert_array_equal(grad[0, 1], 0)
        assert np.isfinite(grad).all() and (grad[0, 0] != 0).any()


@pytest.mark.parametrize("space", [NUMBERS, IMAGE, CELLS, TOKEN])
def test_as_observation_perfect_prediction_is_the_target_at_no_cost(space):
    rng = np.random.default_rng(0)
    if space.is_discrete:
        target = rng.integers(0, 4, (5, *space.shape)).astype(space.dtype)
        pred = 50 * jax.nn.one_hot(target, 4)
    elif space.is_image:
        target = rng.integers(0, 256, (5, *space.shape)).astype(np.uint8)
        pred = target / np.float32(255)
    else:
        target = rng.normal(0, 100, (5, 3)).astype(np.float32)
        pred = symlog(target)
    loss = step_loss(jnp.asarray(pred), jnp.asarray(target), space)
    np.testing.assert_allclose(loss, np.zeros(5), atol=1e-6)
    seen = as_observation(jnp.asarray(pred), space)
    assert seen.dtype == target.dtype
    np.testing.assert_allclose(seen, target, rtol=1e-4)


def test_loss_several_keys_has_one_entry_per_key_and_step():
    spaces = {"numbers": NUMBERS, "cells": CELLS}
    objective = Reconstruction(spaces, tiny.ACT, 8, tiny.CFG, init=tiny.initializer())
    latent = Latent(jnp.ones((2, 4, 16)), jax.nn.one_hot(jnp.zeros((2, 4, 4), int), 4))
    obs = {"numbers": jnp.ones((2, 4, 3)), "cells": jnp.ones((2, 4, 2), jnp.int32)}
    world = tiny.agent().world(tiny.state().params, tiny.NUMBERS)
    batch, seen = tiny.batch()._replace(obs=obs), Observed(latent.deter, latent, latent.stoch)
    losses = jax.eval_shape(lambda: objective.loss(world, batch, seen, {}, jax.random.key(0)).losses)
    assert {k: (v.shape, v.dtype) for k, v in losses.items()} == {
        "rec/numbers": ((2, 4), jnp.float32),
        "rec/cells": ((2, 4), jnp.float32),
    }
    pictured = jax.eval_shape(objective.decode, latent)
    assert {k: (v.shape, v.dtype) for k, v in pictured.items()} == {
        k: (v.shape, v.dtype) for k, v in obs.items()
    }
