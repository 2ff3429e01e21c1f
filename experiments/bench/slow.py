"""`dreamer bench --slow MS`: how much of what slow environments and the updates allow the host loop reaches.

With N environments in processes, each of which takes s seconds for a step, and K = B T / (train ratio)
environment steps for an update of u seconds, no loop makes more steps a second than

    min(N / s, K / u)

Waiting costs no CPU here, as with a simulator elsewhere; with one on the same cores the updates are slower.
"""

from __future__ import annotations

import functools
import json as jsonlib
import sys
import time
from collections.abc import Iterable
from typing import Any

import gymnasium

from dreamer.schema import replace_paths
from experiments.bench import loop as bench_loop
from experiments.bench.bench import report, surroundings

COLUMNS = {
    "size": "size",
    "train_ratio": "train ratio",
    "num_envs": "environments",
    "updates_per_slot": "updates a slot",
    "env_steps_per_s": "steps/s",
    "possible_steps_per_s": "possible steps/s",
    "of_possible": "of possible",
    "updates_per_s": "updates/s",
    "update_ms": "update alone ms",
}
"""Keys of a row and their labels."""


def run(
    milliseconds: float,
    num_envs: int,
    ratios: Iterable[float],
    sizes: Iterable[str],
    batch: int,
    length: int,
    dtype: str = "auto",
    json: bool = False,
) -> int:
    """Measure every size with every train ratio; the exit code.

    Args:
      milliseconds: of a step of every environment.
      num_envs: how many there are, each in a process.
      ratios: train ratios.
    """
    same = {
        "milliseconds": milliseconds,
        "num_envs": num_envs,
        "batch": batch,
        "length": length,
        "dtype": dtype,
    }
    many = list(ratios)
    jobs = [
        {"milliseconds": milliseconds, "ratio": ratio, "size": size, **same}
        for size in sizes
        for ratio in many
    ]
    describe = lambda job: f"{job['size']}, train ratio {job['ratio']:g}"
    title = f"steps of {milliseconds:g} ms, {batch} x {length} steps a batch"
    return report("experiments.bench.slow", jobs, describe, COLUMNS, title, json)


class Slow(gymnasium.Wrapper):
    """An environment whose steps and resets take at least so many seconds, most of which it sleeps."""

    def __init__(self, env: gymnasium.Env, seconds: float):
        super().__init__(env)
        self._seconds = seconds

    def reset(self, **given: Any) -> Any:
        return self._late(lambda: self.env.reset(**given))

    def step(self, action: Any) -> Any:
        return self._late(lambda: self.env.step(action))

    def _late(self, call: Any) -> Any:
        began = time.perf_counter()
        result = call()
        time.sleep(max(self._seconds - (time.perf_counter() - began), 0.0))
        return result


def measure(
    milliseconds: float,
    num_envs: int,
    ratio: float,
    size: str,
    batch: int,
    length: int,
    dtype: str = "auto",
) -> dict[str, Any]:
    """One row: the columns, and `milliseconds, batch, length`."""
    cfg = bench_loop.configuration("host", size, batch, length, dtype)
    cfg = replace_paths(cfg, {"loop.train_ratio": ratio, "loop.num_envs": num_envs})
    seconds = milliseconds / 1e3
    slow = functools.partial(Slow, seconds=seconds)
    parts = bench_loop.host(cfg, parallel=True, wrappers=(slow,))
    bench_loop.started(parts)
    parts.advance()
    parts.settle()
    speed = bench_loop.in_turns(parts)
    steps_per_update = batch * length / ratio
    steps, possible = speed.env_steps / speed.wall, min(num_envs / seconds, steps_per_update / speed.update)
    return {
        "size": size,
        "train_ratio": ratio,
        "num_envs": num_envs,
        "updates_per_slot": round(num_envs / steps_per_update, 2),
        "env_steps_per_s": round(steps, 1),
        "possible_steps_per_s": round(possible, 1),
        "of_possible": round(steps / possible, 3),
        "updates_per_s": round(speed.updates / speed.wall, 2),
        "update_ms": round(1e3 * speed.update, 1),
        "milliseconds": milliseconds,
        "batch": batch,
        "length": length,
    }


if __name__ == "__main__":
    from experiments import machine
    from experiments.bench import slow  # or processes could not find the class of this module

    machine.prepare()
    print(jsonlib.dumps(slow.measure(**jsonlib.loads(sys.argv[1])) | {"surroundings": surroundings()}))
