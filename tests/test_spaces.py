"""Whole numbers at the ends of their dtypes, classes beyond all memory, and observations nobody sees."""

import numpy as np
import pytest
from gymnasium import spaces as gym

from envs.api import EnvError, Space, UnsupportedSpace
from envs.spaces import flatten_action, flatten_observation

LOW, HIGH, UNSIGNED = -(2**63), 2**63 - 1, 2**64 - 1


def act(space, *units):
    spaces, build = flatten_action(space)
    assert spaces == {"action": Space(space.shape, "float32")}
    return [build({"action": np.full(space.shape, unit, np.float32)}) for unit in units]


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (LOW, HIGH, np.int64),
        (0, HIGH, np.int64),
        (LOW, 0, np.int64),
        (HIGH - 10, HIGH, np.int64),
        (LOW, LOW + 10, np.int64),
        (LOW + 1, HIGH - 1, np.int64),
        (0, UNSIGNED, np.uint64),
        (UNSIGNED - 10, UNSIGNED, np.uint64),
        (-(2**31), 2**31 - 1, np.int32),
        (0, 2**32 - 1, np.uint32),
        (-128, 127, np.int8),
        (0, 255, np.uint8),
        (3, 3, np.int64),
        (0, 1, np.bool_),
    ],
)
def test_flatten_action_integer_box_reaches_both_bounds(low, high, dtype):
    space = gym.Box(np.array([low], dtype), np.array([high], dtype), dtype=dtype)
    first, middle, last = act(space, -1, 0, 1)
    assert (first.item(), last.item()) == (low, high)
    assert first.dtype == last.dtype == space.dtype and space.contains(middle)
    assert abs(int(middle.item()) - (low + high) / 2) <= max(1, 1e-9 * (high - low))
    for beyond in act(space, -3, 3, -0.999, 0.999):
        assert space.contains(beyond)


def test_flatten_action_scalar_integer_box_reaches_both_bounds():
    first, last = act(gym.Box(LOW, HIGH, (), np.int64), -1, 1)
    assert (first.item(), last.item()) == (LOW, HIGH) and first.shape == ()


def test_flatten_action_bounds_per_entry_are_each_reached():
    space = gym.Box(np.array([LOW, -5, 0]), np.array([HIGH, 5, HIGH]), dtype=np.int64)
    first, last = act(space, -1, 1)
    assert first.tolist() == [LOW, -5, 0] and last.tolist() == [HIGH, 5, HIGH]


def read(space, raw):
    spaces, reader = flatten_observation(space)
    out = {}
    reader(raw, out)
    assert {k: (v.shape, str(v.dtype)) for k, v in out.items()} == {
        k: (s.shape, s.dtype) for k, s in spaces.items()
    }
    return {k: np.asarray(v).tolist() for k, v in out.items()}


@pytest.mark.parametrize(
    ("start", "dtype"),
    [(HIGH - 2, np.int64), (LOW, np.int64), (2**40, np.int64), (-1, np.int64), (UNSIGNED - 2, np.uint64)],
)
def test_flatten_discrete_with_start_is_shifted_to_zero(start, dtype):
    space = gym.Discrete(3, start=start, dtype=dtype)
    spaces, build = flatten_action(space)
    assert spaces == {"action": Space((), "int32", 3)}
    for i in range(3):
        assert read(space, dtype(start + i)) == {"token": i}
        assert build({"action": np.int32(i)}) == start + i
    for wrong in (start - 1, start + 3):
        if np.iinfo(dtype).min <= wrong <= np.iinfo(dtype).max:
            with pytest.raises(EnvError, match=f"'token' contains {wrong}, expected {start} to {start + 2}"):
                read(space, dtype(wrong))


def test_flatten_multi_discrete_with_start_is_shifted_to_zero():
    space = gym.MultiDiscrete([3, 3], start=[HIGH - 2, LOW])
    assert read(space, np.array([HIGH, LOW + 1])) == {"token": [2, 1]}
    built = flatten_action(space)[1]({"action": np.array([2, 1], np.int32)})
    assert built.tolist() == [HIGH, LOW + 1] and space.contains(built)
    space = gym.MultiDiscrete([3, 2], start=[HIGH - 2, LOW])
    assert read(space, np.array([HIGH, LOW + 1])) == {"token/0": 2, "token/1": 1}
    flat = {"action/0": np.int32(2), "action/1": np.int32(1)}
    assert flatten_action(space)[1](flat).tolist() == [HIGH, LOW + 1]


def test_flatten_observation_large_integers_of_small_range_are_shifted():
    space = gym.Box(np.array([HIGH - 9, LOW]), np.array([HIGH, LOW + 9]), dtype=np.int64)
    assert flatten_observation(space)[0] == {"vector": Space((2,), "int32")}
    assert read(space, np.array([HIGH, LOW])) == {"vector": [9, 0]}
    with pytest.raises(EnvError, match=f"contains {LOW + 10}"):
        read(space, np.array([HIGH, LOW + 10]))


@pytest.mark.parametrize(("low", "high", "dtype"), [(LOW, HIGH, np.int64), (0, UNSIGNED, np.uint64)])
def test_flatten_observation_integers_of_any_size_become_floats(low, high, dtype):
    space = gym.Box(low, high, (2,), dtype)
    assert read(space, np.array([low, high], dtype)) == {
        "vector": [float(np.float32(x)) for x in (low, high)]
    }


@pytest.mark.parametrize(
    ("space", "flat", "said"),
    [
        (gym.Discrete(10**7), {"vector": Space((), "int32")}, ["10,000,000 classes, .* 40 MB .* 41 GB"]),
        (gym.Discrete(HIGH), {"vector": Space((), "float32")}, ["classes"]),
        (gym.Discrete(1000), {"token": Space((), "int32", 1000)}, []),
        (
            gym.MultiDiscrete([3, 10**7]),
            {"token/0": Space((), "int32", 3), "token/1": Space((), "int32")},
            ["'token/1' has 10,000,000 classes"],
        ),
        (
            gym.MultiDiscrete([2, 2**40, 5]),
            {
                "token/0": Space((), "int32", 2),
                "token/1": Space((), "float32"),
                "token/2": Space((), "int32", 5),
            },
            ["'token/1'"],
        ),
        (gym.MultiBinary(10**6), {"vector": Space((10**6,), "int32")}, ["1,000,000 entries of 2 classes"]),
    ],
)
def test_flatten_observation_too_many_classes_become_numbers_with_a_notice(space, flat, said):
    import re

    notices = []
    assert flatten_observation(space, notices=notices)[0] == flat
    assert len(notices) == len(said)
    for notice, expected in zip(notices, said, strict=True):
        assert re.search(expected, notice), notice
    read(space, space.sample())


def test_flatten_observation_many_classes_stay_distinct():
    assert read(gym.Discrete(10**7, start=5), np.int64(10**7 + 4)) == {"vector": 10**7 - 1}
    assert read(gym.MultiDiscrete([2, 2**40]), np.array([1, 2**39])) == {"token/0": 1, "token/1": 2.0**39}


@pytest.mark.parametrize("space", [gym.Discrete(10**7), gym.MultiDiscrete([3, 10**7])])
def test_flatten_action_too_many_classes_raises_unsupported_space(space):
    with pytest.raises(UnsupportedSpace, match="the action 'action.* has 10,000,000 classes, .* 40 MB"):
        flatten_action(space)


def test_flatten_observation_only_log_keys_raises_unsupported_space():
    space = gym.Dict({"log/score": gym.Box(0, 1), "log": gym.Dict({"map": gym.Discrete(3)})})
    with pytest.raises(UnsupportedSpace, match="only keys that are for people .*log/map, log/score"):
        flatten_observation(space)
