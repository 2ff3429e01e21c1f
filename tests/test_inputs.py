"""Numbers and categories as one vector; what is missing becomes zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.nets import inputs
from dreamer.ops.transforms import symlog
from envs.api import Space

SPACES = {
    "numbers": Space((2,), "float32"),
    "cells": Space((2, 2), "uint8", 3),
    "token": Space((), "int32", 4),
    "flag": Space((), "bool", 2),
}
ORDER = {"cells": slice(0, 12), "flag": slice(12, 14), "numbers": slice(14, 16), "token": slice(16, 20)}


FLATTEN = jax.jit(
    lambda v, ndim, dtype: inputs.flatten(v, SPACES, ndim, dtype, symlog), static_argnums=(1, 2)
)


def values(*batch):
    rng = np.random.default_rng(0)
    return {
        "numbers": rng.normal(0, 5, (*batch, 2)).astype(np.float32),
        "cells": rng.integers(0, 3, (*batch, 2, 2)).astype(np.uint8),
        "token": rng.integers(0, 4, batch).astype(np.int32),
        "flag": rng.integers(0, 2, batch).astype(bool),
    }


def flat(v, ndim=1, dtype=jnp.float32):
    return np.array(FLATTEN(v, ndim, dtype))


def test_flatten_mixed_values_matches_hand_computed_vector():
    v = {
        "numbers": np.array([[np.e - 1, 0]], np.float32),
        "cells": np.array([[[0, 1], [2, 0]]], np.uint8),
        "token": np.array([3], np.int32),
        "flag": np.array([True]),
    }
    cells = [1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0]
    np.testing.assert_allclose(flat(v), [[*cells, 0, 1, 1, 0, 0, 0, 0, 1]], atol=1e-6)


def test_flatten_key_order_does_not_matter():
    v = values(5)
    np.testing.assert_array_equal(flat(v), flat(dict(reversed(v.items()))))
    assert flat(v).shape == (5, inputs.width(SPACES)) == (5, 20)


def test_flatten_batch_axes_are_kept():
    v = values(2, 3)
    one = flat({k: x.reshape(6, *x.shape[2:]) for k, x in v.items()})
    np.testing.assert_array_equal(flat(v, ndim=2), one.reshape(2, 3, -1))


@pytest.mark.parametrize(("key", "entry"), [("numbers", -np.inf), ("token", -1)])
def test_flatten_missing_entry_zeroes_its_key_in_its_step_only(key, entry):
    v = values(4)
    before = flat(v)
    if v[key].ndim > 1:
        v[key][2, 1] = entry
    else:
        v[key][2] = entry
    after = flat(v)
    np.testing.assert_array_equal(after[2, ORDER[key]], 0)
    before[2, ORDER[key]] = 0
    np.testing.assert_array_equal(after, before)


def test_flatten_missing_category_zeroes_whole_key():
    space = {"cells": Space((3,), "int8", 4)}
    x = {"cells": jnp.array([[0, -1, 2], [0, 1, 2]], jnp.int8)}
    out = inputs.flatten(x, space, 1, jnp.float32, symlog)
    np.testing.assert_array_equal(out.sum(-1), [0, 3])


def test_flatten_largest_uint8_category_is_not_missing():
    space = {"cells": Space((1,), "uint8", 256)}
    out = inputs.flatten({"cells": jnp.array([[255]], jnp.uint8)}, space, 1, jnp.float32, symlog)
    assert out[0, 255] == 1


def test_flatten_large_numbers_are_squashed_before_bfloat16_rounding():
    """Rounding to bfloat16 comes after the squashing, so integers far beyond 256 differ."""
    v = values(2)
    v["numbers"] = np.array([[1e6, 0], [1.1e6, 0]], np.float32)
    out = flat(v, dtype=jnp.bfloat16)
    assert out.dtype == jnp.bfloat16
    assert np.isfinite(out.astype(np.float32)).all()
    np.testing.assert_allclose(out[:, 14].astype(np.float32), np.log1p([1e6, 1.1e6]), rtol=4e-3)
