"""The end of a run that did not learn says so, and what to try first."""

import dataclasses

import pytest

from dreamer.config import AgentConfig, Config, OptimConfig
from dreamer.loops.clocks import Progress
from envs.rollout import Episode
from experiments.evaluate import beside, summary
from experiments.training.verdict import random_episodes, verdict

CFG = Config("grid:Catch", 10_000, agent=AgentConfig(optim=OptimConfig(lr=1e-3)))
PROGRESS = Progress(env_steps=10_000, updates=5_000, learning_since=1_000)
RANDOM = [{"env_steps": 10 * i, "return": float(i % 10 == 0), "success": i % 10 == 0} for i in range(1, 101)]


def played(successes, episodes=100):
    return summary([Episode(i, float(i < successes), 9, i < successes, 0.0, 0.1) for i in range(episodes)])


def said(cfg=CFG, progress=PROGRESS, successes=9, episodes=RANDOM, solved=False):
    evaluation = played(successes)
    about = dict(progress=progress, solved=solved, evaluation=evaluation, episodes=episodes)
    return verdict(cfg, run="runs/x", **about)


def test_verdict_learned_run_is_empty():
    assert said(successes=60) == ""


def test_verdict_no_better_than_random_says_so_with_a_suggestion():
    text = said(successes=9)
    assert text.startswith(
        "did not learn: no better than the random actions it began with. First try more steps"
    )
    assert text.endswith("dreamer train --run runs/x --steps 20000. Why: dreamer doctor --run runs/x")


def test_verdict_without_success_compares_returns():
    silent = [row | {"success": None} for row in RANDOM]
    evaluation = summary([Episode(i, float(i < 9), 9, None, 0.0, 0.1) for i in range(100)])
    words = dict(run="r", progress=PROGRESS, solved=False, episodes=silent)
    assert verdict(CFG, evaluation=evaluation, **words).startswith("did not learn")
    better = summary([Episode(i, float(i < 60), 9, None, 0.0, 0.1) for i in range(100)])
    assert verdict(CFG, evaluation=better, **words) == ""


def test_verdict_first_episode_to_end_by_luck_is_not_what_random_actions_earn():
    """16 copies, learning from 1,000 steps on: one success ended before, 15 failures after."""
    lucky = {"began": 0, "env_steps": 900, "return": 0.6, "success": True}
    failed = {"began": 0, "env_steps": 1_800, "return": 0.0, "success": False}
    assert said(successes=100, episodes=[lucky, *[failed] * 15]) == ""
    assert said(successes=0, episodes=[lucky, *[failed] * 15]).startswith("did not learn")
    assert said(successes=0, episodes=[lucky]) == ""


@pytest.mark.parametrize(
    ("began", "ended", "counted"),
    [(0, 1_000, True), (0, 2_000, True), (0, 2_100, False), (999, 1_001, True), (1_000, 2_000, False)],
)
def test_random_episodes_began_before_learning_and_are_mostly_random(began, ended, counted):
    rows = [{"began": began, "env_steps": ended, "return": 0.0}] * 10
    assert random_episodes(rows, 1_000) == (rows if counted else [])


def test_random_episodes_too_few_or_of_unknown_beginning():
    rows = [{"env_steps": 990, "return": 0.0}] * 10
    assert random_episodes(rows, 1_000) == rows and random_episodes(rows[1:], 1_000) == []


def test_verdict_likeliest_cause_is_suggested_first():
    nothing = [{"env_steps": i, "return": 0.0, "success": False} for i in range(100)]
    assert "no episode of this run earned anything else" in said(successes=0, episodes=nothing)
    slow = dataclasses.replace(CFG, agent=AgentConfig())
    few = dataclasses.replace(PROGRESS, updates=300)
    assert "a larger learning rate" in said(cfg=slow, progress=few)
    assert "First try more updates" in said(progress=few)


def test_verdict_all_actions_of_equal_return_is_empty():
    same = [{"env_steps": 10 * i, "return": 4.0, "success": None} for i in range(1, 101)]
    evaluation = summary([Episode(i, 4.0, 4, None, 0.0, 0.1) for i in range(100)])
    words = dict(run="r", progress=PROGRESS, solved=False, evaluation=evaluation)
    assert verdict(CFG, episodes=same, **words) == ""
    assert "did not learn" in verdict(CFG, episodes=[*same, same[0] | {"return": 9.0}], **words)


def test_verdict_until_reports_solved_or_not():
    cfg = dataclasses.replace(CFG, until="success=0.95")
    assert said(cfg=cfg, successes=60).startswith(
        "not solved: no check reached success=0.95 within 10,000 steps"
    )
    assert said(cfg=cfg, successes=99, solved=True) == "solved: success=0.95 was reached after 10,000 steps"


def test_verdict_unreachable_success_goal_is_reported():
    cfg = dataclasses.replace(CFG, until="success=0.95")
    better = summary([Episode(i, float(i < 60), 9, None, 0.0, 0.1) for i in range(100)])
    silent = [row | {"success": None} for row in RANDOM]
    words = dict(
        run="r", progress=PROGRESS, solved=False, reachable=False, evaluation=better, episodes=silent
    )
    assert verdict(cfg, **words).startswith("until success=0.95 had no effect: the task does not report")


@pytest.mark.parametrize(("greedy", "sampled", "differ"), [(100, 99, False), (14, 24, False), (95, 60, True)])
def test_beside_greedy_and_sampled_differ_only_beyond_chance(greedy, sampled, differ):
    text = beside(played(greedy), played(sampled))
    assert f"with sampled actions, as in training, success {sampled}.0%" in text
    assert text.endswith("more than chance sets them apart") == differ
