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


def test_checks_share_no_seed_with_training_with_evaluation_or_with_each_other():
    checks = [set(goal.seeds(number, 100)) for number in range(50)]
    assert len(set.union(*checks)) == 5000
    assert min(set.union(*checks)) > 10**8 and max(set.union(*checks)) < FIRST_TRAINING_SEED
    last = goal.seeds(10**9, 100)
    assert last[0] >= 2**29 and last[-1] < FIRST_TRAINING_SEED


def test_success_is_reached_at_the_rate_and_not_below_it(play):
    wanted = Goal.parse("success=0.95")
    play.failing |= {3, 14, 15, 92, 65}
    assert goal.reached(wanted, None, ENV, range(100)) == (True, 0.95)
    play.failing.add(99)
    assert not goal.reached(wanted, None, ENV, range(100))[0]


def test_a_rate_that_no_float_is_can_be_reached(play):
    play.failing |= set(range(7, 100))
    assert goal.reached(Goal.parse("success=0.07"), None, ENV, range(100))[0], "0.07 * 100 is above 7"


def test_a_check_stops_with_the_round_of_the_failure_that_decides(play):
    play.failing |= set(range(100))
    assert goal.reached(Goal.parse("success=0.95"), None, ENV, range(100)) == (False, 0.0)
    assert len(play.played) == 10


def test_a_return_needs_all_episodes(play):
    assert goal.reached(Goal.parse("return=49.5"), None, ENV, range(100)) == (True, 49.5)
    assert not goal.reached(Goal.parse("return=49.6"), None, ENV, range(100))[0]


def test_an_episode_whose_task_does_not_say_counts_as_not_solved(monkeypatch):
    silent = lambda policy, env, seeds, max_steps=None: [Episode(s, 1.0, 1, None, 0.0, 0.0) for s in seeds]
    monkeypatch.setattr(goal, "rollout", silent)
    assert not goal.reached(Goal.parse("success=0.1"), None, ENV, range(20))[0]


@pytest.mark.parametrize("text", ["success=0.95", "success=1", "return=-150", "return=4.5e2"])
def test_goals_are_read(text):
    name, _, number = text.partition("=")
    assert Config("grid:Catch", 10, until=text).goal == Goal(name, float(number))


@pytest.mark.parametrize(
    "text", ["success=1.5", "success=0", "success", "0.95", "score=3", "return=nan", "success=95%"]
)
def test_what_no_check_can_reach_is_refused_with_what_is_right(text):
    with pytest.raises(ConfigError, match="until must be success=RATE .* or return=NUMBER, but it is"):
        Config("grid:Catch", 10, until=text)
