"""`dreamer doctor`: what is installed, what would run where, and what is missing."""

from __future__ import annotations

import dataclasses
import importlib.util
import json as jsonlib
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import envs
from dreamer.config import Config, EnvConfig, LoopConfig, ReplayConfig
from experiments import presets
from experiments.machine import cores
from experiments.presets.sizes import SIZES

GIB = 2**30
LITTLE_DISK = 2 * GIB
"""Checkpoints with their replay easily need this much."""

PACKAGES = (
    *("dreamer-toolkit", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint"),
    *("numpy", "gymnasium", "minigrid"),
)

EXTRAS = {"wandb": "wandb", "mlflow": "mlflow", "mujoco": "mujoco", "atari": "ale_py", "classic": "pygame"}
"""Extras of this package, and what each one brings."""


class Placed(NamedTuple):
    """What shall live on which devices."""

    size: str
    """Of the agent; empty for the default."""
    memory: float
    """GiB of a device; 0 for that of the devices here."""
    loop: LoopConfig
    replay: ReplayConfig


def doctor(
    task: str = "", world: EnvConfig = EnvConfig(), placed: Placed | None = None, *, json: bool = False
) -> int:
    """Print the findings; the exit code.

    Args:
      world: how the task is made.
      placed: of which agent, replay and mesh the memory is measured; None for none.

    Raises:
      UnknownTask, MissingExtra, UnsupportedSpace: the task cannot be trained on.
      ConfigError: what shall be placed does not fit.
    """
    report: dict[str, Any] = {
        "versions": versions(),
        "devices": devices(),
        "machine": machine(),
        "suites": {suite.name: suite.installed for suite in envs.suites()},
        "extras": {name: importlib.util.find_spec(module) is not None for name, module in EXTRAS.items()},
    }
    if task:
        report["task"] = plan(task, dataclasses.replace(presets.build("small"), env=world))
    if placed is not None:
        report["placement"] = placement(task, world, placed)
    report["warnings"] = warnings(report)
    print(jsonlib.dumps(report) if json else "\n".join(_lines(report)))
    return 0


def versions() -> dict[str, str]:
    """Version of every package that results depend on."""
    packages = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = "not installed"
    return packages


def devices() -> dict[str, Any]:
    """What JAX computes on, and the default dtype of an agent there."""
    import jax

    backend = jax.default_backend()
    return {
        "backend": backend,
        "devices": [str(device.device_kind) for device in jax.devices()],
        "dtype": "float32" if backend == "cpu" else "bfloat16",
        "nvidia": Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None,
    }


def machine() -> dict[str, Any]:
    """What this process may use: cores, memory and free disk, in GiB."""
    from dreamer.replay.host import available_memory

    memory = available_memory()
    return {
        "system": platform.platform(),
        "cores": cores(),
        "memory_gib": None if memory is None else round(memory / GIB, 1),
        "disk_gib": round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
    }


def placement(task: str, world: EnvConfig, placed: Placed) -> dict[str, Any]:
    """Memory of each device and what is split, from shapes alone.

    Raises:
      ConfigError: it does not fit; says what would.
      UnknownTask, MissingExtra, UnsupportedSpace: the task cannot be trained on.
    """
    from experiments import device_memory
    from experiments.bench.bench import ACT, OBS

    cfg = Config(task or "none:none", 10**9, env=world, loop=placed.loop, replay=placed.replay)
    if placed.size:
        cfg = dataclasses.replace(cfg, agent=SIZES[placed.size](cfg.agent))
    spaces = device_memory.Task({"image": OBS["image"]}, ACT, on_device=False)
    if task:
        env = envs.make(task, 1, **world.world)
        spaces = device_memory.Task(env.obs_space, env.act_space, envs.is_on_device(env.task))
        env.close()
    limit = int(placed.memory * GIB) or device_memory.available(cfg)
    need = device_memory.check(cfg, spaces, placed.size, limit)
    return device_memory.report(need, cfg, limit)


def plan(task: str, cfg: Config) -> dict[str, Any]:
    """How training on a task would run with a configuration, and why.

    Raises:
      UnknownTask, MissingExtra, UnsupportedSpace: the task cannot be trained on.
    """
    from dreamer import rssm
    from dreamer.replay.layout import bytes_needed

    env = envs.make(task, 1, **cfg.env.world)
    try:
        obs, act, entries = env.obs_space, env.act_space, rssm.entries(cfg.agent.rssm)
        notices = list(getattr(env, "notices", ()))
        ends = _ends(env)
        needed = bytes_needed(cfg.replay.capacity, cfg.loop.num_envs, obs, act, entries)
    finally:
        env.close()
    loop, why = _loop(env.task, cfg)
    shown = lambda spaces: {k: _space(s) for k, s in spaces.items()}
    return {
        "task": env.task,
        "loop": loop,
        "why": why,
        "observations": shown({k: s for k, s in obs.items() if not k.startswith(envs.api.LOG_PREFIX)}),
        "actions": shown(act),
        "notices": notices,
        "preset": cfg.preset,
        "replay_gib": round(needed / GIB, 2),
        "ends": ends,
        "note": envs.note(env.task),
    }


def _ends(env: envs.VectorEnv) -> str:
    """What is wrong with how its episodes end; played only where no time limit is known."""
    from envs.check import first_end, may_be_third_party, time_limit, unending

    limit = time_limit(env)
    if limit is not None or not may_be_third_party(env.task):
        return ""
    try:
        steps, ended = first_end(env)
    except envs.EnvError as error:
        return f"It cannot be played: {error}."
    return "" if ended else f"No episode of {env.task} ended in {steps:,} random steps; {unending(limit)}."


def _loop(task: str, cfg: Config) -> tuple[str, str]:
    """Which loop trains on a task, and why."""
    suite, copies = task.partition(":")[0], cfg.loop.num_envs
    if envs.is_on_device(task):
        return "fused", (
            f"{suite} environments are pure functions of JAX arrays, so {copies} copies, replay and learning "
            "are one compiled program, and --seeds trains many agents in it"
        )
    how = "each in a process" if cfg.env.parallel else "stepped one after the other"
    return "host", f"{suite} environments run in Python; {copies} copies, {how}"


def _space(space: envs.Space) -> str:
    kind = f"{space.classes} classes" if space.classes is not None else "numbers"
    return f"{space.dtype}{list(space.shape)}, {'an image' if space.is_image else kind}"


def warnings(report: dict[str, Any]) -> list[str]:
    """One sentence for each problem."""
    devices, machine, messages = report["devices"], report["machine"], []
    if devices["nvidia"] and devices["backend"] == "cpu":
        messages.append(
            "There is an NVIDIA GPU, but JAX uses the CPU: pip install 'dreamer-toolkit[gpu]'"
            + (" and unset JAX_PLATFORMS." if os.environ.get("JAX_PLATFORMS") else ".")
        )
    if machine["disk_gib"] * GIB < LITTLE_DISK:
        messages.append(f"Only {machine['disk_gib']} GiB of disk are free here: checkpoints may not fit.")
    memory, needed = machine["memory_gib"], report.get("task", {}).get("replay_gib", 0)
    if memory is not None and needed > memory:
        messages.append(
            f"A full replay needs {needed} GiB, but {memory} GiB of memory are available: "
            "lower replay.capacity."
        )
    if ends := report.get("task", {}).get("ends"):
        messages.append(ends)
    if report["versions"]["dreamer-toolkit"] == "not installed":
        messages.append("dreamer-toolkit itself is not installed, it runs from a folder: pip install -e .")
    return messages


def _lines(report: dict[str, Any]) -> list[str]:
    devices, machine = report["devices"], report["machine"]
    names = lambda flags, wanted: ", ".join(k for k, there in flags.items() if there == wanted) or "none"
    rows = [
        ("versions", ", ".join(f"{k} {v}" for k, v in report["versions"].items())),
        ("devices", f"{devices['backend']}: {', '.join(devices['devices'])}; computes in {devices['dtype']}"),
        ("machine", f"{machine['system']}, {machine['cores']} cores"),
        ("memory", f"{machine['memory_gib'] or '?'} GiB available, {machine['disk_gib']} GiB of disk free"),
        ("suites", names(report["suites"], True)),
        ("extras", f"{names(report['extras'], True)}; not installed: {names(report['extras'], False)}"),
    ]
    if "task" in report:
        task = report["task"]
        listed = lambda spaces: "; ".join(f"{k} {v}" for k, v in spaces.items())
        rows += [
            ("task", task["task"]),
            ("sees", listed(task["observations"])),
            *(("note", text) for text in task["notices"]),
            ("does", listed(task["actions"])),
            ("loop", f"{task['loop']}: {task['why']}"),
            ("replay", f"{task['replay_gib']} GiB when full, with the preset {task['preset']}"),
        ]
        rows += [("note", task["note"])] if task["note"] else []
    if "placement" in report:
        from experiments import device_memory

        rows += device_memory.lines(report["placement"])
    rows += [("warning", text) for text in report["warnings"]] or [("warnings", "none")]
    return [f"{name:<10}{text}" for name, text in rows]
