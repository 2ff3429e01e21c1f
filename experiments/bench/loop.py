"""`dreamer bench --loop`: acting, replay and learning end to end, in the host loop and in the fused one.

The same task (MiniGrid's and our DoorKey-5x5), agent, environments, batch and train ratio in every row, each
in a separate process.
"""

from __future__ import annotations

import dataclasses
import itertools
import json as jsonlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamer.config import Config
from dreamer.schema import replace_paths
from experiments import memory, presets
from experiments.bench.bench import report, surroundings
from experiments.presets.sizes import SIZES

if TYPE_CHECKING:
    from dreamer.loops.clocks import Progress

TASKS = {"host": "minigrid:DoorKey-5x5", "fused": "grid:DoorKey-5x5"}
SECONDS, UPDATES = 20.0, 3
"""Duration of the measurement of a row, and its minimum number of updates of every member."""
TURN = 2.0
"""Seconds in the loop, then as long of updates alone: in turns, because the speed of a machine drifts."""

COLUMNS = {
    "loop": "loop",
    "members": "members",
    "size": "size",
    "start_s": "start s",
    "env_steps_per_s": "steps/s",
    "updates_per_s": "updates/s",
    "cpu_s_per_1000": "CPU s/1,000 steps",
    "update_ms": "update alone ms",
    "overhead": "not updates",
    "peak_mb": "peak MB",
}
"""Keys of a row and their labels; speeds are sums over the members."""


def run(
    sizes: Iterable[str],
    members: Iterable[int],
    batch: int,
    length: int,
    dtype: str = "auto",
    json: bool = False,
) -> int:
    """Measure the host loop and the fused loop for every size and population; the exit code."""
    jobs = [
        {"loop": loop, "members": count, "size": size, "batch": batch, "length": length, "dtype": dtype}
        for size in sizes
        for loop, counts in (("host", (1,)), ("fused", tuple(members)))
        for count in counts
    ]
    describe = lambda job: f"{job['size']}, {job['loop']} loop, {job['members']} members"
    return report(
        "experiments.bench.loop", jobs, describe, COLUMNS, f"{batch} x {length} steps a batch", json
    )


def configuration(loop: str, size: str, batch: int, length: int, dtype: str = "auto") -> Config:
    """The quickstart of that size and batch, at train ratio 32."""
    base = presets.build("quickstart")
    return dataclasses.replace(
        base,
        task=TASKS[loop],
        agent=replace_paths(SIZES[size](base.agent), {"dtype": dtype}),
        loop=dataclasses.replace(base.loop, batch_size=batch, batch_length=length, prefill=2_048),
    )


def measure(
    loop: str,
    members: int,
    size: str,
    batch: int,
    length: int,
    dtype: str = "auto",
) -> dict[str, Any]:
    """One row.

    Returns:
      `loop, members, size, batch, length`; `start_s` from here to the end of the first update;
      then, after that, `env_steps_per_s` and `updates_per_s` of all members together and the CPU seconds of
      this process for 1,000 environment steps; `update_ms`, an update of one agent alone on a fixed batch,
      measured in turns with the loop; `overhead`, the share of the time that so many updates alone would not
      have taken (of several members, which run next to each other, None); `peak_mb`.
    """

    began = time.perf_counter()
    cfg = configuration(loop, size, batch, length, dtype)
    parts = {"host": host, "fused": _fused}[loop](cfg, members)
    started(parts)
    start_s = time.perf_counter() - began
    parts.advance()
    parts.settle()
    peak = memory.peak()  # before anything is copied for the update alone
    speed = in_turns(parts)
    steps, updates = speed.env_steps * members, speed.updates * members
    return {
        "loop": loop,
        "members": members,
        "size": size,
        "batch": batch,
        "length": length,
        "start_s": round(start_s, 1),
        "env_steps_per_s": round(steps / speed.wall, 1),
        "updates_per_s": round(updates / speed.wall, 3),
        "cpu_s_per_1000": round(1000 * speed.cpu / steps, 2),
        "update_ms": round(1e3 * speed.update, 1),
        "overhead": round(1 - updates * speed.update / speed.wall, 3) if members == 1 else None,
        "peak_mb": round(peak / 2**20),
    }


Update = Callable[[], None]


class Parts(NamedTuple):
    """A loop as it is measured."""

    advance: Callable[[], Any]
    settle: Callable[[], Any]
    """Waits for pending work."""
    progress: Progress
    alone: Callable[[], Update]
    """Gives an update to be timed alone."""


class Speed(NamedTuple):
    """What a loop did while it was measured, of one member."""

    wall: float
    """Seconds in the loop."""
    cpu: float
    """CPU seconds of this process in the loop."""
    env_steps: int
    updates: int
    update: float
    """Seconds of an update alone."""


def started(parts: Parts) -> None:
    """Advance until the first update."""
    while parts.progress.updates == 0:
        parts.advance()


def in_turns(parts: Parts) -> Speed:
    """Measure the loop and its update alone, in turns."""
    update, progress, at = parts.alone(), parts.progress, dataclasses.replace(parts.progress)
    wall = cpu = 0.0
    walls: list[float] = []
    while wall < SECONDS or progress.updates - at.updates < UPDATES:
        began, spent = time.perf_counter(), time.process_time()
        while time.perf_counter() - began < TURN:
            parts.advance()
        parts.settle()
        wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - spent
        walls += _times(update, TURN)
    steps, updates = progress.env_steps - at.env_steps, progress.updates - at.updates
    return Speed(wall, cpu, steps, updates, sum(walls) / len(walls))


def _times(call: Callable[[], None], seconds: float) -> list[float]:
    """Wall-clock of every call, repeated for this long."""
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def host(cfg: Config, members: int = 1, **how: Any) -> Parts:
    """The host loop.

    Args:
      members: 1, as it has no more.
      how: its environments are made.
    """
    import jax

    import envs
    from dreamer.actors import named
    from dreamer.agent import Agent
    from dreamer.loops.clocks import Progress
    from dreamer.loops.collector import Collector
    from dreamer.loops.host import HostLoop
    from dreamer.numbers import trace
    from dreamer.replay.host import HostReplay

    env = envs.make(cfg.task, cfg.loop.num_envs, **how)
    agent, numbers = Agent(env.obs_space, env.act_space, cfg.agent), trace(cfg.agent)
    replay = HostReplay(20_000, cfg.loop.num_envs, env.obs_space, env.act_space, agent.entries)
    state = jax.jit(agent.init)(jax.random.key(0))
    actor = named(cfg.loop.actor)(env.act_space)
    source = Collector(agent, env, replay, numbers, seed=0, actor=actor)
    loop = HostLoop(agent, source, replay, cfg.loop, numbers, state, Progress(), seed=0, actor=actor)
    outputs = loop.outputs()

    def alone() -> Update:
        batch, _ = replay.sample(jax.random.key(1), cfg.loop.batch_size, cfg.loop.batch_length)
        return _update(agent, loop.state, batch, numbers)

    return Parts(lambda: next(outputs), loop.flush, loop.progress, alone)


def _fused(cfg: Config, members: int) -> Parts:
    import jax
    import jax.numpy as jnp
    import numpy as np

    import envs
    from dreamer.actors import named
    from dreamer.agent import Agent
    from dreamer.loops.clocks import Progress
    from dreamer.loops.fused import CompiledLoop, Fused, FusedLoop
    from dreamer.loops.members import Members
    from dreamer.numbers import trace
    from dreamer.placement import Placement, fitting
    from dreamer.replay.device import DeviceReplay
    from envs.wrappers import Batched

    env = Batched(envs.make_jax(cfg.task), cfg.loop.num_envs)
    agent, numbers = Agent(env.obs_space, env.act_space, cfg.agent), trace(cfg.agent)
    replay = DeviceReplay(20_000, cfg.loop.num_envs, env.obs_space, env.act_space, agent.entries)
    actor, endless = named(cfg.loop.actor)(env.act_space), 10**9
    fused = Fused(agent, env, replay, cfg.loop, actor=actor)
    compiled = CompiledLoop(fused)
    if members == 1:
        loop = FusedLoop(compiled, numbers, 0, endless, Progress())
    else:
        on_cpu = jax.default_backend() == "cpu"
        devices = fitting(jax.local_devices(), members)
        all_ = jax.tree.map(lambda x: jnp.broadcast_to(x, (members,)), numbers)
        placement = Placement.sequential(devices) if on_cpu else Placement.vmapped(devices, members)
        loop = Members(compiled, placement, all_, np.arange(members), endless, Progress())

    def alone() -> Update:
        one = loop.full if members == 1 else jax.tree.map(lambda x: jnp.asarray(x[0]), loop.full)
        size = (cfg.loop.batch_size, cfg.loop.batch_length)
        _, batch, _ = replay.sample(one.acting.ring, *size, key=jax.random.key(1))
        return _update(agent, one.learner, batch, numbers)

    return Parts(loop.advance, lambda: None, loop.progress, alone)


def _update(agent: Any, state: Any, batch: Any, numbers: Any) -> Update:
    """A compiled update on a fixed batch, to be called repeatedly."""
    import jax

    step = jax.jit(agent.train_step, donate_argnums=0)
    state, seeds = jax.tree.map(lambda x: x.copy(), state), itertools.count()

    def call() -> None:
        nonlocal state
        state, _, metrics = step(state, batch, numbers, key=jax.random.key(next(seeds)))
        jax.block_until_ready((state, metrics))

    call()
    return call


if __name__ == "__main__":
    import jax

    from experiments import machine

    machine.prepare()
    jax.config.update("jax_enable_compilation_cache", False)  # `start_s` is what a first run waits
    measured = measure(**jsonlib.loads(sys.argv[1]))
    print(jsonlib.dumps(measured | {"surroundings": surroundings()}))
