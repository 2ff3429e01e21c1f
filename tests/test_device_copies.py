"""DeviceCopies: pure worlds behind the interface of the host."""

import numpy as np
import pytest

import envs
from envs.rollout import Random, rollout

TASKS = ("grid:Catch", "grid:DoorKey-5x5", "grid:MemoryS7")


@pytest.mark.parametrize("task", TASKS)
def test_they_keep_the_contract(task):
    findings = envs.check(task)
    assert not [f for f in findings if f.status == "fail"], findings


def test_an_episode_does_not_depend_on_how_many_copies_there_are():
    class Still:
        """Walks on, whatever happens."""

        def init(self, batch):
            return None

        def act(self, carry, step, *, key):
            return {"action": np.full(len(step.is_first), 2, np.int32)}, carry

    results = [rollout(Still(), envs.make("grid:DoorKey-5x5", n), range(6), max_steps=20) for n in (1, 3)]
    strip = lambda episodes: [(e.seed, e.return_, e.length, e.success) for e in episodes]
    assert strip(results[0]) == strip(results[1])


def test_training_goes_on_with_the_seeds_that_follow():
    first, second = envs.make("grid:DoorKey-5x5", 2, seed=3), envs.make("grid:DoorKey-5x5", 2, seed=3)
    first.reset()
    second.episodes[:] = first.episodes
    ours, theirs = first.reset(), second.reset()
    for key, array in ours.obs.items():
        np.testing.assert_array_equal(array, theirs.obs[key])


def test_a_wrong_action_is_named():
    env = envs.make("grid:Catch", 2)
    env.reset()
    with pytest.raises(ValueError, match=r"copy 1 is 3, expected one of 0\.\.2"):
        env.step({"action": np.array([0, 3])})


def test_random_players_catch_one_ball_in_five():
    env = envs.make("grid:Catch", 50)
    episodes = rollout(Random(env.act_space), env, range(200))
    assert 0.08 < np.mean([e.success for e in episodes]) < 0.36
    assert {e.length for e in episodes} == {9}


def test_a_task_of_the_host_has_no_pure_functions():
    with pytest.raises(envs.UnknownTask, match="runs on the host; the suites of the device are grid"):
        envs.make_jax("probe:chosen")
