"""Copies of a Gymnasium environment, stepped by a loop in this process or by processes of their own.

Every copy is wrapped in a `Slot`: an environment that never ends for Gymnasium, because the flags of `Step`
are part of what it observes and the seed of the next episode is part of what it is told. Whoever steps the
copies then knows nothing about episodes.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from envs.api import LOG_PREFIX, EnvError, Space, Spaces
from envs.modules import ours_first
from envs.spaces import box, flatten_action, flatten_observation

SUCCESS = LOG_PREFIX + "success"
GO_ON = -1
"""The seed that means: no new episode, take the action."""

FLAGS = ("is_first", "is_last", "is_terminal")

Batched = tuple[tuple, dict[int, str]]
"""The fields of a Step for all copies, and what went wrong in which copy."""
MakeEnv = Callable[[], gymnasium.Env]


class Copies(Protocol):
    """Who steps the copies of an environment, knowing nothing of episodes."""

    def spaces(self) -> tuple[Spaces, Spaces]:
        """Of observations and actions."""
        ...

    def step(self, action: Mapping[str, np.ndarray], seeds: np.ndarray) -> Batched:
        """In every copy start an episode with its seed, or take its action where that is `GO_ON`."""
        ...

    def worlds(self) -> Sequence[Any]:
        """Of each copy its Gymnasium environment, or its state of a `JaxEnv` as numpy arrays."""
        ...

    def close(self) -> None: ...


class Slot(gymnasium.Env):
    """One copy: `step` fills one slot of the stream, by starting an episode or advancing it."""

    def __init__(self, make_env: MakeEnv):
        self._env = make_env()
        self.obs_space, self._read = flatten_observation(self._env.observation_space)
        self.act_space, self._build = flatten_action(self._env.action_space)
        self.obs_space[SUCCESS] = Space((), "float32")
        self._success = np.nan
        flag = box(Space((), "bool"))
        self.observation_space = gym.Dict(
            {
                "obs": gym.Dict({k: box(s) for k, s in self.obs_space.items()}),
                "reward": box(Space((), "float32")),
                **dict.fromkeys(FLAGS, flag),
            }
        )
        self.action_space = gym.Dict(
            {
                "action": gym.Dict({k: box(s) for k, s in self.act_space.items()}),
                "seed": box(Space((), "int64")),
            }
        )
        self._blank = {
            "obs": {k: np.zeros(s.shape, s.dtype) for k, s in self.obs_space.items()},
            **dict.fromkeys(("reward", *FLAGS), 0),
        }

    def step(self, action: Mapping[str, Any]) -> tuple[dict[str, Any], float, bool, bool, dict]:
        """Start an episode with `action["seed"]`, or take the action where that is `GO_ON`."""
        try:
            seed = int(action["seed"])
            slot = self._advance(action["action"]) if seed == GO_ON else self._start(seed)
        except Exception as error:  # whatever a user's environment may raise
            return self._blank, 0.0, False, False, {"error": _describe(error)}
        return slot, 0.0, False, False, {}

    @property
    def world(self) -> gymnasium.Env:
        """The environment itself."""
        return self._env

    def close(self) -> None:
        self._env.close()

    def _start(self, seed: int) -> dict[str, Any]:
        raw, info = self._env.reset(seed=seed)
        self._success = np.nan
        return self._fill(raw, info, 0.0, True, False, False)

    def _advance(self, action: Mapping[str, np.ndarray]) -> dict[str, Any]:
        raw, reward, terminated, truncated, info = self._env.step(self._build(action))
        if not isinstance(reward, (float, int)):
            if np.shape(reward) != () or np.asarray(reward).dtype.kind not in "fiub":  # pyrefly: ignore
                raise EnvError(f"the reward is {reward!r:.60}, expected a number")
            reward = float(reward)
        terminal = bool(terminated)
        return self._fill(raw, info, reward, False, terminal or bool(truncated), terminal)

    def _fill(
        self, raw: Any, info: dict, reward: float, first: bool, last: bool, terminal: bool
    ) -> dict[str, Any]:
        obs: dict[str, Any] = {}
        self._read(raw, obs)
        told = info.get("success", info.get("is_success"))
        if told is not None:
            self._success = np.fmax(self._success, float(told))
        obs[SUCCESS] = np.float32(self._success)
        return {
            "obs": obs,
            "reward": reward,
            "is_first": first,
            "is_last": last,
            "is_terminal": terminal,
        }


class Serial:
    """Copies in this process, from `make_env`. Gymnasium's SyncVectorEnv adds twice as much to a step."""

    def __init__(self, task: str, make_env: MakeEnv, num_envs: int):
        self._slots = [Slot(make_env) for _ in range(num_envs)]
        first = self._slots[0]
        if any((s.obs_space, s.act_space) != (first.obs_space, first.act_space) for s in self._slots):
            raise EnvError(f"{task}: its copies differ in their observation or action spaces")

    def spaces(self) -> tuple[Spaces, Spaces]:
        return self._slots[0].obs_space, self._slots[0].act_space

    def step(self, action: Mapping[str, np.ndarray], seeds: np.ndarray) -> Batched:
        slots, errors = [], {}
        for i, (slot, seed) in enumerate(zip(self._slots, seeds.tolist(), strict=True)):
            told = {"action": {k: v[i] for k, v in action.items()}, "seed": seed}
            result, _, _, _, info = slot.step(told)
            slots.append(result)
            if info:
                errors[i] = info["error"]
        obs = {k: np.stack([s["obs"][k] for s in slots]) for k in slots[0]["obs"]}
        reward = np.array([s["reward"] for s in slots], np.float32)
        flags = [np.array([s[name] for s in slots], bool) for name in FLAGS]
        return (obs, reward, *flags), errors

    def worlds(self) -> Sequence[gymnasium.Env]:
        return [slot.world for slot in self._slots]

    def close(self) -> None:
        for slot in self._slots:
            slot.close()
        self._slots = []


def _slot_for(make_env: MakeEnv, parent: int, path: Sequence[str]) -> Slot:
    """A slot that leaves Ctrl-C, which reaches every process of a terminal, to the parent.

    Args:
      path: where the parent's modules are.
    """
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.path[:] = path
    return Slot(make_env)


class Processes:
    """Copies in a process each, which hand over their observations in shared memory.

    Worth it only for slow environments; `make_env` must be picklable.
    """

    def __init__(self, task: str, make_env: MakeEnv, num_envs: int):
        self._task = task
        # A forked child of a process that runs JAX may deadlock, so workers come from a clean
        # process.
        clean = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        make_slot = functools.partial(_slot_for, make_env, os.getpid(), tuple(sys.path))
        try:
            with ours_first():
                self._vector = AsyncVectorEnv(
                    [make_slot] * num_envs,
                    copy=False,
                    context=clean,
                    autoreset_mode=AutoresetMode.DISABLED,
                )
        except RuntimeError as error:
            if "spaces" not in str(error):
                raise
            raise EnvError(f"{task}: its copies differ in their spaces") from None

    def spaces(self) -> tuple[Spaces, Spaces]:
        return self._vector.get_attr("obs_space")[0], self._vector.get_attr("act_space")[0]

    def step(self, action: Mapping[str, np.ndarray], seeds: np.ndarray) -> Batched:
        try:
            slot, _, _, _, info = self._vector.step({"action": action, "seed": seeds})
        except (EOFError, ConnectionError) as error:
            raise EnvError(f"{self._task}: the process of a copy died ({error!r})") from None
        obs = {key: value.copy() for key, value in slot["obs"].items()}
        flags = [slot[name].astype(bool) for name in FLAGS]
        errors = {i: what for i, what in enumerate(info.get("error", ())) if what is not None}
        return (obs, slot["reward"].copy(), *flags), errors

    def worlds(self) -> NoReturn:
        raise EnvError(f"{self._task}: copies in processes do not show their worlds; leave out parallel")

    def close(self) -> None:
        with warnings.catch_warnings():
            # After an interrupted step Gymnasium warns that an answer was pending.
            warnings.simplefilter("ignore")
            try:
                self._vector.close()
            except (OSError, EOFError, AttributeError):  # a worker is gone
                for process in self._vector.processes:
                    process.terminate()
                self._vector.closed = True


def _describe(error: Exception) -> str:
    """One line about what an environment raised, with the place it happened."""
    if isinstance(error, EnvError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"
    first_line = (str(error).splitlines() or [""])[0]
    return f"it raised {type(error).__name__}: {first_line} ({place})"
