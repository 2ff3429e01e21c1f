"""procgen:<game>: the 16 games of Procgen, as EnvPool 1.2.5 and 1.2.7 have them (with Qt 5 of the system).

    image        [64, 64, 3] in colour

Names are those of Procgen, `procgen:coinrun`. A step is a frame, there are 15 actions, and the published
protocol plays the hard distribution with levels without end, which is the default. Arguments (`env.kwargs`):

    distribution  "hard", "easy", and where a game has it "extreme", "memory" or "exploration"
    levels        how many different levels there are (0: any number)
    first_level   the number of the first of these (0)
    backgrounds   whether there are pictures behind the scene (true)

An episode is one level. Where it reaches the limit of its game (`LIMITS`) or another it is truncated, which
the original does not tell from an end. Every copy is a pool of its own, created for each episode; in training
`--env.engine envpool` has one pool for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium import spaces as gym

from envs import engine
from envs.adapters import UnknownTask, suggestion
from envs.adapters.envpool import Single
from envs.arguments import NONE, Wrap, check_names, wrapped

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps", "wrappers", "engine")
LIMITS = {
    **{"bigfish": 6000, "bossfight": 4000, "caveflyer": 1000, "chaser": 1000, "climber": 1000},
    **{"coinrun": 1000, "dodgeball": 1000, "fruitbot": 1000, "heist": 1000, "jumper": 1000, "leaper": 500},
    **{"maze": 500, "miner": 1000, "ninja": 1000, "plunder": 4000, "starpilot": 1000},
}
"""Games, and the steps after which each ends an episode."""
DISTRIBUTIONS = ("hard", "easy", "extreme", "memory", "exploration")
OPTIONS = {"levels": "num_levels", "first_level": "start_level", "backgrounds": "use_backgrounds"}
"""EnvPool's names of arguments."""


def ids() -> list[str]:
    """The names of the 16 games."""
    return list(LIMITS)


def canonical(name: str) -> str:
    """The name as Procgen writes it: `CoinRun` is `coinrun`.

    Raises:
      UnknownTask: with close matches.
    """
    if name.lower() in LIMITS:
        return name.lower()
    raise UnknownTask(f"Procgen has no game '{name}'{suggestion(name.lower(), list(LIMITS))}")


def note(name: str) -> str:
    """The protocol in a sentence."""
    return (
        "procgen means, unless env.kwargs says otherwise: hard levels without end, every action for one "
        "frame, in the games as EnvPool has them; normalised scores are right for the hard levels only."
    )


def make(
    name: str,
    obs: str,
    *,
    kwargs: Mapping[str, Any] = NONE,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Wrap] = (),
) -> gymnasium.Env:
    """One game.

    Args:
      kwargs: `distribution`, `levels`, `first_level`, `backgrounds`.
      max_episode_steps: a time limit below that of the game (0: that of the game).
      wrappers: what goes around it, the first one innermost.

    Raises:
      UnknownTask: for an argument or a wrapper that is not there, or a wrong value.
      MissingExtra: EnvPool or a library that it needs is missing.
    """
    recipe = pool(name, obs, kwargs=kwargs)
    name = canonical(name)
    task, limit = f"procgen:{name}", LIMITS[name]
    if max_episode_steps > limit:
        raise UnknownTask(
            f"{task} ends an episode after {limit} steps, so no limit can be {max_episode_steps}"
        )
    env: gymnasium.Env = Single(recipe)
    if max_episode_steps:
        env = gymnasium.wrappers.TimeLimit(env, max_episode_steps)
    return wrapped(task, env, wrappers)


def pool(
    name: str, obs: str, *, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int = 0
) -> engine.Recipe:
    """What the engine makes; arguments and errors as of `make`, but EnvPool shortens no episodes."""
    name = canonical(name)
    task = f"procgen:{name}"
    options = {"channel_first": False, **_options(task, kwargs)}
    if max_episode_steps:
        raise UnknownTask(f"EnvPool has no other limits of {task}: leave out max_episode_steps or engine")
    distribution = str(kwargs.get("distribution", DISTRIBUTIONS[0]))
    full = f"{name.capitalize()}{distribution.capitalize()}-v0"
    known = _registered()
    if full not in known:
        have = [d for d in DISTRIBUTIONS if f"{name.capitalize()}{d.capitalize()}-v0" in known]
        raise UnknownTask(f"{task} has the distributions {', '.join(have)}, not {distribution!r}")
    original = engine.described(full, options)
    image = gym.Dict({"image": original.observation})
    return engine.Recipe(full, options, image, original.action, lambda raw, _: {"image": raw})


def _options(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """EnvPool's options for arguments, checked, but for the distribution."""
    check_names(task, given, ["distribution", *OPTIONS])
    is_number = lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    for name, value in given.items():
        right, what = is_number(value), "a whole number from 0 on"
        if name == "backgrounds":
            right, what = isinstance(value, bool), "true or false"
        if name == "distribution":
            right, what = isinstance(value, str), f"one of {', '.join(DISTRIBUTIONS)}"
        if not right:
            raise UnknownTask(f"{task} takes {what} for '{name}', not {value!r}")
    return {OPTIONS[name]: value for name, value in given.items() if name in OPTIONS}


def _registered() -> frozenset[str]:
    """What EnvPool has."""
    import envpool

    return frozenset(envpool.list_all_envs())
