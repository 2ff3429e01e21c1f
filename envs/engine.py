"""EnvPool as an engine: all copies of a task in one object, stepped in native code by threads of its own.

It starts the next episode of a copy itself, in the step after `is_last`, as NEXT_STEP autoreset wants. A seed
can be given only to a new pool, so one is created whenever all copies start at once: what follows is a
function of those seeds and of the actions. World i of seed s is world 0 of seed s + i, so every copy gets a
seed far from those of the others.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import gymnasium
import numpy as np

from envs.adapters import MissingExtra, UnknownTask
from envs.api import SUCCESS, EnvError, Space, Spaces
from envs.copies import GO_ON, Batched
from envs.spaces import flatten_action, flatten_observation
from envs.watchdog import Watchdog

INSTALL = "pip install 'dreamer-toolkit[envpool]'"


@dataclass(frozen=True)
class Recipe:
    """What EnvPool makes of a task, and how its observations are read."""

    name: str
    """EnvPool's own."""
    options: Mapping[str, Any]
    """Arguments of `envpool.make`."""
    observation: gymnasium.Space
    """Of a copy, after `read`."""
    action: gymnasium.Space
    read: Callable[[Any, float], Any]
    """From EnvPool's observation of a copy and its return so far to what is observed."""
    success: Callable[[np.ndarray], np.ndarray] | None = None
    """From the rewards of last steps to whether they are successes (None: the task does not say)."""
    repeat: int = 1
    """Steps of EnvPool to a step here, whose rewards are summed; fewer where an episode ends."""


class Pool:
    """`Copies` of a task in an EnvPool.

    Args:
      task: the name that errors carry.
      recipe: what to make.
      num_envs: how many copies.
      pixels, categories: as of `envs.make`.
      timeout: seconds for a step of all copies (0: any).
    """

    def __init__(
        self,
        task: str,
        recipe: Recipe,
        num_envs: int,
        *,
        pixels: Sequence[str] = (),
        categories: Sequence[str] = (),
        timeout: float = 0.0,
    ):
        self._task, self._recipe, self._num_envs = task, recipe, num_envs
        self._notices: list[str] = []
        self._obs_space, self._flatten = flatten_observation(
            recipe.observation, pixels=pixels, categories=categories, notices=self._notices
        )
        self._obs_space[SUCCESS] = Space((), "float32")
        self._act_space, self._build = flatten_action(recipe.action)
        self._watchdog = Watchdog(task, timeout)
        self._pool: Any = None
        self._returns = np.zeros(num_envs)
        self._seeds, self._acts = np.full(num_envs, GO_ON), np.empty(0)

    def spaces(self) -> tuple[Spaces, Spaces]:
        return self._obs_space, self._act_space

    def notices(self) -> list[str]:
        return self._notices

    def send(self, action: Mapping[str, np.ndarray], seeds: np.ndarray) -> None:
        """As of `Copies`; of seeds only those count that all copies start with."""
        self._seeds = seeds
        if (seeds == GO_ON).any():
            acts = [self._build({k: v[i] for k, v in action.items()}) for i in range(len(seeds))]
            self._acts = np.stack(acts).astype(self._recipe.action.dtype)
            self._pool.send(self._acts)

    def receive(self) -> Batched:
        """As of `Copies`."""
        starts = self._seeds != GO_ON
        with self._watchdog:
            if starts.all():
                raw, rewards, terminal, truncated = self._start(self._seeds), 0.0, False, False
            else:
                raw, rewards, terminal, truncated = self._repeated(self._pool.recv()[:4], starts)
        terminal, truncated = terminal & ~starts, truncated & ~starts
        rewards, last = np.where(starts, 0.0, rewards), terminal | truncated
        self._returns = np.where(starts, 0.0, self._returns + rewards)
        success = self._succeeded(last, rewards)
        terminal |= success == 1  # in the step of the limit EnvPool says of a success that it is cut
        obs = self._observed(raw) | {SUCCESS: success}
        return (obs, rewards.astype(np.float32), starts, last, terminal), {}

    def worlds(self) -> NoReturn:
        raise EnvError(f"{self._task}: EnvPool does not show its worlds; leave out engine")

    def close(self) -> None:
        self._watchdog.close()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _start(self, seeds: np.ndarray) -> Any:
        if self._pool is not None:
            self._pool.close()
        threads = min(self._num_envs, os.cpu_count() or 1)
        self._pool, first = started(self._recipe, seeds.tolist(), threads)
        return first

    def _repeated(self, first: tuple[Any, ...], starts: np.ndarray) -> tuple[Any, ...]:
        """The result of a step of EnvPool, with its actions repeated where an episode has not ended.

        Args:
          first: observations, rewards and both flags of all copies.
        """
        if self._recipe.repeat == 1:
            return first
        raw, (rewards, terminal, truncated) = copied(first[0]), map(np.array, first[1:])
        for _ in range(self._recipe.repeat - 1):
            left = np.flatnonzero(~(starts | terminal | truncated)).astype(np.int32)
            if not left.size:
                break
            seen, more, terminal[left], truncated[left], _ = self._pool.step(self._acts[left], left)
            put(raw, left, seen)
            rewards[left] += more
        return raw, rewards, terminal, truncated

    def _succeeded(self, last: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """[num_envs] 1 or 0 where an episode ends and the task says how it went, else NaN."""
        if self._recipe.success is None:
            return np.full(self._num_envs, np.nan, np.float32)
        return np.where(last, self._recipe.success(rewards), np.nan).astype(np.float32)

    def _observed(self, raw: Any) -> dict[str, np.ndarray]:
        """What all copies observe, in flat arrays [num_envs, ...]."""
        rows = []
        for i, so_far in enumerate(self._returns.tolist()):
            row: dict[str, Any] = {}
            self._flatten(self._recipe.read(of(raw, i), so_far), row)
            rows.append(row)
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


@dataclass(frozen=True)
class Described:
    """What EnvPool says of a task."""

    observation: gymnasium.Space
    action: gymnasium.Space
    options: tuple[str, ...]
    """Names of the arguments that `envpool.make` takes for it."""
    limit: int
    """Steps after which an episode is truncated."""


def described(name: str, options: Mapping[str, Any]) -> Described:
    """What EnvPool says of a task of its own with these options.

    Raises:
      MissingExtra: EnvPool, or a library that the task needs, is missing.
      UnknownTask: it has no such task.
    """
    try:
        import envpool
    except ImportError:
        raise MissingExtra(f"the engine envpool needs envpool: {INSTALL}") from None
    if name not in envpool.list_all_envs():
        raise UnknownTask(f"EnvPool has no task '{name}': leave out engine")
    try:
        with _quiet():
            spec = envpool.make_spec(name, **options)
            spaces = spec.observation_space, spec.action_space
    except ImportError as error:
        raise MissingExtra(f"'{name}' cannot be built: {str(error).splitlines()[0]}") from None
    return Described(*spaces, spec.config._fields, spec.config.max_episode_steps)


def started(recipe: Recipe, seeds: Sequence[int], threads: int = 1) -> tuple[Any, Any]:
    """EnvPool's copies of a task, one for every seed, and what they observe at the start."""
    import envpool

    how = {"env_type": "gymnasium", "num_envs": len(seeds), "num_threads": threads, "env_seed": list(seeds)}
    with _quiet():
        pool = envpool.make(recipe.name, **how, **recipe.options)
        return pool, pool.reset()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Gymnasium's warnings of how EnvPool declares its spaces."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


def of(raw: Any, copy: int) -> Any:
    """The part of a copy in what all observe, which may be nested."""
    if isinstance(raw, Mapping):
        return {key: of(value, copy) for key, value in raw.items()}
    if isinstance(raw, tuple):
        return tuple(of(value, copy) for value in raw)
    return raw[copy]


def copied(raw: Any) -> Any:
    """What all copies observe, in arrays of its own."""
    return {key: copied(value) for key, value in raw.items()} if isinstance(raw, Mapping) else np.array(raw)


def put(raw: Any, copies: np.ndarray, seen: Any) -> None:
    """Write what some copies observe into what all do, as `copied` gives it."""
    if not isinstance(raw, Mapping):
        raw[copies] = seen
        return
    for key, value in raw.items():
        put(value, copies, seen[key])
