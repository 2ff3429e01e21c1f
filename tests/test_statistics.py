"""Means, shares and their intervals: by hand, at their limits, and how often they hold the truth."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import statistics

ROOT = Path(__file__).parents[1]


def test_wilson_eight_of_ten_matches_hand_computation():
    low, high = statistics.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.49016, abs=1e-4), pytest.approx(0.94331, abs=1e-4))


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.0370), (100, 0.9630, 1.0)])
def test_wilson_all_or_none_keeps_a_positive_width(successes, low, high):
    told = statistics.wilson(successes, 100)
    assert told == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_bootstrap_more_values_give_a_narrower_interval():
    few, many = ([float(i % 2) for i in range(n)] for n in (20, 2000))
    width = lambda interval: interval[1] - interval[0]
    for values in (few, many):
        low, high = statistics.bootstrap(values)
        assert low < 0.5 < high
    assert width(statistics.bootstrap(many)) < width(statistics.bootstrap(few)) / 5


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0, 2.0]])
def test_bootstrap_constant_values_have_zero_width(values):
    assert statistics.bootstrap(values) == (2.0, 2.0)


def test_bootstrap_random_values_equal_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).normal(size=50)
    rng = np.random.default_rng(0)
    theirs = bootstrap((values,), np.mean, n_resamples=statistics.RESAMPLES, method="percentile", rng=rng)
    np.testing.assert_allclose(statistics.bootstrap(values.tolist()), theirs.confidence_interval, rtol=1e-12)


# Interquartile means.


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 100], 3.5),
        ([-1000, 1, 2, 3, 1000], 2.0),
        ([7, 1, 1], 3.0),  # a quarter of three is less than one value
        ([4], 4.0),
    ],
)
def test_iqm_values_match_hand_computation(values, mean):
    assert statistics.iqm(values) == mean


def test_iqm_few_outliers_are_ignored():
    assert statistics.iqm([1.0] * 9 + [1e9, -1e9, 1e9]) == 1.0


@pytest.mark.parametrize("scores", [[[3.0]], [[2.0, 2.0], [2.0]], [[0.5] * 4, [0.5] * 9, [0.5]]])
def test_iqm_interval_and_profile_constant_scores_have_zero_width(scores):
    value = scores[0][0]
    assert statistics.iqm_interval(scores) == (value, value)
    share, low, high = statistics.performance_profile(scores, [value - 1, value])
    assert share.tolist() == low.tolist() == high.tolist() == [1.0, 0.0]


def test_iqm_interval_and_profile_resample_seeds_within_each_task():
    """Each task alone leaves no doubt, however far apart the tasks are and however many seeds they have."""
    scores = [[0.0] * 3, [1.0] * 5]
    assert statistics.iqm_interval(scores) == (0.75, 0.75)  # of 0 1 1 1 after the outer quarters of the eight
    profile = statistics.performance_profile(scores, [0.5])
    assert [row.item() for row in profile] == [0.625] * 3
    low, high = statistics.iqm_interval([[0.0] * 3 + [1.0] * 5])
    assert low < 0.75 < high


# Profiles.


def test_performance_profile_scores_match_hand_computation():
    profile = statistics.performance_profile([[0.1, 0.5], [0.9]], [0.0, 0.5, 0.9])
    assert profile.share.tolist() == [1.0, pytest.approx(1 / 3), 0.0]
    assert profile.low.tolist()[0] == profile.high.tolist()[0] == 1.0
    assert (profile.low <= profile.share).all() and (profile.share <= profile.high).all()


def test_performance_profile_rising_thresholds_never_increase_it():
    scores = np.random.default_rng(0).random((3, 8)).tolist()
    for row in statistics.performance_profile(scores, np.linspace(0, 1, 11).tolist()):
        assert (np.diff(row) <= 0).all()


# Differences.


def test_paired_difference_pairs_match_hand_computation():
    told = statistics.paired_difference([3.0, 4.0, 8.0], [1.0, 2.0, 6.0])
    assert told == (2.0, 2.0, 2.0)
    assert statistics.paired_difference([5.0], [7.5]) == (-2.5, -2.5, -2.5)


def test_paired_difference_shared_noise_gives_a_narrower_interval():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10, 50)
    ours, theirs = (shared + 1 + rng.normal(0, 0.1, 50)).tolist(), shared.tolist()
    width = lambda told: told.high - told.low
    paired, alone = statistics.paired_difference(ours, theirs), statistics.difference(ours, theirs)
    assert paired.mean == pytest.approx(alone.mean)
    assert paired.low < 1 < paired.high and width(paired) < width(alone) / 10


def test_paired_difference_unequal_lengths_raise_value_error():
    with pytest.raises(ValueError, match="as many scores of both, but there are 2 and 1"):
        statistics.paired_difference([1.0, 2.0], [1.0])


def test_difference_samples_match_hand_computation():
    assert statistics.difference([1.0, 1.0], [0.25]) == (0.75, 0.75, 0.75)
    mean, low, high = statistics.difference([1.0, 0.0] * 50, [0.0] * 7)
    assert (mean, low, high) == (0.5, *statistics.bootstrap([1.0, 0.0] * 50))


def test_difference_equal_samples_are_resampled_independently():
    values = np.random.default_rng(1).normal(size=40).tolist()
    mean, low, high = statistics.difference(values, values)
    assert mean == 0 and low < -0.1 and high > 0.1


@pytest.mark.parametrize("scores", [[], [[]], [[1.0], []]])
def test_iqm_interval_empty_sample_raises_value_error(scores):
    with pytest.raises(ValueError, match="every sample needs at least one value"):
        statistics.iqm_interval(scores)


# How often the interval holds the truth: 95 of 100 times for many seeds.


def coverage(interval, sample, truth, repetitions=300):
    rng = np.random.default_rng(0)
    intervals = [interval(sample(rng)) for _ in range(repetitions)]
    return np.mean([low <= truth <= high for low, high in intervals])


def test_bootstrap_interval_covers_the_true_mean():
    sample = lambda rng: rng.normal(2, 3, 30).tolist()
    assert 0.90 < coverage(statistics.bootstrap, sample, 2.0) < 0.98


def test_iqm_interval_covers_the_true_value():
    sample = lambda rng: [rng.normal(0, 1, 15).tolist(), rng.normal(0, 3, 15).tolist()]
    assert 0.90 < coverage(statistics.iqm_interval, sample, 0.0) < 0.98


def test_difference_intervals_cover_the_true_value():
    pair = lambda rng: (rng.normal(3, 1, 40).tolist(), rng.normal(1, 2, 40).tolist())
    for difference in (statistics.paired_difference, statistics.difference):
        assert 0.90 < coverage(lambda ab, f=difference: f(*ab)[1:], pair, 2.0) < 0.98


def test_performance_profile_interval_covers_the_true_value():
    interval = lambda scores: [row.item() for row in statistics.performance_profile(scores, [0.0])[1:]]
    sample = lambda rng: rng.normal(0, 1, (4, 10)).tolist()
    assert 0.90 < coverage(interval, sample, 0.5) < 0.98


def test_rate_difference_newcombe_example_matches_the_paper():
    """Newcombe (1998), table II, example (a): 56/70 against 48/80."""
    mean, low, high = statistics.rate_difference((56, 70), (48, 80))
    assert mean == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize("rate", [0, 1])
def test_rate_difference_few_identical_episodes_have_a_wide_interval(rate):
    _, low, high = statistics.rate_difference((2 * rate, 2), (2 * rate, 2))
    assert low < -0.5 and high > 0.5


# Several tasks together.


def test_aggregates_scores_match_hand_computation():
    """Task means 0.5, 1.0 and 3.0; runs 0 1 1 1 2 4 without the lowest and highest: 1 1 1 2."""
    told = statistics.aggregates([[0.0, 1.0], [1.0, 1.0], [2.0, 4.0]])
    assert told["iqm"].value == 1.25
    assert told["median"].value == 1.0
    assert told["mean"].value == 1.5
    assert told["optimality_gap"].value == pytest.approx((0.5 + 0 + 0) / 3)
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in told.values())


def test_aggregates_of_one_seed_per_task_have_zero_width():
    for estimate in statistics.aggregates([[0.2], [0.4], [0.9]]).values():
        assert estimate.low == estimate.high == pytest.approx(estimate.value)


def test_aggregates_task_with_more_seeds_weighs_no_more_in_mean_median_and_gap():
    few, many = ([[0.0], [1.0]], [[0.0], [1.0] * 9])
    for name in ("median", "mean", "optimality_gap"):
        assert statistics.aggregates(few)[name].value == statistics.aggregates(many)[name].value == 0.5


def test_aggregates_scores_above_target_leave_no_gap():
    assert statistics.aggregates([[1.0, 5.0], [2.0]])["optimality_gap"] == (0.0, 0.0, 0.0)
    assert statistics.aggregates([[1.0], [2.0]], target=4.0)["optimality_gap"].value == 2.5


def test_aggregates_iqm_equals_iqm_of_all_runs():
    scores = np.random.default_rng(0).random((5, 4)).tolist()
    told = statistics.aggregates(scores)["iqm"]
    assert told.value == pytest.approx(statistics.iqm(np.ravel(scores).tolist()))
    assert (told.low, told.high) == pytest.approx(statistics.iqm_interval(scores))


def test_probability_of_improvement_scores_match_hand_computation():
    """Task 1: of 4 pairs 2 are won and 1 tied, so 0.625; task 2: lost, 0."""
    told = statistics.probability_of_improvement([[1.0, 3.0], [0.0]], [[1.0, 2.0], [5.0]])
    assert told.value == 0.3125
    assert told.low <= 0.3125 <= told.high


@pytest.mark.parametrize(("a", "p"), [(2.0, 1.0), (1.0, 0.5), (0.0, 0.0)])
def test_probability_of_improvement_at_its_limits(a, p):
    assert statistics.probability_of_improvement([[a, a]] * 3, [[1.0]] * 3) == (p, p, p)


def test_probability_of_improvement_both_ways_sums_to_one():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (2, 3, 5)).astype(float).tolist()
    there, back = (statistics.probability_of_improvement(*pair).value for pair in ((a, b), (b, a)))
    assert there + back == pytest.approx(1)


def test_probability_of_improvement_different_numbers_of_tasks_raise_value_error():
    with pytest.raises(ValueError, match="same tasks, but there are 1 and 2"):
        statistics.probability_of_improvement([[1.0]], [[1.0], [2.0]])


def test_aggregates_intervals_cover_the_true_mean():
    interval = lambda scores: statistics.aggregates(scores)["mean"][1:]
    sample = lambda rng: rng.normal(0.5, 1, (4, 30)).tolist()
    assert 0.90 < coverage(interval, sample, 0.5, 200) < 0.98


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([3.0, 4.0], [1.0, 2.0], 2 / 6),  # the most extreme of six divisions, and its mirror image
        ([1.0, 4.0], [2.0, 3.0], 1.0),  # equal means
        ([5.0], [1.0, 2.0], 1 / 3),  # of 3.5, -1.0 and -2.5 only the first is as large
        ([2.0, 2.0], [2.0, 2.0], 1.0),
    ],
)
def test_permutation_test_few_values_matches_a_count_by_hand(a, b, p):
    assert statistics.permutation_test(a, b) == pytest.approx(p)


def test_permutation_test_many_values_agrees_with_a_t_test():
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(1)
    a, b = rng.normal(0.5, 1, 30), rng.normal(0, 1, 30)
    assert statistics.permutation_test(a, b) == pytest.approx(ttest_ind(a, b).pvalue, abs=0.01)


def test_permutation_test_equal_distributions_is_rarely_significant():
    rng = np.random.default_rng(2)
    values = [statistics.permutation_test(*rng.normal(size=(2, 5))) for _ in range(400)]
    assert 0.02 < np.mean(np.array(values) <= 0.05) < 0.08


def test_permutation_test_empty_sample_is_named():
    with pytest.raises(ValueError, match="at least one value"):
        statistics.permutation_test([], [1.0])


@pytest.mark.parametrize("episodes", [1, 2, 7, 100, 1000])
def test_wilson_is_that_of_scipy(episodes):
    from scipy.stats import binomtest

    for successes in {0, 1, episodes // 3, episodes // 2, episodes - 1, episodes}:
        theirs = binomtest(successes, episodes).proportion_ci(0.95, method="wilson")
        assert statistics.wilson(successes, episodes) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
def test_iqm_is_the_trimmed_mean_of_scipy(count):
    from scipy.stats import trim_mean

    values = np.random.default_rng(count).normal(size=count)
    assert statistics.iqm(values) == pytest.approx(trim_mean(values, 0.25), rel=1e-12)


def test_evaluation_statistics_need_no_scipy():
    code = (
        "import sys; from experiments import statistics as s; s.wilson(3, 4); s.iqm([1, 2, 3]); "
        "s.bootstrap([1, 2]); s.aggregates([[1, 2], [3]]); print('scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["False"]
