"""The loop of a run: built, and restored from its newest checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import envs
from dreamer import schema
from dreamer.config import Config
from envs.api import spaces_from
from experiments.agreement import agree

if TYPE_CHECKING:
    from dreamer.loops.fused import FusedLoop
    from dreamer.loops.host import HostLoop
    from dreamer.loops.loop import Loop
    from dreamer.loops.members import Members
    from experiments.training.folder import RunFolder
    from experiments.training.workspace import Workspace


def single(cfg: Config, workspace: Workspace, folder: RunFolder | None = None) -> Loop:
    """The loop that trains one agent, from its beginning.

    Args:
      folder: of the run to resume, for the capacity of its replay (None: a new run).
    """
    return fused(cfg, workspace, folder) if envs.is_on_device(cfg.task) else host(cfg, workspace)


def host(cfg: Config, workspace: Workspace) -> HostLoop:
    """The loop of environments that Python steps."""
    from dreamer.loops.clocks import Progress
    from dreamer.loops.collector import Collector
    from dreamer.loops.host import HostLoop
    from dreamer.numbers import trace
    from dreamer.replay.host import HostReplay

    agent, numbers = workspace.agent, trace(cfg.agent)
    replay = HostReplay(*workspace.replay_shape(), online=cfg.replay.online)
    actor = workspace.actor
    us = workspace.processes
    source = Collector(agent, workspace.env, replay, numbers, cfg.seed, actor=actor, processes=us)
    learner = None, Progress(), cfg.seed
    where: dict[str, Any] = {"sharding": workspace.sharding, "processes": us}
    return HostLoop(agent, source, replay, cfg.loop, numbers, *learner, actor=actor, **where)


def fused(cfg: Config, workspace: Workspace, folder: RunFolder | None) -> FusedLoop:
    """The loop of environments that are functions of JAX arrays."""
    from dreamer.loops.clocks import Progress
    from dreamer.loops.fused import FusedLoop
    from dreamer.numbers import trace

    compiled, numbers = workspace.alone(_capacity(folder)), trace(cfg.agent)
    return FusedLoop(compiled, numbers, cfg.seed, cfg.steps, Progress(), pause_every=pauses(cfg))


def population(
    cfg: Config, workspace: Workspace, folder: RunFolder | None = None, *, members: Sequence[Config]
) -> Members:
    """The loop that trains many agents, from its beginning; `folder` as of `single`."""
    import jax
    import jax.numpy as jnp

    from dreamer.loops.clocks import Progress
    from dreamer.loops.fused import CompiledLoop
    from dreamer.loops.members import Members
    from dreamer.numbers import trace
    from dreamer.placement import Placement, fitting

    count = len(members)
    devices, on_cpu = fitting(workspace.devices(count), count), jax.default_backend() == "cpu"
    memories = 1 if on_cpu else len(devices)
    compiled = CompiledLoop(workspace.fused(memories / count, _capacity(folder)))
    placement = Placement.sequential(devices) if on_cpu else Placement.vmapped(devices, count)
    numbers = jax.tree.map(lambda *x: jnp.stack(x), *(trace(member.agent) for member in members))
    seeds = np.array([member.seed for member in members], np.int32)
    return Members(compiled, placement, numbers, seeds, cfg.steps, Progress(), pause_every=pauses(cfg))


def check_replay_apart(cfg: Config) -> None:
    """Raise a ConfigError if a run cannot go without its replay, because that is part of its checkpoints."""
    if envs.is_on_device(cfg.task):
        raise schema.ConfigError(
            f"--without-replay is for Gymnasium environments, but {cfg.task} is a JAX environment: "
            "its replay is part of the checkpoint"
        )


def restore(loop: Loop, workspace: Workspace, folder: RunFolder, *, without_replay: bool = False) -> None:
    """Restore a loop from the newest intact checkpoint.

    Args:
      without_replay: resume the learner alone (Gymnasium environments).

    Raises:
      ConfigError: the task has other spaces than it was trained with, or there is no intact checkpoint.
    """
    from dreamer.loops.loop import ReplayFiles

    meta = folder.store.meta()
    trained = {"observation": spaces_from(meta["obs_space"]), "action": spaces_from(meta["act_space"])}
    agree(str(folder.path), folder.cfg.task, trained, workspace.env)
    step, arrays, meta = folder.load(loop.template, replay=not without_replay)
    parts, count = folder.store.replay_parts(step), workspace.processes.count
    files = ReplayFiles(folder.store.replay_folder, folder.store.replay_files(step), parts)
    if len(parts) != count:
        folder.notice(
            f"saved by {_counted(len(parts))}, resumed by {_counted(count)}: the learner is the same, but "
            "the replay is dealt again, so from here on numbers are not those of a run without that change"
        )
    if without_replay:
        folder.notice(f"resuming without the replay of step {step:,}: it is refilled from scratch")
    loop.restore(arrays, meta, None if without_replay else files)


def _counted(count: int) -> str:
    return "one process" if count == 1 else f"{count} processes"


def pauses(cfg: Config) -> int:
    """Environment steps between two checks of `until`, 0 where there are none."""
    return cfg.eval.until_every if cfg.until else 0


def _capacity(folder: RunFolder | None) -> int:
    """Of the replay of the device where it is stored, as a ring does not grow; else 0."""
    return folder.store.meta()["capacity"] if folder is not None else 0
