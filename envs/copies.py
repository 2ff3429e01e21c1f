"""Copies of a Gymnasium environment, stepped by a loop in this process or by processes of their own.

Every copy is wrapped in a `Slot`: an environment that never ends for Gymnasium, because the flags of `Step`
are part of what it observes and the seed of the next episode is part of its input. So the code that steps
the copies knows nothing about episodes.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import multiprocessing
import os
import re
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState, _async_worker

from envs.api import SUCCESS, EnvError, Space, Spaces
from envs.modules import ours_first
from envs.spaces import box, flatten_action, flatten_observation
from envs.watchdog import Interrupted, Watchdog, building, end_with_parent

GO_ON = -1
"""The seed that means: no new episode, take the action."""

FLAGS = ("is_first", "is_last", "is_terminal")

SAID = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0}
"""What success may be in words."""
CLOSING, LATE = 10.0, 1.0
"""Seconds that processes have to close their copies, and to do so while one of them does not answer."""
PARTS = "observation, reward, terminated, truncated, info"

Batched = tuple[tuple, dict[int, str]]
"""The fields of a Step for all copies, and what went wrong in which copy."""
MakeEnv = Callable[[], gymnasium.Env]


class Copies(Protocol):
    """Steps the copies of an environment, knowing nothing of episodes."""

    def spaces(self) -> tuple[Spaces, Spaces]:
        """Of observations and actions."""
        ...

    def notices(self) -> list[str]:
        """How observations are read whose meaning had to be chosen, a sentence each."""
        ...

    def send(self, action: Mapping[str, np.ndarray], seeds: np.ndarray) -> None:
        """Have every copy start an episode with its seed, or take its action where that is `GO_ON`."""
        ...

    def receive(self) -> Batched:
        """What came of it; a copy that lives in this process does it only now.

        Raises:
          EnvError: a copy is gone.
        """
        ...

    def worlds(self) -> Sequence[Any]:
        """Of each copy its Gymnasium environment, or its state of a `JaxEnv` as numpy arrays."""
        ...

    def close(self) -> None: ...


class Slot(gymnasium.Env):
    """One copy: `step` fills one slot of the stream, by starting an episode or advancing it."""

    def __init__(self, make_env: MakeEnv, pixels: Sequence[str] = (), categories: Sequence[str] = ()):
        self._env = make_env()
        self.notices: list[str] = []
        self.obs_space, self._read = flatten_observation(
            self._env.observation_space, pixels=pixels, categories=categories, notices=self.notices
        )
        self.act_space, self._build = flatten_action(self._env.action_space)
        self.obs_space[SUCCESS] = Space((), "float32")
        self._success, self._ignored = np.nan, set[str]()
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
        except BaseException as error:  # whatever a user's environment may raise, sys.exit included
            if _is_for_us(error):
                raise
            return self._blank, 0.0, False, False, {"error": _describe(error)}
        return slot, 0.0, False, False, {}

    @property
    def world(self) -> gymnasium.Env:
        """The environment itself."""
        return self._env

    def close(self) -> None:
        """Close the environment; one that fails to is warned about, as nothing is lost by it."""
        try:
            self._env.close()
        except BaseException as error:
            if _is_for_us(error):
                raise
            warnings.warn(f"closing an environment failed: {_describe(error)}", stacklevel=2)

    def _start(self, seed: int) -> dict[str, Any]:
        raw, info = _pair(self._env.reset(seed=seed))
        self._success = np.nan
        return self._fill(raw, info, 0.0, True, False, False)

    def _advance(self, action: Mapping[str, np.ndarray]) -> dict[str, Any]:
        raw, reward, terminated, truncated, info = _five(self._env.step(self._build(action)))
        if not isinstance(reward, float):
            reward = _reward(reward)
        terminal = _flag("terminated", terminated)
        last = _flag("truncated", truncated) or terminal
        return self._fill(raw, info, reward, False, last, terminal)

    def _fill(
        self, raw: Any, info: Any, reward: float, first: bool, last: bool, terminal: bool
    ) -> dict[str, Any]:
        obs: dict[str, Any] = {}
        self._read(raw, obs)
        if info is not None:
            self._hear(info)
        obs[SUCCESS] = np.float32(self._success)
        return {
            "obs": obs,
            "reward": reward,
            "is_first": first,
            "is_last": last,
            "is_terminal": terminal,
        }

    def _hear(self, info: Any) -> None:
        """Take in what the info says of success; what is neither yes nor no is ignored, with one warning."""
        if not isinstance(info, Mapping):
            raise EnvError(f"the info is {_shown(info)}, expected a dict")
        for name in ("success", "is_success"):
            if (flag := info.get(name)) is None:
                continue
            if (value := _said(flag)) is not None:
                self._success = np.fmax(self._success, value)
                return
            if name not in self._ignored:
                self._ignored.add(name)
                what = f"info['{name}'] is {_shown(flag)}, which is neither yes nor no"
                warnings.warn(f"{what}: it is ignored; expected true or false", stacklevel=2)


class Serial:
    """Copies in this process, from `make_env`. Gymnasium's SyncVectorEnv adds twice as much to a step."""

    def __init__(
        self,
        task: str,
        make_env: MakeEnv,
        num_envs: int,
        *,
        pixels: Sequence[str] = (),
        categories: Sequence[str] = (),
        timeout: float = 0.0,
    ):
        make = functools.partial(_built, task, make_env)
        self._watchdog = Watchdog(task, timeout)
        with building(task):
            self._slots = [Slot(make, pixels, categories) for _ in range(num_envs)]
        first = self._slots[0]
        if any((s.obs_space, s.act_space) != (first.obs_space, first.act_space) for s in self._slots):
            raise EnvError(f"{task}: its copies differ in their observation or action spaces")
        self._sent: tuple[Mapping[str, np.ndarray], np.ndarray] = {}, np.empty(0)

    def spaces(self) -> tuple[Spaces, Spaces]:
        return self._slots[0].obs_space, self._slots[0].act_space

    def notices(self) -> list[str]:
        return self._slots[0].notices

    def send(self, action: Mapping[str, np.ndarray], seeds: np.ndarray) -> None:
        self._sent = action, seeds

    def receive(self) -> Batched:
        (action, seeds), slots, errors = self._sent, [], {}
        with self._watchdog as watchdog:
            for i, (slot, seed) in enumerate(zip(self._slots, seeds.tolist(), strict=True)):
                watchdog.next(i)
                request = {"action": {k: v[i] for k, v in action.items()}, "seed": seed}
                result, _, _, _, info = slot.step(request)
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
        self._watchdog.close()
        for slot in self._slots:
            slot.close()
        self._slots = []


def _slot_for(
    make_env: MakeEnv, parent: int, path: Sequence[str], pixels: Sequence[str], categories: Sequence[str]
) -> Slot:
    """A slot that ends with the parent, and leaves Ctrl-C, which reaches every process of a terminal, to it.

    Args:
      path: where the parent's modules are.
    """
    if os.getpid() != parent:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.path[:] = path
    return Slot(make_env, pixels, categories)


def _work(*given: Any) -> None:
    """What the process of a copy does; it ends silently where its parent is gone."""
    with contextlib.suppress(EOFError, ConnectionError):
        _async_worker(*given)


class Processes:
    """Copies in a process each, which hand over their observations in shared memory.

    Worth it only for slow environments; `make_env` must be picklable.
    """

    def __init__(
        self,
        task: str,
        make_env: MakeEnv,
        num_envs: int,
        *,
        pixels: Sequence[str] = (),
        categories: Sequence[str] = (),
        timeout: float = 0.0,
    ):
        self._task, self._watchdog = task, Watchdog(task, timeout)
        # A forked child of a process that runs JAX may deadlock, so workers come from a clean
        # process.
        make_env = functools.partial(_built, task, make_env)
        clean = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        place = os.getpid(), tuple(sys.path)
        make_slot = functools.partial(_slot_for, make_env, *place, tuple(pixels), tuple(categories))
        others = set(multiprocessing.active_children())
        try:
            with ours_first(), building(task):
                self._vector = AsyncVectorEnv(
                    [make_slot] * num_envs,
                    copy=False,
                    context=clean,
                    autoreset_mode=AutoresetMode.DISABLED,
                    worker=_work,
                )
        except RuntimeError as error:
            if "spaces" not in str(error):
                raise
            raise EnvError(f"{task}: its copies differ in their spaces") from None
        except Interrupted:
            _end(set(multiprocessing.active_children()) - others, 0.0)
            raise
        self._lost: Exception | None = None
        self._answers = [select.poll() for _ in range(num_envs)]
        for answer, pipe in zip(self._answers, self._vector.parent_pipes, strict=True):
            answer.register(pipe.fileno(), select.POLLIN)

    def spaces(self) -> tuple[Spaces, Spaces]:
        return self._vector.get_attr("obs_space")[0], self._vector.get_attr("act_space")[0]

    def notices(self) -> list[str]:
        return self._vector.get_attr("notices")[0]

    def send(self, action: Mapping[str, np.ndarray], seeds: np.ndarray) -> None:
        try:
            self._vector.step_async({"action": action, "seed": seeds})
        except (EOFError, ConnectionError) as error:
            self._lost = error

    def receive(self) -> Batched:
        try:
            if self._lost is not None:
                raise self._lost
            with self._watchdog as watchdog:
                try:
                    self._await_answers(watchdog)
                except EnvError as error:
                    return (), {watchdog.copy or 0: str(error)}
            slot, _, _, _, info = self._vector.step_wait()
        except (EOFError, ConnectionError) as error:
            raise EnvError(f"{self._task}: the process of a copy died ({error!r})") from None
        obs = {key: value.copy() for key, value in slot["obs"].items()}
        flags = [slot[name].astype(bool) for name in FLAGS]
        errors = {i: what for i, what in enumerate(info.get("error", ())) if what is not None}
        return (obs, slot["reward"].copy(), *flags), errors

    def worlds(self) -> NoReturn:
        raise EnvError(f"{self._task}: copies in processes do not show their worlds; leave out parallel")

    def _await_answers(self, watchdog: Watchdog) -> None:
        """Return when all copies have answered; the watchdog knows which one is waited for."""
        for i, answer in enumerate(self._answers):
            watchdog.copy = i
            answer.poll()

    def _answers_within(self, seconds: float) -> bool:
        """Whether all copies answer what was sent, or are gone, in so many seconds."""
        until = time.monotonic() + seconds
        left = lambda: max(until - time.monotonic(), 0.0) * 1000
        return all(answer.poll(left()) for answer in self._answers)

    def close(self) -> None:
        """End the processes: each closes its copy and ends, and one that does not is killed."""
        if self._vector.closed:
            return
        self._watchdog.close()
        is_late = self._vector._state is not AsyncState.DEFAULT and not self._answers_within(LATE)
        self._vector.closed = True
        for pipe in self._vector.parent_pipes:
            with contextlib.suppress(OSError, AttributeError):  # its process has ended
                pipe.send(("close", None))
        _end(self._vector.processes, LATE if is_late else CLOSING)
        for pipe in self._vector.parent_pipes:
            if pipe is not None:
                pipe.close()


def _end(processes: Iterable[BaseProcess], seconds: float) -> None:
    """Wait for processes to end, and kill those that have not after so many seconds."""
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(until - time.monotonic(), 0.0))
        if process.is_alive():
            process.kill()
            process.join(1.0)


# What environments of users give and raise.


def _built(task: str, make_env: MakeEnv) -> gymnasium.Env:
    """The environment; one that would end the program instead is an `EnvError`."""
    try:
        return make_env()
    except BaseException as error:
        if isinstance(error, Exception) or _is_for_us(error):
            raise
        raise EnvError(f"{task} cannot be built: {_describe(error)}") from None


def _pair(given: Any) -> tuple[Any, Any]:
    """What `reset` gives, if it is an observation and an info."""
    is_pair = isinstance(given, tuple | list) and len(given) == 2
    if not is_pair or not (given[1] is None or isinstance(given[1], Mapping)):
        raise EnvError(f"its reset gives {_shown(given)}, expected a pair: observation, info (a dict)")
    return given[0], given[1]


def _five(given: Any) -> Sequence[Any]:
    """What `step` gives, if it is as many values as Gymnasium's."""
    if not isinstance(given, tuple | list):
        raise EnvError(_not_five(_shown(given)))
    if len(given) != 5:
        raise EnvError(_not_five(f"{len(given)} values", len(given) == 4))
    return given


def _reward(value: Any) -> float:
    number = _number(value)
    if number is None or np.ndim(value):
        raise EnvError(f"the reward is {_shown(value)}, expected a number")
    return number


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    number = _number(value)
    if number not in (0, 1):
        raise EnvError(f"{name} is {_shown(value)}, expected true or false")
    return bool(number)


def _said(value: Any) -> float | None:
    """Success as a number, 1 for yes; None for what says neither yes nor no."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, str):
        return SAID.get(value.strip().lower())
    return _number(value)


def _number(value: Any) -> float | None:
    """The one number that something holds, a truth value included; None if it holds none or several."""
    try:
        array = np.asarray(value)
    except Exception:  # lists of unequal length, arrays of a device, objects of any kind
        return None
    return float(array.item()) if array.size == 1 and array.dtype.kind in "fiub" else None


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_for_us(error: BaseException) -> bool:
    """Whether it is a request to stop, and no code raised a KeyboardInterrupt of its own."""
    if not isinstance(error, KeyboardInterrupt):
        return isinstance(error, Interrupted)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is None or dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] != "RAISE_VARARGS"


def _describe(error: BaseException) -> str:
    """One line about what an environment raised, with the place it happened."""
    if isinstance(error, EnvError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    if frames and (old := _old_api(error, frames[-1].filename)):
        return old
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"
    first_line = (str(error).splitlines() or [""])[0]
    what = ": ".join(filter(None, (type(error).__name__, first_line)))
    end = "" if isinstance(error, Exception) else ", which would end the program"
    return f"it raised {what}{end} ({place})"


def _old_api(error: BaseException, file: str) -> str:
    """What the methods of an environment lack that Gymnasium's wrappers cannot call; else nothing."""
    if not file.startswith((os.path.dirname(gymnasium.__file__), __file__)):
        return ""  # a mistake in the code of the environment itself
    if unknown := re.search(r"unexpected keyword argument '(seed|options)'", str(error)):
        return f"its reset takes no '{unknown[1]}', expected reset(self, *, seed=None, options=None)"
    if count := re.search(r"values to unpack \(expected 5(?:, got (\d+))?", str(error)):
        return _not_five(f"{count[1] or 'more'} values", count[1] == "4")
    if kind := re.search("cannot unpack non-iterable (.+) object", str(error)):
        return _not_five(kind[1])
    return ""


def _not_five(given: str, is_old: bool = False) -> str:
    old = "; the old Gym has one 'done' where Gymnasium has two flags" if is_old else ""
    return f"its step gives {given}, expected 5: {PARTS}{old}"
