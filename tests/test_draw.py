"""Pictures show what was observed."""

import gymnasium
import numpy as np
import pytest

import envs
from envs.api import Space
from envs.draw import action_names, is_drawable, picture


@pytest.mark.parametrize("name", ["DoorKey-6x6", "LavaCrossingS9N3"])
def test_picture_of_grid_equals_minigrid_rendering(name):
    env = envs.make(f"minigrid:{name}", 1)
    step = env.reset([3])
    real = gymnasium.make(f"MiniGrid-{name}-v0")
    real.reset(seed=3)
    seen = picture({k: v[0] for k, v in step.obs.items()}, env.obs_space, tile=8)
    np.testing.assert_array_equal(seen, real.unwrapped.get_pov_render(8))
    env.close()


def test_picture_arbitrary_categories_are_drawn():
    rng = np.random.default_rng(0)
    spaces = {k: Space((7, 7), "uint8", n) for k, n in (("object", 11), ("color", 6), ("state", 3))}
    for _ in range(20):
        made_up = {k: rng.integers(0, s.classes, s.shape).astype(np.uint8) for k, s in spaces.items()}
        assert picture(made_up, spaces).shape == (112, 112, 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_picture_image_is_enlarged_unchanged(channels):
    image = np.random.default_rng(0).integers(0, 256, (48, 100, channels), dtype=np.uint8)
    drawn = picture({"image": image}, {"image": Space(image.shape, "uint8")})
    assert drawn.shape == (96, 200, 3)
    shown = np.repeat(image, 3, -1) if channels == 1 else image[..., -3:]
    np.testing.assert_array_equal(drawn[::2, ::2], shown)


def test_picture_vector_raises_value_error():
    spaces = {"vector": Space((4,), "float32")}
    assert not is_drawable(spaces)
    with pytest.raises(ValueError, match="vector has no picture"):
        picture({"vector": np.zeros(4)}, spaces)


# What actions are called.

CHOICE = Space((), "int32", 7)


@pytest.mark.parametrize("task", ["minigrid:DoorKey-6x6", "grid:DoorKey-6x6"])
def test_action_names_grid_task_match_minigrid_actions(task):
    from minigrid.core.actions import Actions

    env = envs.make(task, 1)
    names = action_names(task, env.act_space)
    env.close()
    assert [name.replace(" ", "") for name in names] == [action.name for action in Actions]


@pytest.mark.parametrize(
    ("task", "space", "names"),
    [
        ("gymnasium:CartPole-v1", Space((), "int32", 2), ("0", "1")),
        ("xminigrid:Empty-5x5", CHOICE, tuple("0123456")),
        ("minigrid:Empty-5x5", Space((), "int32", 3), ("0", "1", "2")),
        ("probe:continuous", Space((1,), "float32"), None),
        ("minigrid:Empty-5x5", Space((2,), "int32", 7), None),
    ],
)
def test_action_names_other_spaces_are_numbers_or_none(task, space, names):
    assert action_names(task, {"action": space}) == names


def test_action_names_two_discrete_actions_returns_none():
    assert action_names("minigrid:Empty-5x5", {"left": CHOICE, "right": CHOICE}) is None
