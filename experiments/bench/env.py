"""`dreamer bench --task`: how fast environments are alone, with random actions."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

import envs
from dreamer.config import EnvConfig
from experiments import memory
from experiments.bench.bench import report, surroundings

SECONDS = 5.0
"""Duration of the measurement of a row."""
SLOTS = 200
"""Slots per call of a JAX environment."""

COLUMNS = {
    "task": "task",
    "copies": "copies",
    "compile_s": "compile s",
    "steps_per_s": "steps/s",
    "steps_per_cpu_s": "steps/CPU s",
    "episodes": "episodes",
    "peak_mb": "peak MB",
}
"""Keys of a row and their labels."""


def run(task: str, copies: Iterable[int], cfg: EnvConfig = EnvConfig(), *, json: bool = False) -> int:
    """Measure a task with every number of copies; the exit code.

    Args:
      cfg: how it is made.

    Raises:
      UnknownTask: there is none of that name, or it cannot be made like that.
    """
    task = envs.canonical(task)
    options = cfg.changed
    if envs.is_on_device(task) and (hosted := [name for name in cfg.copies if name in options]):
        raise envs.UnknownTask(f"env.{hosted[0]} is for Gymnasium environments, but {task} is of JAX")
    jobs = [{"task": task, "copies": count, "options": options} for count in copies]
    title = " ".join([task, *(f"{name}={value}" for name, value in options.items())])
    return report("experiments.bench.env", jobs, lambda job: f"{job['copies']} copies", COLUMNS, title, json)


def measure(task: str, copies: int, options: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """One row: `task, copies, compile_s, steps_per_s, steps_per_cpu_s, episodes, peak_mb`, and the options.

    A slot that holds the first observation of an episode counts as a step, as in training.
    """
    play = (_on_device if envs.is_on_device(task) else _on_host)(task, copies, options)
    began = time.perf_counter()
    play(0)
    compile_s = time.perf_counter() - began
    wall, cpu, steps, ended, calls = time.perf_counter(), time.process_time(), 0, 0, 0
    while time.perf_counter() - wall < SECONDS:
        calls += 1
        slots, over = play(calls)
        steps += slots * copies
        ended += over
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "task": task,
        "copies": copies,
        "compile_s": round(compile_s, 1),
        "steps_per_s": round(steps / wall),
        "steps_per_cpu_s": None if options.get("parallel") else round(steps / cpu),  # of this process alone
        "episodes": ended,
        "peak_mb": round(memory.peak() / 2**20),
        "options": dict(options),
    }


Play = Callable[[int], tuple[int, int]]
"""From a seed of the actions to slots played and episodes ended."""


def _on_device(task: str, copies: int, options: Mapping[str, Any]) -> Play:
    import jax
    import jax.numpy as jnp

    from envs.wrappers import Batched

    env = Batched(envs.make_jax(task, **options), copies)

    def draw(key: Any, space: envs.Space) -> Any:
        shape = (copies, *space.shape)
        if space.classes is None:
            return jax.random.uniform(key, shape, minval=-1)
        return jax.random.randint(key, shape, 0, space.classes).astype(space.dtype)

    def turn(worlds: Any, key: Any) -> tuple[Any, Any]:
        act_key, key = jax.random.split(key)
        keys = jax.random.split(act_key, len(env.act_space))
        action = {k: draw(key, s) for key, (k, s) in zip(keys, env.act_space.items(), strict=True)}
        worlds, step = env.step(worlds, action, key=key)
        # All outputs are used, or they would not be computed.
        seen = [jnp.nan_to_num(x.astype(jnp.float32)).sum() for x in jax.tree.leaves(step)]
        return worlds, (step.is_last.sum(), sum(seen))

    play = jax.jit(lambda worlds, key: jax.lax.scan(turn, worlds, jax.random.split(key, SLOTS)))
    worlds = jax.jit(env.reset)(key=jax.random.key(0))[0]

    def call(seed: int) -> tuple[int, int]:
        nonlocal worlds
        worlds, (ended, _) = jax.block_until_ready(play(worlds, jax.random.key(seed + 1)))
        return SLOTS, int(np.sum(ended))

    return call


def _on_host(task: str, copies: int, options: Mapping[str, Any]) -> Play:
    from envs.rollout import Random

    env = envs.make(task, copies, **options)
    env.reset()
    policy = Random(env.act_space)
    nothing = env.step(policy.act(None, env.reset(), key=0)[0])

    def call(seed: int) -> tuple[int, int]:
        action, _ = policy.act(None, nothing, key=seed)
        return 1, int(env.step(action).is_last.sum())

    return call


if __name__ == "__main__":
    measured = measure(**jsonlib.loads(sys.argv[1]))
    print(jsonlib.dumps(measured | {"surroundings": surroundings()}))
