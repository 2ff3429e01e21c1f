"""opengl: what MuJoCo draws with, chosen before anything that draws is imported."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator

from envs.adapters import MissingExtra, UnknownTask
from envs.modules import described

VARIABLE = "MUJOCO_GL"
"""Names what dm_control, MuJoCo and Gymnasium draw with; they read it when they are imported."""
ON_SCREEN = ("", "glfw", "on", "enable", "enabled", "true", "1")
"""Its values that need a screen."""
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
INSTALL = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"
"""Of Debian and Ubuntu, for drawing without a screen, on the CPU where there is no graphics card."""


def choose() -> None:
    """Draw through EGL on a Linux without a screen, unless another way was asked for that needs none."""
    if sys.platform != "linux" or any(os.environ.get(name) for name in SCREENS):
        return
    if os.environ.get(VARIABLE, "").lower() in ON_SCREEN:
        os.environ[VARIABLE] = "egl"


def renounce() -> None:
    """Draw nothing, so that worlds can be imported whose numbers need no picture."""
    os.environ[VARIABLE] = "disabled"


@contextlib.contextmanager
def drawing(task: str) -> Iterator[None]:
    """Whatever goes wrong while a picture is drawn becomes a sentence that says what to install."""
    try:
        yield
    except (MissingExtra, UnknownTask):
        raise
    except Exception as error:
        raise missing(task, error) from None


def is_about(error: BaseException) -> bool:
    """Whether an error says that something is wrong with drawing."""
    return re.search(r"GL(FW|Error)?\b|Mesa|mjr_", described(error)) is not None


def missing(task: str, error: BaseException) -> MissingExtra:
    """The sentence for a task that cannot draw."""
    return MissingExtra(
        f"{task} needs OpenGL, which does not work here ({described(error)[:200]}): without a screen it "
        f"takes {VARIABLE}=egl, and on Debian {INSTALL}"
    )
