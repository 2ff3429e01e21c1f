"""From an agent's mappings back to what spaces hold: the inverse of flattening, in both directions."""

import numpy as np
import pytest
from gymnasium import spaces as gym
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from envs.api import Space
from envs.flat import choices
from envs.spaces import flatten_action, flatten_observation
from envs.unflatten import action_space, observation_space, unflatten_action, unflatten_observation

N = 3
COUNTS = (
    gym.Discrete(4),
    gym.Discrete(3, start=-5),
    gym.MultiDiscrete([3, 3]),
    gym.MultiDiscrete([[2, 3], [4, 5]]),
    gym.MultiDiscrete([3, 2], start=[7, -1]),
    gym.MultiBinary((2, 2)),
)
NUMBERS = (
    gym.Box(-2, 2, (2,), np.float32),
    gym.Box(np.array([-1, 0], np.float64), np.array([1, 5], np.float64), dtype=np.float64),
    gym.Box(-10, 300, (3,), np.int64),
    gym.Box(0, 1, (2,), np.bool_),
)
SEEN = (
    *COUNTS,
    *NUMBERS,
    gym.Discrete(2**19),
    gym.Box(-np.inf, np.inf, (3,), np.float32),
    gym.Box(2**40, 2**40 + 2**20, (2,), np.int64),
    gym.Box(0, 255, (16, 16, 3), np.uint8),
    gym.Box(0, 255, (3, 16, 18), np.uint8),
    gym.Box(0, 255, (4, 16, 18, 3), np.uint8),
    gym.Box(0, 255, (16, 16), np.uint8),
    gym.Box(0, 1, (16, 16, 3), np.float32),
    gym.Box(0, 9, (5, 5), np.uint8),
    gym.Box(-3, 3, (5, 5), np.int8),
    gym.Dict(
        arm=gym.Dict(joints=gym.Box(-1, 1, (2,)), grip=gym.Discrete(2)), pair=gym.Tuple([gym.Discrete(3)] * 2)
    ),
)
CHOSEN = (
    *COUNTS,
    *NUMBERS,
    gym.Dict(a=gym.Discrete(2), b=gym.Tuple([gym.Box(0, 4, (2,)), gym.MultiDiscrete([2, 3])])),
)


def samples(space):
    space.seed(0)
    return [space.sample() for _ in range(N)]


def stacked(flats):
    return {key: np.stack([flat[key] for flat in flats]) for key in flats[0]}


def assert_equal(space, value, expected):
    assert space.contains(value), (space, value)
    if isinstance(space, gym.Dict):
        for key, part in space.items():
            assert_equal(part, value[key], expected[key])
    elif isinstance(space, gym.Tuple):
        for part, a, b in zip(space, value, expected, strict=True):
            assert_equal(part, a, b)
    elif space.dtype.kind == "f":
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1 / 255)
    else:
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("space", SEEN, ids=str)
def test_unflatten_observation_of_flattened_one_is_the_observation(space):
    spaces, read = flatten_observation(space)
    left, build = unflatten_observation(space, spaces)
    assert left == space
    flats = []
    for raw in samples(space):
        read(raw, flat := {})
        flats.append(flat)
        back = build(flat)
        back = back if not isinstance(space, gym.Discrete) else back[()]
        assert_equal(space, back, raw)
    batched = build(stacked(flats))
    for one, raw in zip(iterate(batch_space(space, N), batched), samples(space), strict=True):
        assert_equal(space, one, raw)


@pytest.mark.parametrize("space", CHOSEN, ids=str)
def test_unflatten_action_builds_the_same_action_again(space):
    spaces, build = flatten_action(space)
    take = unflatten_action(space, spaces)
    raws = samples(space)
    flats = [take(raw) for raw in raws]
    for raw, flat in zip(raws, flats, strict=True):
        assert {k: (v.shape, str(v.dtype)) for k, v in flat.items()} == {
            k: (s.shape, s.dtype) for k, s in spaces.items()
        }
        assert_equal(space, build(flat), raw)
    together = concatenate(space, raws, create_empty_array(space, N))
    for key, values in take(together).items():
        np.testing.assert_array_equal(values, stacked(flats)[key])


def test_unflatten_observation_parts_for_people_are_left_out():
    space = gym.Dict({"see": gym.Discrete(2), "log/map": gym.Discrete(9), "log": gym.Dict(x=gym.Discrete(2))})
    left, build = unflatten_observation(space, flatten_observation(space)[0])
    assert left == gym.Dict(see=gym.Discrete(2)) and build({"see": np.int32(1)}) == {"see": 1}


@pytest.mark.parametrize(
    ("space", "predicted", "expected"),
    [
        (gym.Box(-1, 1, (2,)), [1.5, -np.inf], [1, -1]),
        (gym.Box(-np.inf, np.inf, (1,)), [np.inf], [np.finfo(np.float32).max]),
        (gym.Box(0, 300, (3,), np.int32), [-0.6, 299.6, 7.4], [0, 300, 7]),
        (gym.Box(0, 2**63 - 1, (2,), np.int64), [1e30, 3.0], [2**63 - 1, 3]),
        (gym.Discrete(2**19, start=1), 1e9, 2**19),
    ],
)
def test_unflatten_observation_prediction_is_rounded_and_clipped(space, predicted, expected):
    spaces, _ = flatten_observation(space)
    (key,) = spaces
    _, build = unflatten_observation(space, spaces)
    value = build({key: np.asarray(predicted, np.float32)})
    assert space.contains(value[()]) and np.asarray(value).tolist() == np.asarray(expected).tolist()


@pytest.mark.parametrize(
    ("space", "action", "message"),
    [
        (gym.Discrete(3, start=1), 0, r"^action 'action' is 0, expected 1 to 3$"),
        (gym.Discrete(3), 1.0, "expected 0 to 2"),
        (gym.Discrete(3), [[1]], r"has the shape \(1, 1\), expected \(\)"),
        (gym.Box(-1, 1, (2,)), [0, 1, 0], r"has the shape \(3,\), expected \(2,\)"),
        (gym.Box(-1, 1, (2,)), [0, np.nan], "contains nan, expected finite numbers"),
    ],
)
def test_unflatten_action_wrong_one_is_named(space, action, message):
    with pytest.raises(ValueError, match=message):
        unflatten_action(space, flatten_action(space)[0])(action)


def test_spaces_of_flat_keys_lone_one_stands_for_itself():
    image, grid = Space((16, 16, 3), "uint8"), Space((3, 3), "uint8", 11)
    numbers, direction = Space((2,), "float32"), Space((), "int32", 4)
    assert observation_space({"image": image, "log/x": numbers}) == gym.Box(0, 255, (16, 16, 3), np.uint8)
    assert observation_space({"a": grid, "b": direction, "c": numbers}) == gym.Dict(
        a=gym.Box(0, 10, (3, 3), np.uint8), b=gym.Discrete(4), c=gym.Box(-np.inf, np.inf, (2,))
    )
    assert action_space({"action": direction}) == choices(direction) == gym.Discrete(4)
    assert action_space({"a": numbers, "b": direction}) == gym.Dict(a=gym.Box(-1, 1, (2,)), b=gym.Discrete(4))
