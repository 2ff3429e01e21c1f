"""bsuite: every setting is the package's problem, its chance follows seeds, and ends are terminal."""

import numpy as np
import pytest

import envs
from envs.adapters import bsuite as adapter
from envs.api import ended

bsuite = pytest.importorskip("bsuite")

SIMPLE = (
    *("_action_mapping", "_rewards", "_noise_scale", "_reward_scale", "_size", "_deterministic", "_num_bits"),
    *("_chain_length", "_n_distractor", "_memory_length", "_height_threshold", "_x_reward_threshold"),
)
"""What tells the settings of an experiment apart, in the attributes of its environments."""
ONE_OF_EACH = sorted({name.partition("/")[0]: name for name in adapter.sets()["408"]}.values())


def _package(name):
    return bsuite.load(name.partition("/")[0], bsuite.sweep.SETTINGS[name])


def _layers(world):
    """An environment of the package, and what is inside."""
    inner = vars(world).get("_env")
    return [world, *(_layers(inner) if inner is not None else [])]


def _act(env, action):
    return env.step({"action": np.array([action])})


def _played(name, seeds, actions=40):
    """Observations and rewards from fixed actions, through episodes of these seeds."""
    env, rng, rows = envs.make(f"bsuite:{name}"), np.random.default_rng(0), []
    step = env.reset(seeds[:1])
    for i in range(actions):
        rows.append(np.append(step.obs["vector"][0], step.reward[0]))
        action = {"action": rng.integers(env.act_space["action"].num_classes, size=1)}
        step = env.step(action, seeds=[seeds[(i + 1) % len(seeds)]])
    return np.stack(rows)


def test_bsuite_sets_are_all_without_mnist_and_those_of_tags():
    sets = adapter.sets()
    assert len(adapter.ids()) == len(sets["468"]) == 468
    assert len(sets["408"]) == 408 and not any("mnist" in name for name in sets["408"])
    assert sum(adapter.episodes(name) for name in ("catch/0", "cartpole/3")) == 11_000
    assert {name.partition("/")[0] for name in sets["memory"]} == {"memory_len", "memory_size"}
    assert set(sets) - {"468", "408", "testing"} == set(bsuite.sweep.TAGS)


def test_bsuite_every_setting_is_built_as_the_package_builds_it():
    for name in adapter.sets()["408"]:
        ours, theirs = _layers(adapter.build(name, 3)), _layers(_package(name))
        assert [type(layer) for layer in ours] == [type(layer) for layer in theirs]
        for layer, other in zip(ours, theirs, strict=True):
            for key in SIMPLE:
                assert np.array_equal(vars(layer).get(key), vars(other).get(key)), (name, key)
        assert ours[0].bsuite_num_episodes == adapter.episodes(name)
        assert ours[0].observation_spec() == theirs[0].observation_spec()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_bsuite_environment_played_equals_the_package_with_the_same_chance(name):
    env, raw = envs.make(f"bsuite:{name}"), _package(name)
    rng = np.random.default_rng(1)
    actions = env.act_space["action"].num_classes
    for seed in (11, 12):
        for layer, other in zip(_layers(raw), _layers(adapter.build(name, seed)), strict=True):
            layer.__dict__.update({k: v for k, v in vars(other).items() if k == "_rng"})
        before = raw.bsuite_info()
        step, timestep, length = env.reset([seed]), raw.reset(), 0
        assert step.is_first[0] and np.isfinite(step.obs["vector"]).all()
        while not timestep.last() and length < 150:
            np.testing.assert_array_equal(step.obs["vector"][0], np.float32(timestep.observation).reshape(-1))
            action = int(rng.integers(actions))
            step, timestep, length = _act(env, action), raw.step(action), length + 1
            assert step.reward[0] == np.float32(timestep.reward)
            assert step.is_last[0] == step.is_terminal[0] == timestep.last()
            for key, value in raw.bsuite_info().items():
                if key != "best_episode":  # of the whole experiment there
                    assert step.obs[f"log/{key}"][0] == pytest.approx(value - before[key], abs=1e-4)


@pytest.mark.parametrize(
    "name", ["catch/0", "bandit_noise/3", "deep_sea_stochastic/2", "memory_len/4", "umbrella_length/3"]
)
def test_bsuite_episodes_repeat_by_seed_whatever_came_before(name):
    env = envs.make(f"bsuite:{name}")
    env.reset([99])
    np.testing.assert_array_equal(_played(name, [5, 6, 7]), _played(name, [5, 6, 7]))
    assert not np.array_equal(_played(name, [5, 6, 7]), _played(name, [15, 16, 17]))


def test_bsuite_equal_settings_differ_in_chance_under_the_same_seed():
    assert bsuite.sweep.SETTINGS["catch/0"] == bsuite.sweep.SETTINGS["catch/1"]
    seeds = range(12)
    balls = [[_played(f"catch/{i}", [s], 1)[0].argmax() for s in seeds] for i in range(2)]
    assert balls[0] != balls[1]


def test_bsuite_problem_stays_while_chance_changes():
    rewards = []
    for seed in range(6):
        env = envs.make("bsuite:bandit/4")
        env.reset([seed])
        rewards.append(float(_act(env, 3).reward[0]))
    assert len(set(rewards)) == 1
    maps = [adapter.build("deep_sea_stochastic/0", seed)._action_mapping for seed in range(3)]
    assert all(np.array_equal(maps[0], other) for other in maps)


def test_bsuite_noise_of_rewards_is_independent_of_the_world():
    def correlation(build):
        worlds = [build(seed) for seed in range(300)]
        velocity = [world.reset().observation[0, 1] for world in worlds]
        noise = [world.step(1).reward for world in worlds]
        return np.corrcoef(velocity, noise)[0, 1]

    # Where both get one seed, the first noise depends on the number that is the first velocity.
    same = lambda seed: bsuite.load("cartpole_noise", {"noise_scale": 10.0, "seed": seed})
    assert correlation(same) > 0.4
    assert abs(correlation(lambda seed: adapter.build("cartpole_noise/16", seed))) < 0.25


def test_bsuite_time_limit_is_terminal_as_in_the_package():
    env = envs.make("bsuite:mountain_car/0")
    env.reset([0])
    for _ in range(1000):
        step = _act(env, 1)
    assert step.is_last[0] and step.is_terminal[0]
    assert ended(step.obs, 0) == (None, {"raw_return": -1000.0})


def test_bsuite_counts_are_those_of_the_episode():
    env = envs.make("bsuite:catch/0")
    for seed in range(8):
        step = env.reset([seed])
        while not step.is_last[0]:
            step = _act(env, 1)
        assert ended(step.obs, 0)[1] == {"total_regret": 1.0 - step.reward[0]}


def test_bsuite_mnist_without_files_raises_one_clear_sentence(monkeypatch):
    from bsuite.utils import datasets

    def fail():
        raise OSError("no network")

    monkeypatch.setattr(datasets, "load_mnist", fail)
    adapter._read_digits_once.cache_clear()
    with pytest.raises(envs.EnvError, match=r"files of MNIST in /tmp/mnist.*no network.*leave out mnist"):
        envs.make("bsuite:mnist/0")


def test_bsuite_mnist_reads_its_files_once_and_rewards_the_label(monkeypatch):
    from bsuite.utils import datasets

    calls = []

    def digits():
        calls.append(0)
        images = np.zeros((2, 28, 28), np.int8)
        images[1, 0, 0] = 51
        return (images, np.array([3, 4], np.uint8)), (images, np.zeros(2, np.uint8))

    monkeypatch.setattr(datasets, "load_mnist", digits)
    adapter._read_digits_once.cache_clear()
    adapter._recipe.cache_clear()
    env = envs.make("bsuite:mnist/0")
    assert env.obs_space["vector"] == envs.Space((784,), "float32")
    seen = set()
    for seed in range(12):
        pixel = float(env.reset([seed]).obs["vector"][0, 0])
        step = _act(env, 4 if pixel else 3)
        assert step.reward[0] == 1 and step.is_terminal[0]
        seen.add(round(pixel, 4))
    assert seen == {0.0, 0.2} and len(calls) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("catch", r"catch/0 to catch/19"),
        ("catch/20", r"catch/0 to catch/19"),
        ("deepsea/0", r"no experiment 'deepsea'; did you mean deep_sea/0"),
    ],
)
def test_bsuite_wrong_name_raises_unknown_task_with_what_there_is(name, message):
    with pytest.raises(envs.UnknownTask, match=message):
        envs.make(f"bsuite:{name}")


def test_bsuite_arguments_are_refused_for_settings_are_fixed():
    with pytest.raises(envs.UnknownTask, match="bsuite tasks take no kwargs"):
        envs.make("bsuite:catch/0", kwargs={"rows": 5})


def test_bsuite_note_names_missing_seeds_and_terminal_limits():
    assert "all 20 are equal" in envs.note("bsuite:catch/3")
    assert "four of each scale" in envs.note("bsuite:mountain_car_scale/3")
    assert "takes no seed" in envs.note("bsuite:deep_sea_stochastic/0")
    assert "time limit is terminal" in envs.note("bsuite:cartpole_swingup/0")
    assert envs.note("bsuite:bandit/0") == envs.note("bsuite:memory_len/3") == ""


@pytest.mark.parametrize("name", ["catch/0", "deep_sea_stochastic/0"])
def test_bsuite_checked_passes_environment_contract(name):
    findings = envs.check(f"bsuite:{name}", steps=60)
    assert not [f for f in findings if f.status == "fail"], findings


SAME_LENGTH = (
    "catch/0",
    "deep_sea/20",
    "discounting_chain/0",
    "umbrella_length/22",
    "umbrella_distract/3",
    "bandit/0",
)
UNTIL_TIME = ("mountain_car/0", "mountain_car_noise/3", "cartpole_swingup/0")
"""Where action 1, no force, plays until the limit of time."""


@pytest.mark.parametrize("name", [*SAME_LENGTH, *UNTIL_TIME, "memory_len/22", "memory_size/16"])
def test_longest_episode_is_as_long_as_said(name):
    env = envs.make(f"bsuite:{name}")
    step, length = env.reset([0]), 0
    while not step.is_last[0]:
        step, length = _act(env, 1), length + 1
    assert length == adapter.longest(name)


def test_longest_covers_every_setting_and_cartpole_has_the_limit_of_its_swingup():
    assert min(adapter.longest(name) for name in adapter.ids()) == 1
    limit = lambda name: {k: vars(_layers(_package(name))[-1])[k] for k in ("_max_time", "_timescale")}
    assert limit("cartpole/0") == limit("cartpole_scale/4") == limit("cartpole_swingup/0")


def test_protocol_steps_hold_the_episodes_of_all_copies():
    # 10,000 episodes of 9 steps; with four copies three others may be unfinished.
    assert adapter.protocol_steps("catch/0", 1) == 90_000
    assert adapter.protocol_steps("catch/0", 4) == 90_027
