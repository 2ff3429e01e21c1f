"""Lambda-returns: by hand, at their limits, and as another library computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.ops.returns import lambda_return

REWARD, VALUE = np.array([9, 1, 0, 2.0], np.float32), np.array([5, 4, 3, 2.0], np.float32)
DISCOUNT = np.array([1, 0.997, 0.5, 0.997], np.float32)
returns = jax.jit(lambda_return)


def arrays(seed=0, shape=(3, 6)):
    rng = np.random.default_rng(seed)
    reward, value = rng.normal(0, 2, (2, *shape)).astype(np.float32)
    discount, lam = rng.uniform(0, 1, (2, *shape)).astype(np.float32)
    return reward, discount, value, lam


def constant(lam):
    return np.full(4, lam, np.float32)


def test_lambda_return_three_steps_match_hand_computation():
    ours = lambda_return(REWARD, DISCOUNT, VALUE, constant(0.95))
    np.testing.assert_allclose(ours, [3.0673219, 1.97215, 3.994], rtol=1e-6)


def test_lambda_return_lambda_0_is_the_one_step_target():
    ours = lambda_return(REWARD, DISCOUNT, VALUE, constant(0))
    np.testing.assert_allclose(ours, REWARD[1:] + DISCOUNT[1:] * VALUE[1:], rtol=1e-6)


def test_lambda_return_lambda_1_is_the_discounted_sum_with_bootstrap():
    d1, d2, d3 = DISCOUNT[1:]
    expected = [1 + d1 * (0 + d2 * (2 + d3 * 2)), 0 + d2 * (2 + d3 * 2), 2 + d3 * 2]
    np.testing.assert_allclose(lambda_return(REWARD, DISCOUNT, VALUE, constant(1)), expected, rtol=1e-6)


def test_lambda_return_random_arrays_satisfy_the_recursion():
    reward, discount, value, lam = arrays()
    ours = np.asarray(returns(reward, discount, value, lam))
    later = np.concatenate([ours[:, 1:], value[:, -1:]], 1)
    blend = (1 - lam[:, 1:]) * value[:, 1:] + lam[:, 1:] * later
    np.testing.assert_allclose(ours, reward[:, 1:] + discount[:, 1:] * blend, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_lambda_return_after_termination_has_no_influence(seed):
    reward, discount, value, lam = arrays()
    discount[:, 3] = 0
    before = returns(reward, discount, value, lam)[:, :3]
    other = arrays(seed + 1)
    for mine, foreign in zip((reward, discount, lam), (other[0], other[1], other[3]), strict=True):
        mine[:, 4:] = foreign[:, 4:]
    value[:, 3:] = other[2][:, 3:]  # the value of the terminal step itself included
    np.testing.assert_array_equal(returns(reward, discount, value, lam)[:, :3], before)


def test_lambda_return_lambda_0_at_one_step_bootstraps_there():
    reward, discount, value, lam = arrays()
    lam[:, 3] = 0
    before = returns(reward, discount, value, lam)[:, 2]
    np.testing.assert_allclose(before, reward[:, 3] + discount[:, 3] * value[:, 3], rtol=1e-6)


def test_lambda_return_entry_0_is_ignored():
    a, b = arrays(), arrays()
    for x in b:
        x[:, 0] = np.nan
    np.testing.assert_array_equal(returns(*a), returns(*b))


def test_lambda_return_batched_sequences_are_independent():
    many = arrays()
    each = [lambda_return(*(x[i] for x in many)) for i in range(3)]
    np.testing.assert_allclose(returns(*many), jnp.stack(each), rtol=1e-5, atol=1e-6)


def test_lambda_return_true_values_are_their_own_returns():
    """With a constant reward and the value that belongs to it, no lambda changes anything."""
    shape, gamma = (1, 6), 0.9
    full = lambda x: np.full(shape, x, np.float32)
    for lam in (0.0, 0.3, 1.0):
        ours = returns(full(1.0), full(gamma), full(1 / (1 - gamma)), full(lam))
        np.testing.assert_allclose(ours, 10.0, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_lambda_return_random_arrays_equal_rlax():
    rlax = pytest.importorskip("rlax", exc_type=ImportError)
    reward, discount, value, lam = (x[0] for x in arrays())
    theirs = rlax.lambda_returns(reward[1:], discount[1:], value[1:], lam[1:])
    np.testing.assert_allclose(lambda_return(reward, discount, value, lam), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", range(4))
def test_lambda_return_of_unequal_shapes_is_refused(wrong):
    args = list(arrays())
    args[wrong] = args[wrong][:, :-1]
    with pytest.raises(AssertionError, match="reward, discount, value and lam must have one shape"):
        lambda_return(*args)
