"""What an array means that only says its bounds: pictures, categories, numbers, and what is said about it."""

import numpy as np
import pytest
from gymnasium import spaces as gym

import envs
from envs.api import EnvError, Space, UnsupportedSpace
from envs.readings import MIN_IMAGE_SIDE, layout, usual
from envs.spaces import flatten_observation

U8 = np.uint8
INF = np.inf


def flat(space, **asked):
    notices = []
    spaces, read = flatten_observation(space, notices=notices, **asked)
    return spaces, read, notices


def read(space, raw, **asked):
    out = {}
    flat(space, **asked)[1](raw, out)
    return out


@pytest.mark.parametrize(
    ("space", "classes"),
    [
        (gym.Box(0, 1, (5, 5, 2), U8), 2),
        (gym.Box(0, 10, (5, 5, 2), U8), 11),
        (gym.Box(0, np.array([10, 5, 2], U8) * np.ones((7, 7, 3), U8), dtype=U8), 11),
        (gym.Box(0, 1, (64, 64, 1), U8), 2),
        (gym.Box(5, 15, (4, 4), U8), 11),
        (gym.Box(0, 3, (), U8), 4),
        (gym.Box(0, 7, (10,), U8), 8),
        (gym.Box(-1, 1, (3, 3), np.int8), 3),
        (gym.Box(0, 2, (6, 7), np.int64), 3),
        (gym.Box(0, 40, (9, 9), np.uint16), 41),
        (gym.Box(0, 0, (3, 3), U8), 1),
        (gym.Box(0, 255, (7, 7, 3), U8), 256),
        (gym.Box(0, 200, (8, 8), U8), 201),
    ],
)
def test_flatten_few_integer_values_become_categories_with_a_notice(space, classes):
    spaces, _, (notice,) = flat(space)
    assert spaces == {"token": Space(space.shape, "uint8", classes)}
    assert f"is read as categories, {classes} an entry" in notice
    assert ("--env.pixels token" in notice) == (len(space.shape) > 1)
    assert ("cheaper" in notice) == (classes > 64)
    lowest, highest = (read(space, end)["token"] for end in (space.low, space.high))
    assert (lowest.min(), highest.max()) == (0, classes - 1) and lowest.dtype == highest.dtype == U8


@pytest.mark.parametrize(
    ("space", "numbers"),
    [
        (gym.Box(0, 255, (128,), U8), "int32"),
        (gym.Box(0, 9, (3,), np.int64), "int32"),
        (gym.Box(-1, 1, (3, 3), np.float64), "float32"),
        (gym.Box(-INF, INF, (40, 3)), "float32"),
        (gym.Box(0, 1000, (3, 3), np.int16), "int32"),
    ],
)
def test_flatten_unambiguous_numbers_become_a_vector_without_a_notice(space, numbers):
    spaces, _, notices = flat(space)
    assert spaces == {"vector": Space(space.shape, numbers)} and notices == []


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (gym.Box(0, 255, (8, 48), U8), "--env.categories vector reads it as categories; --env.pixels"),
        (gym.Box(-1, 1, (64, 64, 3)), "is read as 12,288 numbers; --env.pixels vector reads it as a picture"),
        (gym.Box(-INF, INF, (64, 64, 3)), "with bounds it could be read as a picture"),
        (gym.Box(0, 65535, (64, 64, 1), np.uint16), "--env.pixels vector"),
        (gym.Box(0, 1, (20, 20, 111)), "--env.pixels vector"),
        (gym.Box(0, 1, (64, 64)), "--env.pixels vector"),
    ],
)
def test_flatten_ambiguous_numbers_become_a_vector_with_a_notice(space, said):
    spaces, _, (notice,) = flat(space)
    assert list(spaces) == ["vector"] and spaces["vector"].classes is None and said in notice


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (gym.Box(0, 255, (64, 48, 3), U8), (64, 48, 3)),
        (gym.Box(0, 255, (3, 64, 48), U8), (64, 48, 3)),
        (gym.Box(0, 255, (9, 64, 64), U8), (64, 64, 9)),
        (gym.Box(0, 255, (32, 64, 64), U8), (64, 64, 32)),
        (gym.Box(0, 255, (64, 64, 32), U8), (64, 64, 32)),
        (gym.Box(0, 255, (64, 64, 64), U8), (64, 64, 64)),
        (gym.Box(0, 255, (4, 84, 84), U8), (84, 84, 4)),
        (gym.Box(0, 255, (4, 84, 84, 3), U8), (84, 84, 12)),
        (gym.Box(0, 255, (4, 84, 84, 1), U8), (84, 84, 4)),
        (gym.Box(0, 255, (4, 3, 84, 80), U8), (84, 80, 12)),
        (gym.Box(0, 255, (84, 80, 3, 4), U8), (84, 80, 12)),
        (gym.Box(0, 1, (210, 160, 3), U8), (210, 160, 3)),
        (gym.Box(0, 1, (210, 160, 3), np.bool_), (210, 160, 3)),
        (gym.Box(0, 1, (64, 64, 3)), (64, 64, 3)),
        (gym.Box(0, 1, (3, 64, 48), np.float64), (64, 48, 3)),
        (gym.Box(0, 255, (64, 64, 3)), (64, 64, 3)),
        (gym.Box(0, 255, (64, 64, 3), np.int64), (64, 64, 3)),
    ],
)
def test_flatten_picture_shapes_become_an_image(space, shape):
    assert flat(space)[0] == {"image": Space(shape, "uint8")}
    out = read(space, space.high)["image"]
    assert out.shape == shape and out.dtype == U8 and (out == 255).all()
    assert not read(space, space.low)["image"].any()


def test_flatten_frame_stack_is_moved_to_the_channels_in_order():
    frames = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), dtype=U8)
    image = read(gym.Box(0, 255, frames.shape, U8), frames)["image"]
    for k in range(4):
        np.testing.assert_array_equal(image[..., 3 * k : 3 * k + 3], frames[k])
    first = read(gym.Box(0, 255, (4, 3, 20, 24), U8), frames.transpose(0, 3, 1, 2))["image"]
    np.testing.assert_array_equal(first, image)


def test_flatten_ambiguous_channel_axis_is_reported():
    assert "a picture 64x48 with 20 channels" in flat(gym.Box(0, 255, (20, 64, 48), U8))[2][0]
    assert layout((64, 48, 20)) == (0, 1, 2) and layout((20, 64, 48)) == (1, 2, 0)


def test_flatten_float_picture_is_rounded_to_the_nearest_shade():
    space = gym.Box(0, 1, (16, 16, 1))
    image = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16, 1)
    np.testing.assert_array_equal(read(space, image)["image"].reshape(-1), np.arange(256))
    assert "256 shades" in flat(space)[2][0]
    beyond = image + np.float32(1e-4)  # as resizing leaves it
    assert read(space, beyond)["image"].max() == 255
    for wrong in (image * 255, image - 1, np.full_like(image, np.nan)):
        with pytest.raises(EnvError, match="'image' contains .*, expected 0.0 to 1.0"):
            read(space, wrong)


@pytest.mark.parametrize(
    ("space", "asked", "expected"),
    [
        (gym.Box(0, 255, (7, 7, 3), U8), {"pixels": ["vector"]}, {"image": Space((7, 7, 3), "uint8")}),
        (gym.Box(0, 1, (5, 5, 2), U8), {"pixels": ["token"]}, {"image": Space((5, 5, 2), "uint8")}),
        (gym.Box(-1, 1, (64, 64, 3)), {"pixels": ["image"]}, {"image": Space((64, 64, 3), "uint8")}),
        (gym.Box(0, 9, (3, 8, 9)), {"pixels": ["image"]}, {"image": Space((8, 9, 3), "uint8")}),
        (gym.Box(0, 9, (2, 8, 8, 3)), {"pixels": ["image"]}, {"image": Space((8, 8, 6), "uint8")}),
        (
            gym.Box(0, 255, (7, 7, 3), U8),
            {"categories": ["vector"]},
            {"token": Space((7, 7, 3), "uint8", 256)},
        ),
        (gym.Box(0, 9, (3,), np.int64), {"categories": ["vector"]}, {"token": Space((3,), "uint8", 10)}),
        (gym.Box(0, 300, (3,), np.int64), {"categories": ["vector"]}, {"token": Space((3,), "int32", 301)}),
        (gym.Box(-2, 2, (3,)), {"categories": ["vector"]}, {"token": Space((3,), "uint8", 5)}),
        (gym.Discrete(4), {"categories": ["token"]}, {"token": Space((), "int32", 4)}),
    ],
)
def test_flatten_requested_reading_is_applied_without_a_notice(space, asked, expected):
    spaces, _, notices = flat(space, **asked)
    assert spaces == expected and notices == []
    (key,) = expected
    highest = read(space, space.high if isinstance(space, gym.Box) else 3, **asked)[key]
    assert highest.max() == (expected[key].classes or 256) - 1


def test_flatten_dict_keys_keep_their_names():
    space = gym.Dict({"near": gym.Dict({"map": gym.Box(0, 9, (3,), np.int64)}), "far": gym.Discrete(3)})
    assert flat(space)[0]["near/map"] == Space((3,), "int32")
    assert flat(space, categories=["near/map"])[0]["near/map"] == Space((3,), "uint8", 10)


@pytest.mark.parametrize(
    ("space", "asked", "message"),
    [
        (gym.Box(0, 1, (3,)), {"pixels": ["vector"]}, "'vector'|'image'.*a picture needs 2 to 4 sides"),
        (gym.Box(-INF, INF, (64, 64, 3)), {"pixels": ["image"]}, "'image'.*a picture needs two bounds"),
        (gym.Box(0, 0.5, (3,)), {"categories": ["vector"]}, "categories need bounds that are whole numbers"),
        (gym.Box(-INF, INF, (3,)), {"categories": ["vector"]}, "categories need bounds"),
        (gym.Box(0, 10**6, (3,), np.int32), {"categories": ["vector"]}, "3 entries of 1,000,001 classes"),
        (gym.Discrete(10**7), {"categories": ["token"]}, "10,000,000 classes, .* 40 MB"),
        (gym.Discrete(4), {"pixels": ["token"]}, "no Box of pixels"),
        (gym.Dict({"grid": gym.Discrete(2)}), {"pixels": ["gird"]}, "the keys grid; did you mean grid?"),
        (
            gym.Dict({"a": gym.Discrete(2)}),
            {"categories": ["image"]},
            "env.categories names 'image'.* keys a$",
        ),
        (gym.Box(0, 1, (3,)), {"pixels": ["x"], "categories": ["x"]}, "both name 'x'"),
    ],
)
def test_flatten_impossible_reading_raises_one_sentence(space, asked, message):
    with pytest.raises(UnsupportedSpace, match=message):
        flatten_observation(space, **asked)


@pytest.mark.parametrize(
    ("space", "raw", "message"),
    [
        (gym.Box(-1, 1, (3, 3), np.int8), np.full((3, 3), 2, np.int8), "contains 2, expected -1 to 1"),
        (gym.Box(5, 15, (4, 4), U8), np.full((4, 4), 4, U8), "contains 4, expected 5 to 15"),
        (gym.Box(5, 15, (4, 4), U8), np.full((4, 4), 6.0), "has the dtype float64"),
    ],
)
def test_flatten_category_out_of_range_raises_env_error(space, raw, message):
    with pytest.raises(EnvError, match=message):
        read(space, raw)


def test_flatten_float_categories_must_be_whole_numbers():
    space = gym.Box(0, 4, (2,))
    assert read(space, np.array([0, 4.0]), categories=["vector"])["token"].tolist() == [0, 4]
    with pytest.raises(EnvError, match="contains 0.5, expected whole numbers"):
        read(space, np.array([0, 0.5]), categories=["vector"])


def test_flatten_log_keys_give_no_notice():
    space = gym.Dict({"log/map": gym.Box(0, 9, (5, 5), U8), "seen": gym.Discrete(2)})
    assert flat(space)[2] == []


def test_usual_picture_below_the_minimum_side_is_no_image():
    side = MIN_IMAGE_SIDE
    assert usual(gym.Box(0, 255, (side, side, 3), U8)) == "pixels"
    assert usual(gym.Box(0, 255, (side - 1, side, 3), U8)) != "pixels"


def test_make_readings_of_a_device_task_are_refused():
    for name in ("pixels", "categories"):
        for make in (envs.make, envs.make_jax):
            with pytest.raises(UnsupportedSpace, match=f"env.{name} is for Gymnasium.*leave it out"):
                make("grid:Catch", **{name: ["board"]})
