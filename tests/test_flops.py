"""Operations are counted as one would on paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.agent import Agent
from dreamer.config import AgentConfig
from dreamer.numbers import trace
from dreamer.schema import replace_paths
from experiments.bench import bench, flops
from experiments.bench.update import noise
from experiments.presets.sizes import SIZES


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


def total(function, *args):
    return flops.count(function, *args).total()


def test_count_product_is_two_operations_a_term():
    assert total(lambda x, y: x @ y, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7


def test_count_batched_product_counts_every_row():
    assert (
        total(lambda x, y: jnp.einsum("bij,bjk->bik", x, y), shape(4, 3, 5), shape(4, 5, 7)) == 8 * 3 * 5 * 7
    )


def test_count_loop_counts_its_body_as_often_as_it_runs():
    twice = lambda x: jax.lax.scan(
        lambda c, _: (jax.lax.scan(lambda d, _: (d @ d, None), c, None, 3)[0], None), x, None, 5
    )
    assert total(twice, shape(4, 4)) == 15 * 2 * 4**3


def test_count_result_that_is_not_used_is_not_counted():
    def function(x):
        x @ x
        carry, _ = jax.lax.scan(lambda c, _: ((c[0] + 1, c[1] @ c[1]), None), (x, x), None, 3)
        return carry[0]

    assert total(function, shape(4, 4)) == 0


def test_count_gradient_of_a_product_is_two_products():
    loss = lambda w, x: (x @ w).sum()
    assert total(jax.grad(loss, (0, 1)), shape(5, 7), shape(3, 5)) == 2 * 2 * 3 * 5 * 7
    assert (
        total(jax.value_and_grad(lambda w, x: jnp.sin(x @ w).sum()), shape(5, 7), shape(3, 5))
        == 2 * 2 * 3 * 5 * 7
    )


def test_count_of_branches_the_most_expensive_counts():
    branches = lambda i, x: jax.lax.switch(i, [lambda x: x, lambda x: x @ x @ x, lambda x: x @ x], x)
    assert total(branches, jax.ShapeDtypeStruct((), jnp.int32), shape(4, 4)) == 2 * 2 * 4**3


def test_count_convolution_is_a_product_for_every_output():
    convolve = lambda x, k, **options: jax.lax.conv_general_dilated(
        x, k, padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )
    x, k = shape(2, 8, 8, 3), shape(5, 5, 3, 4)
    assert total(lambda x, k: convolve(x, k, window_strides=(1, 1)), x, k) == 2 * (2 * 8 * 8 * 4) * (
        5 * 5 * 3
    )
    assert total(lambda x, k: convolve(x, k, window_strides=(2, 2)), x, k) == 2 * (2 * 4 * 4 * 4) * (
        5 * 5 * 3
    )
    grouped = lambda x, k: convolve(x, k, window_strides=(1, 1), feature_group_count=3)
    assert total(grouped, x, shape(5, 5, 1, 6)) == 2 * (2 * 8 * 8 * 6) * 25


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_count_gradients_of_a_convolution_cost_what_it_costs(strides):
    convolve = lambda x, k: jax.lax.conv_general_dilated(
        x, k, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x, k = shape(2, 8, 8, 3), shape(3, 3, 3, 4)
    forward = total(convolve, x, k)
    both = total(jax.grad(lambda x, k: jnp.sin(convolve(x, k)).sum(), (0, 1)), x, k)
    assert both == pytest.approx(3 * forward, rel=0.01)


def test_count_names_parts_by_their_innermost_scope():
    def function(x):
        with jax.named_scope("observe"):
            x = x @ x
            with jax.named_scope("something"), jax.named_scope("encoder"):
                x = jnp.sin(x @ x)
        return (x @ x).sum()

    parts = flops.count(jax.value_and_grad(function), shape(4, 4))
    each = 2 * 4**3
    assert parts == {"observe": 3 * each, "encoder": 3 * each, flops.OTHER: 3 * each}


@pytest.mark.parametrize(
    ("size", "obs", "gflop"), [("1m", "vector", 28.0), ("1m", "image", 107.9), ("25m", "vector", 916)]
)
def test_count_update_of_published_shape_has_known_operations(size, obs, gflop):
    """The figures of an independent count."""
    agent = Agent(
        {obs: bench.OBS[obs]}, bench.ACT, replace_paths(SIZES[size](AgentConfig()), {"dtype": "float32"})
    )
    state = jax.eval_shape(agent.init, jax.random.key(0))
    parts = flops.count(
        agent.compute_gradients, state, noise(agent, 16, 64), trace(agent.cfg), key=jax.random.key(0)
    )
    assert parts.total() / 1e9 == pytest.approx(gflop, rel=2e-3)
    assert parts[flops.OTHER] < 1e-3 * parts.total()
    assert set(parts) <= {*flops.PARTS, flops.OTHER}


def test_count_traced_arrays_and_shapes_are_the_same():
    x = np.ones((4, 4), np.float32)
    assert flops.count(lambda x: x @ x, x) == flops.count(lambda x: x @ x, shape(4, 4))
