"""The true state of recorded worlds, where they offer it for people (`log/` keys, which no agent sees).

Grids (grid:*, minigrid:*) do, with the observation `privileged`, in which the agent sees what it sees with
`symbolic`. Reports open them that way; training does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

import envs
from dreamer.config import Config
from envs.adapters import UnknownTask
from envs.api import LOG_PREFIX, VectorEnv
from envs.gridworld import CLOSED, DOOR, EMPTY, KEY, STATE

PRIVILEGED = "privileged"
"""The observation that also shows people all of the world."""
WORLDS = ("grid:", "minigrid:MiniGrid-", "minigrid:BabyAI-")
"""How the names of tasks begin that have it; a world of a user's need not have a grid of one size."""
SYMBOLIC = ("", "symbolic")
"""What the agent sees there."""


class Variable(NamedTuple):
    """Something that is true of the world at every recorded step."""

    values: np.ndarray
    """[...] int for categories, float32 for numbers."""
    known: np.ndarray
    """[...] bool, where it means anything (a key that was picked up lies nowhere)."""

    @property
    def is_category(self) -> bool:
        """Whether it is one of several kinds, else a number."""
        return self.values.dtype.kind != "f"


def opened(cfg: Config, num_envs: int) -> VectorEnv:
    """Copies of the task of a run that tell people its true state, where the task can."""
    world: dict[str, Any] = {**cfg.env.copies, **cfg.env.world}
    if cfg.env.obs in SYMBOLIC and not cfg.env.wrappers and cfg.task.startswith(WORLDS):
        try:
            return envs.make(cfg.task, num_envs, **(world | {"obs": PRIVILEGED}))
        except UnknownTask:  # grid:Catch, whose agent sees all there is
            pass
    return envs.make(cfg.task, num_envs, **world)


def of(obs: Mapping[str, Any]) -> dict[str, Variable]:
    """The state variables of recorded observations {key: [N, T, ...]}; none where the world does not say."""
    if LOG_PREFIX + "object" not in obs or LOG_PREFIX + "position" not in obs:
        return {}
    return dict(_of_grid(obs))


def _of_grid(obs: Mapping[str, Any]) -> Iterator[tuple[str, Variable]]:
    cells, state = obs[LOG_PREFIX + "object"], obs[LOG_PREFIX + "state"]
    always = np.ones(cells.shape[:2], bool)
    for axis, name in enumerate("xy"):
        yield f"agent {name}", Variable(obs[LOG_PREFIX + "position"][..., axis].astype(np.float32), always)
    if "direction" in obs:
        yield "agent direction", Variable(np.asarray(obs["direction"]), always)
    if "object" in obs:
        width, height = np.shape(obs["object"])[2:]
        hand = obs["object"][
            ..., width // 2, height - 1
        ]  # where an agent sees itself, it sees what it carries
        yield "carries something", Variable((hand != EMPTY).astype(int), always)
    doors, keys = (cells == kind for kind in (DOOR, KEY))
    if doors.any():
        is_open = (doors & (state < CLOSED // STATE)).any((-2, -1))
        yield "a door is open", Variable(is_open.astype(int), always)
    if keys.any():
        lies = keys.any((-2, -1))
        first = keys.reshape(*keys.shape[:2], -1).argmax(-1)
        for name, place in zip("xy", np.divmod(first, keys.shape[-1]), strict=True):
            yield f"key {name}", Variable(place.astype(np.float32), lies)
