"""Recorded episodes: all observations and actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dreamer.inspection import Episodes
from envs.api import Policy, Step, VectorEnv
from envs.rollout import Episode, rollout


def record(
    policy: Policy, env: VectorEnv, seeds: Sequence[int], *, key: int = 0, max_steps: int | None = None
) -> tuple[list[Episode], Episodes]:
    """Play and record one episode per seed.

    Args:
      seeds, key, max_steps: as in `envs.rollout`.
    """
    slots: list[tuple[Step, Mapping[str, np.ndarray]]] = []
    played: list[np.ndarray] = []

    def keep(step: Step, action: Mapping[str, np.ndarray], index: np.ndarray) -> None:
        slots.append((step, action))
        played.append(index)

    episodes = rollout(policy, env, seeds, key=key, on_step=keep, max_steps=max_steps)
    index = np.stack(played)
    places = [np.nonzero(index == n) for n in range(len(seeds))]
    longest = max(len(slot) for slot, _ in places)

    def column(name_of: str, key: str = "") -> np.ndarray:
        """[N, T, ...] of one array; slots of one episode are of one copy, in order."""
        read = lambda t: getattr(slots[t][0], name_of) if name_of != "action" else slots[t][1]
        value = lambda t, e: np.asarray(read(t)[key] if key else read(t))[e]
        rows = [[value(t, e) for t, e in zip(*place, strict=True)] for place in places]
        blank = np.zeros_like(rows[0][0])
        return np.stack([np.stack(row + [blank] * (longest - len(row))) for row in rows])

    step, action = slots[0]
    return episodes, Episodes(
        obs={k: column("obs", k) for k in step.obs},
        action={k: column("action", k) for k in action},
        reward=column("reward").astype(np.float32),
        is_terminal=column("is_terminal").astype(bool),
        length=np.array([len(slot) for slot, _ in places], np.int32),
    )
