"""HostVector: copies of an environment as one stream of Steps, with the seeds of their episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from envs.api import LOG_PREFIX, EnvError, Step, training_seed
from envs.copies import GO_ON, Copies


class HostVector:
    """A `VectorEnv`: copies of one environment with NEXT_STEP autoreset and chosen seeds.

    Each observation of a Gymnasium environment also has `log/success`: 1 once its info said `success` or
    `is_success` in this episode, 0 if it said no, NaN while it said nothing.
    """

    def __init__(
        self,
        task: str,
        copies: Copies,
        num_envs: int,
        *,
        seed: int = 0,
        levels: int = 0,
        numbers: Sequence[int] | None = None,
    ):
        """Take over the copies.

        Args:
          task: the name that errors and reports carry.
          copies: what steps them: `envs.copies.Serial` or `Processes`, or `envs.device_copies.DeviceCopies`.
          num_envs: how many there are.
          seed: what the training seeds are derived from.
          levels: how many different training seeds there are (0: a new one every episode).
          numbers: of these copies among all of a run, which its processes share (None: they are all).
        """
        self.task, self.num_envs = task, num_envs
        self._copies = copies
        self.obs_space, self.act_space = self._copies.spaces()
        self.notices = self._copies.notices()
        """How observations are read whose meaning had to be chosen, a sentence each."""
        self.episodes = np.zeros(num_envs, np.int64)
        """Training episodes started in each copy; set it to continue a sequence of seeds."""
        self._seed, self._levels = seed, levels
        self._numbers = range(num_envs) if numbers is None else numbers
        self._seeds = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)
        self._is_last = np.ones(num_envs, bool)
        self._begins, self._is_sent = np.zeros(num_envs, bool), False
        self._blank = {k: np.zeros((num_envs, *s.shape), s.dtype) for k, s in self.act_space.items()}

    def reset(self, seeds: Sequence[int] | None = None) -> Step:
        """Start an episode in every copy, with `seeds[i]` in copy i (None: training seeds).

        A step that was sent and not received is dropped.
        """
        if self._is_sent:
            self._copies.receive()
        self._send(self._blank, np.ones(self.num_envs, bool), seeds)
        return self.receive()

    def step(self, action: Mapping[str, np.ndarray], seeds: Sequence[int] | None = None) -> Step:
        """Advance every copy by one slot; after `is_last` it ignores its action and starts an episode.

        Args:
          action: `{key: [num_envs, ...]}`; classes for discrete keys, [-1, 1] for continuous ones.
          seeds: [num_envs] seeds for the copies that start an episode in this call (None: training
            seeds).

        Raises:
          EnvError: naming the copy, the step and what was wrong.
          ValueError: if the action itself is wrong.
        """
        self.send(action, seeds)
        return self.receive()

    def send(self, action: Mapping[str, np.ndarray], seeds: Sequence[int] | None = None) -> None:
        """Begin a `step`, which copies in processes take while the caller does something else.

        Args:
          action, seeds: as of `step`.

        Raises:
          ValueError: if the action itself is wrong.
        """
        self._send(self._checked(action), self._is_last, seeds)

    def receive(self) -> Step:
        """The result of the step that was sent.

        Raises:
          EnvError: naming the copy, the step and what was wrong.
        """
        self.episodes += self._begins
        self._is_sent = False
        slot, errors = self._copies.receive()
        for copy, what in errors.items():
            raise self._error(copy, what)
        step = Step(*slot)
        self._check_values(step)
        self._is_last = step.is_last.copy()
        return step

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

    def _send(
        self, action: Mapping[str, np.ndarray], starts: np.ndarray, seeds: Sequence[int] | None
    ) -> None:
        if starts.any():
            self._choose_seeds(starts, seeds)
        self._begins = starts & (seeds is None)
        self._steps = np.where(starts, 0, self._steps + 1)
        self._is_sent = True
        self._copies.send(action, np.where(starts, self._seeds, GO_ON))

    def _choose_seeds(self, starts: np.ndarray, seeds: Sequence[int] | None) -> None:
        if seeds is not None:
            chosen = np.asarray(seeds, np.int64)
            if chosen.shape != (self.num_envs,) or (chosen[starts] < 0).any():
                raise ValueError(f"seeds must be {self.num_envs} numbers of at least 0, got {seeds}")
            self._seeds = np.where(starts, chosen, self._seeds)
            return
        for copy in np.flatnonzero(starts):
            episode = int(self.episodes[copy])
            self._seeds[copy] = training_seed(self._seed, self._numbers[int(copy)], episode, self._levels)

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
        number = self._numbers[copy]
        return EnvError(f"{self.task}, copy {number}, step {step} of the episode with seed {seed}: {what}")


def _rows(wrong: np.ndarray) -> np.ndarray:
    """[num_envs] whether anything is wrong in each copy."""
    return np.any(wrong.reshape(len(wrong), -1), axis=1)
