"""What runs in the reference's Python: its `main`, unchanged, on the worlds of `envs` and on today's JAX.

python launch.py DREAMERV3 [the reference's flags]

`main` is given three things that it does not have:
- `jax.jit` with arguments by position, as JAX had it in 2024 (0.4.33); 0.10 takes them by name only.
- No profile of the updates 100 to 120, which its GPU code records.
- An environment with the interface of `embodied.Env` (July 2025): `step(action)` with `reset` among the
  action's keys, and a dictionary with observations, reward and the three flags. Copy i of a run with seed s
  plays the same worlds, in the same order, as copy i of our run with seed s.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]

JIT_ORDER = ("in_shardings", "out_shardings", "static_argnums", "static_argnames", "donate_argnums")
"""Arguments of `jax.jit` after the function, as JAX 0.4.33 took them by position."""


def by_position(jit: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` that also takes its arguments by position; None stands for one that is left out."""

    @functools.wraps(jit)
    def compiled(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        placed = dict(zip(JIT_ORDER, given, strict=False))
        return jit(function, **{k: v for k, v in placed.items() if v is not None}, **named)

    return compiled


class World:
    """One copy of a task with the interface of `embodied.Env`.

    Args:
      task: as `envs.make` takes it.
      seed, copy: what the seeds of its episodes are derived from, as in our runs.
    """

    def __init__(self, task: str, seed: int, copy: int):
        envs = importlib.import_module("envs")
        self._seed_of = importlib.import_module("envs.api").training_seed
        self._env = envs.make(task, 1)
        self._seed, self._copy, self._episode = seed, copy, 0
        self._keys = [key for key in self._env.obs_space if not key.startswith("log/")]

    @functools.cached_property
    def obs_space(self) -> dict[str, Any]:
        """Observations (categories as one vector), reward and flags."""
        space = importlib.import_module("elements").Space
        flags = {key: space(bool) for key in ("is_first", "is_last", "is_terminal")}
        seen = {key: _space(space, self._env.obs_space[key]) for key in self._keys}
        return {**seen, "reward": space(np.float32), **flags}

    @functools.cached_property
    def act_space(self) -> dict[str, Any]:
        """Actions, and whether to begin an episode."""
        space = importlib.import_module("elements").Space
        chosen = {key: _space(space, s, -1, 1) for key, s in self._env.act_space.items()}
        return {**chosen, "reset": space(bool)}

    def step(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """What the action leads to, or the first step of the next episode where `reset` asks for it."""
        if action["reset"]:
            seeds = [self._seed_of(self._seed, self._copy, self._episode)]
            self._episode += 1
            step = self._env.reset(seeds)
        else:
            step = self._env.step({k: np.asarray(action[k])[None] for k in self._env.act_space})
        shapes = {key: self.obs_space[key].shape for key in self._keys}
        seen = {key: np.asarray(step.obs[key])[0].reshape(shape) for key, shape in shapes.items()}
        flags = {key: bool(getattr(step, key)[0]) for key in ("is_first", "is_last", "is_terminal")}
        return {**seen, "reward": np.float32(step.reward[0]), **flags}

    def close(self) -> None:
        self._env.close()


def _space(space: Callable[..., Any], ours: Any, low: float | None = None, high: float | None = None) -> Any:
    """A space of ours as one of the reference, which takes an array of rank 3 for an image."""
    if ours.is_discrete:
        return space(np.int32, (ours.size,) if len(ours.shape) > 1 else ours.shape, 0, ours.num_classes)
    return space(np.dtype(ours.dtype), ours.shape, low, high)


def main(reference: str, flags: list[str]) -> None:
    """Train the reference.

    Args:
      reference: the folder of its repository.
      flags: of its `main`; its `task` is one of ours.
    """
    jax: Any = importlib.import_module("jax")
    jax.jit = by_position(jax.jit)
    for name in ("start_trace", "stop_trace"):
        setattr(jax.profiler, name, lambda *_, **__: None)
    sys.path[:0] = [reference, str(ROOT)]
    program: Any = importlib.import_module("dreamerv3.main")
    program.make_env = lambda config, copy, **_: program.wrap_env(
        World(config.task, config.seed, copy), config
    )
    program.main(flags)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
