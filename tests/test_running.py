"""The range of the returns: percentiles, a slow average that starts at 0, a floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.ops import running

SETTINGS = dict(rate=jnp.float32(0.1), low=jnp.float32(5.0), high=jnp.float32(95.0))


def test_update_one_batch_matches_hand_computation():
    x = jnp.arange(101.0).reshape(1, 101)
    state = running.update(running.init(), x, **SETTINGS)
    np.testing.assert_allclose(state, (0.5, 9.5), rtol=1e-5)


def test_update_many_batches_match_numpy_percentiles():
    rng = np.random.default_rng(0)
    state, low, high = running.init(), 0.0, 0.0
    for scale in (1, 10, 100):
        x = rng.normal(0, scale, (4, 5)).astype(np.float32)
        state = running.update(state, jnp.asarray(x), **SETTINGS)
        low, high = 0.9 * low + 0.1 * np.percentile(x, 5), 0.9 * high + 0.1 * np.percentile(x, 95)
    np.testing.assert_allclose(state, (low, high), rtol=1e-5)


def test_update_repeated_batch_converges_to_its_percentiles():
    x, state = jnp.arange(11.0), running.init()
    for _ in range(200):
        state = running.update(state, x, **SETTINGS)
    np.testing.assert_allclose(state, (0.5, 9.5), rtol=1e-5)


@pytest.mark.parametrize(("low", "high", "expected"), [(0, 0, 1.0), (-0.2, 0.3, 1.0), (-3, 7, 10.0)])
def test_scale_small_range_is_limited_to_one(low, high, expected):
    state = running.Percentiles(jnp.float32(low), jnp.float32(high))
    assert running.scale(state, limit=jnp.float32(1.0)) == expected


def test_scale_of_updated_range_has_no_gradient():
    range_of = lambda x: running.scale(running.update(running.init(), x, **SETTINGS), limit=0.1)
    x = jnp.arange(1000.0)
    assert range_of(x) > 1
    np.testing.assert_array_equal(jax.grad(range_of)(x), 0)
