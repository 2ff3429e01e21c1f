"""HostVector: the stream of slots, seeds and guards."""

import numpy as np
import pytest
from faulty_env import FAULTS

import envs
from envs.api import FIRST_TRAINING_SEED, EnvError, training_seed

SOUND = "gymnasium:faulty_env:Sound-v0"


def go(env, value, seeds=None):
    return env.step({"action": np.full(env.num_envs, value)}, seeds)


def test_host_vector_one_episode_has_the_expected_steps():
    env = envs.make(SOUND)
    first = env.reset([5])
    assert first.is_first[0] and not first.is_last[0] and first.reward[0] == 0
    for t in range(1, 5):
        step = go(env, 1)
        assert step.obs["count"][0] == t and step.reward[0] == 1
        assert not (step.is_first[0] or step.is_last[0])
    last = go(env, 1)
    assert last.obs["count"][0] == 5  # the true final observation
    assert last.is_last[0] and last.is_terminal[0] and last.reward[0] == 1
    again = go(env, 1, [5])
    assert again.is_first[0] and again.reward[0] == 0 and again.obs["count"][0] == 0
    assert np.array_equal(again.obs["offset"], first.obs["offset"])


def test_host_vector_time_limit_is_last_but_not_terminal():
    env = envs.make(SOUND, 2)
    env.reset([0, 0])
    for _ in range(11):
        step = go(env, 0)
    step = env.step({"action": np.array([0, 1])})  # step 12: the limit, and for copy 1 the end too
    assert step.is_last.tolist() == [True, True]
    assert step.is_terminal.tolist() == [False, True]


def test_host_vector_steps_have_the_declared_dtypes():
    env = envs.make(SOUND, 2)
    for step in (env.reset(), go(env, 0)):
        assert step.reward.dtype == np.float32
        assert step.is_first.dtype == step.is_last.dtype == step.is_terminal.dtype == bool
        assert {k: (v.shape[1:], v.dtype) for k, v in step.obs.items()} == {
            k: (s.shape, s.dtype) for k, s in env.obs_space.items()
        }


def test_host_vector_explicit_seeds_apply_only_to_starting_copies():
    env = envs.make(SOUND, 2)
    a = env.reset([7, 8])
    for _ in range(5):
        step = env.step({"action": np.array([1, 0])}, [1, 1])
    assert step.is_last.tolist() == [True, False]
    step = env.step({"action": np.array([0, 0])}, [8, 123])
    assert np.array_equal(step.obs["offset"][0], a.obs["offset"][1])
    assert step.is_first.tolist() == [True, False]
    assert np.array_equal(step.obs["offset"][1], a.obs["offset"][1])


def test_host_vector_training_seeds_follow_from_seed_copy_and_episode():
    env = envs.make(SOUND, 2, seed=3)
    starts = [env.reset().obs["offset"]]
    for _ in range(13):
        step = go(env, 0)
    starts.append(step.obs["offset"])
    assert step.is_first.all() and env.episodes.tolist() == [2, 2]
    for episode, offsets in enumerate(starts):
        seeds = [training_seed(3, copy, episode) for copy in range(2)]
        assert all(FIRST_TRAINING_SEED <= seed < 2**31 for seed in seeds)
        assert np.array_equal(env.reset(seeds).obs["offset"], offsets)
    other = envs.make(SOUND, 2, seed=3)
    other.episodes[:] = 1  # continues where the first one was
    assert np.array_equal(other.reset().obs["offset"], starts[1])


def test_host_vector_part_of_a_run_has_the_worlds_of_its_copies():
    whole = envs.make("probe:chosen", 6, seed=3)
    part = envs.make("probe:chosen", 3, seed=3, numbers=range(1, 6, 2))
    whole.reset()
    part.reset()
    np.testing.assert_array_equal(part._seeds, whole._seeds[1::2])
    assert "copy 5," in str(part._error(2, "it fails"))


@pytest.mark.parametrize(
    ("seed", "copy", "episode", "expected"),
    [(0, 0, 0, 1895069886), (3, 1, 2, 1620210449), (7, 15, 999, 2138826832)],
)
def test_training_seed_known_inputs_give_known_values(seed, copy, episode, expected):
    assert training_seed(seed, copy, episode) == expected


def test_training_seed_levels_are_drawn_evenly():
    drawn = [training_seed(0, copy, episode, 3) for copy in range(10) for episode in range(90)]
    counts = [drawn.count(FIRST_TRAINING_SEED + i) for i in range(3)]
    assert sum(counts) == 900 and min(counts) > 250


def worlds(step):
    """What each copy sees, as something that can be compared."""
    shown = [np.asarray(v).reshape(len(step.is_first), -1) for k, v in step.obs.items() if k != "log/success"]
    return [row.tobytes() for row in np.concatenate(shown, 1)]


def test_host_vector_levels_limit_training_to_their_worlds():
    env = envs.make("minigrid:DoorKey-5x5", 4, seed=5, levels=3)
    seen = {world for _ in range(10) for world in worlds(env.reset())}
    evaluated = worlds(env.reset([*range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 3), 0]))[:3]
    assert seen == set(evaluated) and len(seen) == 3


def test_host_vector_levels_do_not_limit_evaluation():
    levels, free = (envs.make("minigrid:DoorKey-5x5", 4, levels=n) for n in (3, 0))
    assert worlds(levels.reset([0, 1, 2, 3])) == worlds(free.reset([0, 1, 2, 3]))


def test_host_vector_levels_continue_from_the_episode_counts():
    first, second = (envs.make("minigrid:DoorKey-5x5", 2, seed=1, levels=3) for _ in range(2))
    for _ in range(7):
        first.reset()
    second.episodes[:] = first.episodes
    assert [worlds(first.reset()) for _ in range(9)] == [worlds(second.reset()) for _ in range(9)]


def test_host_vector_returned_arrays_are_not_overwritten():
    env = envs.make(SOUND)
    first = env.reset([0])
    go(env, 0)
    assert first.obs["count"][0] == 0 and first.is_first[0]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("NaNObservation", "step 3 of the episode with seed 5: observation 'offset' contains nan"),
        ("WrongShape", r"step 3 .*: observation 'offset' has the shape \(1,\), expected \(2,\)"),
        ("WrongDtype", "step 0 .*: observation 'count' has the dtype float64, expected int32"),
        ("WrongKeys", r"step 0 .*: the observation has the keys \['count'\], expected"),
        ("WrongClass", "step 3 .*: observation 'count' contains 13, expected one of 0..12"),
        ("NaNReward", "step 4 .*: the reward contains nan, expected a finite number"),
        ("ArrayReward", r"step 1 .*: the reward is array\(\[0.\]\), expected a number"),
        ("NoReward", "step 1 .*: the reward is None, expected a number"),
        ("ComplexReward", "step 1 .*: the reward is 0j, expected a number"),
        ("HugeReward", r"step 1 .*: the reward is 10+\.\.\., expected a number"),
        ("NoFlag", "step 1 .*: terminated is None, expected true or false"),
        ("ArrayFlag", r"step 1 .*: truncated is array\(\[False, False\]\), expected true or false"),
        ("OddInfo", "step 1 .*: the info is 'solved', expected a dict"),
        ("OldReset", r"step 0 .*: its reset gives array\(\[.*expected a pair: observation, info \(a dict\)"),
        ("OldSeed", "step 0 .*: its reset takes no 'seed', expected reset.self, .*, seed=None, options=None"),
        (
            "OldStep",
            "step 1 .*: its step gives 4 values, expected 5: .*the old Gym has one 'done'",
        ),
        ("OldStepWithLimit", "step 1 .*: its step gives 4 values, expected 5: .*the old Gym has one 'done'"),
        ("NoStep", "step 1 .*: its step gives None, expected 5: "),
        ("Exits", r"step 3 .*: it raised SystemExit: 3, which would end the program \(.*faulty_env.py:\d+\)"),
        ("ExitsAtReset", "step 0 .*: it raised SystemExit: no display, which would end the program"),
        ("Interrupts", "step 1 .*: it raised KeyboardInterrupt: window closed, which would end the program"),
        ("Raises", r"step 3 .*: it raised ZeroDivisionError: division by zero \(.*faulty_env.py:\d+\)$"),
    ],
)
def test_host_vector_faulty_environment_raises_naming_task_copy_and_step(fault, message):
    env = envs.make(f"gymnasium:faulty_env:{fault}-v0", 2)
    with pytest.raises(EnvError, match=f"{fault}-v0, copy 0.*{message}") as error:
        env.reset([5, 6])
        for _ in range(6):
            go(env, 0)
    assert "\n" not in str(error.value)


def test_host_vector_keyboard_interrupt_is_passed_on():
    env = envs.make("gymnasium:faulty_env:IsInterrupted-v0", 2)
    env.reset()
    with pytest.raises(KeyboardInterrupt):
        go(env, 0)


@pytest.mark.parametrize("parallel", [False, True])
def test_make_environment_exiting_when_built_raises_env_error(parallel):
    with pytest.raises(EnvError, match="ExitsWhenBuilt-v0 cannot be built: it raised SystemExit: no licence"):
        envs.make("gymnasium:faulty_env:ExitsWhenBuilt-v0", 2, parallel=parallel)


def test_host_vector_single_entry_array_flags_and_rewards_are_accepted():
    env = envs.make("gymnasium:faulty_env:ArrayFlags-v0")
    env.reset([0])
    steps = [go(env, 1) for _ in range(5)]
    assert [float(step.reward[0]) for step in steps] == [1.0] * 5
    assert [bool(step.is_terminal[0]) for step in steps] == [False] * 4 + [True]


def test_host_vector_environment_without_info_is_accepted():
    env = envs.make("gymnasium:faulty_env:NoInfo-v0")
    assert np.isnan(env.reset([0]).obs["log/success"][0])
    assert np.isnan(go(env, 0).obs["log/success"][0])


def test_host_vector_environment_failing_to_close_gives_a_warning():
    env = envs.make("gymnasium:faulty_env:FailsToClose-v0", 2)
    with pytest.warns(UserWarning, match="closing an environment failed: it raised SystemExit: the server"):
        env.close()


def test_faults_table_is_complete():
    assert len(FAULTS) >= 12


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({}, "lacks 'action'"),
        ({"action": np.zeros((2, 1))}, r"has the shape \(2, 1\), expected \(2,\)"),
        ({"action": np.array([0, 2])}, "of copy 1 is 2, expected one of 0..1"),
        ({"action": np.array([0, -1])}, "of copy 1 is -1, expected one of 0..1"),
    ],
)
def test_host_vector_wrong_action_raises_value_error(action, message):
    env = envs.make(SOUND, 2)
    env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_host_vector_nan_action_is_refused_unless_resetting():
    env = envs.make("probe:continuous", 2)
    env.reset()
    with pytest.raises(ValueError, match="of copy 0 is nan, expected a finite number"):
        env.step({"action": np.full((2, 1), np.nan)})
    env.step({"action": np.zeros((2, 1))})
    assert env.step({"action": np.full((2, 1), np.nan)}).is_first.all()


@pytest.mark.parametrize("seeds", [[1], [1, -1]])
def test_host_vector_wrong_seeds_raise_value_error(seeds):
    env = envs.make(SOUND, 2)
    with pytest.raises(ValueError, match="seeds must be 2 numbers"):
        env.reset(seeds)


def test_host_vector_closed_twice_raises_nothing():
    env = envs.make(SOUND)
    env.close()
    env.close()


def test_vector_episode_counts_once_its_first_step_is_received():
    env = envs.make(SOUND, 2, seed=1)
    env.reset()
    assert env.episodes.tolist() == [1, 1]
    while not go(env, 1).is_last.all():
        pass
    env.send({"action": np.array([0, 0])})
    assert env.episodes.tolist() == [1, 1]
    assert env.receive().is_first.all() and env.episodes.tolist() == [2, 2]


@pytest.mark.parametrize("parallel", [False, True])
def test_vector_reset_drops_a_step_that_was_sent(parallel):
    env = envs.make(SOUND, 2, seed=1, parallel=parallel)
    env.reset([3, 4])
    env.send({"action": np.array([0, 1])})
    first = env.reset([3, 4])
    second = env.step({"action": np.array([0, 1])})
    env.close()
    assert first.is_first.all() and first.obs["count"].tolist() == [0, 0]
    assert second.obs["count"].tolist() == [1, 1] and env.episodes.tolist() == [0, 0]
