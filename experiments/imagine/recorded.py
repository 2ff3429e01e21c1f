"""The recorded sequences of a run, to dream from; whichever loop wrote them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax import Array

import envs
from dreamer.checkpoint import CheckpointStore
from dreamer.config import Config
from dreamer.records import Batch
from dreamer.schema import ConfigError
from envs.api import spaces_from
from experiments.agreement import agree

if TYPE_CHECKING:
    from experiments.training.workspace import Workspace

Sample = Callable[[Array], Batch]
"""A batch for a key, uniform over all that was recorded."""


def sampler(folder: Path, name: str | None, workspace: Workspace, cfg: Config) -> Sample:
    """How batches of the size of training are drawn from the replay of a checkpoint.

    Args:
      folder: of the run.
      name: of the checkpoint (None: the newest that is whole).

    Raises:
      CheckpointError: its replay is damaged.
      ConfigError: the task has other spaces than the agent was trained with, or nothing is recorded yet.
    """
    store = CheckpointStore(folder / "checkpoints")
    meta = store.meta(name)
    trained = {"observation": spaces_from(meta["obs_space"]), "action": spaces_from(meta["act_space"])}
    agree(str(folder), cfg.task, trained, workspace.env)
    size, length = cfg.loop.batch_size, cfg.loop.batch_length
    make = _on_device if envs.is_on_device(cfg.task) else _on_host
    return make(store, name, workspace, size, length)


def _on_host(
    store: CheckpointStore, name: str | None, workspace: Workspace, size: int, length: int
) -> Sample:
    from dreamer.replay.host import HostReplay

    replay = HostReplay(*workspace.replay_shape(), online=False)
    like = jax.eval_shape(workspace.agent.init, jax.random.key(0))
    step, _, meta = store.load(like, name, replay=True)
    replay.load_dealt(store.replay_folder, store.replay_parts(step), meta["replay"])
    _check(replay.can_sample(size, length) > 0)
    return lambda key: replay.sample(key, size, length, online=False)[0]


def _on_device(
    store: CheckpointStore, name: str | None, workspace: Workspace, size: int, length: int
) -> Sample:
    from dreamer.loops.fused import stored
    from dreamer.replay.device import DeviceReplay

    capacity = store.meta(name)["capacity"]
    fused = workspace.fused(1.0, capacity)
    template = stored(jax.eval_shape(fused.init, np.int32(0)))
    _, arrays, _ = store.load(template, name)
    ring = arrays["loop"].ring
    replay = DeviceReplay(*workspace.replay_shape(capacity), online=False)
    _check(int(ring.inserted) > length)
    return jax.jit(lambda key: replay.sample(ring, size, length, key=key)[1])


def _check(is_enough: bool) -> None:
    if not is_enough:
        raise ConfigError("the run has not recorded a batch of sequences yet: train it a little longer")
