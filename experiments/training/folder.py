"""The folder of a run that this process trains in: its configuration, checkpoints, log and result."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamer import atomic, schema
from dreamer.config import Config
from dreamer.processes import ALONE, Processes
from experiments import machine, sidecar
from experiments.learning_curve import ACTED_WITH, acted_with
from experiments.training import session

if TYPE_CHECKING:
    from dreamer.logger import Logger
    from dreamer.loops.clocks import Progress
    from dreamer.loops.loop import Loop
    from dreamer.loops.outputs import EpisodeStats


class TrainingStopped(Exception):
    """A run stopped early; the message says why and what is safe."""


class RunFolder:
    """What a run reads and writes.

    Args:
      path: of the folder.
      cfg: of the run.
      cpu_clock: CPU seconds spent on this run.
      processes: those of the run, which all save; the first one also writes everything else.
    """

    def __init__(
        self,
        path: Path,
        cfg: Config,
        cpu_clock: Callable[[], float] = time.process_time,
        processes: Processes = ALONE,
    ):
        from dreamer.checkpoint import CheckpointStore

        self.path, self.cfg, self.processes = path, cfg, processes
        self.origin: Mapping[str, Any] | None = None
        """What the parameters started from, if that was another run."""
        self.store = CheckpointStore(
            path / "checkpoints",
            cfg.checkpoint.keep,
            self.notice,
            owner=processes.is_first,
            written=machine.release_memory,
            processes=processes,
        )
        self._logger: Logger | None = None
        self.notices: list[str] = []
        """Notices from before the log was open."""
        self._cpu_clock, self._cpu_before = cpu_clock, 0.0
        self._saved_at: tuple[int, int] | None = None
        """Environment steps and updates of the newest checkpoint; None if there must be another."""
        self._is_beyond = False
        """Whether a return was larger than any number that can be predicted."""

    @property
    def logger(self) -> Logger:
        """The log, once it is open."""
        assert self._logger is not None
        return self._logger

    def load(self, like: Any, *, replay: bool = True) -> tuple[int, Any, dict[str, Any]]:
        """The newest intact checkpoint: its step, arrays in the structure of `like`, and metadata.

        Raises:
          ConfigError: there is none; says what can be done.
        """
        from dreamer.checkpoint import NoCheckpoint

        try:
            if not self.processes.is_first:  # the one that process 0 can use
                return self.store.load(like, self.processes.first(None), replay=replay)
            loaded = self.store.load(like, replay=replay)
            self.processes.first(loaded[0])
            return loaded
        except NoCheckpoint as error:
            raise schema.ConfigError(session.no_way_on(self.path, f"cannot be resumed: {error}")) from None

    def open_log(self, progress: Progress, *, is_resumed: bool, console: Any = None) -> None:
        """Write the configuration and open the log; from here on nothing is refused.

        Args:
          progress: how far the run is; what was logged later is dropped.
          console: where progress is shown; standard error by default.
        """
        from dreamer.logger import Logger

        cfg = self.cfg
        self._logger = Logger(
            self.path,
            total_steps=cfg.steps,
            title="  ".join(filter(None, (cfg.task, str(self.path), acted_with([acting(cfg)])))),
            seconds=progress.seconds,
            tensorboard=cfg.log.tensorboard,
            wandb=cfg.log.wandb_project if cfg.log.wandb else None,
            wandb_offline=cfg.log.wandb_offline,
            mlflow=cfg.log.mlflow_experiment if cfg.log.mlflow else None,
            config=dict(schema.values(cfg)),
            every=cfg.log.every,
            console=console,
        )
        self.write_config(cfg)
        if dropped := self._logger.rewind(progress.env_steps, progress.updates):
            since = f"after the checkpoint at {progress.env_steps:,} steps" if is_resumed else "before any"
            self.notices.append(
                f"{dropped:,} rows that were logged {since} are dropped and will be logged again"
            )
        for text in self.notices:
            self._logger.notice(text)
        self._saved_at = (progress.env_steps, progress.updates) if is_resumed else None
        self._cpu_before = progress.cpu_seconds

    def notice(self, text: str) -> None:
        """Log a line of text."""
        if self._logger is None:
            self.notices.append(text)
        else:
            self._logger.notice(text)

    def write_config(self, cfg: Config) -> None:
        """From now on the run has this configuration."""
        self.cfg = cfg
        session.write_config(self.path, cfg)

    def episode(self, episode: EpisodeStats, **more: int) -> None:
        """Log an episode, and report once if a return exceeds what can be learned."""
        from dreamer.ops.dists import REACH

        self.logger.episode({**episode_row(episode, self.cfg), **more})
        most = math.expm1(REACH)
        if abs(episode.return_) > most and not self._is_beyond:
            self._is_beyond = True
            self.notice(
                f"an episode had the return {episode.return_:.4g}, but rewards and values are learned only "
                f"up to {most:,.0f}: what lies beyond counts as that, so divide the rewards (env.wrappers)"
            )

    def save(self, loop: Loop, meta: Mapping[str, Any], *, wait: bool = False) -> None:
        """Checkpoint a loop; a failure is reported and the run continues.

        Args:
          meta: stored besides the metadata of the loop.
          wait: until it is on the disk.

        Raises:
          Diverged: a loss is not finite.
          TrainingStopped: it was waited for and could not be written.
        """
        from dreamer.checkpoint import CheckpointError

        loop.check_finite()
        progress = loop.progress
        if self.processes.is_first:
            progress.seconds, progress.cpu_seconds = self.logger.seconds, self.cpu_seconds
        about = {"config": schema.to_dict(self.cfg), "progress": dataclasses.asdict(progress)}
        try:
            now = progress.env_steps, progress.updates
            if self.processes.first(now != self._saved_at):
                held = loop.checkpoint()
                self.store.save(now[0], held.arrays, {**about, **meta, **held.meta}, held.files)
                self._saved_at = now
                if self.processes.is_first:
                    self.logger.checkpoint_saved()
            if wait:
                self.store.wait()
        except CheckpointError as error:
            self.forget_save()
            if wait:
                raise TrainingStopped(f"{error}; rerun the same command to resume") from None
            self.notice(str(error))

    def forget_save(self) -> None:
        """Have the next checkpoint written even if one of these steps exists, which lacks later metadata."""
        self._saved_at = None

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk; a failure is reported."""
        from dreamer.checkpoint import CheckpointError

        try:
            self.store.wait()
        except CheckpointError as error:
            self.notice(str(error))

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of this session and of those the run was resumed from."""
        return self._cpu_before + self._cpu_clock()


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the result of a run, or of a member of a population."""
    sidecar.keep_damaged(folder / "result.json")
    atomic.write(folder / "result.json", json.dumps(result, indent=1))


def acting(cfg: Config) -> dict[str, str]:
    """What a row or a result says of the actor in training: nothing where the policy was sampled."""
    return {} if cfg.loop.actor == "sampled" else {ACTED_WITH: cfg.loop.actor}


def episode_row(episode: EpisodeStats, cfg: Config) -> dict[str, Any]:
    """An episode of a run as a row of `episodes.jsonl`."""
    return {
        "env_steps": episode.env_steps,
        "updates": episode.updates,
        "began": episode.began,
        "return": episode.return_,
        "length": episode.length,
        "success": episode.success,
        **acting(cfg),
        **episode.plans,
        **({"log": dict(episode.log)} if episode.log else {}),
    }
