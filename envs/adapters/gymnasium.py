"""gymnasium:<id>: what is registered with Gymnasium, or in a module of yours (`my_pkg:My-v0`)."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from envs.adapters import MissingExtra, UnknownTask, suggestion, versions_of
from envs.arguments import NONE, Wrap, check_arguments, making, wrapped
from envs.modules import OURS, attribute, import_module, is_taken

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps", "wrappers")

OTHER_SUITES = {"MiniGrid-": "minigrid", "BabyAI-": "minigrid", "popgym-": "popgym"}
"""Prefixes of ids that are registered with Gymnasium but have an adapter of their own."""

EXTRAS = {
    "gymnasium.envs.mujoco": ("mujoco", "dreamer-toolkit[mujoco]", ("mujoco",)),
    "gymnasium.envs.classic_control": ("pygame", "dreamer-toolkit[classic]", ()),
    "gymnasium.envs.box2d": ("Box2D", "gymnasium[box2d]", ("box2d", "box2d-py")),
    "ale_py": ("ale_py", "dreamer-toolkit[atari]", ("ale-py",)),
    "shimmy": ("shimmy", "shimmy[dm-control]", ("shimmy", "dm-control", "mujoco")),
}
"""Package of an environment's code: (what it imports, what to install for it, whose version matters)."""


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
            raise UnknownTask(f"'{task}' has a suite of its own; did you mean {suite}:{name}?")
    if task.startswith("ALE/"):
        _register_atari()
    if task in gymnasium.registry:
        return name
    if task.startswith("ALE/") and importlib.util.find_spec("ale_py") is None:
        raise _missing("ale_py", f"gymnasium:{name}")
    raise UnknownTask(f"Gymnasium has no task '{task}'" + suggestion(task, ids()))


def make(
    name: str,
    obs: str,
    *,
    kwargs: Mapping[str, Any] = NONE,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Wrap] = (),
) -> gymnasium.Env:
    """One environment; its time limit ends episodes by truncation.

    Args:
      kwargs: arguments that go over those it is registered with.
      max_episode_steps: its time limit, inside of the wrappers (0: the one it is registered with).
      wrappers: what goes around it, the first one innermost.

    Raises:
      MissingExtra: if the environment needs a package that is not installed.
      UnknownTask: for an argument or a wrapper that is not there.
      EnvError: if building it raises something else.
    """
    name = canonical(name)
    spec = gymnasium.registry[name.rpartition(":")[2]]
    full = f"gymnasium:{name}"
    env = wrapped(full, build(full, spec, kwargs, max_episode_steps), wrappers)
    if is_minigrid(env):
        raise UnknownTask(f"'{spec.id}' is a world of MiniGrid; did you mean minigrid:{name}?")
    return env


def build(
    task: str, spec: EnvSpec, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int = 0
) -> gymnasium.Env:
    """The environment of a registered id; arguments, limit and errors as in `make`."""
    given = {**spec.kwargs, **kwargs}
    with making(task), _packages_of(task, spec):
        creator = entry(spec)
    if creator is not None:
        check_arguments(task, creator, given)
    bound = dataclasses.replace(spec, entry_point=creator, kwargs=given)
    with making(task, creator, kwargs), _packages_of(task, spec):
        # Our own guard checks every step, names the copy and costs less than Gymnasium's.
        return gymnasium.make(bound, max_episode_steps=max_episode_steps or None, disable_env_checker=True)


def entry(spec: EnvSpec) -> Callable[..., Any] | None:
    """What makes the environments of an id, also where a user's module has the name of one of ours."""
    place = spec.entry_point
    if not isinstance(place, str):
        return place
    if is_taken(place.partition(":")[0]):
        return attribute(place)
    return load_env_creator(place)


def made_of(name: str, kwargs: Mapping[str, Any]) -> dict[str, str]:
    """The versions of the packages that an environment's code is in and needs."""
    place = gymnasium.registry[name.rpartition(":")[2]].entry_point
    source = place if isinstance(place, str) else getattr(place, "__module__", "")
    needed = [needs for package, (_, _, needs) in EXTRAS.items() if source.startswith(package)]
    top = source.partition(":")[0].partition(".")[0]
    # The file that says which package installed a module takes a while to make for all of them.
    return versions_of([*_installed(top), *(name for names in needed for name in names)])


def _installed(module: str) -> Sequence[str]:
    """The packages that brought a module, if it was installed."""
    passed = ("", "__main__", "gymnasium", *OURS)  # a program has no place among the modules
    located = importlib.util.find_spec(module) if module not in passed else None
    if located is None or not {"site-packages", "dist-packages"} & set(Path(located.origin or "").parts):
        return ()  # finding out takes a while
    return metadata.packages_distributions().get(module, ())


def is_minigrid(env: gymnasium.Env) -> bool:
    """Whether it is a world of MiniGrid, with all it shows: the suite `minigrid` knows how to read that."""
    # A wrapper that removes the mission is a choice of another observation.
    if "mission" not in getattr(env.observation_space, "spaces", {}):
        return False
    package = sys.modules.get("minigrid.minigrid_env")
    return package is not None and isinstance(env.unwrapped, package.MiniGridEnv)


@contextlib.contextmanager
def _packages_of(task: str, spec: EnvSpec) -> Iterator[None]:
    """Where a package is missing it is named, and what to install for it."""
    try:
        yield
    except MissingExtra:
        raise
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        source = spec.entry_point if isinstance(spec.entry_point, str) else ""
        package = next((p for p in EXTRAS if source.startswith(p)), None)
        if package is None:
            reason = str(error).splitlines()[0]
            raise MissingExtra(f"{task} needs a missing package: {reason}") from None
        raise _missing(package, task) from None


def _missing(package: str, task: str) -> MissingExtra:
    needs, install, _ = EXTRAS[package]
    return MissingExtra(f"{task} needs {needs}: pip install '{install}'")


def _register_atari() -> None:
    if importlib.util.find_spec("ale_py") is not None:
        gymnasium.register_envs(importlib.import_module("ale_py"))
