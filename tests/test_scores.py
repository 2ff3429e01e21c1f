"""The scores of the suites, on logs made by hand."""

import math

import pytest

from dreamer.config import Config
from experiments.benchmark import scores
from experiments.training.result import _score


def row(steps: int, return_: float, success=None, **log) -> dict:
    return {"env_steps": steps, "return": return_, "success": success} | ({"log": log} if log else {})


def test_last_takes_the_episodes_of_the_last_twentieth():
    rows = [row(500, 9.0), row(950, 9.0), row(951, 1.0), row(1000, 3.0), row(1001, 50.0)]
    assert scores.last(rows, 1000) == 2.0


def test_last_without_recent_episode_takes_the_very_last():
    assert scores.last([row(10, 1.0), row(20, 5.0)], 1000) == 5.0
    assert scores.last([row(10, 1.0), row(20, 5.0), row(20, 7.0)], 1000) == 6.0, "of all copies"
    assert scores.last([], 1000) is None


def test_returns_ignore_broken_numbers():
    rows = [row(990, 4.0), row(995, math.nan), {"env_steps": 999, "return": None}]
    assert scores.of("dmc:walker-walk", rows, 1000) == {"return": 4.0}


def test_atari_score_is_normalised_by_random_and_human():
    """Pong: random -20.7, human 14.6."""
    told = scores.of("atari100k:Pong", [row(1000, 14.6), row(1000, -20.7)], 1000)
    assert told["score"] == pytest.approx(-3.05)
    assert told["human_normalized"] == pytest.approx(0.5)


def test_atari_split_games_count_whole_games_only():
    lives = [row(980, -15.0), row(990, 3.0), row(1000, -8.7, score=-20.7)]
    told = scores.of("atari100k:Pong", lives, 1000)
    assert told == {"score": -20.7, "human_normalized": 0.0}
    assert scores.values(lives, "atari100k:Pong") == [(1000.0, -20.7)]


def test_crafter_score_is_the_geometric_mean_of_one_plus_percentages():
    """Of four episodes one unlocked all three, the others the first: 100, 25 and 25 percent."""
    rows = [row(i, 2.0, achievements=[1, i == 3, i == 3]) for i in range(4)]
    told = scores.crafter(rows, "reward", 100, names=("wood", "stone", "iron"))
    assert told["crafter_score"] == pytest.approx((101 * 26 * 26) ** (1 / 3) - 1)
    assert {k: told[f"achievements/{k}"] for k in ("wood", "stone", "iron")} == {
        "wood": 100,
        "stone": 25,
        "iron": 25,
    }
    assert told["return"] == 2.0


@pytest.mark.parametrize(("unlocked", "score"), [(0, 0.0), (1, 100.0)])
def test_crafter_score_at_its_limits(unlocked, score):
    rows = [row(i, 0.0, achievements=[unlocked] * 22) for i in range(5)]
    assert scores.crafter(rows, "reward", 100)["crafter_score"] == pytest.approx(score)


def test_crafter_score_published_random_player_is_of_this_size():
    """22 achievements of which two always and the others never: exp(2 ln(101) / 22) - 1."""
    rows = [row(i, 2.0, achievements=[1, 1] + [0] * 20) for i in range(3)]
    told = scores.crafter(rows, "reward", 100)
    assert told["crafter_score"] == pytest.approx(math.exp(2 * math.log(101) / 22) - 1)


def test_crafter_episodes_after_the_budget_do_not_count():
    rows = [row(100, 0.0, achievements=[0]), row(101, 1.0, achievements=[1])]
    assert scores.crafter(rows, "reward", 100, names=("wood",))["achievements/wood"] == 0


def test_crafter_log_without_achievements_gives_the_return_alone():
    assert scores.crafter([row(100, 3.0)], "reward", 100) == {"return": 3.0}


def test_craftax_return_is_in_percent_of_the_maximal_one():
    told = scores.of("craftax:Craftax-Classic", [row(1000, 11.0)], 1000)
    assert told == {"percent_of_maximum": 50.0, "return": 11.0}
    full = scores.craftax([row(1000, 22.6, achievements=[1, 0])], "Craftax", 1000, names=("a", "b"))
    assert full["percent_of_maximum"] == pytest.approx(10)
    assert (full["achievements/a"], full["achievements/b"]) == (100, 0)


def test_popgym_mmer_is_the_best_mean_of_a_window():
    """Windows of a twentieth of 2,000 steps; a single good episode does not carry its window."""
    rows = [row(50, 1.0), row(100, -1.0), row(110, 0.5), row(200, 0.25), row(1990, -1.0)]
    assert scores.of("popgym:RepeatPreviousEasy", rows, 2000) == {"mmer": 0.375, "return": -1.0}


def test_popgym_mmer_windows_of_long_runs_have_65536_steps():
    steps = 100 * 2**16
    rows = [row(1, 1.0), row(2**16, 0.0), row(2**16 + 1, 0.75)]
    assert scores.popgym(rows, "x", steps)["mmer"] == 0.75


def test_success_rate_is_that_of_the_last_episodes():
    rows = [row(10, 0.0, False), row(990, 0.9, True), row(995, 0.0, False), row(1000, 0.7, True)]
    told = scores.of("minigrid:MiniGrid-Empty-5x5-v0", rows, 1000)
    assert told == {"success_rate": pytest.approx(2 / 3), "return": pytest.approx(1.6 / 3)}


def test_success_where_the_task_reports_none_gives_the_return():
    assert scores.of("grid:Catch", [row(1000, 1.0)], 1000) == {"return": 1.0}


def test_of_suite_without_score_or_log_without_episodes_is_empty():
    assert scores.of("gymnasium:CartPole-v1", [row(1000, 500.0)], 1000) == {}
    assert scores.of("dmc:walker-walk", [], 1000) == {}


def test_sentence_leaves_single_achievements_out():
    assert scores.sentence({"crafter_score": 14.512, "achievements/wood": 3.0, "return": 11.7}) == (
        "crafter score 14.51, return 11.7"
    )


def test_score_of_a_suite_is_a_line_unless_it_is_success():
    of = lambda task, numbers: _score(Config(task=task, steps=1), numbers)
    assert of("dmc:walker-walk", {"return": 350.2}) == "score of the training episodes: return 350.2"
    assert of("minigrid:MiniGrid-Empty-5x5-v0", {"success_rate": 1.0, "return": 0.9}) == ""
    assert of("gymnasium:CartPole-v1", {}) == ""
