"""Distributions: what they are worth by hand, at their limits and over many draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.ops import dists

EDGE = 485165194.41
BINS = {n: dists.symexp_bins(n) for n in (3, 6, 15, 40, 255)}
TWOHOT = jax.jit(dists.twohot)
MEAN = jax.jit(dists.twohot_mean)
sizes = st.sampled_from(sorted(BINS))
targets = st.floats(-1e9, 1e9, width=32)


def neighbour(target, bins):
    """The larger of the two bins around a target, in size: a weight is only known to float32 times it."""
    above = np.clip(np.searchsorted(bins, target), 1, len(bins) - 1)
    return float(np.abs(bins[above - 1 : above + 1]).max())


def random_logits(shape, scale=3.0, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


# Bins and two-hot numbers


def test_bins_255_match_known_values():
    bins = BINS[255]
    np.testing.assert_allclose(bins[jnp.array([0, -1])], [-EDGE, EDGE], rtol=1e-6)
    np.testing.assert_allclose(bins[127:131], [0, 0.1705577, 0.3702054, 0.6039045], rtol=1e-5)


@pytest.mark.parametrize("n", BINS)
def test_bins_any_count_are_ascending_and_symmetric(n):
    bins = np.asarray(BINS[n])
    assert len(bins) == n
    np.testing.assert_array_equal(bins, -bins[::-1])
    assert (np.diff(bins) > 0).sum() == n - 1 - (n % 2 == 0)
    assert (bins == 0).sum() == (1 if n % 2 else 2)


@pytest.mark.parametrize(
    ("target", "index", "weights"),
    [(1.0, 131, (0.617329, 0.382671)), (3.0, 135, (0.209682, 0.790318)), (100.0, 156, (0.710529, 0.289471))],
)
def test_twohot_known_target_matches_hand_computed_weights(target, index, weights):
    expected = np.zeros(255)
    expected[index : index + 2] = weights
    np.testing.assert_allclose(TWOHOT(jnp.float32(target), BINS[255]), expected, atol=2e-5)


@given(targets, sizes)
def test_twohot_any_target_has_unit_sum_over_two_neighbours(target, n):
    weights = np.asarray(TWOHOT(jnp.float32(target), BINS[n]))
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    (used,) = weights.nonzero()
    assert used[-1] - used[0] <= 1


@given(targets, sizes)
def test_twohot_any_target_has_mean_equal_to_target(target, n):
    weights = np.asarray(TWOHOT(jnp.float32(target), BINS[n]), np.float64)
    bins = np.asarray(BINS[n], np.float64)
    expected = np.clip(target, bins[0], bins[-1])
    np.testing.assert_allclose(weights @ bins, expected, atol=1e-6 * neighbour(target, bins))


@given(st.sampled_from(sorted(BINS)), st.data())
def test_twohot_target_on_bin_has_all_weight_there(n, data):
    index = data.draw(st.integers(0, n - 1))
    weights = np.asarray(TWOHOT(BINS[n][index], BINS[n]))
    assert sorted(weights)[-2:] == [0, 1]
    assert BINS[n][weights.argmax()] == BINS[n][index]  # of two zeros, either


@pytest.mark.parametrize(("target", "index"), [(1e12, -1), (-1e12, 0), (np.inf, -1), (-np.inf, 0)])
def test_twohot_target_beyond_range_has_all_weight_on_outermost_bin(target, index):
    weights = np.asarray(TWOHOT(jnp.float32(target), BINS[15]))
    assert weights[index] == 1 and weights.sum() == 1


@pytest.mark.parametrize("n", BINS)
@pytest.mark.parametrize("logit", [0.0, -3.7, 1e4])
def test_twohot_mean_uniform_logits_is_exactly_zero(n, logit):
    assert MEAN(jnp.full((2, n), logit), BINS[n]).tolist() == [0.0, 0.0]


@given(targets, sizes)
def test_twohot_mean_logits_of_twohot_target_is_target(target, n):
    bins = np.asarray(BINS[n])
    mean = MEAN(jnp.log(TWOHOT(jnp.float32(target), bins)), bins)
    expected = np.clip(target, bins[0], bins[-1])
    np.testing.assert_allclose(mean, expected, atol=2e-6 * neighbour(target, bins))


def test_twohot_mean_mirrored_logits_is_negated():
    logits = random_logits((20, 15))
    mean = MEAN(logits, BINS[15])
    np.testing.assert_allclose(MEAN(logits[:, ::-1], BINS[15]), -mean, rtol=1e-4)
    probs = np.asarray(jax.nn.softmax(logits), np.float64)
    np.testing.assert_allclose(mean, probs @ np.asarray(BINS[15], np.float64), rtol=1e-4)


def test_twohot_cross_entropy_matches_plain_value_and_gradient():
    """In value and gradient, for numbers on bins, between them and beyond their ends."""
    bins, logits, weights = BINS[15], random_logits((2, 4, 15)), jnp.array([1.0, 0.3])
    targets = jnp.array([[[0.0, 1.0, -3.0, 1e12], [5e3, -1e12, 0.1, 9.0]], [[2.0] * 4, [bins[9]] * 4]])
    plain = lambda x: sum(
        w * dists.cross_entropy(x, dists.twohot(t, bins)) for w, t in zip(weights, targets, strict=True)
    )
    fast = lambda x: dists.twohot_cross_entropy(x, bins, targets, weights)
    (ours, ours_back), (theirs, theirs_back) = (jax.vjp(f, logits) for f in (fast, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    cotangent = random_logits((2, 4), seed=1)
    np.testing.assert_allclose(ours_back(cotangent)[0], theirs_back(cotangent)[0], rtol=1e-4, atol=1e-5)


# Categories


@pytest.mark.parametrize("unimix", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("traced", [False, True])
def test_unimix_logp_any_ratio_mixes_with_uniform_distribution(unimix, traced):
    logits = random_logits((5, 4))
    logp = dists.unimix_logp(logits, jnp.float32(unimix) if traced else unimix)
    expected = (1 - unimix) * jax.nn.softmax(logits) + unimix / 4
    np.testing.assert_allclose(jnp.exp(logp), expected, rtol=1e-5)


def test_unimix_logp_unlikely_classes_have_minimum_probability():
    hopeless = jnp.array([200.0, 0.0, -200.0, 0.0], jnp.bfloat16)
    logp = dists.unimix_logp(hopeless, 0.01)
    assert logp.dtype == jnp.float32
    np.testing.assert_allclose(jnp.exp(logp), [0.9925, 0.0025, 0.0025, 0.0025], rtol=1e-5)


@pytest.mark.parametrize("unimix", [0.0, 0.01])
def test_unimix_logp_extreme_logits_have_finite_values_and_gradients(unimix):
    logits = jnp.array([300.0, -300.0, 0.0])
    entropy = lambda x, u: dists.categorical_entropy(dists.unimix_logp(x, u))
    value, grad = jax.value_and_grad(entropy)(logits, jnp.float32(unimix))
    assert np.isfinite(value) and np.isfinite(grad).all()
    assert np.isfinite(dists.unimix_logp(logits, jnp.float32(unimix))).all()


def test_unimix_probs_any_axis_mixes_and_zero_ratio_is_softmax():
    logits = random_logits((6, 4))
    mixed = dists.unimix_probs(logits, 0.1)
    np.testing.assert_allclose(mixed, 0.9 * jax.nn.softmax(logits) + 0.025, rtol=1e-6)
    np.testing.assert_allclose(dists.unimix_probs(logits.T, 0.1, 0).T, mixed, rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(dists.unimix_logp(logits, 0.1)), mixed, rtol=1e-6)
    np.testing.assert_allclose(dists.unimix_probs(logits, 0.0), jax.nn.softmax(logits), rtol=1e-6)


def test_straight_through_sample_has_gradient_of_probabilities():
    logits, index = random_logits((6, 4)), jnp.array([0, 1, 2, 3, 0, 1])
    w = random_logits((6, 4), seed=1)
    sample = lambda x: dists.straight_through(index, dists.unimix_probs(x.T, 0.01, 0))
    np.testing.assert_array_equal(sample(logits), jax.nn.one_hot(index, 4))
    ours = jax.grad(lambda x: (w * sample(x)).sum())(logits)
    theirs = jax.grad(lambda x: (w * (0.99 * jax.nn.softmax(x) + 0.0025)).sum())(logits)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert jnp.abs(ours).max() > 0.01


def draw(key, probs):
    noise = dists.RANDOM.uniform(key, probs.shape[1:])
    return np.asarray(dists.RANDOM.categorical(noise, probs))


def test_categorical_draws_have_given_frequencies(key):
    probs, n = np.array([0.5, 0.2, 0.0, 0.25, 0.05]), 50_000
    drawn = draw(key, jnp.tile(jnp.asarray(probs, jnp.float32)[:, None], (1, n)))
    counts = np.bincount(drawn, minlength=5)
    assert counts[2] == 0 and drawn.dtype == np.int32
    kept = probs > 0
    expected = n * probs[kept]
    chi_square = ((counts[kept] - expected) ** 2 / expected).sum()
    assert chi_square < 16.3  # 3 degrees of freedom: one key in a thousand is beyond


@given(st.integers(0, 2**31 - 1), st.integers(0, 63))
def test_categorical_zero_probability_class_is_never_drawn(seed, mask):
    """Impossible first and last classes included, where a cumulative sum is exactly 0 or 1."""
    possible = np.array([(mask >> i) & 1 for i in range(6)], bool)
    possible[0] |= not possible.any()
    logits = random_logits((64, 6), seed=seed)
    probs = jax.nn.softmax(jnp.where(possible.reshape(1, 6), logits, -jnp.inf))
    drawn = draw(jax.random.key(seed), probs.T)
    assert possible[drawn].all()


def test_categorical_groups_are_drawn_independently(key):
    drawn = draw(key, jnp.full((2, 2000, 2), 0.5))
    joint = np.bincount(drawn[:, 0] * 2 + drawn[:, 1], minlength=4) / 2000
    np.testing.assert_allclose(joint, 0.25, atol=0.04)


def test_greedy_sampler_takes_most_likely_class_without_noise(key):
    a, b = jax.random.split(key)
    probs = jax.nn.softmax(random_logits((5, 30)), 0)
    noise = dists.GREEDY.uniform(a, (30,))
    np.testing.assert_array_equal(dists.GREEDY.categorical(noise, probs), probs.argmax(0))
    np.testing.assert_array_equal(dists.GREEDY.normal(b, (2, 3)), np.zeros((2, 3)))


def test_categorical_kl_known_distributions_matches_hand_computed_value():
    p, q = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.9, 0.1]))
    np.testing.assert_allclose(dists.categorical_kl(p, q), 0.5 * np.log(0.5**2 / 0.09), rtol=1e-5)
    assert dists.categorical_kl(p, q) != dists.categorical_kl(q, p)


@given(st.integers(0, 10_000))
def test_categorical_kl_is_nonnegative_and_zero_for_equal_distributions(seed):
    p, q = (jax.nn.log_softmax(random_logits((8, 4), 5.0, seed + i)) for i in range(2))
    assert (dists.categorical_kl(p, q) >= -1e-6).all()
    np.testing.assert_array_equal(dists.categorical_kl(p, p), 0)


def test_categorical_entropy_ranges_from_zero_to_log_of_class_count():
    uniform, certain = jnp.zeros(7), jnp.array([100.0] + 6 * [0.0])
    logp = jax.nn.log_softmax(jnp.stack([uniform, certain]))
    np.testing.assert_allclose(dists.categorical_entropy(logp), [np.log(7), 0], atol=1e-6)


def test_cross_entropy_with_itself_equals_entropy():
    logits = random_logits((5, 6))
    probs, logp = jax.nn.softmax(logits), jax.nn.log_softmax(logits)
    ours = dists.cross_entropy(logits, probs)
    np.testing.assert_allclose(ours, dists.categorical_entropy(logp), rtol=1e-5)
    np.testing.assert_allclose(dists.cross_entropy(logits, 3 * probs), 3 * ours, rtol=1e-6)


@given(st.floats(-30, 30, width=32), st.floats(0, 1, width=32))
def test_binary_cross_entropy_soft_target_matches_formula(logit, target):
    p = 1 / (1 + np.exp(-np.float64(logit)))
    expected = -(target * np.log(p) + (1 - target) * np.log1p(-p))
    ours = dists.binary_cross_entropy(jnp.float32(logit), jnp.float32(target))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_binary_cross_entropy_probability_equal_to_target_is_minimal():
    grad = jax.grad(dists.binary_cross_entropy)
    np.testing.assert_allclose(grad(jnp.log(0.3 / 0.7), 0.3), 0, atol=1e-6)


# Actions


def test_categorical_several_entries_sums_log_prob_and_entropy(key):
    logp = jax.nn.log_softmax(random_logits((4, 2, 3)))
    dist = dists.Categorical(logp, ndim=1)
    action = dist.sample(key, dists.RANDOM)
    assert action.shape == (4, 2)
    by_hand = [[logp[i, j, action[i, j]] for j in range(2)] for i in range(4)]
    np.testing.assert_allclose(dist.log_prob(action), np.sum(by_hand, 1), rtol=1e-6)
    np.testing.assert_allclose(dist.entropy(), dists.categorical_entropy(logp).sum(-1), rtol=1e-6)


def test_randomness_certain_to_uniform_ranges_from_zero_to_one():
    certain = jax.nn.log_softmax(jnp.array([[1e3, 0, 0], [0, 1e3, 0]]))
    uniform = jnp.full((2, 3), -jnp.log(3))
    for logp, expected in ((certain, 0), (uniform, 1)):
        np.testing.assert_allclose(dists.Categorical(logp, 1).randomness(), expected, atol=1e-6)
    for std, expected in ((0.1, 0), (1.0, 1)):
        dist = dists.BoundedNormal(jnp.zeros((2,)), jnp.full((2,), std), 1, 0.1, 1.0)
        np.testing.assert_allclose(dist.randomness(), expected, atol=1e-6)


def test_randomness_without_choice_is_zero():
    single = dists.Categorical(jnp.zeros((4, 2, 1)), 1)
    np.testing.assert_array_equal(single.randomness(), np.zeros(4))
    fixed = dists.BoundedNormal.from_raw(jnp.ones((4, 2)), jnp.ones((4, 2)), 1, 0.5, 0.5)
    np.testing.assert_array_equal(fixed.randomness(), np.zeros(4))
    assert np.isfinite(fixed.entropy()).all()


def test_bounded_normal_zero_input_has_zero_mean_and_known_std():
    dist = dists.BoundedNormal.from_raw(jnp.zeros(3), jnp.zeros(3), 1, 0.1, 1.0)
    np.testing.assert_array_equal(dist.mean, 0)
    np.testing.assert_allclose(dist.std, 0.8927, atol=5e-5)


@given(st.floats(-50, 50, width=32), st.floats(-50, 50, width=32))
def test_bounded_normal_any_input_stays_within_bounds(mean, std):
    dist = dists.BoundedNormal.from_raw(jnp.float32(mean), jnp.float32(std), 0, 0.1, 1.0)
    assert -1 <= dist.mean <= 1
    assert 0.1 <= dist.std <= 1.0 + 1e-6


def test_bounded_normal_samples_match_density_and_entropy(key):
    mean, std = jnp.array([[0.5, -0.2]]), jnp.array([[0.3, 0.9]])
    dist = dists.BoundedNormal(mean, std, 1, 0.1, 1.0)
    action = jnp.array([[0.1, 0.4]])
    z = (np.asarray(action) - mean) / std
    expected = (-0.5 * z**2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(-1)
    np.testing.assert_allclose(dist.log_prob(action), expected, rtol=1e-5)
    many = dists.BoundedNormal(*(jnp.broadcast_to(x, (100_000, 2)) for x in (mean, std)), 1, 0.1, 1.0)
    drawn = many.sample(key, dists.RANDOM)
    np.testing.assert_allclose(drawn.mean(0), mean[0], atol=0.01)
    np.testing.assert_allclose(drawn.std(0), std[0], atol=0.01)
    np.testing.assert_allclose(-many.log_prob(drawn).mean(), dist.entropy()[0], atol=0.01)


@pytest.mark.parametrize("sequences", [1, 2])
def test_part_draws_the_rows_of_its_sequences(sequences, key):
    B, K, parts = 4, 3, 4 // sequences
    source = dists.Sampler(jax.random.uniform, dists.inverse_cdf, jax.random.normal)
    whole = {
        "steps": source.uniform(jax.random.clone(key), (5, B * K, 2)).reshape(5, B, K, 2),
        "rows": source.normal(jax.random.clone(key), (B * K, 2)).reshape(B, K, 2),
    }
    for index in range(parts):
        one = dists.part(source, sequences, parts, jnp.asarray(index))
        steps = one.uniform(jax.random.clone(key), (5, sequences * K, 2))
        rows = one.normal(jax.random.clone(key), (sequences * K, 2))
        np.testing.assert_array_equal(steps.reshape(5, sequences, K, 2), whole["steps"][:, index::parts])
        np.testing.assert_array_equal(rows.reshape(sequences, K, 2), whole["rows"][index::parts])
