"""Spaces of Gymnasium as flat spaces, and real Gymnasium tasks."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gym
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs.api import EnvError, Space, UnsupportedSpace
from envs.spaces import action_bounds, flatten_action, flatten_observation


def read(space, raw):
    flat, reader = flatten_observation(space)
    out = {}
    reader(raw, out)
    assert {k: (v.shape, str(v.dtype)) for k, v in out.items()} == {
        k: (s.shape, s.dtype) for k, s in flat.items()
    }
    return out


@pytest.mark.parametrize(
    ("space", "flat"),
    [
        (gym.Box(-1, 1, (3,), np.float64), {"vector": Space((3,), "float32")}),
        (gym.Box(-1, 1, (2, 3)), {"vector": Space((2, 3), "float32")}),
        (gym.Box(0, 9, (3,), np.int64), {"vector": Space((3,), "int32")}),
        (gym.Box(0, 2**40, (3,), np.int64), {"vector": Space((3,), "float32")}),
        (gym.Box(0, 255, (128,), np.uint8), {"vector": Space((128,), "int32")}),
        (gym.Box(0, 255, (64, 48, 3), np.uint8), {"image": Space((64, 48, 3), "uint8")}),
        (gym.Box(0, 255, (3, 64, 48), np.uint8), {"image": Space((64, 48, 3), "uint8")}),
        (gym.Box(0, 255, (7, 7, 3), np.uint8), {"token": Space((7, 7, 3), "uint8", 256)}),
        (gym.Box(0, 255, (64, 48), np.uint8), {"image": Space((64, 48, 1), "uint8")}),
        (gym.Box(0, 255, (8, 48), np.uint8), {"vector": Space((8, 48), "int32")}),
        (gym.Box(0, 1, (4,), np.bool_), {"token": Space((4,), "int32", 2)}),
        (gym.Discrete(5), {"token": Space((), "int32", 5)}),
        (gym.MultiBinary(4), {"token": Space((4,), "int32", 2)}),
        (gym.MultiDiscrete([3, 3]), {"token": Space((2,), "int32", 3)}),
        (gym.MultiDiscrete(np.full((7, 7), 11), dtype=np.uint8), {"token": Space((7, 7), "uint8", 11)}),
        (
            gym.MultiDiscrete([3, 4]),
            {"token/0": Space((), "int32", 3), "token/1": Space((), "int32", 4)},
        ),
        (
            gym.Dict({"a": gym.Discrete(2), "b": gym.Tuple((gym.Discrete(3), gym.Box(0, 1, (2,))))}),
            {
                "a": Space((), "int32", 2),
                "b/0": Space((), "int32", 3),
                "b/1": Space((2,), "float32"),
            },
        ),
    ],
)
def test_flatten_observation_any_space_gives_flat_spaces(space, flat):
    assert flatten_observation(space)[0] == flat
    read(space, space.sample())


def test_flatten_observation_offset_classes_are_counted_from_zero():
    assert read(gym.Discrete(3, start=-1), -1) == {"token": 0}
    out = read(gym.MultiDiscrete([3, 3], start=[1, 2]), np.array([3, 2]))
    assert out["token"].tolist() == [2, 0]
    out = read(gym.MultiDiscrete([3, 4], start=[1, 2]), np.array([3, 2]))
    assert (out["token/0"], out["token/1"]) == (2, 0)


def test_flatten_observation_channels_first_image_is_transposed():
    image = np.arange(3 * 16 * 20, dtype=np.uint8).reshape(3, 16, 20)
    out = read(gym.Box(0, 255, image.shape, np.uint8), image)
    assert np.array_equal(out["image"][..., 1], image[1])


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (gym.Text(5), "the observation has the space Text"),
        (gym.Dict({"a": gym.Dict({"b": gym.Text(5)})}), "'a/b'"),
        (gym.Dict({"s": gym.Sequence(gym.Discrete(2))}), "'s'"),
        (gym.Dict({"g": gym.Graph(gym.Discrete(2), None)}), "'g'"),
        (gym.Dict({"e": gym.Box(0, 1, (0, 3))}), "'e'.*no entries"),
        (gym.Dict({}), "empty"),
        (gym.Dict({"a/b": gym.Discrete(2), "a": gym.Dict({"b": gym.Discrete(2)})}), "same key 'a/b'"),
    ],
)
def test_flatten_observation_unsupported_space_is_named(space, name):
    with pytest.raises(UnsupportedSpace, match=name):
        flatten_observation(space)


def test_flatten_action_unsupported_space_is_named():
    with pytest.raises(UnsupportedSpace, match="action 'say' has the space Text"):
        flatten_action(gym.Dict({"say": gym.Text(5)}))


@pytest.mark.parametrize(
    ("space", "raw", "message"),
    [
        (gym.Box(0, 1, (3,)), np.zeros(4), r"'vector' has the shape \(4,\), expected \(3,\)"),
        (gym.Box(0, 1, (3,)), None, r"'vector' has the shape \(\), expected \(3,\)"),
        (gym.Box(0, 1, (2,)), [[1], [1, 2]], "'vector' is no array"),
        (gym.Box(0, 1, (2,)), ["a", "b"], "dtype <U1, expected float32"),
        (gym.Discrete(3), 1.0, "'token' has the dtype float64, expected int32"),
        (gym.Box(0, 255, (16, 16, 3), np.uint8), np.zeros((16, 16, 3)), "expected uint8"),
        (gym.Dict({"a": gym.Discrete(2)}), {"b": 1}, r"keys \['b'\], expected \['a'\]"),
        (gym.Dict({"a": gym.Discrete(2)}), {"a": 1, "b": 1}, r"keys \['a', 'b'\]"),
        (gym.Dict({"a": gym.Discrete(2)}), 1, "is a int, expected a dict"),
        (gym.Tuple((gym.Discrete(2),)), (1, 1), "expected a tuple of 1"),
    ],
)
def test_flatten_observation_value_outside_space_raises_env_error(space, raw, message):
    _, reader = flatten_observation(space)
    with pytest.raises(EnvError, match=message):
        reader(raw, {})


@pytest.mark.parametrize(
    ("space", "flat"),
    [
        (gym.Discrete(4), {"action": Space((), "int32", 4)}),
        (gym.MultiDiscrete([3, 3]), {"action": Space((2,), "int32", 3)}),
        (
            gym.MultiDiscrete([3, 4]),
            {"action/0": Space((), "int32", 3), "action/1": Space((), "int32", 4)},
        ),
        (gym.MultiBinary(3), {"action": Space((3,), "int32", 2)}),
        (gym.Box(-2, 5, (2,)), {"action": Space((2,), "float32")}),
        (gym.Box(0, 9, (2,), np.int32), {"action": Space((2,), "float32")}),
        (
            gym.Dict({"go": gym.Discrete(2), "arm": gym.Tuple((gym.Box(0, 1, (2,)),))}),
            {"arm/0": Space((2,), "float32"), "go": Space((), "int32", 2)},
        ),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_flatten_action_any_space_builds_valid_actions(space, flat, seed):
    spaces, build = flatten_action(space)
    assert spaces == flat
    rng = np.random.default_rng(seed)
    action = {
        k: np.asarray(
            rng.uniform(-1, 1, s.shape) if s.classes is None else rng.integers(s.classes, size=s.shape),
            s.dtype,
        )
        for k, s in spaces.items()
    }
    assert space.contains(build(action))


def test_flatten_action_offset_discrete_starts_at_space_start():
    _, build = flatten_action(gym.Discrete(3, start=5))
    assert [build({"action": np.int32(a)}) for a in range(3)] == [5, 6, 7]
    _, build = flatten_action(gym.MultiDiscrete([2, 3], start=[1, -1]))
    assert build({"action/0": np.int32(1), "action/1": np.int32(0)}).tolist() == [2, -1]


@given(
    st.tuples(st.floats(-100, 100), st.floats(0.1, 100)),
    st.sampled_from([np.float32, np.float64]),
    st.lists(st.floats(-3, 3), min_size=2, max_size=2),
)
@settings(max_examples=50, deadline=None)
def test_flatten_action_continuous_reaches_bounds_and_stays_inside(bounds, dtype, action):
    low, width = bounds
    space = gym.Box(dtype(low), dtype(low + width), (2,), dtype)
    _, build = flatten_action(space)
    act = lambda *a: build({"action": np.asarray(a, np.float32)})  # noqa: E731
    assert np.array_equal(act(-1, -1), space.low) and np.array_equal(act(1, 1), space.high)
    assert np.allclose(act(0, 0), low + width / 2, rtol=1e-5, atol=1e-4)
    assert space.contains(act(*action))


def test_action_bounds_missing_bounds_are_filled():
    inf = np.inf
    space = gym.Box(np.array([-inf, 3, -inf, -3e38]), np.array([inf, inf, 7, 3e38]), dtype=np.float64)
    low, high = action_bounds(space)
    assert low.tolist() == [-1, 3, 5, -1]
    assert high.tolist() == [1, 5, 7, 1]


def test_flatten_action_integer_box_is_rounded():
    _, build = flatten_action(gym.Box(0, 10, (3,), np.int64))
    assert build({"action": np.array([-1, 0.09, 1], np.float32)}).tolist() == [0, 5, 10]


def test_gymnasium_pendulum_action_is_scaled_to_torque():
    env = gymnasium.make("Pendulum-v1")
    ours = envs.make("gymnasium:Pendulum-v1")
    assert ours.act_space == {"action": Space((1,), "float32")}
    obs, _ = env.reset(seed=3)
    step = ours.reset([3])
    for torque in (-2.0, 0.5, 2.0):
        assert np.array_equal(step.obs["vector"][0], obs)
        obs, reward, *_ = env.step(np.array([torque], np.float32))
        step = ours.step({"action": np.array([[torque / 2]])})
        assert step.reward[0] == np.float32(reward)


def test_gymnasium_cartpole_at_limit_is_truncated_and_not_terminal():
    def balance(obs):  # a linear controller that holds the pole
        return (obs["vector"] @ np.array([0.1, 0.5, 3, 1]) > 0).astype(np.int32)

    env = envs.make("gymnasium:CartPole-v1", 2)
    step = env.reset([0, 1])
    length = 0
    while not step.is_last.any():
        step = env.step({"action": balance(step.obs)})
        length += 1
    assert length == 500 and step.is_last.all() and not step.is_terminal.any()


def test_gymnasium_token_and_tuple_tasks_have_expected_spaces():
    assert envs.make("gymnasium:FrozenLake-v1").obs_space["token"] == Space((), "int32", 16)
    assert set(envs.make("gymnasium:Blackjack-v1").obs_space) == {"0", "1", "2", "log/success"}
