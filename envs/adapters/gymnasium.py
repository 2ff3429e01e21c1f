"""gymnasium:<id>: what is registered with Gymnasium, or in a module of yours (`my_pkg:My-v0`)."""

from __future__ import annotations

import importlib
import importlib.util

import gymnasium

from envs.adapters import MissingExtra, UnknownTask, suggestion
from envs.api import EnvError
from envs.modules import import_module

OBS = ("",)

OTHER_SUITES = {"MiniGrid-": "minigrid", "BabyAI-": "minigrid"}
"""Prefixes of ids that are registered with Gymnasium but have an adapter of their own."""

EXTRAS = {
    "gymnasium.envs.mujoco": ("mujoco", "dreamer-toolkit[mujoco]"),
    "gymnasium.envs.classic_control": ("pygame", "dreamer-toolkit[classic]"),
    "gymnasium.envs.box2d": ("Box2D", "gymnasium[box2d]"),
    "ale_py": ("ale_py", "dreamer-toolkit[atari]"),
}
"""Package of an environment's code: (what it imports, what to install for it)."""


def ids() -> list[str]:
    """Every registered id that has no adapter of its own, without the bridges to old Gym."""
    _register_atari()
    hidden = (*OTHER_SUITES, "GymV2")
    return sorted(name for name in gymnasium.registry if not name.startswith(hidden))


def canonical(name: str) -> str:
    """The id as it is registered, with its module in front if it has one; imports that module.

    Raises:
      UnknownTask: with close matches, or if the module cannot be imported.
    """
    module, _, task = name.rpartition(":")
    if module:
        import_module(module)
    for prefix, suite in OTHER_SUITES.items():
        if task.startswith(prefix):
            raise UnknownTask(f"'{task}' has a suite of its own; did you mean {suite}:{task}?")
    if task.startswith("ALE/"):
        _register_atari()
    if task in gymnasium.registry:
        return name
    if task.startswith("ALE/") and importlib.util.find_spec("ale_py") is None:
        raise _missing("ale_py", name)
    raise UnknownTask(f"Gymnasium has no task '{task}'" + suggestion(task, ids()))


def make(name: str, obs: str) -> gymnasium.Env:
    """One environment; its own time limit ends episodes by truncation.

    Raises:
      MissingExtra: if the environment needs a package that is not installed.
      EnvError: if building it raises something else.
    """
    name = canonical(name)
    spec = gymnasium.registry[name.rpartition(":")[2]]
    try:
        # Our own guard checks every step, names the copy and costs less than Gymnasium's.
        return gymnasium.make(spec, disable_env_checker=True)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        source = spec.entry_point if isinstance(spec.entry_point, str) else ""
        package = next((p for p in EXTRAS if source.startswith(p)), None)
        if package is None:
            reason = str(error).splitlines()[0]
            raise MissingExtra(f"gymnasium:{name} needs a missing package: {reason}") from None
        raise _missing(package, name) from None
    except Exception as error:  # the environment may be a user's
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise EnvError(f"gymnasium:{name} cannot be built: it raised {what}") from None


def _missing(package: str, name: str) -> MissingExtra:
    needs, install = EXTRAS[package]
    return MissingExtra(f"gymnasium:{name} needs {needs}: pip install '{install}'")


def _register_atari() -> None:
    if importlib.util.find_spec("ale_py") is not None:
        gymnasium.register_envs(importlib.import_module("ale_py"))
