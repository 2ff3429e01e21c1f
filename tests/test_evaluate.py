"""Intervals by hand and at their limits."""

import json

import pytest

import envs
from envs.rollout import Episode, Random
from experiments import evaluate


def episodes(successes, returns):
    pairs = zip(successes, returns, strict=True)
    return [Episode(seed=i, return_=r, length=3, success=s, seconds=0.1) for i, (s, r) in enumerate(pairs)]


def test_wilson_by_hand():
    low, high = evaluate.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.49016, abs=1e-4), pytest.approx(0.94331, abs=1e-4))


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.0370), (100, 0.9630, 1.0)])
def test_wilson_never_claims_certainty(successes, low, high):
    assert evaluate.wilson(successes, 100) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_bootstrap_holds_the_mean_and_shrinks_with_more_episodes():
    few, many = ([float(i % 2) for i in range(n)] for n in (20, 2000))
    width = lambda interval: interval[1] - interval[0]
    for values in (few, many):
        low, high = evaluate.bootstrap(values)
        assert low < 0.5 < high
    assert width(evaluate.bootstrap(many)) < width(evaluate.bootstrap(few)) / 5


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0, 2.0]])
def test_bootstrap_of_one_value_has_no_width(values):
    assert evaluate.bootstrap(values) == (2.0, 2.0)


def test_a_task_that_does_not_tell_success_has_none():
    result = evaluate.summary(episodes([None, None], [1.0, 2.0]))
    assert result["success_rate"] is None and result["success_interval"] is None
    assert result["return_mean"] == 1.5
    assert "success" not in evaluate.sentence(result)


def test_summary_has_the_promised_fields_and_is_json():
    result = evaluate.summary(episodes([True, False, True, True], [1.0, 0.0, 1.0, 1.0]))
    promised = "episodes seed success_rate success_interval return_mean return_interval length_mean"
    assert set(promised.split()) <= result.keys()
    assert result["success_rate"] == 0.75
    assert json.loads(json.dumps(result)) == result


def test_play_uses_the_seeds_it_was_given():
    env = envs.make("probe:observed", 3)
    policy = Random(env.act_space)
    assert evaluate.play(policy, env, 10, seed=5) == evaluate.play(policy, env, 10, seed=5)
    assert evaluate.play(policy, env, 10, seed=5)["seed"] == 5
