"""envpool: single copies, whose seed decides an episode."""

import numpy as np
import pytest
from gymnasium import spaces as gym

import envs
from envs.adapters import MissingExtra, UnknownTask
from envs.adapters.envpool import unbounded

envpool = pytest.importorskip("envpool")


@pytest.mark.parametrize("task", ["CartPole-v1", "WalkerWalk-v1", "Breakout-v5"])
def test_check_envpool_passes(task):
    findings = envs.check(f"envpool:{task}", steps=20, max_episode_steps=8)
    assert not [f for f in findings if f.status == "fail"], findings


def test_make_walker_shows_numbers_without_bounds_and_continuous_actions():
    env = envs.make("envpool:WalkerWalk-v1")
    shapes = {key: space.shape for key, space in env.obs_space.items()}
    assert shapes == {"orientations": (14,), "height": (), "velocity": (9,), "log/success": ()}
    assert env.act_space["action"] == envs.Space((6,), "float32")


def test_unbounded_declared_extremes_become_infinite_and_bounds_stay():
    limits = np.finfo(np.float64)
    space = gym.Dict({"a": gym.Box(limits.tiny, limits.max, (2,), np.float64), "b": gym.Discrete(3)})
    assert unbounded(space) == gym.Dict(
        {"a": gym.Box(-np.inf, np.inf, (2,), np.float64), "b": gym.Discrete(3)}
    )
    picture, angle = gym.Box(0, 255, (3, 64, 64), np.uint8), gym.Box(-1, 2, (1,), np.float32)
    assert unbounded(picture) == picture and unbounded(angle) == angle


def test_reset_seed_decides_the_episode():
    single = envs.make("envpool:CartPole-v1")
    one, other = (single.reset([seed]).obs["vector"] for seed in (7, 8))
    assert np.array_equal(single.reset([7]).obs["vector"], one) and not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "kwargs", "sentence"),
    [
        ("CartPole-v9", {}, "EnvPool has no task 'CartPole-v9'; did you mean CartPole-v1"),
        ("WalkerWalk-v1", {"frame_skp": 2}, "takes no argument 'frame_skp'; did you mean frame_skip"),
        ("WalkerWalk-v1", {"num_envs": 2}, "envpool:WalkerWalk-v1 takes no argument 'num_envs'"),
    ],
)
def test_make_wrong_name_or_option_raises_with_close_ones(name, kwargs, sentence):
    with pytest.raises(UnknownTask, match=sentence):
        envs.make(f"envpool:{name}", kwargs=kwargs)


def test_make_options_change_the_task():
    env = envs.make("envpool:Pong-v5", kwargs={"stack_num": 1, "img_height": 64, "img_width": 64})
    assert env.obs_space["image"] == envs.Space((64, 64, 1), "uint8")


def test_make_procgen_plays_or_says_which_library_is_missing():
    try:
        env = envs.make("envpool:CoinrunHard-v0")
    except MissingExtra as error:
        assert "Qt" in str(error) and "\n" not in str(error)
    else:
        assert env.obs_space["image"] == envs.Space((64, 64, 3), "uint8")
