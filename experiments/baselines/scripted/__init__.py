"""Scripted players: they solve a task by rules that a person wrote, as the ceiling of a comparison.

    grid:Catch                                  walks under the ball, from the board alone
    grid:* and MiniGrid's ways to a place       the shortest way there is, from the state of the world
    BabyAI                                      the bot that comes with it, from what it has seen

All but the first know more than an agent does (`privileged`), which a comparison has to say (`sees`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from dreamer.schema import ConfigError
from envs.api import FIRST_TRAINING_SEED, Step, VectorEnv
from envs.make import is_on_device
from envs.rollout import LONGEST, rollout
from envs.vector import HostVector
from experiments.baselines.scripted.player import GaveUp, Scripted

COVERED = (
    "grid:*, MiniGrid's tasks of getting to a place (Empty, DoorKey, FourRooms, Memory, MultiRoom, "
    "LockedRoom, crossings, gaps) and BabyAI's levels but KeyInBox and PutNext*Carrying"
)

Demonstration = list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
"""What one copy saw and did, step by step; the last observation, after which nothing is done, is left out."""


def scripted(env: VectorEnv) -> Scripted:
    """The player for a task. It plays the copies of this very `env`, whose state it may look at.

    Raises:
      ConfigError: there is none for this task; the message says for which there is.
      EnvError: the copies are in other processes, where their state is out of reach.
    """
    player = None
    if env.task == "grid:Catch":
        from experiments.baselines.scripted.catcher import Catcher

        player = Catcher()
    elif isinstance(env, HostVector) and env.task.startswith("grid:"):
        from experiments.baselines.scripted.planner import Planner, of_grid

        player = Planner(env, of_grid)
    elif isinstance(env, HostVector) and not is_on_device(env.task):
        # The adapter comes first: it keeps pygame from greeting on standard output.
        import envs.adapters.minigrid  # noqa: F401
        from experiments.baselines.scripted import bot, planner

        player = planner.player(env) or bot.player(env)
    if player is None:
        raise ConfigError(f"there is no scripted player for {env.task}; there is one for {COVERED}")
    return player


def demonstrations(env: VectorEnv, seeds: Iterable[int], count: int) -> list[Demonstration]:
    """The first `count` episodes, in the order of `seeds`, in which the scripted player succeeds.

    Args:
      env: the task, seen as the learner sees it; one copy is enough.
      seeds: of training, so that episodes of an evaluation are never shown.

    Returns:
      For every episode its (observation, action) pairs of one copy, with all keys that `env` gives.

    Raises:
      ConfigError: there is no player for the task, a seed belongs to evaluation, or successes are too few.
    """
    player, shown = scripted(env), []
    for seed in seeds:
        if len(shown) == count:
            break
        if seed < FIRST_TRAINING_SEED:
            raise ConfigError(f"seed {seed} belongs to evaluation; training starts at {FIRST_TRAINING_SEED}")
        episode = _demonstration(player, env, seed)
        shown += [episode] if episode else []
    if len(shown) < count:
        raise ConfigError(f"the scripted player shows {len(shown)} episodes of {env.task}, not {count}")
    return shown


def _demonstration(player: Scripted, env: VectorEnv, seed: int) -> Demonstration:
    """One episode, empty if it does not succeed."""
    pairs: Demonstration = []

    def add(step: Step, action: Mapping[str, np.ndarray], index: np.ndarray) -> None:
        if not step.is_last[0]:
            pairs.append((_of_first_copy(step.obs), _of_first_copy(action)))

    try:
        (episode,) = rollout(player, env, [seed], on_step=add, max_steps=LONGEST)
    except GaveUp:
        return []
    return pairs if episode.success else []


def _of_first_copy(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: np.array(array[0]) for key, array in arrays.items()}
