"""crafter:reward and crafter:noreward: Crafter (Hafner 2021), an open world of survival with 22 achievements.

    image               uint8 [64, 64, 3] (kwargs {"size": 128} for larger ones)
    log/achievements    int32 [22], for people: 1 for those of `ACHIEVEMENTS` unlocked so far in this episode
    log/return          of noreward, for people: the sum of the rewards that the task hides

An episode ends by death, which is terminal; after 10,000 steps it ends without being terminal.

Chance comes from the seed of an episode alone (`Ordered`), in any process: a seed gives the world that
`crafter.Env(seed=seed)` gives in its first episode.

A new world costs 0.9 s of a processor, as much as 600 steps, and copies in one process wait for each other:
with `--env.parallel` each has a process.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs.adapters import UnknownTask, listed
from envs.api import LOG_PREFIX
from envs.arguments import NONE, Wrap, check_names, making, wrapped

OBS = ("",)
TAKES = ("kwargs", "max_episode_steps", "wrappers")
TASKS = ("reward", "noreward")
LIMIT = 10_000
ARGUMENTS = ("area", "view", "size")
"""What a world can be made with: cells, cells in sight, pixels."""
ITEMS = 16
"""Cells below the world that show what the player has."""

ACHIEVEMENTS = (
    *("collect_coal", "collect_diamond", "collect_drink", "collect_iron", "collect_sapling", "collect_stone"),
    *("collect_wood", "defeat_skeleton", "defeat_zombie", "eat_cow", "eat_plant", "make_iron_pickaxe"),
    *("make_iron_sword", "make_stone_pickaxe", "make_stone_sword", "make_wood_pickaxe", "make_wood_sword"),
    *("place_furnace", "place_plant", "place_stone", "place_table", "wake_up"),
)
"""Names of the entries of `log/achievements`, in the order of the alphabet (crafter 1.8.3, data.yaml)."""


def ids() -> list[str]:
    """The two tasks."""
    return list(TASKS)


def canonical(name: str) -> str:
    """The name itself, if there is such a task.

    Raises:
      UnknownTask: with close matches.
    """
    return listed("crafter", name, TASKS)


def achievements(name: str) -> tuple[str, ...]:
    """The names of the entries of `log/achievements`; they need no package."""
    return ACHIEVEMENTS


def note(name: str) -> str:
    """What differs from the package: which of several creatures chance removes."""
    return (
        "Crafter's own episodes depend on where objects lie in memory; here they follow from the seed alone, "
        "with the same rules and probabilities."
    )


def make(
    name: str,
    obs: str,
    *,
    kwargs: Mapping[str, Any] = NONE,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Wrap] = (),
) -> gymnasium.Env:
    """One world.

    Args:
      kwargs: `size` of the image in pixels, `view` and `area` in cells; numbers or pairs.
      max_episode_steps: its time limit (0: 10,000).
      wrappers: what goes around it, the first one innermost.

    Raises:
      UnknownTask: for an argument that it does not take, or a wrapper that is not there.
    """
    name = canonical(name)
    task = f"crafter:{name}"
    check_names(task, kwargs, ARGUMENTS)
    arguments = {key: _pair(key, value) for key, value in kwargs.items()}
    _check(**arguments)
    with making(task):
        env = Crafter(name, arguments, max_episode_steps)
    return wrapped(task, env, wrappers)


class Crafter(gymnasium.Env):
    """Crafter with Gymnasium's interface.

    Args:
      arguments: {name: pair of whole numbers} of `crafter.Env`.
      max_steps: the time limit (0: `LIMIT`).
    """

    def __init__(self, name: str, arguments: Mapping[str, tuple[int, int]] = NONE, max_steps: int = 0):
        import crafter  # pyrefly: ignore

        self._env = crafter.Env(reward=name == "reward", length=max_steps or LIMIT, seed=0, **arguments)
        self._hides = name == "noreward"
        self._return = 0.0
        self.action_space = gym.Discrete(len(self._env.action_names))
        width, height = self._env._size  # of which the package declares the image the wrong way round
        parts: dict[str, gymnasium.Space] = {
            "image": gym.Box(0, 255, (int(height), int(width), 3), np.uint8),
            LOG_PREFIX + "achievements": gym.Box(0, 1, (len(ACHIEVEMENTS),), np.int32),
        }
        if self._hides:
            parts[LOG_PREFIX + "return"] = gym.Box(-np.inf, np.inf, (), np.float32)
        self.observation_space = gym.Dict(parts)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The world of the seed; without a seed the next one after it."""
        super().reset(seed=seed)
        if seed is not None:
            self._env._seed, self._env._episode = seed, 0
        image = self._env.reset()
        _put_in_order(self._env._world)
        self._return = 0.0
        return self._observe(image, {}), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """What the action leads to; its info is Crafter's own."""
        image, reward, done, info = self._env.step(int(action))
        self._return += info["reward"]
        is_dead = info["discount"] == 0
        return (
            self._observe(image, info["achievements"]),
            float(reward),
            is_dead,
            bool(done) and not is_dead,
            info,
        )

    def _observe(self, image: np.ndarray, counts: Mapping[str, int]) -> dict[str, Any]:
        unlocked = np.array([counts.get(name, 0) > 0 for name in ACHIEVEMENTS], np.int32)
        obs: dict[str, Any] = {"image": image, LOG_PREFIX + "achievements": unlocked}
        if self._hides:
            obs[LOG_PREFIX + "return"] = np.float32(self._return)
        return obs


class Ordered:
    """A set that is read in the order in which things were added.

    Crafter keeps the objects of a part of its world in a `set`, which is read in the order of their addresses
    in memory, and draws from it the creature that disappears: so what follows from a seed would depend on the
    process. Every creature stays as likely as any other.
    """

    def __init__(self) -> None:
        self._things: dict[Any, None] = {}

    def add(self, thing: Any) -> None:
        """Add it behind the others."""
        self._things[thing] = None

    def remove(self, thing: Any) -> None:
        """Take it out."""
        del self._things[thing]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


def _put_in_order(world: Any) -> None:
    """Have a fresh world of Crafter's keep its objects in `Ordered` sets."""
    chunks = collections.defaultdict(Ordered, {key: Ordered() for key in world._chunks})
    for thing in world.objects:
        chunks[world.chunk_key(thing.pos)].add(thing)
    world._chunks = chunks


def _pair(name: str, value: Any) -> tuple[int, int]:
    """A size as two numbers, of which one may stand for both.

    Raises:
      UnknownTask: it is neither.
    """
    whole = lambda x: isinstance(x, int) and not isinstance(x, bool) and x > 0
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or not all(map(whole, pair)):
        raise UnknownTask(f"'{name}' is {value!r}; it takes a whole number of at least 1 or a pair of them")
    return pair


def _check(size: tuple[int, int] = (64, 64), view: tuple[int, int] = (9, 9), **_: tuple[int, int]) -> None:
    """Refuse images in which there would be nothing to see.

    Raises:
      UnknownTask: a cell has less than two pixels, or items fill the view.
    """
    if any(pixels < 2 * cells for pixels, cells in zip(size, view, strict=True)):
        raise UnknownTask(f"'size' is {size}, less than two pixels for each of the cells of 'view', {view}")
    rows = -(-ITEMS // view[0])
    if rows >= view[1]:
        raise UnknownTask(
            f"'view' is {view}, but {ITEMS} items fill {rows} of its rows: it takes at least {rows + 1}"
        )
