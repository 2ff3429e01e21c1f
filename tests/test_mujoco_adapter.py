"""mujoco: Gymnasium's tasks by short names."""

import importlib
import importlib.util

import gymnasium
import numpy as np
import pytest

import envs
from envs.adapters import MissingExtra, UnknownTask
from envs.adapters import mujoco as adapter

NAMES = {
    "hopper": "Hopper-v5",
    "half-cheetah": "HalfCheetah-v5",
    "walker2d": "Walker2d-v5",
    "ant": "Ant-v5",
    "humanoid": "Humanoid-v5",
    "swimmer": "Swimmer-v5",
    "reacher": "Reacher-v5",
    "pusher": "Pusher-v5",
    "inverted-pendulum": "InvertedPendulum-v5",
    "inverted-double-pendulum": "InvertedDoublePendulum-v5",
    "humanoid-standup": "HumanoidStandup-v5",
}


def test_ids_are_the_short_names_of_all_tasks():
    assert sorted(adapter.ids()) == sorted(NAMES)


@pytest.mark.parametrize(("name", "full"), NAMES.items())
def test_canonical_short_name_is_the_version_5(name, full):
    assert adapter.canonical(name) == adapter.canonical(full) == full


@pytest.mark.parametrize("name", ["half_cheetah", "HalfCheetah", "halfcheetah"])
def test_canonical_other_spelling_is_the_same_task(name):
    assert adapter.canonical(name) == "HalfCheetah-v5"


def test_canonical_older_version_stays_it():
    assert adapter.canonical("Hopper-v4") == "Hopper-v4"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("hoper", "did you mean hopper"), ("cheetah", "half-cheetah"), ("CartPole-v1", "no MuJoCo task")],
)
def test_canonical_unknown_name_suggests_tasks(name, hint):
    with pytest.raises(UnknownTask, match=hint):
        adapter.canonical(name)


def test_canonical_newer_version_becomes_the_default(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("Hopper-v12", adapter.PLACE + "hopper_v12:HopperEnv")
    monkeypatch.setitem(gymnasium.registry, "Hopper-v12", spec)
    assert adapter.canonical("hopper") == "Hopper-v12"


def test_make_missing_package_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mujoco" else find(name))
    with pytest.raises(MissingExtra, match=r"need mujoco: pip install 'dreamer-toolkit\[mujoco\]'"):
        envs.make("mujoco:hopper")


def test_make_played_equals_gymnasium():
    pytest.importorskip("mujoco")
    ours, theirs = envs.make("mujoco:hopper"), gymnasium.make("Hopper-v5")
    step, (obs, _) = ours.reset([3]), theirs.reset(seed=3)
    actions = np.random.default_rng(0).integers(-4, 5, (60, 3)).astype(np.float32) / 4
    terminated = False
    for action in actions:
        assert np.array_equal(step.obs["vector"][0], obs.astype(np.float32))
        if terminated:
            break
        step = ours.step({"action": action[None]})
        obs, reward, terminated, _, _ = theirs.step(action)
        assert step.reward[0] == np.float32(reward) and step.is_terminal[0] == terminated
    assert terminated  # a hopper that is moved at random falls


def test_make_arguments_and_limit_reach_the_task():
    pytest.importorskip("mujoco")
    weight = {"healthy_reward": 7.0, "forward_reward_weight": 0.0, "ctrl_cost_weight": 0.0}
    env = envs.make("mujoco:hopper", kwargs=weight, max_episode_steps=2)
    env.reset([0])
    steps = [env.step({"action": np.zeros((1, 3), np.float32)}) for _ in range(2)]
    assert [step.reward[0] for step in steps] == [7.0, 7.0]
    assert steps[1].is_last[0] and not steps[1].is_terminal[0]
    with pytest.raises(UnknownTask, match="did you mean healthy_reward"):
        envs.make("mujoco:hopper", kwargs={"healthy_rewards": 1})


def test_made_of_names_both_packages():
    pytest.importorskip("mujoco")
    assert set(importlib.import_module("envs.make").made_of("mujoco:hopper")) == {"gymnasium", "mujoco"}


def test_check_task_keeps_the_contract():
    pytest.importorskip("mujoco")
    findings = envs.check("mujoco:inverted-pendulum", steps=30, elsewhere=False)
    assert len(findings) > 10 and not [f for f in findings if f.status == "fail"], findings
