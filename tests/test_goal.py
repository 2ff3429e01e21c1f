"""A check ends a run only where its own, new episodes say so, and costs little where they cannot."""

from types import SimpleNamespace

import pytest

from dreamer.config import Config, Goal
from dreamer.schema import ConfigError
from envs.api import FIRST_TRAINING_SEED
from envs.rollout import Episode
from experiments.training import goal

ENV = SimpleNamespace(num_envs=10)


@pytest.fixture
def play(monkeypatch):
    """Have every seed succeed but those that are named; gives the seeds that were played."""
    played, failing = [], set()

    def rollout(policy, env, seeds, max_steps=None):
        played.extend(seeds)
        return [Episode(s, float(s), 1, s not in failing, 0.0, 0.0) for s in seeds]

    monkeypatch.setattr(goal, "rollout", rollout)
    return SimpleNamespace(played=played, failing=failing)


def test_seeds_of_checks_are_disjoint_from_training_evaluation_and_others():
    checks = [set(goal.seeds(number, 100)) for number in range(50)]
    assert len(set.union(*checks)) == 5000
    assert min(set.union(*checks)) > 10**8 and max(set.union(*checks)) < FIRST_TRAINING_SEED
    last = goal.seeds(10**9, 100)
    assert last[0] >= 2**29 and last[-1] < FIRST_TRAINING_SEED


def test_reached_success_at_or_below_rate_is_true_or_false(play):
    wanted = Goal.parse("success=0.95")
    play.failing |= {3, 14, 15, 92, 65}
    assert goal.reached(wanted, None, ENV, range(100)) == (True, 0.95)
    play.failing.add(99)
    assert not goal.reached(wanted, None, ENV, range(100))[0]


def test_reached_rate_not_representable_as_float_is_true(play):
    play.failing |= set(range(7, 100))
    assert goal.reached(Goal.parse("success=0.07"), None, ENV, range(100))[0], "0.07 * 100 is above 7"


def test_reached_too_many_failures_stops_early(play):
    play.failing |= set(range(100))
    assert goal.reached(Goal.parse("success=0.95"), None, ENV, range(100)) == (False, 0.0)
    assert len(play.played) == 10


def test_reached_return_goal_plays_all_episodes(play):
    assert goal.reached(Goal.parse("return=49.5"), None, ENV, range(100)) == (True, 49.5)
    assert not goal.reached(Goal.parse("return=49.6"), None, ENV, range(100))[0]


def test_reached_unreported_success_counts_as_failure(monkeypatch):
    silent = lambda policy, env, seeds, max_steps=None: [Episode(s, 1.0, 1, None, 0.0, 0.0) for s in seeds]
    monkeypatch.setattr(goal, "rollout", silent)
    assert not goal.reached(Goal.parse("success=0.1"), None, ENV, range(20))[0]


@pytest.mark.parametrize("text", ["success=0.95", "success=1", "return=-150", "return=4.5e2"])
def test_goal_valid_text_is_parsed(text):
    name, _, number = text.partition("=")
    assert Config("grid:Catch", 10, until=text).goal == Goal(name, float(number))


@pytest.mark.parametrize(
    "text", ["success=1.5", "success=0", "success", "0.95", "score=3", "return=nan", "success=95%"]
)
def test_goal_unreachable_text_raises_config_error(text):
    with pytest.raises(ConfigError, match="until must be success=RATE .* or return=NUMBER, but it is"):
        Config("grid:Catch", 10, until=text)
