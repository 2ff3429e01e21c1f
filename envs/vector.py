"""HostVector: copies of an environment as one stream of Steps.

Every copy of a Gymnasium environment is wrapped in a `Slot`: an environment that never ends for Gymnasium,
because the flags of `Step` are part of what it observes and the seed of the next episode is part of what
it is told. Whoever steps the copies, a loop in this process or Gymnasium's processes, then knows nothing
about episodes.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from envs.api import LOG_PREFIX, EnvError, Space, Spaces, Step, training_seed
from envs.spaces import box, flatten_action, flatten_observation

SUCCESS = LOG_PREFIX + "success"
GO_ON = -1
"""The seed that means: no new episode, take the action."""

FLAGS = ("is_first", "is_last", "is_terminal")

Batched = tuple[tuple, dict[int, str]]
"""The fields of a Step for all copies, and what went wrong in which copy."""
MakeEnv = Callable[[], gymnasium.Env]


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


class HostVector:
    """A `VectorEnv`: copies of one environment with NEXT_STEP autoreset and chosen seeds.

    Each observation of a Gymnasium environment also has `log/success`: 1 once its info said `success` or
    `is_success` in this episode, 0 if it said no, NaN while it said nothing.
    """

    def __init__(self, task: str, copies: Copies, num_envs: int, *, seed: int = 0, levels: int = 0):
        """Take over the copies.

        Args:
          task: the name that errors and reports carry.
          copies: who steps them: `Serial`, `Processes`, or `envs.device_copies.DeviceCopies`.
          num_envs: how many there are.
          seed: what the training seeds are derived from.
          levels: how many different training seeds there are (0: a new one every episode).
        """
        self.task, self.num_envs = task, num_envs
        self._copies = copies
        self.obs_space, self.act_space = self._copies.spaces()
        self.episodes = np.zeros(num_envs, np.int64)
        """Training episodes started in each copy; set it to continue a sequence of seeds."""
        self._seed, self._levels = seed, levels
        self._seeds = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)
        self._is_last = np.ones(num_envs, bool)
        self._blank = {k: np.zeros((num_envs, *s.shape), s.dtype) for k, s in self.act_space.items()}

    def reset(self, seeds: Sequence[int] | None = None) -> Step:
        """Start an episode in every copy, with `seeds[i]` in copy i (None: training seeds)."""
        return self._exchange(self._blank, np.ones(self.num_envs, bool), seeds)

    def step(self, action: Mapping[str, np.ndarray], seeds: Sequence[int] | None = None) -> Step:
        """Advance every copy by one slot; after `is_last` it ignores its action and starts anew.

        Args:
          action: `{key: [num_envs, ...]}`; classes for discrete keys, [-1, 1] for continuous ones.
          seeds: [num_envs] seeds for the copies that start an episode in this call (None: training
            seeds).

        Raises:
          EnvError: naming the copy, the step and what was wrong.
          ValueError: if the action itself is wrong.
        """
        return self._exchange(self._checked(action), self._is_last, seeds)

    def worlds(self) -> Sequence[Any]:
        """Of each copy its Gymnasium environment, or its state of a `JaxEnv` as numpy arrays: all there is
        to know, for planners and bots. To be read, not changed.

        Raises:
          EnvError: the copies are in processes of their own.
        """
        return self._copies.worlds()

    def close(self) -> None:
        """Close every copy; closing twice is fine."""
        self._copies.close()

    def _exchange(
        self, action: Mapping[str, np.ndarray], starts: np.ndarray, seeds: Sequence[int] | None
    ) -> Step:
        if starts.any():
            self._choose_seeds(starts, seeds)
        self._steps = np.where(starts, 0, self._steps + 1)
        slot, errors = self._copies.step(action, np.where(starts, self._seeds, GO_ON))
        for copy, what in errors.items():
            raise self._error(copy, what)
        step = Step(*slot)
        self._check_values(step)
        self._is_last = step.is_last.copy()
        return step

    def _choose_seeds(self, starts: np.ndarray, seeds: Sequence[int] | None) -> None:
        if seeds is not None:
            chosen = np.asarray(seeds, np.int64)
            if chosen.shape != (self.num_envs,) or (chosen[starts] < 0).any():
                raise ValueError(f"seeds must be {self.num_envs} numbers of at least 0, got {seeds}")
            self._seeds = np.where(starts, chosen, self._seeds)
            return
        for copy in np.flatnonzero(starts):
            episode = int(self.episodes[copy])
            self._seeds[copy] = training_seed(self._seed, int(copy), episode, self._levels)
        self.episodes += starts

    def _checked(self, action: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        checked = {}
        for key, space in self.act_space.items():
            if key not in action:
                raise ValueError(f"the action has the keys {sorted(action)} but lacks '{key}'")
            value = np.asarray(action[key])
            expected = (self.num_envs, *space.shape)
            if value.shape != expected:
                raise ValueError(f"action '{key}' has the shape {value.shape}, expected {expected}")
            if space.classes is None:
                wrong, allowed = ~np.isfinite(value), "a finite number"
            else:
                wrong = ~((value >= 0) & (value < space.classes))
                allowed = f"one of 0..{space.classes - 1}"
            bad = _rows(wrong) & ~self._is_last
            if bad.any():
                copy = int(np.flatnonzero(bad)[0])
                got = value[copy][wrong[copy]].flat[0] if space.shape else value[copy]
                raise ValueError(f"action '{key}' of copy {copy} is {got}, expected {allowed}")
            checked[key] = value.astype(space.dtype, copy=False)
        return checked

    def _check_values(self, step: Step) -> None:
        """Refuse what would spread silently: NaN and infinity, and classes that do not exist."""
        if not np.isfinite(step.reward).all():
            self._refuse("the reward", step.reward, ~np.isfinite(step.reward), "a finite number")
        for key, space in self.obs_space.items():
            value, name = step.obs[key], f"observation '{key}'"
            if key.startswith(LOG_PREFIX):
                continue
            if space.classes is not None:
                if value.max() >= space.classes or value.min() < -1:
                    wrong = (value >= space.classes) | (value < -1)
                    self._refuse(name, value, wrong, f"one of 0..{space.classes - 1}")
            elif value.dtype.kind == "f" and not np.isfinite(value).all():
                self._refuse(name, value, ~np.isfinite(value), "finite numbers")

    def _refuse(self, name: str, value: np.ndarray, wrong: np.ndarray, expected: str) -> NoReturn:
        copy = int(np.argwhere(wrong)[0][0])
        got = value[copy][wrong[copy]].flat[0] if value.ndim > 1 else value[copy]
        raise self._error(copy, f"{name} contains {got}, expected {expected}")

    def _error(self, copy: int, what: str) -> EnvError:
        step, seed = self._steps[copy], self._seeds[copy]
        return EnvError(f"{self.task}, copy {copy}, step {step} of the episode with seed {seed}: {what}")


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


def _slot_for(make_env: MakeEnv, parent: int) -> Slot:
    """A slot that leaves Ctrl-C, which reaches every process of a terminal, to the parent."""
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        try:
            self._vector = AsyncVectorEnv(
                [functools.partial(_slot_for, make_env, os.getpid())] * num_envs,
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


def _rows(wrong: np.ndarray) -> np.ndarray:
    """[num_envs] whether anything is wrong in each copy."""
    return np.any(wrong.reshape(len(wrong), -1), axis=1)


def _describe(error: Exception) -> str:
    """One line about what an environment raised, with the place it happened."""
    if isinstance(error, EnvError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"
    first_line = (str(error).splitlines() or [""])[0]
    return f"it raised {type(error).__name__}: {first_line} ({place})"
