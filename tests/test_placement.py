"""Which device runs which agent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.placement import SINGLE, Placement, fitting


def test_fitting_more_members_than_devices_gives_equal_shares():
    assert [len(fitting(range(8), n)) for n in (1, 3, 6, 8, 12)] == [1, 3, 6, 8, 6]


@pytest.mark.parametrize(
    ("placement", "size"),
    [
        (SINGLE, 1),
        (Placement.sequential("a"), 1),
        (Placement.sequential("ab"), 2),
        (Placement.vmapped("a", 6), 6),
        (Placement.vmapped("ab", 6), 6),
    ],
)
def test_placement_size_is_the_number_of_agents_per_call(placement, size):
    assert placement.size == size


@pytest.mark.parametrize(
    ("devices", "rows"), [(1, 4), (2, 2), (2, 1)], ids=["vmapped-1", "vmapped-2", "sequential-2"]
)
def test_placement_compiled_function_returns_one_result_per_agent(devices, rows):
    placement = Placement(tuple(jax.local_devices()[:devices]), rows)
    agents = [{"x": jnp.arange(3.0) + i, "n": jnp.asarray(i)} for i in range(placement.size)]
    function = placement.compile(lambda shared, own: {"x": shared * own["x"] + own["n"]}, jax.jit)
    found = function(np.float32(2), placement.stack(agents))
    for i, own in enumerate(agents):
        np.testing.assert_array_equal(placement.row(found, i)["x"], 2 * own["x"] + own["n"])


def test_single_compiled_function_has_no_agent_axis():
    assert SINGLE.compile(lambda shared, own: shared + own, jax.jit)(1, jnp.zeros(3)).shape == (3,)
