"""EnvPool as an engine: the frames of raw ALE, and the stream of slots of any vector environment."""

import re
import sys

import numpy as np
import pytest

import envs
from envs import engine
from envs.adapters import MissingExtra, UnknownTask
from envs.api import EnvError

envpool = pytest.importorskip("envpool")

ONE_NOOP = {"noops": 1, "sticky": 0.0}
"""A start without chance: EnvPool plays at least one frame without action."""


@pytest.mark.parametrize(
    ("game", "file"),
    [("Pong", "pong"), ("Seaquest", "seaquest"), ("Amidar", "amidar")],
)
def test_pool_atari_equals_pooled_resized_frames_and_scores_of_raw_ale(game, file):
    ale_py = pytest.importorskip("ale_py")
    image = pytest.importorskip("PIL.Image")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(ale_py.roms.get_rom_path(file))
    ale.reset_game()
    ale.act(0)
    env = envs.make(f"atari100k:{game}", 2, engine="envpool", kwargs=ONE_NOOP)
    actions, rng, score = ale.getMinimalActionSet(), np.random.default_rng(0), 0.0
    assert env.act_space["action"].classes == len(actions)
    step, frames = env.reset([3, 4]), [ale.getScreenRGB()]
    for t in range(500):
        pooled = image.fromarray(np.stack(frames[-2:]).max(0))
        expected = np.asarray(pooled.resize((64, 64), image.Resampling.BILINEAR))
        assert np.array_equal(step.obs["image"][0], expected), t
        assert step.is_last[0] == step.is_terminal[0] == ale.game_over()
        assert step.obs["log/score"][0] == score
        if ale.game_over():
            break
        action = rng.integers(len(actions))
        step, reward = env.step({"action": np.array([action, 0])}), 0
        for _ in range(4):
            reward += ale.act(actions[action])
            frames.append(ale.getScreenRGB())
            if ale.game_over():
                break
        assert step.reward[0] == reward
        score += reward
    env.close()


def needs(task):
    """Skip where the package of a suite is missing."""
    if package := {"atari": "ale_py", "dmc": "dm_control"}.get(task.partition(":")[0]):
        pytest.importorskip(package)


@pytest.mark.parametrize(
    "task",
    [
        *("atari:Pong", "envpool:CartPole-v1", "envpool:WalkerWalk-v1"),
        *("dmc:cartpole-balance", "minigrid:DoorKey-5x5", "babyai:GoToLocal"),
    ],
)
def test_check_pool_passes(task):
    needs(task)
    findings = envs.check(task, steps=60, engine="envpool", max_episode_steps=25)
    assert not [f for f in findings if f.status == "fail"], findings
    assert any("at a limit" in f.message for f in findings)


def play(env, seeds, actions):
    steps = [env.reset(seeds)]
    for action in actions:
        steps.append(env.step({"action": action}))
    return steps


def test_pool_copies_end_at_different_steps_and_start_with_zero_reward():
    env = envs.make("envpool:CartPole-v1", 4, engine="envpool")
    actions = np.random.default_rng(0).integers(2, size=(200, 4))
    steps = play(env, [1, 10**6, 2**30, 2**31 - 1], actions)
    first, last, terminal = (
        np.stack([getattr(s, f) for s in steps]) for f in ("is_first", "is_last", "is_terminal")
    )
    assert first[0].all() and np.array_equal(first[1:], last[:-1]) and np.array_equal(last, terminal)
    assert len({tuple(column) for column in last.T}) == 4 and last.sum() > 12
    rewards = np.stack([s.reward for s in steps])
    assert (rewards[first] == 0).all() and (rewards[~first] == 1).all()


def test_pool_copies_are_worlds_of_their_seed_wherever_they_are():
    env = envs.make("envpool:CartPole-v1", 2, engine="envpool")
    actions = np.random.default_rng(0).integers(2, size=(60, 1)).repeat(2, 1)
    there = play(env, [2**30 + 7, 2**30 + 900], actions)
    swapped = play(env, [2**30 + 900, 2**30 + 7], actions)
    for a, b in zip(there, swapped, strict=True):
        assert np.array_equal(a.obs["vector"], b.obs["vector"][::-1])
    assert not np.array_equal(there[0].obs["vector"][0], there[0].obs["vector"][1])


def test_pool_resumed_run_has_other_episodes_than_at_its_start():
    env = envs.make("envpool:CartPole-v1", 2, engine="envpool", seed=3)
    first = env.reset().obs["vector"]
    resumed = envs.make("envpool:CartPole-v1", 2, engine="envpool", seed=3)
    assert np.array_equal(resumed.reset().obs["vector"], first)
    resumed.episodes[:] = 5
    assert not np.array_equal(resumed.reset().obs["vector"], first)


def test_pool_limit_truncates_without_termination():
    env = envs.make("envpool:WalkerWalk-v1", 2, engine="envpool", max_episode_steps=3)
    steps = play(env, [0, 9], np.zeros((3, 2, 6), np.float32))
    assert [s.is_last.tolist() for s in steps[1:]] == [[False] * 2, [False] * 2, [True] * 2]
    assert not steps[-1].is_terminal.any()


def test_pool_worlds_are_not_shown():
    with pytest.raises(EnvError, match="EnvPool does not show its worlds; leave out engine"):
        envs.make("envpool:CartPole-v1", engine="envpool").worlds()


@pytest.mark.parametrize(
    ("task", "how", "sentence"),
    [
        ("gymnasium:CartPole-v1", {}, "gymnasium tasks take no engine; they take kwargs"),
        ("grid:Catch", {}, "grid tasks take no engine; they take obs"),
        ("envpool:CartPole-v1", {"engine": "pool"}, "there is no engine 'pool'; the only one is 'envpool'"),
        ("envpool:CartPole-v1", {"parallel": True}, "has threads of its own: leave out parallel or engine"),
        (
            "envpool:CartPole-v1",
            {"wrappers": [lambda env: env]},
            "leave out wrappers or engine for envpool:Cart",
        ),
        (
            "atari:Pong",
            {"lives": "terminal-and-go-on"},
            "plays whole games: leave out lives or engine for atari",
        ),
        ("atari:Pong", {"kwargs": {"noops": 0}}, "set 'noops' to 1"),
        ("atari:AirRaid", {}, "right only for screens of 210x160, but that of atari:AirRaid is 250x160"),
        ("atari:TicTacToe3D", {}, "EnvPool has no task 'TicTacToe3D-v5': leave out engine"),
        ("envpool:CartPole-v1", {"levels": 3}, "worlds of later episodes itself: leave out levels or engine"),
        ("minigrid:DoorKey-5x5", {"obs": "rgb"}, "leave out engine, or take --env.obs symbolic"),
        ("minigrid:DoorKey-5x5", {"obs": "rgb", "distractor": "noise"}, "leave out distractor or engine"),
        ("minigrid:DoorKey-5x5", {"kwargs": {"size": 6}}, "leave out kwargs or engine for minigrid"),
        ("minigrid:MultiRoom-N4-S5-v1", {}, "no task 'MiniGrid-MultiRoom-N4-S5-v1': leave out engine"),
        ("minigrid:ObstructedMaze-1Dlhb", {}, "is 11x6 cells, but 16x16 in EnvPool: leave out engine"),
        ("minigrid:my_minigrid:MyMaze-v0", {}, "EnvPool has no task 'my_minigrid:MyMaze-v0'"),
        ("babyai:SynthS5R2", {}, "has worlds that EnvPool never ends drawing: leave out engine"),
        ("dmc:walker-walk", {"obs": "both"}, "EnvPool shows no images of dmc:walker-walk: leave out engine"),
        ("dmc:walker-walk", {"kwargs": {"size": 32}}, "'size' is of images"),
        ("dmc:lqr-lqr-2-1", {}, "of dmc:lqr-lqr-2-1 were not compared"),
        ("procgen:maze", {"max_episode_steps": 9}, "leave out max_episode_steps or engine"),
    ],
)
def test_make_engine_that_cannot_do_it_raises_one_sentence(task, how, sentence):
    needs(task)
    with pytest.raises(UnknownTask, match=re.escape(sentence)) as raised:
        envs.make(task, **{"engine": "envpool", **how})
    assert "\n" not in str(raised.value)


def test_described_without_envpool_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(MissingExtra, match=r"needs envpool: pip install 'dreamer-toolkit\[envpool\]'"):
        engine.described("Pong-v5", {})
