"""RMS norm and SiLU in one: the formula by hand, and its gradient against the one derived step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.ops.activations import NORM_EPS, normed_silu


def plain(x, scale, axes=(-1,)):
    u = x / jnp.sqrt((x**2).mean(axes, keepdims=True) + NORM_EPS)
    return jax.nn.silu(u * scale)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_normed_silu_known_input_matches_hand_computed_value():
    x = jnp.array([[3.0, -4.0]])  # mean of squares 12.5
    u = np.array([3.0, -4.0]) / np.sqrt(12.5 + 1e-4) * np.array([1.0, 0.5])
    expected = u / (1 + np.exp(-u))
    np.testing.assert_allclose(normed_silu(x, jnp.array([[1.0, 0.5]])), expected[None], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize(
    ("shape", "scale", "axes"),
    [((7, 5), (1, 5), (-1,)), ((2, 3, 5), (1, 1, 5), (-1,)), ((4, 6, 3), (4, 1, 3), (0, 2))],
    ids=["rows", "steps", "blocks"],
)
def test_normed_silu_any_shape_matches_value_and_gradient_of_plain_formula(size, shape, scale, axes):
    x, scale, g = size * normal(*shape), normal(*scale, seed=1), normal(*shape, seed=2)
    ours, theirs = (jax.vjp(lambda x, s, f=f: f(x, s, axes), x, scale) for f in (normed_silu, plain))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    for mine, its in zip(ours[1](g), theirs[1](g), strict=True):
        assert mine.shape == its.shape
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5 * float(jnp.abs(its).max()))


def test_normed_silu_input_scaled_has_zero_gradient_along_input():
    x, scale = 50 * normal(6, 8), normal(1, 8, seed=1)
    along = jax.jvp(lambda x: plain(x, scale), (x,), (x,))[1]
    assert float(jnp.abs(along).max()) < 1e-4
    back = jax.vjp(lambda x: normed_silu(x, scale), x)[1](normal(6, 8, seed=2))[0]
    np.testing.assert_allclose((back * x).sum(-1), 0, atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_normed_silu_half_precision_normalizes_in_float32_and_keeps_dtype(dtype):
    x, scale = (1000 * normal(4, 8)).astype(dtype), normal(1, 8, seed=1)  # squares beyond float16
    y, back = jax.vjp(normed_silu, x, scale)
    of_x, of_scale = back(jnp.ones_like(y))
    assert y.dtype == of_x.dtype == dtype
    assert of_scale.dtype == jnp.float32
    np.testing.assert_allclose(np.float32(y), plain(x.astype(jnp.float32), scale), rtol=2e-2, atol=1e-2)


def test_normed_silu_vmapped_population_equals_each_member_alone():
    x, scale, g = normal(3, 4, 5), normal(3, 1, 5, seed=1), normal(3, 4, 5, seed=2)
    grad = lambda x, scale, g: jax.vjp(normed_silu, x, scale)[1](g)
    together = jax.vmap(grad)(x, scale, g)
    for i in range(3):
        for all_, one in zip(together, grad(x[i], scale[i], g[i]), strict=True):
            np.testing.assert_allclose(all_[i], one, rtol=1e-5, atol=1e-6)
