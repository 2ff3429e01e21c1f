"""Training from a Python program: `dreamer.train`, and `dreamer.build` for a custom loop."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

import envs
from dreamer import schema
from dreamer.config import Config
from dreamer.schema import ConfigError
from envs.watchdog import Interrupted
from experiments import machine, presets, signals
from experiments.names import check_known
from experiments.training import loops, run, warm_start, workspace
from experiments.training.folder import TrainingStopped
from experiments.training.trainer import is_complete

if TYPE_CHECKING:
    from dreamer.loops.outputs import LoopOutput
    from dreamer.player import Player

__all__ = ["Training", "TrainingStopped", "build", "preset", "train"]


def preset(name: str, changes: Mapping[str, Any] = MappingProxyType({})) -> Config:
    """The configuration of a preset.

    Args:
      changes: {dotted path of a field: value}, as in {"agent.optim.lr": 3e-4}.

    Raises:
      ConfigError: there is no preset or field of that name, or a value is out of its range.
    """
    check_known("preset", name, presets.PRESETS)
    return schema.replace_paths(presets.build(name), dict(changes))


def train(
    cfg: Config,
    folder: str | Path,
    *,
    force: tuple[str, ...] = (),
    fresh: bool = False,
    without_replay: bool = False,
) -> dict[str, Any]:
    """Train an agent in a run folder, or resume the run that is there; the result, as `result.json` has it.

    The folder is that of the command `dreamer train`, so either resumes what the other began. Ctrl-C in the
    main thread saves and then raises `KeyboardInterrupt`, a second one raises it at once.

    Args:
      force: fields in which the run may differ from what it was.
      fresh: start from scratch; what is in the folder is kept beside it.
      without_replay: resume the learner alone, and refill the replay from scratch.

    Raises:
      ConfigError: the task cannot be trained that way, or the folder holds a run of another configuration,
        one that cannot be resumed or one that is being trained; nothing was written.
      TrainingStopped: the environment failed or a loss is not finite; what was saved is safe.
    """
    machine.prepare()
    result = None
    with signals.interrupts() as stop, contextlib.suppress(Interrupted):
        how = {"force": force, "fresh": fresh, "without_replay": without_replay}
        result = run.trained(cfg, Path(folder), stop, **how)
    if result is None:
        raise KeyboardInterrupt
    return result


def build(cfg: Config) -> Training:
    """An agent, its environments and the loop that trains it, without a folder.

    Raises:
      ConfigError: the task cannot be trained that way, or the configuration is that of a population.
    """
    if not cfg.population.is_one:
        raise ConfigError("dreamer.build makes one agent: train a population with dreamer.train")
    machine.prepare()
    return Training(dataclasses.replace(cfg, task=envs.canonical(cfg.task)))


class Training:
    """What trains an agent; a context manager that closes its environments.

    Args:
      cfg: of one agent.
    """

    def __init__(self, cfg: Config):
        self._open = contextlib.ExitStack()
        self.config = cfg
        self.workspace = self._open.enter_context(workspace.opened(cfg))
        self.agent, self.env = self.workspace.agent, self.workspace.env
        try:
            self.loop = loops.single(cfg, self.workspace)
            """Has `state`, `numbers` and `progress`."""
            warm_start.apply(self.loop, self.agent, cfg.start)
        except BaseException:
            self.close()
            raise

    def outputs(self) -> Iterator[LoopOutput]:
        """Act and learn until the steps of the configuration are taken, or its updates where limited: the
        episodes that ended and the metrics of every output; called again it continues.

        Raises:
          Diverged: a loss is not finite.
          EnvError: from the environment.
        """
        if is_complete(self.config, self.loop.progress):
            return
        for output in self.loop.outputs():
            yield output
            if is_complete(self.config, self.loop.progress):
                break
        self.loop.flush()

    def player(self, *, actor: str = "greedy") -> Player:
        """The agent as it is now, as `dreamer.load` gives it; further learning does not change it."""
        import jax
        import jax.numpy as jnp

        from dreamer.placement import on_one
        from dreamer.player import Player

        params = on_one(jax.tree.map(jnp.copy, self.loop.gather_params()))
        progress = self.loop.progress
        counters = {"env_steps": progress.env_steps, "updates": progress.updates}
        numbers = self.loop.numbers
        return Player(self.agent, params, numbers, actor=actor, config=self.config, counters=counters)

    def close(self) -> None:
        """Close the environments."""
        self._open.close()

    def __enter__(self) -> Training:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
