"""A Gymnasium environment for an agent of here: what it sees and does is what it saw and did in training."""

import gymnasium
import minigrid  # noqa: F401  registers its tasks
import numpy as np
import pytest

import envs
from envs import Flat, Random


@pytest.mark.parametrize(
    ("name", "task", "obs"),
    [
        ("CartPole-v1", "gymnasium:CartPole-v1", ""),
        ("Pendulum-v1", "gymnasium:Pendulum-v1", ""),
        ("MiniGrid-DoorKey-5x5-v0", "minigrid:DoorKey-5x5", ""),
        ("MiniGrid-DoorKey-5x5-v0", "minigrid:DoorKey-5x5", "rgb"),
        ("BabyAI-GoToLocal-v0", "minigrid:BabyAI-GoToLocal", ""),
    ],
)
def test_flat_episode_matches_steps_of_task(name, task, obs):
    ours, env = envs.make(task, obs=obs), Flat(gymnasium.make(name), obs=obs)
    step, (seen, _) = ours.reset(seeds=[7]), env.reset(seed=7)
    policy = Random(ours.act_space)
    for t in range(30):
        assert env.observation_space.contains(seen)
        for key, value in seen.items():
            assert value.dtype == ours.obs_space[key].dtype
            np.testing.assert_array_equal(value, step.obs[key][0])
        if step.is_last[0]:
            break
        actions, _ = policy.act(None, step, key=t)
        action = {key: value[0] for key, value in actions.items()}
        assert env.action_space.contains(action)
        step = ours.step(actions)
        seen, reward, terminated, truncated, _ = env.step(action)
        assert np.float32(reward) == step.reward[0]
        assert (terminated, terminated or truncated) == (step.is_terminal[0], step.is_last[0])
    assert t > 5


@pytest.mark.parametrize("action", [1, [1], {"move": 1}])
def test_flat_invalid_action_raises_value_error(action):
    env = Flat(gymnasium.make("CartPole-v1"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^the action is .*, expected a mapping with 'action'$"):
        env.step(action)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("CartPole-v1", "CartPole-v1 has one observation only, but 'pixels' was asked for"),
        ("MiniGrid-Empty-5x5-v0", "minigrid has no observation 'pixels'; allowed: 'symbolic', 'rgb', 'full'"),
    ],
)
def test_flat_unknown_observation_raises_unknown_task(name, sentence):
    with pytest.raises(envs.UnknownTask, match=sentence):
        Flat(gymnasium.make(name), obs="pixels")


def test_flat_already_wrapped_observation_is_kept():
    from minigrid.wrappers import ImgObsWrapper

    make = lambda **read: Flat(ImgObsWrapper(gymnasium.make("MiniGrid-Empty-5x5-v0")), **read)
    env = make()
    assert list(env.reset(seed=0)[0]) == ["token"] and "--env.pixels token" in env.notices[0]
    assert list(make(pixels=["token"]).reset(seed=0)[0]) == ["image"]


def test_flat_unsupported_space_is_named():
    with pytest.raises(envs.UnsupportedSpace, match="observation 'words' has the space Text"):
        Flat(Talking())


class Talking(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict({"words": gymnasium.spaces.Text(5)})
    action_space = gymnasium.spaces.Discrete(2)
