"""memory-maze: the same mazes as the package's. Each takes seconds to make, and so the tests are few."""

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import envs
from envs.adapters import MissingExtra, UnknownTask, memory_maze

ACTIONS = [1, 1, 2, 3, 4, 5, 0, 1]
ROOT = Path(envs.__file__).parents[1]


@pytest.fixture(scope="module")
def maze():
    """A vector of one maze, or a skip where there can be none."""
    pytest.importorskip("dm_control")
    if not all(map(importlib.util.find_spec, ("memory_maze", "gym"))):
        pytest.skip("memory-maze and gym are not installed")
    try:
        return envs.make("memory-maze:9x9", max_episode_steps=len(ACTIONS))
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "hint"), [("9x8", "did you mean 9x9"), ("big", "there are 9x9, 11x11, 13x13, 15x15")]
)
def test_canonical_unknown_name_suggests_mazes(name, hint):
    with pytest.raises(UnknownTask, match=hint):
        memory_maze.canonical(name)


def test_ids_are_canonical():
    assert [memory_maze.canonical(name) for name in memory_maze.ids()] == ["9x9", "11x11", "13x13", "15x15"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"max_episode_steps": 1001}, "9x9 ends after 1,000 steps: max_episode_steps can only be less"),
        ({"kwargs": {"camera_resolution": 0}}, "a positive whole number for 'camera_resolution', not 0"),
        ({"kwargs": {"good_visibility": 1}}, "true or false for 'good_visibility', not 1"),
        ({"kwargs": {"good_visibilty": True}}, "did you mean good_visibility"),
    ],
)
def test_make_wrong_argument_raises_with_what_is_right(asked, sentence):
    with pytest.raises(UnknownTask, match=sentence):
        memory_maze.make("9x9", "image", **asked)


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ("memory_maze", r"need memory_maze: pip install 'dreamer-toolkit\[memory-maze\]'"),
        ("gym", "memory-maze:9x9 needs gym.*pip install gym==0.26.2"),
    ],
)
def test_make_missing_package_says_what_to_install(monkeypatch, package, sentence):
    find = importlib.util.find_spec
    there = {package: None} | ({"memory_maze": object()} if package == "gym" else {})
    monkeypatch.setattr("importlib.util.find_spec", lambda n: there[n] if n in there else find(n))
    with pytest.raises(MissingExtra, match=sentence):
        envs.make("memory-maze:9x9")


def test_spaces_are_a_picture_and_six_actions(maze):
    assert maze.obs_space["image"] == envs.Space((64, 64, 3), "uint8")
    assert maze.act_space == {"action": envs.Space((), "int32", 6)}


def test_episode_of_a_seed_equals_the_package_and_its_limit_is_not_terminal(maze):
    from memory_maze import tasks

    step, theirs = maze.reset([2]), tasks.memory_maze_9x9(seed=2, image_only_obs=True)
    now = theirs.reset()
    for action in ACTIONS:
        assert np.array_equal(step.obs["image"][0], now.observation) and not step.is_last[0]
        step, now = maze.step({"action": np.array([action])}), theirs.step(action)
        assert step.reward[0] == now.reward
    assert step.is_last[0] and not step.is_terminal[0] and not now.last()
    theirs.close()


@pytest.mark.slow
def test_time_limit_of_the_package_has_discount_1_after_as_many_steps(maze):
    from memory_maze import tasks

    for name, steps in memory_maze.LIMITS.items():
        world = getattr(tasks, f"memory_maze_{name}")(seed=1, image_only_obs=True)
        inner = world
        while hasattr(type(inner), "__getattr__"):
            inner = inner.env
        assert np.ceil(inner._time_limit / inner.control_timestep()) == steps
        if name == "9x9":
            world.reset()
            inner._time_limit = 2 * inner.control_timestep() - 1e-3
            ends = [(now.last(), now.discount) for now in (world.step(0), world.step(0))]
            assert ends == [(False, 1.0), (True, 1.0)]
        world.close()


@pytest.mark.slow
def test_same_seed_is_the_same_maze_in_another_process(maze):
    code = (
        "import envs, hashlib; e = envs.make('memory-maze:9x9');"
        "print(hashlib.md5(e.reset([2]).obs['image'].tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    here = hashlib.md5(maze.reset([2]).obs["image"].tobytes()).hexdigest()
    assert there.stdout.split()[-1] == here
    assert "unmaintained" not in there.stderr and memory_maze.REPEATED not in there.stderr
