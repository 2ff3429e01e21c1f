"""popgym:<task><difficulty>: 14 tasks of memory in three difficulties, as `popgym:RepeatPreviousEasy`.

What one sees and does is the package's: classes or numbers, with no pictures. POPGym proposes to observe the
previous action too; a world model has it as an input, and knows where an episode starts, so neither is added.

Battleship, Concentration, MineSweeper, MultiarmedBandit, CartPole and Pendulum have a time limit, which ends
an episode without being terminal; a deck that is used up is terminal. Returns lie in [-1, 1], but one of
Battleship in which nothing is hit is up to -64/52.

A task without difficulty takes arguments: `popgym:RepeatPrevious` with `{"k": 8}`. The mazes of the
package, which need `mazelib` and test little memory, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from envs.adapters import UnknownTask, suggestion
from envs.arguments import NONE, Wrap, check_arguments, making, wrapped

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps", "wrappers")
DIFFICULTIES = ("Easy", "Medium", "Hard")

TASKS = (
    "Autoencode",
    "Battleship",
    "Concentration",
    "CountRecall",
    "HigherLower",
    "MineSweeper",
    "MultiarmedBandit",
    "NoisyPositionOnlyCartPole",
    "NoisyPositionOnlyPendulum",
    "PositionOnlyCartPole",
    "PositionOnlyPendulum",
    "RepeatFirst",
    "RepeatPrevious",
    "VelocityOnlyCartPole",
)
"""The tasks, each of which is a class of the package, as is each of its difficulties."""


def ids() -> list[str]:
    """Every task in every difficulty."""
    return [task + difficulty for task in TASKS for difficulty in DIFFICULTIES]


def sets() -> dict[str, tuple[str, ...]]:
    """All 42, and those of each difficulty."""
    by_difficulty = {d.lower(): tuple(task + d for task in TASKS) for d in DIFFICULTIES}
    return {"42": tuple(ids()), **by_difficulty}


def canonical(name: str) -> str:
    """The package's name: `repeat-previous-easy` and `popgym-RepeatPreviousEasy-v0` are `RepeatPreviousEasy`.

    Raises:
      UnknownTask: with close matches.
    """
    known = {task.lower(): task for task in (*TASKS, *ids())}
    plain = name.lower().removeprefix("popgym:").removeprefix("popgym-").removesuffix("-v0")
    plain = plain.replace("-", "").replace("_", "")
    if plain not in known:
        raise UnknownTask(f"POPGym has no task '{name}'{suggestion(plain, ids())}")
    return known[plain]


def note(name: str) -> str:
    """What the first observation of VelocityOnlyCartPole is."""
    if not name.lower().replace("-", "").startswith("velocityonlycartpole"):
        return ""
    return (
        "popgym 1.0.7 shows the position and angle, not the two velocities, in the first observation of an "
        "episode of VelocityOnlyCartPole; it is left as it is."
    )


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
      kwargs: arguments of a task without difficulty.
      max_episode_steps: a limit beside its own (0: none).
      wrappers: what goes around it, the first one innermost.

    Raises:
      UnknownTask: for an argument or a wrapper that is not there.
      EnvError: if building it raises something else.
    """
    name = canonical(name)
    task, creator = f"popgym:{name}", _creator(name)
    if kwargs and name not in TASKS:
        bare = name.removesuffix(next(d for d in DIFFICULTIES if name.endswith(d)))
        raise UnknownTask(f"the arguments of {task} are its difficulty; popgym:{bare} takes others")
    check_arguments(task, creator, kwargs)
    with making(task, creator, kwargs):
        env = creator(**kwargs)
    if max_episode_steps:
        env = TimeLimit(env, max_episode_steps)
    return wrapped(task, env, wrappers)


def _creator(name: str) -> Callable[..., gymnasium.Env]:
    from popgym import envs  # pyrefly: ignore

    return getattr(envs, name)
