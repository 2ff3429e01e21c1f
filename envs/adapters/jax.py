"""jax:<module>:<name>: a world of yours as pure functions of JAX arrays.

`name` is a class or function of that module which, called without arguments, gives a `JaxEnv`:

    class MyWorld:
        task, obs_space, act_space = "my world", {"vector": Space((3,), "float32")}, {...}
        def reset(self, *, key): ...            # -> state, Step
        def step(self, state, action, *, key): ...
"""

from __future__ import annotations

from envs.adapters import UnknownTask, import_module, suggestion
from envs.api import LOG_PREFIX, EnvError, JaxEnv

OBS = ("",)
PARTS = ("obs_space", "act_space", "reset", "step")


def ids() -> list[str]:
    """None of its own."""
    return []


def canonical(name: str) -> str:
    """The name itself, if the module can be imported and has it.

    Raises:
      UnknownTask, MissingExtra: with close names, or what importing it lacked.
    """
    module, colon, attribute = name.rpartition(":")
    if not colon:
        raise UnknownTask(f"jax:{name} lacks its module, as in jax:my_pkg.module:MyWorld")
    found = import_module(module)
    if not callable(getattr(found, attribute, None)):
        names = [key for key, value in vars(found).items() if callable(value)]
        raise UnknownTask(f"the module {module} has no '{attribute}'{suggestion(attribute, names)}")
    return name


def make_jax(name: str, obs: str) -> JaxEnv:
    """The world.

    Raises:
      EnvError: it cannot be built, or is no `JaxEnv`.
    """
    module, _, attribute = canonical(name).rpartition(":")
    try:
        world = getattr(import_module(module), attribute)()
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise EnvError(f"jax:{name} cannot be built: it raised {what}") from None
    missing = [part for part in PARTS if not hasattr(world, part)]
    if missing:
        raise EnvError(f"jax:{name} is no JaxEnv: it lacks {', '.join(missing)} (see envs.api)")
    if all(key.startswith(LOG_PREFIX) for key in world.obs_space):
        keys = ", ".join(world.obs_space) or "none"
        raise EnvError(
            f"jax:{name} has only observations that are for people ({keys}): an agent would see nothing"
        )
    return world
