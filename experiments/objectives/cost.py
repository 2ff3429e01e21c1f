"""What an update of each objective costs: measured in turns, in one process, because machines are noisy.

python -m experiments.objectives.cost '{"folder": DIR, "objectives": [NAME, ...]}'
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from dreamer import atomic, schema
from dreamer.config import Config
from experiments import machine, sidecar
from experiments.bench import bench
from experiments.objectives.runs import Comparison

FILE = "updates.json"
"""In the folder of a comparison: what was measured, so that it is measured once."""
SECONDS, TURNS = 3.0, (5, 50)
"""Seconds of updates of each objective, and the least and most updates."""
PROBE = "agent.probe_decoder"
"""The field with which a decoder is trained beside the agent, for reports alone."""


def measured(folder: Path, objectives: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """`objectives`, as of `measure`, and `surroundings`; no objectives and `why` where that failed."""
    stored = sidecar.read(folder / FILE)
    if set(objectives) <= stored.get("objectives", {}).keys():
        return stored
    say("measuring an update of every objective, in turns")
    job = {"folder": str(folder), "objectives": list(objectives)}
    costs = bench.within_own_process("experiments.objectives.cost", job)
    if isinstance(costs, str):
        say(f"updates could not be measured: {costs}")
        return {"objectives": {}, "why": costs}
    atomic.write(folder / FILE, json.dumps(costs, indent=1) + "\n")
    return costs


def measure(cfg: Config, configs: Mapping[str, Config]) -> dict[str, dict[str, Any]]:
    """The cost of an update of every objective, without a probe.

    Args:
      cfg: of the task.
      configs: {objective: configuration of its agent and its batches}.

    Returns:
      {objective: `params`, parameters of the agent; `update_ms` and `update_cpu_ms`, medians of wall-clock
      and CPU time; `update_mb`, the memory that its larger program needs by XLA's account}.
    """
    from dreamer.agent import size
    from experiments.bench.update import Update
    from experiments.training import workspace

    with workspace.opened(schema.replace_paths(cfg, {"loop.num_envs": 1, PROBE: False})) as opened:
        updates = {
            name: Update(_agent(opened.env, one), one.loop.batch_size, one.loop.batch_length)
            for name, one in configs.items()
        }
    times = in_turns(list(updates.values()), SECONDS, *TURNS)
    return {
        name: {
            "params": size(update.params),
            "update_ms": round(1e3 * wall, 2),
            "update_cpu_ms": round(1e3 * cpu, 2),
            "update_mb": memory_mb(update.gradients, update.apply),
        }
        for (name, update), (wall, cpu) in zip(updates.items(), times, strict=True)
    }


def _agent(env: Any, cfg: Config) -> Any:
    from dreamer.agent import Agent

    return Agent(env.obs_space, env.act_space, schema.replace_paths(cfg, {PROBE: False}).agent)


def in_turns(
    calls: Sequence[Callable[[], object]], seconds: float, least: int, most: int
) -> list[tuple[float, float]]:
    """Median wall-clock and CPU seconds of each call, after one that is not timed.

    Each is called once a round, so that what slows the machine down slows all of them down.

    Args:
      seconds: of a call of each together, after which no round begins once there are `least`.
    """
    for call in calls:
        call()
    walls, cpus = [[[] for _ in calls] for _ in range(2)]
    end = time.perf_counter() + seconds * len(calls)
    for turn in range(most):
        if turn >= least and time.perf_counter() > end:
            break
        for i, call in enumerate(calls):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            walls[i].append(time.perf_counter() - wall)
            cpus[i].append(time.process_time() - cpu)
    return [(median(wall), median(cpu)) for wall, cpu in zip(walls, cpus, strict=True)]


def memory_mb(*programs: Any) -> float | None:
    """Megabytes of arguments, results and temporaries of the larger program; None where XLA does not say."""
    sizes = [_size(program.memory_analysis()) for program in programs]
    known = [size for size in sizes if size is not None]
    return round(max(known) / 2**20, 4) if known else None


def _size(account: Any) -> int | None:
    if account is None:
        return None
    parts = (f"{part}_size_in_bytes" for part in ("argument", "output", "temp"))
    return sum(getattr(account, part) for part in parts) - account.alias_size_in_bytes


def main(job: Mapping[str, Any]) -> dict[str, Any]:
    """The costs of the objectives of a comparison, and on what machine."""
    machine.release_when_compiled()  # as in training
    plan = Comparison(Path(job["folder"])).plan
    configs = {name: plan.config_of(name, plan.config.seed) for name in job["objectives"]}
    return {"objectives": measure(plan.config, configs), "surroundings": bench.surroundings()}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
