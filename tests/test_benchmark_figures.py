"""Curves of benchmarks are means of the episodes between their points."""

import numpy as np
import pytest

from experiments.benchmark import figures, published, report


def test_binned_episodes_match_hand_computation():
    points = [(1, 1.0), (10, 3.0), (11, 5.0), (30, 7.0)]
    told = figures.binned(points, 10, 30)
    np.testing.assert_equal(told, [2.0, 5.0, 7.0])
    np.testing.assert_equal(figures.binned(points[:2], 10, 30), [2.0, np.nan, np.nan])


def test_binned_bin_that_is_not_full_is_left_out():
    np.testing.assert_equal(figures.binned([(5, 1.0), (15, 2.0), (24, 9.0)], 10, 25), [1.0, 2.0])


def test_binned_without_episodes_is_unknown():
    assert np.isnan(figures.binned([], 10, 20)).all()


def test_settled_has_no_window_in_which_episodes_still_run():
    points = [(1, 1.0), (10, 3.0), (11, 5.0), (30, 7.0)]
    np.testing.assert_equal(figures.settled(points, 10, 29), [2.0, 5.0])
    assert figures.settled(points, 10, 9).shape == (0,)


@pytest.mark.parametrize(("task", "shown"), [("grid:DoorKey-5x5", [0.5]), ("dmc:reacher-easy", [1.0, 0.0])])
def test_line_is_by_beginning_unless_a_published_curve_is_by_ends(task, shown):
    """A success of 10 steps beside a failure of 20, then both run on."""
    ends = [{"env_steps": 20, "length": 10, "return": 1.0}, {"env_steps": 40, "length": 20, "return": 0.0}]
    run = report.Run(task, 0, "done", "", 40, [row | {"began": 0} for row in ends], {}, {}, {})
    line = figures._line(run, 20, figures.is_by_end(task, published.of(task).curve))
    np.testing.assert_equal(line, shown)


def test_radar_axis_without_a_score_is_a_gap_and_says_so():
    whole = figures.radar({"a": {"x": 1.0, "y": 0.5, "z": 0.0}}, ("x", "y", "z"))
    gap = figures.radar({"a": {"x": 1.0, "y": 0.5}}, ("x", "y", "z"))
    assert "not played" not in whole and "not played" in gap
    area = "fill-opacity: 0.2"
    assert (area in whole or "opacity: 0.2" in whole) and "opacity: 0.2" not in gap
