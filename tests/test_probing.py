"""Linear probes read what is there linearly, and nothing where there is nothing."""

import numpy as np
import pytest

from experiments.report import probing
from experiments.report.probing import Probe, measure, predict, ridge
from experiments.report.states import Variable

R = 400
rng = np.random.default_rng(0)
HELD, NOISE = rng.normal(size=(R, 6)), rng.normal(size=(R, 6))
EPISODE = np.arange(R) // 10
ALWAYS = np.ones(R, bool)


def probed(values, known=ALWAYS, held=HELD, tokens=NOISE):
    return measure({"x": Variable(values, known)}, held, tokens, EPISODE).get("x")


def test_measure_linear_number_is_read_from_the_features_alone():
    probe = probed((3 * HELD[:, 0] - HELD[:, 1] + 5).astype(np.float32))
    assert probe.kind == "R2" and probe.score == pytest.approx(1, abs=0.01)
    assert probe.tokens < 0.05 and probe.baseline == pytest.approx(0, abs=0.05)
    assert probe.skill > 0.98 and probe.tokens_skill < 0.05


def test_measure_category_is_read_and_compared_with_the_most_frequent_one():
    values = np.where(HELD[:, 2] > 0.7, 4, np.where(HELD[:, 2] < -2, 1, 2))
    probe = probed(values)
    usual = (values[EPISODE % 2 == 1] == 2).mean()
    assert probe.kind == "accuracy" and probe.baseline == pytest.approx(usual)
    assert probe.score > 0.9 > probe.baseline and probe.tokens <= probe.baseline + 0.05
    assert probe.skill == pytest.approx((probe.score - usual) / (1 - usual))


def test_measure_scores_only_episodes_that_were_not_fitted():
    """Features that name the step, of which every episode has others, say nothing of other episodes."""
    probe = probed(rng.normal(size=R).astype(np.float32), held=np.eye(R))
    assert probe.score < 0.05


def test_measure_rows_that_are_not_known_do_not_count():
    values = HELD[:, 0].astype(np.float32)
    spoilt = np.where(np.arange(R) % 3 == 0, 1e6, values).astype(np.float32)
    assert probed(spoilt, np.arange(R) % 3 != 0).score > 0.98


@pytest.mark.parametrize(
    ("values", "known"),
    [
        (np.ones(R), ALWAYS),
        (np.where(EPISODE % 2, np.arange(R), 7.0), ALWAYS),
        (HELD[:, 0], np.arange(R) < 2 * probing.FEWEST - 1),
    ],
    ids=["constant", "constant where it is fitted", "hardly known"],
)
def test_measure_variable_that_says_nothing_is_left_out(values, known):
    assert probed(values.astype(np.float32), known) is None


def test_predict_constant_features_give_the_mean():
    halves = np.arange(5) % 2
    expected = predict(np.ones((5, 3)), np.arange(5, dtype=np.float32), np.zeros((2, 3)), halves)
    np.testing.assert_allclose(expected, [2, 2])


def test_ridge_more_features_than_rows_gives_the_same():
    x, y, others = rng.normal(size=(8, 8)), rng.normal(size=(8, 2)), rng.normal(size=(3, 8))
    wide = np.concatenate([x, np.zeros((8, 1))], 1), y, np.concatenate([others, np.zeros((3, 1))], 1)
    np.testing.assert_allclose(ridge(x, y, others, 0.1), ridge(*wide, 0.1), rtol=1e-8)


def test_measure_steps_that_are_alike_are_not_overfitted():
    """Of 20 episodes the fitted ones have a constant each, and features that name them besides noise."""
    values = np.repeat(rng.normal(size=20), 20).astype(np.float32)
    named = np.repeat(rng.normal(size=(20, 50)), 20, 0) + 0.01 * rng.normal(size=(R, 50))
    probe = measure({"x": Variable(values, ALWAYS)}, named, named, np.arange(R) // 20)["x"]
    assert probe.score > probe.baseline - 0.35


def test_skill_is_the_share_of_what_the_baseline_leaves():
    assert Probe("accuracy", 0.9, 0.5, 0.8).skill == pytest.approx(0.5)
    assert Probe("accuracy", 0.9, 0.5, 0.8).tokens_skill == 0
    assert Probe("accuracy", 1.0, 1.0, 1.0).skill == 1
