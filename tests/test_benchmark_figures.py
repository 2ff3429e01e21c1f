"""Curves of benchmarks are means of the episodes between their points."""

import numpy as np

from experiments.benchmark import figures


def test_binned_episodes_match_hand_computation():
    points = [(1, 1.0), (10, 3.0), (11, 5.0), (30, 7.0)]
    told = figures.binned(points, 10, 30)
    np.testing.assert_equal(told, [2.0, 5.0, 7.0])
    np.testing.assert_equal(figures.binned(points[:2], 10, 30), [2.0, np.nan, np.nan])


def test_binned_bin_that_is_not_full_is_left_out():
    np.testing.assert_equal(figures.binned([(5, 1.0), (15, 2.0), (24, 9.0)], 10, 25), [1.0, 2.0])


def test_binned_without_episodes_is_unknown():
    assert np.isnan(figures.binned([], 10, 20)).all()
