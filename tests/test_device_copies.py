"""DeviceCopies: pure worlds behind the interface of the host."""

import numpy as np
import pytest

import envs
from envs.rollout import Random, rollout

TASKS = ("grid:Catch", "grid:DoorKey-5x5", "grid:MemoryS7")


@pytest.mark.parametrize("task", TASKS)
def test_device_copies_checked_pass_environment_contract(task):
    findings = envs.check(task)
    assert not [f for f in findings if f.status == "fail"], findings


def test_device_copies_any_number_gives_same_episodes():
    class Still:
        """Walks on, whatever happens."""

        def init(self, batch):
            return None

        def act(self, carry, step, *, key):
            return {"action": np.full(len(step.is_first), 2, np.int32)}, carry

    results = [rollout(Still(), envs.make("grid:DoorKey-5x5", n), range(6), max_steps=20) for n in (1, 3)]
    strip = lambda episodes: [(e.seed, e.return_, e.length, e.success) for e in episodes]
    assert strip(results[0]) == strip(results[1])


def test_device_copies_restored_episode_counts_continue_with_next_seeds():
    first, second = envs.make("grid:DoorKey-5x5", 2, seed=3), envs.make("grid:DoorKey-5x5", 2, seed=3)
    first.reset()
    second.episodes[:] = first.episodes
    ours, theirs = first.reset(), second.reset()
    for key, array in ours.obs.items():
        np.testing.assert_array_equal(array, theirs.obs[key])


def test_device_copies_invalid_action_raises_value_error():
    env = envs.make("grid:Catch", 2)
    env.reset()
    with pytest.raises(ValueError, match=r"copy 1 is 3, expected one of 0\.\.2"):
        env.step({"action": np.array([0, 3])})


def test_device_copies_random_play_of_catch_has_expected_success_rate():
    env = envs.make("grid:Catch", 50)
    episodes = rollout(Random(env.act_space), env, range(200))
    assert 0.08 < np.mean([e.success for e in episodes]) < 0.36
    assert {e.length for e in episodes} == {9}


def test_make_jax_host_task_raises_unknown_task():
    with pytest.raises(envs.UnknownTask, match="runs on the host; the suites of the device are grid"):
        envs.make_jax("probe:chosen")
