"""rollout: play a policy for exactly one episode per seed. All evaluation rests on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs.api import Policy, Spaces, Step, VectorEnv, ended

IDLE = -1
"""A copy that plays no episode that counts."""

LONGEST = 10_000
"""Steps after which an episode is cut short, where no other limit is configured."""

OnStep = Callable[[Step, Mapping[str, np.ndarray], np.ndarray], None]


@dataclass(frozen=True)
class Episode:
    """One played episode."""

    seed: int
    """The environment seed it started with."""
    return_: float
    """Sum of its rewards."""
    length: int
    """Environment steps: actions that had an effect."""
    success: bool | None
    """Whether the task was solved, None where the task does not say."""
    discount: float
    """0.0 if it ended and nothing follows, 1.0 if a limit of steps cut it short."""
    seconds: float
    """Wall-clock time from its first to its last slot, shared with the other copies."""
    cut: bool = False
    """Whether it had not ended when it was recorded, because it reached the `max_steps` of a rollout."""
    log: Mapping[str, Any] = field(default_factory=dict)
    """{name: number or list} what else the task says to people at its end (`log/` observations)."""


def rollout(
    policy: Policy,
    env: VectorEnv,
    seeds: Sequence[int],
    *,
    key: int = 0,
    on_step: OnStep | None = None,
    max_steps: int | None = None,
) -> list[Episode]:
    """Play one episode per seed, `env.num_envs` at a time.

    Every seed is dealt to a copy before it is played and counts however long it takes, so short
    episodes are not favoured. For a deterministic policy the result does not depend on the number
    of copies.

    Args:
      seeds: environment seeds; evaluation seeds lie below `envs.api.FIRST_TRAINING_SEED`.
      key: what the policy's own randomness is derived from.
      on_step: called as `on_step(step, action, index)` in every slot; `index` [num_envs] says which
        of `seeds` each copy is playing, -1 if none that counts.
      max_steps: an episode is recorded as it stands after so many steps, and has then been `cut` (None: no
        limit but the task's own, and in a world without end no return).

    Returns:
      The episodes in the order of `seeds`.
    """
    played: list[Episode | None] = [None] * len(seeds)
    dealt = 0
    table = _Table(env.num_envs)
    step, carry, slot = None, policy.init(env.num_envs), 0
    action: Mapping[str, np.ndarray] = {}
    while any(episode is None for episode in played):
        if step is None or not (table.index != IDLE).any():
            # The start, or every copy is in an episode that was cut short: reset all of them.
            starts = np.ones(env.num_envs, bool)
        else:
            starts = np.asarray(step.is_last)
        dealt = table.deal(starts, dealt, len(seeds))
        # A copy without an episode of its own repeats the first one, which is not counted.
        chosen = [int(seeds[max(i, 0)]) for i in table.index]
        step = env.reset(chosen) if starts.all() else env.step(action, chosen)
        table.add(step)
        action, carry = policy.act(carry, step, key=_slot_key(key, slot))
        slot += 1
        if on_step is not None:
            on_step(step, action, table.index.copy())
        for copy in table.over(max_steps):
            played[table.index[copy]] = table.episode(copy, seeds)
            table.index[copy] = IDLE
    return [episode for episode in played if episode is not None]


class _Table:
    """What each copy is playing and how far it has come."""

    def __init__(self, num_envs: int):
        self.index = np.full(num_envs, IDLE)
        self.return_ = np.zeros(num_envs)
        self.length = np.zeros(num_envs, np.int64)
        self.obs: Mapping[str, Any] = {}
        self.last, self.terminal = np.zeros((2, num_envs), bool)
        self.began = np.zeros(num_envs)

    def deal(self, starts: np.ndarray, dealt: int, total: int) -> int:
        """Give the next seeds to the copies that start an episode; returns how many are dealt."""
        for copy in np.flatnonzero(starts):
            self.index[copy] = dealt if dealt < total else IDLE
            dealt += dealt < total
            self.began[copy] = time.perf_counter()
        return dealt

    def add(self, step: Step) -> None:
        first = np.asarray(step.is_first)
        self.return_ = np.where(first, 0.0, self.return_) + step.reward
        self.length = np.where(first, 0, self.length + 1)
        self.obs = step.obs
        self.last, self.terminal = np.asarray(step.is_last), np.asarray(step.is_terminal)

    def over(self, max_steps: int | None) -> np.ndarray:
        over = self.last
        if max_steps is not None:
            over = over | (self.length >= max_steps)
        return np.flatnonzero(over & (self.index != IDLE))

    def episode(self, copy: int, seeds: Sequence[int]) -> Episode:
        success, log = ended(self.obs, copy)
        return Episode(
            seed=int(seeds[self.index[copy]]),
            return_=float(self.return_[copy]),
            length=int(self.length[copy]),
            success=success,
            discount=0.0 if self.terminal[copy] else 1.0,
            seconds=time.perf_counter() - float(self.began[copy]),
            cut=not self.last[copy],
            log=log,
        )


def _slot_key(key: int, slot: int) -> int:
    """A key in [0, 2^31) for one call of a policy."""
    return int(np.random.SeedSequence([key, slot]).generate_state(1)[0] >> 1)


class Random:
    """A `Policy` that draws every action uniformly: among the classes, or in [-1, 1]."""

    def __init__(self, act_space: Spaces):
        self._spaces = act_space

    def init(self, batch: int) -> Any:
        """Nothing: it has no memory."""
        return None

    def act(self, carry: Any, step: Step, *, key: Any) -> tuple[dict[str, np.ndarray], Any]:
        """Draw one action per copy; the same key gives the same actions."""
        rng = np.random.default_rng(key)
        batch = len(step.is_first)
        action = {}
        for name, space in self._spaces.items():
            shape = (batch, *space.shape)
            if space.classes is not None:
                action[name] = rng.integers(space.classes, size=shape, dtype=space.dtype)
            else:
                action[name] = rng.uniform(-1, 1, shape).astype(space.dtype)
        return action, carry
