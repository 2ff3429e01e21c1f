"""`dreamer bench`: how fast this machine learns and acts, on synthetic batches of the published shape.

Every row is measured in a separate process, so that its peak memory is its own.
"""

from __future__ import annotations

import json as jsonlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from dreamer.config import AgentConfig
from dreamer.schema import replace_paths
from envs.api import Space
from experiments import machine, memory
from experiments.bench import flops
from experiments.bench.update import Update
from experiments.presets.sizes import SIZES

OBS = {"vector": Space((8,), "float32"), "image": Space((64, 64, 3), "uint8")}
ACT = {"action": Space((), "int32", 6)}
POLICY_ENVS = (1, 16)
"""Numbers of environments for which the policy is timed."""
SECONDS, UPDATES, CALLS = 4.0, (5, 100), 100
"""Seconds of repeated updates, their minimum and maximum number, and the calls of the policy."""
SIDE, GPU_SIDE = 2048, 8192
"""Side of the matrices whose product tells the peak rate, of a CPU and of other devices."""

COLUMNS = {
    "size": "size",
    "obs": "obs",
    "dtype": "dtype",
    "params": "parameters",
    "compile_s": "compile s",
    "update_ms": "update ms",
    "cpu_s": "CPU s/update",
    "gflop": "GFLOP",
    **{f"gflop/{name}": f"  {name}" for name in (*flops.PARTS, flops.OTHER)},
    "gflops": "GFLOP/s",
    "of_product_rate": "of product rate",
    "updates_per_s": "updates/s",
    "steps_per_s": "replayed steps/s",
    "policy1_ms": "policy x1 ms",
    "policy16_ms": "policy x16 ms",
    "peak_mb": "peak MB",
    "device_peak_mb": "GPU peak MB",
}
"""Keys of a row and their labels; the last one exists on a GPU only."""


def run(
    sizes: Iterable[str],
    obs: Iterable[str],
    batch: int,
    length: int,
    dtype: str = "auto",
    json: bool = False,
) -> int:
    """Measure every size with every kind of observation, print a table (or one JSON object); the exit code.

    Args:
      sizes: names in `SIZES`.
      obs: names in `OBS`.
      batch, length: sequences in a batch, steps of each.
      dtype: of activations, as in `AgentConfig`.
    """
    jobs, title = updates(sizes, obs, batch, length, dtype), f"{batch} x {length} steps a batch"
    return report("experiments.bench.bench", jobs, named, COLUMNS, title, json)


def report(
    module: str,
    jobs: Sequence[dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
    columns: Mapping[str, str],
    title: str,
    json: bool,
) -> int:
    """Measure every job in a separate process and print the rows; the exit code, 1 if any failed.

    Args:
      module: the program that measures one job and prints its row.
      describe: the label of a job.
      columns: keys of a row and their labels.
      title: what all rows have in common.
    """
    rows, about = measured(module, jobs, describe, title)
    if json:
        print(jsonlib.dumps({"rows": rows, **about}))
    elif rows:
        Console().print(table(rows, columns, f"{title} on {about['device']}, JAX {about['jax']}"))
    return int(len(rows) < len(jobs))


def updates(
    sizes: Iterable[str], obs: Iterable[str], batch: int, length: int, dtype: str
) -> list[dict[str, Any]]:
    """The jobs of `run`: every size with every kind of observation."""
    kinds = list(obs)
    same = {"batch": batch, "length": length, "dtype": dtype}
    return [{"size": size, "obs": kind, **same} for size in sizes for kind in kinds]


def named(job: Mapping[str, Any]) -> str:
    """The label of a job of `updates`."""
    return f"{job['size']} {job['obs']}"


def measured(
    module: str, jobs: Sequence[dict[str, Any]], describe: Callable[[dict[str, Any]], str], title: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of all jobs that could be measured, each in a separate process, and what they ran on.

    Says why where one could not; arguments as of `report`.
    """
    console = Console(stderr=True)
    rows, about = [], {}
    for job in jobs:
        with console.status(f"{describe(job)} ({title}): compiling and measuring"):
            result = within_own_process(module, job)
        if isinstance(result, str):
            console.print(f"{describe(job)} could not be measured: {result}", markup=False)
        else:
            about = result.pop("surroundings")
            rows.append(result)
    return rows, about


def within_own_process(
    module: str, job: dict[str, Any], seconds: float | None = None
) -> dict[str, Any] | str:
    """The row of one job, as the program `module` prints it, or why there is none.

    Args:
      seconds: after which it is ended.
    """
    command = machine.command(module, jsonlib.dumps(job))
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        return f"not done after {error.timeout:.1f} s"
    if done.returncode == 0:
        return jsonlib.loads(done.stdout.splitlines()[-1])
    if done.returncode < 0:
        return f"its process was ended by signal {-done.returncode}, most likely for want of memory"
    return (done.stderr.strip().splitlines() or ["no message"])[-1]


def table(rows: Sequence[dict[str, Any]], columns: Mapping[str, str], title: str) -> Table:
    """The rows as a table, a column each, because a terminal is rarely wide enough for all measurements.

    Args:
      columns: keys of a row and their labels; those that no row has are left out.
    """
    view = Table(title=title, title_justify="left", show_header=False)
    view.add_column(style="dim")
    for _ in rows:
        view.add_column(justify="right")
    for key, name in columns.items():
        if key in rows[0]:
            cells = (f"{v:,}" if isinstance(v := row[key], int | float) else v or "" for row in rows)
            view.add_row(name, *cells)
    return view


def measure(size: str, obs: str, batch: int, length: int, dtype: str = "auto") -> dict[str, Any]:
    """One row: time the policy, compile the train step, repeat it.

    Returns:
      `size, obs, dtype, batch, length, params`;
      `compile_s` seconds from Python function to program (tracing included);
      `update_ms` median wall-clock and `cpu_s` median CPU seconds of this process per update;
      `gflop` of the products and convolutions of one update (`flops.count`), also by part (`gflop/observe`),
      the rate `gflops` that they give and the share `of_product_rate` of what a large product reaches in the
      same minute; `updates_per_s, steps_per_s` (replayed steps);
      `policy1_ms, policy16_ms` median latency of acting for so many environments;
      `peak_mb` peak memory of this process, on a GPU also `device_peak_mb`.
    """
    import jax

    from dreamer.numbers import trace

    update = compiled(size, obs, batch, length, dtype)
    agent, numbers = update.agent, trace(update.agent.cfg)
    latencies = {n: policy_latency(agent, update.params, numbers, n) for n in POLICY_ENVS}
    update()
    wall, cpu = repeat(update, SECONDS, *UPDATES)
    rate = product_rate(agent.dtype) / 1e9
    parts = {name: operations / 1e9 for name, operations in update.operations.items()}
    gflop = sum(parts.values())
    row: dict[str, Any] = {
        "size": size,
        "obs": obs,
        "dtype": str(agent.dtype),
        "batch": batch,
        "length": length,
        "params": sum(p.size for p in jax.tree.leaves(update.params)),
        "compile_s": round(update.compile_s, 1),
        "update_ms": round(1e3 * wall, 1),
        "cpu_s": round(cpu, 4),
        "gflop": round(gflop, 3),
        **{f"gflop/{name}": round(parts.get(name, 0.0), 3) for name in (*flops.PARTS, flops.OTHER)},
        "gflops": round(gflop / wall, 1),
        "of_product_rate": round(gflop / wall / rate, 3),
        "updates_per_s": round(1 / wall, 2),
        "steps_per_s": round(batch * length / wall),
    }
    if jax.default_backend() != "cpu":
        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
        row["device_peak_mb"] = round(peak / 2**20)
    row |= {f"policy{n}_ms": round(1e3 * seconds, 3) for n, seconds in latencies.items()}
    row["peak_mb"] = round(memory.peak() / 2**20)
    return row


def compiled(size: str, obs: str, batch: int, length: int, dtype: str = "auto") -> Update:
    """The update of an agent of this size on noise."""
    from dreamer.agent import Agent

    cfg = replace_paths(SIZES[size](AgentConfig()), {"dtype": dtype})
    return Update(Agent({obs: OBS[obs]}, ACT, cfg), batch, length)


def policy_latency(agent: Any, params: Any, numbers: Any, envs: int) -> float:
    """Median seconds from observations to actions, for this many environments together."""
    import jax
    import numpy as np

    from dreamer.actors.policy import SAMPLED
    from envs.api import Step

    act = jax.jit(lambda params, *args, key: agent.act(params, *args, numbers, key=key, actor=SAMPLED))
    flags, reward = np.zeros(envs, bool), np.zeros(envs, np.float32)
    obs = {k: np.zeros((envs, *space.shape), space.dtype) for k, space in agent.obs_space.items()}
    args = agent.init_carry(envs, SAMPLED), Step(obs, reward, flags, flags, flags)
    call = lambda: jax.block_until_ready(act(params, *args, key=jax.random.key(0)))
    call()
    return repeat(call, 0.0, CALLS, CALLS)[0]


def repeat(call: Callable[[], Any], seconds: float, least: int, most: int) -> tuple[float, float]:
    """Median wall-clock and CPU seconds of one call."""
    walls, cpus, end = [], [], time.perf_counter() + seconds
    while len(walls) < least or (time.perf_counter() < end and len(walls) < most):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return median(walls), median(cpus)


def product_rate(dtype: Any) -> float:
    """Operations per second of a large matrix product: what the device can do at its best."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(jnp.matmul)
    side = SIDE if jax.default_backend() == "cpu" else GPU_SIDE
    x = jnp.ones((side, side), dtype)
    call = lambda: jax.block_until_ready(product(x, x))
    call()
    return 2 * side**3 / repeat(call, 1.0, 5, 100)[0]


def surroundings() -> dict[str, Any]:
    """What a row was measured on."""
    import jax

    return {"device": f"{os.cpu_count()} x {jax.devices()[0].device_kind}", "jax": jax.__version__}


if __name__ == "__main__":
    machine.release_when_compiled()  # as in training
    row = measure(**jsonlib.loads(sys.argv[1]))
    print(jsonlib.dumps(row | {"surroundings": surroundings()}))
