"""minigrid:<id>: MiniGrid and BabyAI as categorical grids or images, and missions as word tokens.

    obs="symbolic"   `object`, `color`, `state` [7, 7] of the view, `direction` of the agent
    obs="rgb"        `image` [56, 56, 3] of the same view
    obs="full"       `image` of the whole grid, 8 pixels a cell
    obs="privileged" as symbolic, with the whole grid for people: `log/object`, `log/color`, `log/state`
                     [width, height], `log/position` (x, y) of the agent

Where the mission changes from episode to episode, `mission` holds its words as indices into
`VOCABULARY`, padded with 0 to the longest mission of that task. An episode succeeds if it
terminates with a positive reward.

A user's own world (a `MiniGridEnv` that a module registers) is `minigrid:my_package.my_module:MyMaze-v0`.
Words of its missions that are not in `VOCABULARY` all look the same.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs import engine
from envs.adapters import MissingExtra, UnknownTask, suggestion
from envs.adapters.gymnasium import build, entry, is_minigrid
from envs.adapters.minigrid_sets import SETS
from envs.api import LOG_PREFIX, EnvError
from envs.arguments import NONE, Wrap, wrapped
from envs.distractor import Distractor
from envs.modules import import_module

# Otherwise pygame greets on standard output, where machines read results.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import minigrid  # noqa: F401, E402  registers the ids
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX  # noqa: E402
from minigrid.core.grid import Grid  # noqa: E402
from minigrid.envs.babyai.core import roomgrid_level  # noqa: E402
from minigrid.envs.babyai.core.levelgen import LevelGen  # noqa: E402
from minigrid.minigrid_env import MiniGridEnv  # noqa: E402
from minigrid.wrappers import RGBImgObsWrapper, RGBImgPartialObsWrapper  # noqa: E402

# BabyAI prints every layout it rejects; standard output belongs to results.
roomgrid_level.print = lambda *_: None  # pyrefly: ignore

OBS = ("symbolic", "rgb", "full", "privileged")
TAKES = ("kwargs", "max_episode_steps", "wrappers", "distractor", "engine")
PICTURES = ("rgb", "full")
FAMILIES = ("MiniGrid", "BabyAI")
TILE_PIXELS = 8
PROBED = 32
"""Episodes that are started to collect the missions of a user's own world."""

NOT_OF_ENVPOOL = {
    "BabyAI-SynthS5R2": "has worlds that EnvPool never ends drawing",
    "MiniGrid-ObstructedMaze-1D": "is 11x6 cells, but 16x16 in EnvPool",
    "MiniGrid-WFC": "was not compared with EnvPool's",
}
"""Why EnvPool 1.2.5 cannot step tasks whose names begin like that."""

CHANNELS = {"object": OBJECT_TO_IDX, "color": COLOR_TO_IDX, "state": STATE_TO_IDX}
"""The channels of MiniGrid's grid, in order, and the values of each."""

PADDING, UNKNOWN = 0, 1
VOCABULARY = (
    *("<pad>", "<unk>"),
    *("blue", "green", "grey", "purple", "red", "yellow"),
    *("ball", "box", "door", "key", "object", "goal", "room"),
    *("go", "get", "fetch", "pick", "up", "open", "unlock", "put", "to", "next", "near"),
    *("a", "the", "in", "on", "front", "behind", "left", "right", "of", "from", "your"),
    *("you", "must", "and", "then", "after"),
)
"""Every word of every mission; its order is part of the meaning of stored observations."""

LONGEST_MISSION = {
    "MoveTwoAcross": 19,  # put the C T next to the C T, then put the C T next to the C T
    "OpenDoorsOrder": 10,  # open the C door after you open the C door
    "OpenTwoDoors": 9,  # open the C door, then open the C door
    "PutNext": 9,  # put the C T next to the C T
    "OpenDoor": 7,  # open the door in front of you
    "": 5,  # go to the C T
}
"""Words in the longest mission of BabyAI's handwritten levels, by the first matching class name."""


def ids() -> list[str]:
    """The short name of every task of MiniGrid and BabyAI."""
    return [shorten(name) for name in _registered()]


def sets() -> dict[str, tuple[str, ...]]:
    """Levels that are used together, by short name; the first set is the usual one."""
    return SETS


def canonical(name: str) -> str:
    """The full id: `DoorKey-5x5` is `MiniGrid-DoorKey-5x5-v0`, `BabyAI-GoTo` is `BabyAI-GoTo-v0`.

    One of a user's module, which is imported, keeps the module in front.

    Raises:
      UnknownTask: with close matches, or if the module cannot be imported.
    """
    module, colon, task = name.rpartition(":")
    if module:
        import_module(module)
    for prefix, version in itertools.product(("", *(f"{f}-" for f in FAMILIES)), ("", "-v0")):
        full = prefix + task + version
        if full in _registered() or (full in gymnasium.registry and _is_world(full)):
            return module + colon + full
    if task in gymnasium.registry:
        raise UnknownTask(f"'{task}' is no world of MiniGrid; did you mean gymnasium:{name}?")
    if module:
        close = suggestion(task, list(gymnasium.registry))
        raise UnknownTask(f"the module {module} registers no task '{task}'{close}")
    raise UnknownTask(f"MiniGrid has no task '{name}'{suggestion(shorten(name), ids())}")


def _is_world(full: str) -> bool:
    """Whether an id may be of a world of MiniGrid: of functions only building it tells."""
    try:
        creator = entry(gymnasium.registry[full])
    except Exception:  # the module of a user, which says more when the world is built
        return True
    return issubclass(creator, MiniGridEnv) if isinstance(creator, type) else creator is not None


def shorten(name: str) -> str:
    """The shortest name of a task: without `MiniGrid-` and `-v0`."""
    return name.removeprefix("MiniGrid-").removesuffix("-v0")


def _registered() -> list[str]:
    families = tuple(f"{family}-" for family in FAMILIES)
    return sorted(name for name in gymnasium.registry if name.startswith(families))


def make(
    name: str,
    obs: str,
    *,
    kwargs: Mapping[str, Any] = NONE,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Wrap] = (),
    distractor: str = "",
) -> gymnasium.Env:
    """One environment with the observation `obs`, which tells `success` when an episode ends.

    Args:
      kwargs: arguments that go over those it is registered with.
      max_episode_steps: its time limit, of which rewards depend (0: its own).
      wrappers: what goes around it before it is observed, the first one innermost.
      distractor: what moves on empty cells of pictures, seen or not.

    Raises:
      MissingExtra: for the WFC tasks, which need another package.
      UnknownTask: for an argument or a wrapper that is not there.
      EnvError: if building it raises something else.
    """
    name = canonical(name)
    task, spec = f"minigrid:{name}", gymnasium.registry[name.rpartition(":")[2]]
    limit = max_episode_steps if spec.max_episode_steps else 0  # of a wrapper around it
    try:
        env = build(task, spec, kwargs, limit)
    except MissingExtra:
        if not spec.id.startswith("MiniGrid-WFC"):
            raise
        raise MissingExtra(f"{task} needs more: pip install 'minigrid[wfc]'") from None
    if not isinstance(env.unwrapped, MiniGridEnv):
        raise UnknownTask(f"'{spec.id}' is no world of MiniGrid; did you mean gymnasium:{name}?")
    if max_episode_steps:
        _limit(env.unwrapped, max_episode_steps)
    env = wrapped(task, env, wrappers)
    if is_minigrid(env):
        adapted = adapt(env, obs)
        return Distractor(adapted, empty_cells()) if distractor else adapted
    if obs != OBS[0]:
        raise UnknownTask(f"the wrappers of {task} choose what is seen, and leave no observation {obs!r}")
    return env


def pool(
    name: str, obs: str, *, kwargs: Mapping[str, Any] = NONE, max_episode_steps: int = 0
) -> engine.Recipe:
    """What EnvPool makes of a task, seen as MiniGrid shows it; the worlds of a seed are others.

    Raises:
      UnknownTask, MissingExtra: as `make`, and for what EnvPool does not have, or has otherwise.
    """
    name = canonical(name)
    task = f"minigrid:{name}"
    if obs != OBS[0]:
        raise UnknownTask(
            f"EnvPool shows only symbols of {task}: leave out engine, or take --env.obs symbolic"
        )
    if kwargs:
        raise UnknownTask(f"EnvPool takes no arguments of MiniGrid's: leave out kwargs or engine for {task}")
    for prefix, why in NOT_OF_ENVPOOL.items():
        if name.startswith(prefix):
            raise UnknownTask(f"{task} {why}: leave out engine")
    options = {"max_episode_steps": max_episode_steps} if max_episode_steps else {}
    engine.described(name, options)
    original = make(name, obs)
    seen, action = original.observation_space, original.action_space
    length = mission_length(original.unwrapped)  # pyrefly: ignore
    original.close()

    def read(raw: Mapping[str, Any], _: float) -> dict[str, Any]:
        observed: dict[str, Any] = {key: raw["image"][..., i] for i, key in enumerate(CHANNELS)}
        observed["direction"] = raw["direction"]
        if length:
            mission = raw["mission"].tobytes().partition(b"\0")[0].decode()
            observed["mission"] = tokenize(mission, length)
        return observed

    return engine.Recipe(name, options, seen, action, read, success=lambda rewards: rewards > 0)


def _limit(world: MiniGridEnv, steps: int) -> None:
    """Give a world another time limit."""
    world.max_steps = steps
    if isinstance(world, roomgrid_level.RoomGridLevel):
        world.fixed_max_steps = True  # otherwise every episode has its own


def empty_cells() -> np.ndarray:
    """Pictures of an empty cell outside of the view and in it: [2, TILE_PIXELS, TILE_PIXELS, 3] uint8."""
    tiles = [Grid.render_tile(None, highlight=seen, tile_size=TILE_PIXELS) for seen in (False, True)]
    return np.stack(tiles).astype(np.uint8)


def adapt(env: gymnasium.Env, obs: str) -> gymnasium.Env:
    """An environment of MiniGrid with the observation `obs`, which tells `success` when an episode ends.

    Raises:
      UnknownTask: there is no such observation.
    """
    if obs not in OBS:
        raise UnknownTask(f"minigrid has no observation {obs!r}; allowed: {', '.join(map(repr, OBS))}")
    if obs == "rgb":
        env = RGBImgPartialObsWrapper(env, tile_size=TILE_PIXELS)
    if obs == "full":
        env = RGBImgObsWrapper(env, tile_size=TILE_PIXELS)
    adapted = MiniGrid(env, symbolic=obs in ("symbolic", "privileged"))
    return Whole(adapted) if obs == "privileged" else adapted


class MiniGrid(gymnasium.Wrapper):
    """MiniGrid with fixed-shape observations and its success in the info."""

    def __init__(self, env: gymnasium.Env, *, symbolic: bool):
        super().__init__(env)
        self._symbolic = symbolic
        self._mission_length = mission_length(env.unwrapped)  # pyrefly: ignore
        self._cuts = not _is_minigrids(env.unwrapped)
        view = env.observation_space["image"].shape  # pyrefly: ignore
        parts: dict[str, gymnasium.Space] = {}
        if symbolic:
            for key, values in CHANNELS.items():
                parts[key] = gym.MultiDiscrete(np.full(view[:2], _classes(values)), dtype=np.uint8)
            parts["direction"] = gym.Discrete(4)
        else:
            parts["image"] = gym.Box(0, 255, view, np.uint8)
        if self._mission_length:
            words = np.full(self._mission_length, len(VOCABULARY))
            parts["mission"] = gym.MultiDiscrete(words, dtype=np.int32)
        self.observation_space = gym.Dict(parts)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        raw, info = self.env.reset(seed=seed, options=options)
        return self._observe(raw), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        raw, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            info["success"] = bool(terminated and float(reward) > 0)
        return self._observe(raw), reward, terminated, truncated, info

    def _observe(self, raw: dict[str, Any]) -> dict[str, Any]:
        image = raw["image"]
        if self._symbolic:
            obs = {key: image[..., i] for i, key in enumerate(CHANNELS)}
            obs["direction"] = raw["direction"]
        else:
            obs = {"image": image}
        if self._mission_length:
            obs["mission"] = tokenize(raw["mission"], self._mission_length, cut=self._cuts)
        return obs


class Whole(gymnasium.ObservationWrapper):
    """Adds the whole grid and the place of the agent, under keys that no agent sees."""

    def __init__(self, env: MiniGrid):
        super().__init__(env)
        self._world: MiniGridEnv = env.unwrapped  # pyrefly: ignore
        size = (self._world.width, self._world.height)
        parts = dict(env.observation_space.spaces)  # pyrefly: ignore
        for key, values in CHANNELS.items():
            parts[LOG_PREFIX + key] = gym.MultiDiscrete(np.full(size, _classes(values)), dtype=np.uint8)
        parts[LOG_PREFIX + "position"] = gym.Box(0, max(size), (2,), np.int32)
        self.observation_space = gym.Dict(parts)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        cells = self._world.grid.encode()
        whole: dict[str, Any] = {LOG_PREFIX + key: cells[..., i] for i, key in enumerate(CHANNELS)}
        whole[LOG_PREFIX + "position"] = np.asarray(self._world.agent_pos, np.int32)
        return observation | whole


def _classes(values: Mapping[str, int]) -> int:
    """Of a channel, with those that a user's own world has added to MiniGrid's."""
    return max(values.values()) + 1


@functools.lru_cache(maxsize=4096)
def tokenize(mission: str, length: int, *, cut: bool = False) -> np.ndarray:
    """The words of a mission as indices into `VOCABULARY`.

    Args:
      cut: leave out what is longer than `length`.

    Returns:
      [length] int32, 0 after the last word, 1 for a word that is not in the vocabulary.

    Raises:
      EnvError: if the mission has more words than `length`.
    """
    words = _words(mission)[: length if cut else None]
    if len(words) > length:
        raise EnvError(f"the mission '{mission}' has {len(words)} words, expected up to {length}")
    index = {word: i for i, word in enumerate(VOCABULARY)}
    tokens = np.full(length, PADDING, np.int32)
    tokens[: len(words)] = [index.get(word, UNKNOWN) for word in words]
    tokens.flags.writeable = False  # every call with this mission returns this array
    return tokens


def _words(mission: str) -> list[str]:
    return mission.lower().replace(",", " ").split()


def mission_length(env: MiniGridEnv) -> int:
    """Words in the longest mission of a task, 0 if its mission never changes."""
    if not _is_minigrids(env):
        return _length_of_others(env)
    if isinstance(env, LevelGen):
        return _grammar_length(env)
    if isinstance(env, roomgrid_level.RoomGridLevel):
        name = type(env).__name__
        return next(n for prefix, n in LONGEST_MISSION.items() if name.startswith(prefix))
    longest = _declared(env.observation_space["mission"])  # pyrefly: ignore
    return len(longest[-1].split()) if len(longest) > 1 else 0


def _is_minigrids(env: Any) -> bool:
    """Whether a world is one of MiniGrid itself."""
    return type(env).__module__.partition(".")[0] == "minigrid"


def _declared(space: Any) -> list[str]:
    """Of the missions that a space declares one, and the longest if there are others."""
    options = getattr(space, "ordered_placeholders", None) or []
    if not hasattr(space, "mission_func"):
        return []
    first = space.mission_func(*(choices[0] for choices in options))
    if all(len(choices) < 2 for choices in options):
        return [first]
    longest = [max(choices, key=lambda text: len(text.split())) for choices in options]
    return [first, space.mission_func(*longest)]


def _length_of_others(env: MiniGridEnv) -> int:
    """Words in the longest mission of a user's own world, which may say others than it declares: so some
    episodes are started. What the agent will not understand is reported, once."""
    begun = [str(env.reset(seed=seed)[0]["mission"]) for seed in range(PROBED)]
    env._np_random = None  # a later reset without a seed must not repeat the last of these
    declared = _declared(env.observation_space["mission"])  # pyrefly: ignore
    if len(declared) < 2:  # or it says something else
        declared = []
        if len(set(begun)) == 1:
            return 0
    missions = [_words(mission) for mission in (*begun, *declared)]
    _say_unknown(type(env).__name__, {word for words in missions for word in words})
    return max(map(len, missions))


@functools.cache  # once for all copies
def _say(text: str) -> None:
    if multiprocessing.parent_process() is None:
        print(text, file=sys.stderr)


def _say_unknown(name: str, words: set[str]) -> None:
    unknown = sorted(words - set(VOCABULARY))
    if unknown:
        _say(
            f"missions of {name} have words that are not in MiniGrid's vocabulary and look the same to an "
            f"agent: {', '.join(unknown[:8])}{', ...' if len(unknown) > 8 else ''}"
        )


def _grammar_length(env: LevelGen) -> int:
    """Words in the longest sentence of BabyAI's grammar that a generated level can say.

    A description is "the C T" and perhaps "in front of you"; an action says two words and a
    description, or "put D next to D"; "and" joins two actions, ", then" or "after you" two of
    whatever is allowed.
    """
    description = 7 if env.locations else 3
    action = 2 + description
    if "putnext" in env.action_kinds:
        action = max(action, 3 + 2 * description)
    both = 2 * action + 1
    if "seq" in env.instr_kinds:
        return 2 * both + 2
    return both if "and" in env.instr_kinds else action
