"""Layers by hand, and what they start as."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from dreamer.nets import layers
from dreamer.nets.layers import MLP, BlockLinear, Initializer, Linear, NormedSiLU


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def test_linear_known_input_matches_matmul_plus_bias():
    layer = Linear(3, 4, init=tiny.initializer())
    layer.bias[...] = jnp.asarray(normal(4, seed=1))
    x = normal(2, 5, 3)
    np.testing.assert_allclose(layer(x), x @ layer.kernel[...] + layer.bias[...].reshape(1, 1, 4), rtol=1e-5)


def test_block_linear_each_output_block_uses_its_input_block():
    layer = BlockLinear(6, 9, 3, init=tiny.initializer())
    layer.bias[...] = jnp.asarray(normal(9, seed=1))
    x, kernel = normal(4, 6), np.asarray(layer.kernel[...])
    expected = [x[:, 2 * b : 2 * b + 2] @ kernel[b] for b in range(3)]
    np.testing.assert_allclose(layer(x), np.concatenate(expected, 1) + normal(9, seed=1)[None], rtol=1e-5)


def test_block_linear_one_block_equals_linear():
    block, dense = BlockLinear(6, 4, 1, init=tiny.initializer()), Linear(6, 4, init=tiny.initializer())
    x = normal(3, 6)
    np.testing.assert_allclose(block(x), dense(x), rtol=1e-5, atol=1e-6)


def test_normed_silu_scale_starts_at_one_and_is_per_unit():
    norm = NormedSiLU(8)
    assert norm.scale.shape == (8,)
    x = jnp.asarray(normal(2, 8))
    unit = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(norm(x), jax.nn.silu(unit), rtol=1e-5)
    norm.scale[...] = jnp.asarray(normal(8, seed=1))
    np.testing.assert_allclose(norm(x), jax.nn.silu(unit * normal(8, seed=1)[None]), rtol=1e-5)


def test_mlp_layers_apply_linear_norm_and_silu_repeatedly():
    mlp = MLP(3, 5, 2, init=tiny.initializer())
    x = expected = jnp.asarray(normal(4, 3))
    for layer in mlp.layers:
        expected = layer.norm(layer.linear(expected))
    np.testing.assert_allclose(mlp(x), expected, rtol=1e-6)
    assert mlp.width == mlp(x).shape[-1] == 5


def test_mlp_without_layers_is_identity():
    mlp, x = MLP(3, 5, 0, init=tiny.initializer()), normal(4, 3)
    assert mlp.width == 3
    np.testing.assert_array_equal(mlp(x), x)


@pytest.mark.parametrize(
    ("shape", "fan_in"),
    [
        ((400, 100), 400),
        ((5, 5, 16, 100), 400),
        ((8, 50, 100), 400),
    ],
)
def test_initializer_kernel_has_variance_of_one_over_fan_in(shape, fan_in):
    """A block kernel [g, in/g, out/g] counts the inputs of all its blocks."""
    kernel = np.asarray(tiny.initializer().kernel(shape))
    np.testing.assert_allclose(kernel.std(), fan_in**-0.5, rtol=0.03)
    np.testing.assert_allclose(kernel.mean(), 0, atol=0.1 * fan_in**-0.5)
    assert np.abs(kernel).max() <= 2 * 1.1368 * fan_in**-0.5


def test_initializer_kernel_scale_multiplies_values():
    full, small = (tiny.initializer().kernel((20, 30), scale) for scale in (1.0, 0.01))
    np.testing.assert_allclose(small, 0.01 * full, rtol=1e-5)
    np.testing.assert_array_equal(tiny.initializer().kernel((20, 30), 0.0), 0)


def test_initializer_several_kernels_share_no_noise():
    init = Initializer(jnp.arange(1.0, 101.0))
    values = [np.unique(np.round(init.kernel((1, n)) / 1.1368, 4)) for n in (10, 20, 70)]
    assert init.used == 100 == len(np.unique(np.concatenate(values)))


def test_initializer_without_noise_counts_usage():
    init = Initializer()
    mlp = MLP(3, 5, 2, init=init)
    assert init.used == 3 * 5 + 5 * 5
    assert all((kernel == 0).all() for kernel in (layer.linear.kernel[...] for layer in mlp.layers))


def test_noise_samples_are_normal_within_two_deviations(key):
    noise = np.asarray(layers.noise(key, 100_000))
    assert np.abs(noise).max() <= 2
    np.testing.assert_allclose(noise.std() * 1.1368, 1, rtol=0.01)


def test_mlp_bfloat16_input_keeps_dtype_with_float32_parameters():
    mlp = MLP(3, 5, 2, init=tiny.initializer())
    assert {x.dtype for x in jax.tree.leaves(nnx.state(mlp))} == {jnp.dtype("float32")}
    assert mlp(jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.bfloat16
