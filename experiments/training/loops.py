"""The loop of a run, new or as its newest checkpoint has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import envs
from dreamer import schema
from dreamer.config import Config
from envs.api import spaces_from
from experiments.agreement import agree

if TYPE_CHECKING:
    from dreamer.agent import TrainState
    from dreamer.loops.clocks import Progress
    from dreamer.loops.fused import FusedLoop
    from dreamer.loops.host import HostLoop
    from dreamer.replay.host import HostReplay
    from experiments.training.folder import RunFolder
    from experiments.training.program import Program


def single(
    cfg: Config, program: Program, folder: RunFolder | None = None, *, without_replay: bool = False
) -> HostLoop | FusedLoop:
    """The loop that trains one agent.

    Args:
      folder: holds the checkpoint to go on from (None: there is none).
      without_replay: go on with the learner alone (tasks of the host).

    Raises:
      ConfigError: the task has other spaces than it was trained with, there is no whole checkpoint, or the
        replay of this task is part of the checkpoint.
    """
    if not envs.is_on_device(cfg.task):
        return host(cfg, program, folder, without_replay=without_replay)
    check_replay_kept(cfg, without_replay=without_replay)
    return fused(cfg, program, folder)


def host(cfg: Config, program: Program, folder: RunFolder | None, *, without_replay: bool) -> HostLoop:
    """The loop of environments that Python steps; arguments as of `single`."""
    import jax

    from dreamer.loops.host import HostLoop
    from dreamer.numbers import trace
    from dreamer.replay.host import HostReplay

    agent, progress = program.agent, stored_progress(program, folder)
    replay = HostReplay(*program.replay_shape(), online=cfg.replay.online)
    if folder is None:
        state = jax.jit(agent.init)(jax.random.key(cfg.seed))
    else:
        kept = None if without_replay else replay
        state, progress = _host_restored(cfg, program, folder, progress, kept)
    return HostLoop(agent, program.env, replay, cfg.loop, trace(cfg.agent), state, progress, cfg.seed)


def _host_restored(
    cfg: Config, program: Program, folder: RunFolder, progress: Progress, replay: HostReplay | None
) -> tuple[TrainState, Progress]:
    """State and progress of the newest checkpoint that is whole; the replay as it was, where it is given."""
    import jax

    from dreamer.loops.clocks import count_anew

    like = jax.eval_shape(program.agent.init, jax.random.key(0))
    step, state, meta = folder.load(like, replay=replay is not None)
    progress = dataclasses.replace(progress, **meta["progress"])
    if replay is None:
        folder.notice(f"going on without the replay of step {step:,}: it is filled anew")
        count_anew(progress)
    else:
        replay.load(folder.store.replay_folder, folder.store.replay_files(step), meta["replay"])
    if _ratio(meta["config"]) != _ratio(schema.to_dict(cfg)):
        count_anew(progress)
    program.env.episodes[:] = meta["episodes"]
    return state, progress


def fused(cfg: Config, program: Program, folder: RunFolder | None) -> FusedLoop:
    """The loop of environments that are functions of JAX arrays; arguments as of `single`."""
    from dreamer.loops.fused import FusedLoop
    from dreamer.numbers import trace

    progress = stored_progress(program, folder)
    programs = program.alone(_capacity(folder))
    state, progress = restored(programs.fused.init, cfg.seed, progress, folder)
    return FusedLoop(programs, trace(cfg.agent), cfg.seed, cfg.steps, progress, state, pauses(cfg))


def population(
    cfg: Config,
    program: Program,
    folder: RunFolder | None = None,
    *,
    members: Sequence[Config],
    without_replay: bool = False,
) -> FusedLoop:
    """The loop that trains many agents; arguments as of `single`."""
    import jax
    import jax.numpy as jnp

    from dreamer.loops.fused import FusedLoop, Programs
    from dreamer.loops.population import InTurns, Together, fitting
    from dreamer.numbers import trace

    check_replay_kept(cfg, without_replay=without_replay)
    progress, count = stored_progress(program, folder), len(members)
    devices, on_cpu = fitting(program.devices(count), count), jax.default_backend() == "cpu"
    memories = 1 if on_cpu else len(devices)
    fused = program.fused(memories / count, _capacity(folder))
    spread = InTurns(devices) if on_cpu else Together(devices)
    hyper = jax.tree.map(lambda *x: jnp.stack(x), *(trace(own.agent) for own in members))
    seeds = np.array([own.seed for own in members], np.int32)
    state, progress = restored(jax.vmap(fused.init), seeds, progress, folder)
    return FusedLoop(Programs(fused, spread), hyper, seeds, cfg.steps, progress, state, pauses(cfg))


def check_replay_kept(cfg: Config, *, without_replay: bool) -> None:
    """Raises a ConfigError if it was to go without the replay, which here is part of the checkpoint."""
    if without_replay:
        raise schema.ConfigError(
            f"--without-replay is for tasks of the host, but {cfg.task} is compiled in: its replay "
            "is part of the checkpoint"
        )


def stored_progress(program: Program, folder: RunFolder | None) -> Progress:
    """How far the stored run is; the beginning where there is none.

    Raises:
      ConfigError: the task has other spaces than it was trained with.
    """
    from dreamer.loops.clocks import Progress

    if folder is None:
        return Progress()
    meta = folder.store.meta()
    trained = {"observation": spaces_from(meta["obs_space"]), "action": spaces_from(meta["act_space"])}
    agree(str(folder.path), folder.cfg.task, trained, program.env)
    return Progress(**meta["progress"])


def restored(init: Any, seed: Any, progress: Progress, folder: RunFolder | None) -> tuple[Any, Progress]:
    """State and progress of the newest checkpoint that is whole; no state where there is none."""
    import jax

    from dreamer.loops.fused import FusedState

    if folder is None:
        return None, progress
    like = jax.eval_shape(init, seed)
    tree = {**like.learner._asdict(), "loop": like.acting}
    _, found, meta = folder.load(tree)
    acting = found.pop("loop")
    return FusedState(type(like.learner)(**found), acting), dataclasses.replace(progress, **meta["progress"])


def pauses(cfg: Config) -> int:
    """Environment steps between two checks of `until`, 0 where there are none."""
    return cfg.eval.until_every if cfg.until else 0


def _capacity(folder: RunFolder | None) -> int:
    """Of the replay of the device where it is stored, as a ring does not grow; else 0."""
    return folder.store.meta()["capacity"] if folder is not None else 0


def _ratio(cfg: dict[str, Any]) -> list[Any]:
    """What decides how many updates are due for a step, of a configuration in dictionaries."""
    return [cfg["loop"].get(name) for name in ("train_ratio", "batch_size", "batch_length")]
