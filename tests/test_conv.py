"""The fast convolutions equal the plain ones, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.nets import conv
from envs.api import Space, UnsupportedSpace

SHAPES = [(1, 2), (3, 3), (3, 17), (5, 1), (5, 5), (5, 18), (7, 4)]
"""Kernel size and channels, on both sides of the threshold for folding."""


def plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pooled(x, kernel, bias):
    y = plain(x, kernel) + bias.reshape(1, 1, 1, -1)
    return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def upsampled(x, kernel, bias):
    return plain(x.repeat(2, 1).repeat(2, 2), kernel) + bias.reshape(1, 1, 1, -1)


@pytest.mark.parametrize(("size", "channels"), SHAPES)
@pytest.mark.parametrize("reference", [pooled, upsampled])
def test_conv_any_shape_equals_reference_in_value_and_gradient(reference, size, channels):
    def fast(x, kernel, bias):
        layer = conv.Conv(channels, 3, size, init=tiny.initializer())
        layer.kernel[...], layer.bias[...] = kernel, bias
        return getattr(layer, reference.__name__)(x)

    @jax.jit
    def both(args, cotangent):
        ours, ours_back = jax.vjp(fast, *args)
        theirs, theirs_back = jax.vjp(reference, *args)
        return (ours, ours_back(cotangent)), (theirs, theirs_back(cotangent))

    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(0, 1, shape).astype(np.float32)
    args = normal(2, 8, 6, channels), normal(size, size, channels, 3), normal(3)
    h, w = (4, 3) if reference is pooled else (16, 12)
    ours, theirs = both(args, normal(2, h, w, 3))
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_conv_test_shapes_cover_both_sides_of_fold_threshold():
    channels = {c for _, c in SHAPES}
    assert min(channels) <= conv.fold_channels() < max(channels)


@pytest.mark.parametrize("rows", [[[1, 2, 3, 4]], [[5, 5, 5, 5]], [[2, 7, 7, 1]], [[3, 9, 9, 9]]])
def test_convolve_in_fours_tied_maxima_share_gradient_evenly(rows):
    """The identity as kernel: what is left is the maximum, whose gradient JAX shares evenly too."""
    x = jnp.asarray(rows, jnp.float32).reshape(1, 1, 1, 4)
    fours = lambda x: conv.convolve_in_fours(x, jnp.eye(4).reshape(1, 1, 4, 4))[0, 0, 0, 0]
    assert fours(x) == x.max()
    np.testing.assert_array_equal(jax.grad(fours)(x), jax.grad(jnp.max)(x))


def test_kernel_gradient_few_channels_uses_longer_runs():
    """By the operations of the compiled gradient: runs of 4 see windows of 6 pixels, runs of 1 of 3."""
    cost = lambda c: (
        jax.jit(lambda x, g: conv.kernel_gradient(x, g, 3))
        .lower(jnp.ones((2, 8, 8, c)), jnp.ones((2, 8, 8, 5)))
        .cost_analysis()["flops"]
        / c
    )
    assert cost(64) < 0.7 * cost(8)


def test_space_to_depth_known_array_is_inverted_by_depth_to_space():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    folded = conv.space_to_depth(x)
    np.testing.assert_array_equal(
        folded[0, 1, 2], jnp.concatenate([x[0, 2, 4], x[0, 2, 5], x[0, 3, 4], x[0, 3, 5]])
    )
    np.testing.assert_array_equal(conv.depth_to_space(folded), x)


@pytest.mark.parametrize(
    ("size", "stages", "padded"),
    [((64, 64), 4, (64, 64)), ((40, 56), 4, (48, 64)), ((7, 7), 1, (8, 8)), ((40, 56), 3, (40, 56))],
)
def test_padded_size_any_image_is_divisible_by_stages(size, stages, padded):
    assert conv.padded_size([("image", Space((*size, 3), "uint8"))], stages) == padded


def test_pad_image_adds_zeros_below_and_right():
    x = jnp.ones((1, 2, 3, 1))
    expected = np.zeros((1, 4, 4, 1))
    expected[:, :2, :3] = 1
    np.testing.assert_array_equal(conv.pad(x, (4, 4)), expected)


def test_padded_size_different_image_sizes_raises_unsupported_space():
    images = [("near", Space((8, 8, 3), "uint8")), ("far", Space((16, 8, 3), "uint8"))]
    with pytest.raises(UnsupportedSpace, match="'near' 8x8, 'far' 16x8; resize them") as error:
        conv.padded_size(images, 2)
    assert "\n" not in str(error.value)


def test_conv_even_kernel_size_raises_value_error():
    with pytest.raises(ValueError, match="must be odd, but it is 4"):
        conv.Conv(3, 2, 4, init=tiny.initializer())


@pytest.mark.parametrize(("h", "w", "size", "c", "d"), [(6, 8, 5, 3, 2), (3, 5, 3, 1, 4), (4, 6, 1, 2, 2)])
def test_kernel_gradient_any_shape_equals_gradient_of_plain_convolution(h, w, size, c, d):
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(0, 1, shape).astype(np.float32)
    x, kernel, g = normal(2, h, w, c), normal(size, size, c, d), normal(2, h, w, d)
    _, back = jax.vjp(plain, x, kernel)
    ours, theirs = conv.kernel_gradient(x, g, size), back(g)[1]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_in_parts_large_batch_keeps_values_and_gradients():
    x = np.random.default_rng(0).normal(0, 1, (2 * conv.PART, 3)).astype(np.float32)
    draw = lambda w, x: jnp.tanh(conv.kept(x @ w))
    parts = lambda w, x: conv.in_parts(lambda x: draw(w, x), x)
    w = np.ones((3, 2), np.float32)
    np.testing.assert_allclose(parts(w, x), draw(w, x), rtol=1e-6)
    ours, theirs = (jax.grad(lambda w, x, f=f: (f(w, x) ** 2).sum(), (0, 1))(w, x) for f in (parts, draw))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
