"""jax:<module>:<name>: a world of yours as pure functions of JAX arrays.

`name` is a class or function of that module which, called without arguments, gives a `JaxEnv`:

    class MyWorld:
        task, obs_space, act_space = "my world", {"vector": Space((3,), "float32")}, {...}
        def reset(self, *, key): ...            # -> state, Step
        def step(self, state, action, *, key): ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.adapters import UnknownTask
from envs.api import LOG_PREFIX, EnvError, JaxEnv
from envs.arguments import NONE, check_arguments, making
from envs.modules import attribute

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps")
PARTS = ("obs_space", "act_space", "reset", "step")


def ids() -> list[str]:
    """None of its own."""
    return []


def canonical(name: str) -> str:
    """The name itself, if the module can be imported and has it.

    Raises:
      UnknownTask, MissingExtra: with close names, or what importing it lacked.
    """
    if ":" not in name:
        raise UnknownTask(f"jax:{name} lacks its module, as in jax:my_pkg.module:MyWorld")
    attribute(name)
    return name


def make_jax(name: str, obs: str, *, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int = 0) -> JaxEnv:
    """The world.

    Args:
      kwargs: arguments of the class or function.
      max_episode_steps: where its episodes are cut (0: nowhere).

    Raises:
      UnknownTask: for an argument that it does not take.
      EnvError: it cannot be built, or is no `JaxEnv`.
    """
    build = attribute(canonical(name))
    check_arguments(f"jax:{name}", build, kwargs)
    with making(f"jax:{name}", build, kwargs):
        world = build(**kwargs)
    missing = [part for part in PARTS if not hasattr(world, part)]
    if missing:
        raise EnvError(f"jax:{name} is no JaxEnv: it lacks {', '.join(missing)} (see envs.api)")
    if all(key.startswith(LOG_PREFIX) for key in world.obs_space):
        keys = ", ".join(world.obs_space) or "none"
        raise EnvError(
            f"jax:{name} has only observations that are for people ({keys}): an agent would see nothing"
        )
    if not max_episode_steps:
        return world
    from envs.wrappers import Limited

    return Limited(world, max_episode_steps)
