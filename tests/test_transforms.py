"""Squashing: odd, invertible, the identity near zero and a logarithm far from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.ops.transforms import lead, symexp, symlog

numbers = st.floats(-1e6, 1e6, width=32)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (np.e - 1, 1.0), (-(np.e**2 - 1), -2.0)])
def test_symlog_and_symexp_values_match_hand_computation(x, y):
    np.testing.assert_allclose(symlog(jnp.float32(x)), y, rtol=1e-6)
    np.testing.assert_allclose(symexp(jnp.float32(y)), x, rtol=1e-6)


@given(numbers)
def test_symexp_of_symlog_is_the_identity(x):
    np.testing.assert_allclose(symexp(symlog(jnp.float32(x))), x, rtol=1e-5, atol=1e-30)


@given(numbers, numbers)
def test_symlog_is_odd_and_monotonic(x, y):
    low, high = sorted((x, y))
    assert symlog(jnp.float32(low)) <= symlog(jnp.float32(high))
    assert symlog(jnp.float32(-x)) == -symlog(jnp.float32(x))
    assert symexp(symlog(jnp.float32(-x))) == -symexp(symlog(jnp.float32(x)))


@given(st.floats(-(2**-13), 2**-13, width=32, allow_subnormal=False))
def test_symlog_small_numbers_are_unchanged(x):
    np.testing.assert_allclose(symlog(jnp.float32(x)), x, rtol=1e-4)


@pytest.mark.parametrize("x", [1e-3, 1.0, 1e4])
def test_symlog_gradient_is_the_reciprocal_of_one_plus_x(x):
    np.testing.assert_allclose(jax.grad(symlog)(x), 1 / (1 + x), rtol=1e-5)


def test_lead_adds_the_axes_needed_for_broadcasting():
    x = jnp.ones((2, 3, 4))
    assert lead(jnp.ones(4), x).shape == (1, 1, 4)
    assert lead(jnp.ones((3, 4)), x).shape == (1, 3, 4)
    assert lead(x, x).shape == x.shape
