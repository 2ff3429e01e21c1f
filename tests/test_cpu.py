"""What a CPU needs changes no number: a kernel has the same gradient however it is computed, and so on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.extend.core import jaxprs_in_params

from dreamer.nets.layers import BlockLinear, Layer, NormedSiLU
from dreamer.ops import cpu
from dreamer.ops.cpu import product

T, N, D, G = 5, 3, 8, 2


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, 0.5, shape), jnp.float32)


def assert_close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("lead", [(), (6,), (2, 6)])
@pytest.mark.parametrize("units", [2, 8, 30])
def test_product_narrow_or_wide_kernel_matches_matmul_and_gradients(lead, units):
    x, kernel, g = normal(*lead, D), normal(D, units, seed=1), normal(*lead, units, seed=2)
    ours, ours_back = jax.vjp(product, x, kernel)
    theirs, theirs_back = jax.vjp(jnp.matmul, x, kernel)
    assert_close((ours, ours_back(g)), (theirs, theirs_back(g)))


@pytest.mark.parametrize("units", [2, 30])
def test_product_with_blocks_matches_einsum_and_gradients(units):
    x, kernel, g = normal(G, N, D), normal(G, D, units, seed=1), normal(G, N, units, seed=2)
    ours, ours_back = jax.vjp(product, x, kernel)
    theirs, theirs_back = jax.vjp(lambda x, k: jnp.einsum("gni,gio->gno", x, k), x, kernel)
    assert_close((ours, ours_back(g)), (theirs, theirs_back(g)))


def test_product_mixed_dtypes_computes_in_input_dtype_with_float32_grad():
    x, kernel = normal(N, D).astype(jnp.bfloat16), normal(D, D, seed=1)
    y, back = jax.vjp(product, x, kernel)
    dx, dkernel = back(y)
    assert (y.dtype, dx.dtype, dkernel.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)


def weights():
    """A layer, a kernel that narrows and one of blocks."""
    return (
        Layer(D, D, init=tiny.initializer()),
        normal(D, 4, seed=3),
        normal(G, 4, 4, seed=4),
        normal(4, seed=5),
    )


def step(weights, carry, x):
    layer, narrow, blocks, bias = weights
    hidden = layer(carry + x)
    y = product(hidden, narrow) + bias[None]
    halves = product(hidden.reshape(N, G, 4).swapaxes(0, 1), blocks).swapaxes(0, 1).reshape(N, D)
    return halves, y


def loss(scan, weights, carry, xs):
    carry, ys = scan(weights, carry, xs)
    return jnp.square(ys).sum() + (normal(N, D, seed=7) * carry).sum()


def ours(weights, carry, xs):
    return cpu.scan(step, weights, carry, xs, rows=N, dtype=jnp.float32)


def plain(weights, carry, xs):
    return jax.lax.scan(lambda carry, x: step(weights, carry, x), carry, xs)


def test_scan_layer_steps_matches_plain_scan_and_gradients():
    args = weights(), normal(N, D, seed=8), normal(T, N, D, seed=9)
    assert_close(ours(*args), plain(*args))
    grads = [jax.grad(lambda *a, s=s: loss(s, *a), argnums=(0, 1, 2))(*args) for s in (ours, plain)]
    assert_close(*grads)
    assert all(np.abs(g).max() > 1e-3 for g in jax.tree.leaves(grads[0]))


def test_scan_vmapped_members_equal_each_member_alone():
    carry, xs = normal(2, N, D, seed=8), normal(2, T, N, D, seed=9)
    both = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), weights())
    grad = jax.grad(lambda *a: loss(ours, *a))
    member = lambda i: grad(*jax.tree.map(lambda x: x[i], (both, carry, xs)))
    assert_close(jax.vmap(grad)(both, carry, xs), jax.tree.map(lambda *x: jnp.stack(x), member(0), member(1)))


def computed(jaxpr, in_loop=False):
    """Shapes of what is computed inside the scans of a jaxpr."""
    for equation in jaxpr.eqns:
        if in_loop:
            yield from (v.aval.shape for v in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from computed(inner, in_loop or equation.primitive.name == "scan")


def test_scan_gradient_computes_no_kernel_gradient_inside_loop():
    args = weights(), normal(N, D, seed=8), normal(T, N, D, seed=9)
    kernels = {w.shape for w in jax.tree.leaves(args[0]) if w.ndim > 1}
    shapes = lambda scan: set(
        computed(jax.make_jaxpr(jax.grad(lambda w: loss(scan, w, *args[1:])))(args[0]).jaxpr)
    )
    assert not kernels & shapes(ours)
    assert kernels <= shapes(plain)  # so the test can fail


def test_scan_kernel_used_twice_raises_and_unused_has_zero_gradient():
    twice = lambda w, carry, x: (product(product(carry, w), w) + x, None)
    with pytest.raises(ValueError, match="once per step"):
        cpu.scan(twice, normal(D, D), normal(N, D), normal(T, N, D), rows=N, dtype=jnp.float32)

    never = lambda w: cpu.scan(
        lambda w, carry, x: (carry + x, None), w, normal(N, D), normal(T, N, D), rows=N, dtype=jnp.float32
    )[0].sum()
    np.testing.assert_array_equal(jax.grad(never)(normal(D, D)), jnp.zeros((D, D)))


def test_blocks_cut_and_joined_gives_same_rows():
    x = normal(N, D)
    cut = cpu.Blocks.cut(x, G)
    np.testing.assert_array_equal(cut.blocks[1], x[:, D // G :])
    np.testing.assert_array_equal(cpu.Blocks.join(cut.blocks).flat, x)


def test_block_linear_with_shared_input_equals_layer_plus_shared():
    layer, x, shared = BlockLinear(D, 6, G, init=tiny.initializer()), normal(N, D), normal(N, 6, seed=1)
    layer.bias[...] = normal(6, seed=2)
    out = cpu.block_linear(cpu.to_blocks(x, G), layer.kernel[...], layer.bias[...], shared)
    assert_close(cpu.Blocks.join(out).flat, layer(x) + shared)


def test_block_normed_silu_normalizes_over_whole_row():
    norm, x = NormedSiLU(D), normal(N, D)
    norm.scale[...] = normal(D, seed=1)
    out = cpu.block_normed_silu(cpu.to_blocks(x, G), norm.scale[...])
    assert_close(cpu.Blocks.join(out).flat, norm(x))


def test_shared_kernel_product_equals_each_block_product():
    x, kernel = normal(N, 5), normal(G, 5, 3, seed=1)
    every = jnp.concatenate([x @ kernel[b] for b in range(G)], -1)
    assert_close(x @ cpu.shared_kernel(kernel), every)


def test_lookup_index_equals_function_of_one_hot():
    kernel, index = normal(4, 3), jnp.array([2, 0, 3])
    function = lambda x: jnp.tanh(x @ kernel)
    assert_close(cpu.lookup(function, 4, jnp.float32)(index), function(jax.nn.one_hot(index, 4)))


def test_classes_first_moves_last_axis_to_front():
    x = normal(2, 3, 4)
    np.testing.assert_array_equal(cpu.classes_first(x), jnp.moveaxis(x, -1, 0))


def test_stack_written_by_index_equals_rows():
    rows = normal(T, N, D)
    stacked = cpu.stack(rows[0], T - 1)
    for t in range(1, T):
        stacked = cpu.write(stacked, rows[t], jnp.int32(t))
    np.testing.assert_array_equal(stacked, rows)
