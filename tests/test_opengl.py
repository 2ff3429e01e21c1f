"""opengl: the choice of what draws, and its sentence."""

import os

import pytest

from envs import opengl
from envs.adapters import MissingExtra, UnknownTask


@pytest.fixture
def surroundings(monkeypatch):
    """A Linux without a screen, on which nothing was chosen."""
    monkeypatch.setattr("sys.platform", "linux")
    for name in (opengl.VARIABLE, *opengl.SCREENS):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch.setenv
    os.environ.pop(opengl.VARIABLE, None)  # monkeypatch then puts back what was there


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, "egl"),
        ({"MUJOCO_GL": "glfw"}, "egl"),
        ({"MUJOCO_GL": "osmesa"}, "osmesa"),
        ({"MUJOCO_GL": "disabled"}, "disabled"),
        ({"DISPLAY": ":0"}, None),
        ({"WAYLAND_DISPLAY": "wayland-0", "MUJOCO_GL": "glfw"}, "glfw"),
    ],
)
def test_choose_without_a_screen_is_egl_unless_another_can_draw(surroundings, given, chosen):
    for name, value in given.items():
        surroundings(name, value)
    opengl.choose()
    assert os.environ.get(opengl.VARIABLE) == chosen


def test_choose_on_another_system_leaves_it(surroundings, monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    opengl.choose()
    assert opengl.VARIABLE not in os.environ


def test_drawing_error_says_what_to_install():
    with pytest.raises(MissingExtra) as caught, opengl.drawing("dmc:x"):
        raise AttributeError("'NoneType' object has\nno attribute 'glGetError'")
    sentence = str(caught.value)
    assert sentence.startswith("dmc:x needs OpenGL") and "\n" not in sentence
    assert "libegl1 libegl-mesa0 libgl1-mesa-dri" in sentence and "MUJOCO_GL=egl" in sentence


def test_drawing_wrong_argument_stays_one():
    with pytest.raises(UnknownTask, match="^as it is$"), opengl.drawing("dmc:x"):
        raise UnknownTask("as it is")


@pytest.mark.parametrize(
    ("error", "about"),
    [
        (RuntimeError("No OpenGL rendering backend is available."), True),
        (ImportError("Cannot initialize a headless EGL display."), True),
        (RuntimeError("mjr_makeContext failed"), True),
        (AttributeError("'MjModel' object has no attribute 'flex_vertedge'"), False),
        (ValueError("ANGLE is wrong"), False),
    ],
)
def test_is_about_error_of_drawing_is_recognised(error, about):
    assert opengl.is_about(error) is about
