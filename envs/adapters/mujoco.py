"""mujoco:<name>: Gymnasium's MuJoCo tasks by short names, each in its newest version (`hopper`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium

from envs import opengl
from envs.adapters import UnknownTask, suggestion
from envs.adapters.gymnasium import build
from envs.arguments import NONE, Wrap, wrapped

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps", "wrappers")
PLACE = "gymnasium.envs.mujoco."
"""Where Gymnasium has the code of its MuJoCo tasks."""


def ids() -> list[str]:
    """The short name of every task."""
    return [_shortened(family) for family in _newest()]


def canonical(name: str) -> str:
    """The id as Gymnasium has it: `half-cheetah`, `half_cheetah` and `HalfCheetah` are `HalfCheetah-v5`.

    Raises:
      UnknownTask: with close matches.
    """
    if name in _registered():
        return name
    newest = {family.lower(): task for family, task in _newest().items()}
    full = newest.get(re.sub("[-_]", "", name).lower())
    if full is None:
        raise UnknownTask(f"Gymnasium has no MuJoCo task '{name}'{suggestion(name, ids())}")
    return full


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
      kwargs: arguments of the task, as `forward_reward_weight`.
      max_episode_steps: its time limit, inside of the wrappers (0: the one it is registered with).
      wrappers: what goes around it, the first one innermost.

    Raises:
      MissingExtra: if MuJoCo is not installed.
      UnknownTask: for an argument or a wrapper that is not there.
      EnvError: if building it raises something else.
    """
    name = canonical(name)
    opengl.choose()  # for wrappers that show pictures
    env = build(f"mujoco:{name}", gymnasium.registry[name], kwargs, max_episode_steps)
    return wrapped(f"mujoco:{name}", env, wrappers)


def _registered() -> list[str]:
    """Every id of Gymnasium whose code is there, from the oldest version to the newest."""
    specs = [spec for spec in gymnasium.registry.values() if str(spec.entry_point).startswith(PLACE)]
    return [spec.id for spec in sorted(specs, key=lambda spec: spec.version or 0)]


def _newest() -> dict[str, str]:
    """The newest id of every task, by its name without version."""
    return {task.rpartition("-v")[0]: task for task in _registered()}


def _shortened(family: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "-", family).lower()
