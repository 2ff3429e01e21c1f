"""`dreamer train`: the one place that builds everything and holds a run together."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import envs
from dreamer import schema
from dreamer.config import Config
from envs.api import EnvError
from experiments import evaluate, machine, session


class TrainingStopped(Exception):
    """A run ended before its time; the message says why and what is safe."""


def train(cfg: Config, folder: Path, *, json: bool = False, force: tuple[str, ...] = ()) -> int:
    """Train, or go on training, in a run folder; the exit code.

    Raises:
      ConfigError: the folder holds a run of another configuration.
      TrainingStopped: the environment failed or a loss became NaN; what was saved is safe.
    """
    machine.prepare()
    env = envs.make(cfg.task, cfg.loop.num_envs, seed=cfg.seed, obs=cfg.env.obs, parallel=cfg.env.parallel)
    cfg = dataclasses.replace(cfg, task=env.task)
    try:
        resume = session.open_folder(folder, cfg, force)
        session.record_surroundings(folder)
        with session.gentle_signals() as stop:
            run = Run(cfg, folder, env, resume)
            result = run.train(stop)
    finally:
        env.close()
    if stop:
        assert stop.signal is not None
        print(f"Stopped and saved; go on with: dreamer train --run {folder}", file=sys.stderr)
        if json:
            print(jsonlib.dumps({"run": str(folder), "stopped_by": signal.Signals(stop.signal).name}))
        return 128 + stop.signal
    if json:
        print(jsonlib.dumps(result))
    return 0


class Run:
    """Everything of one run, built; `train` goes on until its steps are done or somebody asks to stop."""

    def __init__(self, cfg: Config, folder: Path, env: Any, resume: bool):
        import jax

        from dreamer.agent import Agent
        from dreamer.checkpoint import CheckpointStore
        from dreamer.hyper import Hyper
        from dreamer.logger import Logger
        from dreamer.loops.clocks import Progress
        from dreamer.loops.host import HostLoop
        from dreamer.replay.host import HostReplay

        self.cfg, self.folder, self.env = cfg, folder, env
        self.agent = Agent(env.obs_space, env.act_space, cfg.agent)
        self.hyper = Hyper.of(cfg.agent)
        latent = (cfg.agent.rssm.deter, cfg.agent.rssm.stoch)
        capacity = min(cfg.replay.capacity, _round_up(2 * cfg.steps, cfg.loop.num_envs))
        self.replay = HostReplay(
            capacity, cfg.loop.num_envs, env.obs_space, env.act_space, latent, cfg.replay.online
        )
        self.store = CheckpointStore(folder / "checkpoints", cfg.checkpoint.keep, self._notice)
        self.notices: list[str] = []
        self.logger: Logger | None = None
        state, progress = self._restore(jax) if resume and self.store.steps() else (None, Progress())
        self.logger = Logger(
            folder,
            total_steps=cfg.steps,
            title=f"{cfg.task}  {folder}",
            seconds=progress.seconds,
            tensorboard=cfg.log.tensorboard,
            wandb=cfg.log.wandb_project if cfg.log.wandb else None,
            every=cfg.log.every,
        )
        self.logger.rewind(progress.env_steps)
        for text in self.notices:
            self.logger.notice(text)
        if state is None:
            state = jax.jit(self.agent.init)(jax.random.key(cfg.seed))
            self._introduce(sum(x.size for x in jax.tree.leaves(state.params)))
        else:
            self._notice(f"resuming {folder} at {progress.env_steps:,} environment steps")
        self.loop = HostLoop(self.agent, env, self.replay, cfg.loop, self.hyper, state, progress, cfg.seed)
        self.saved_at = progress.env_steps if resume else -1
        self._cpu_before = progress.cpu_seconds

    def _restore(self, jax: Any) -> tuple[Any, Any]:
        from dreamer.loops.clocks import Progress

        like = jax.eval_shape(self.agent.init, jax.random.key(0))
        step, state, meta = self.store.load(like)
        progress = Progress(**meta["progress"])
        self.replay.load(self.store.replay_folder, self.store.replay_files(step), meta["replay"])
        self.env.episodes[:] = meta["episodes"]
        return state, progress

    def _introduce(self, params: int) -> None:
        memory = self.replay.nbytes / 2**20
        self._notice(
            f"{self.cfg.task}: {params:,} parameters, {self.cfg.loop.num_envs} environments, replay of at "
            f"most {self.replay.capacity_per_env * self.cfg.loop.num_envs:,} steps ({memory:,.0f} MB); "
            "the first update compiles the program, which takes a while"
        )
        for text in self.agent.notices:
            self._notice(text)

    def _notice(self, text: str) -> None:
        if self.logger is None:
            self.notices.append(text)
        else:
            self.logger.notice(text)

    def train(self, stop: session.Stop) -> dict[str, Any] | None:
        """Go on until the steps are done (then evaluate) or until asked to stop; saves in both cases."""
        from dreamer.loops.host import Diverged

        assert self.logger is not None
        with self.logger:
            try:
                self._train(stop)
                self.save(wait=True)
                return None if stop else self._finish()
            except Diverged as error:
                self._wait()
                last = self.store.steps()
                kept = f"the checkpoint at {last[-1]:,} steps is good" if last else "nothing was saved yet"
                raise TrainingStopped(
                    f"{error}; {kept}. A lower agent.optim.lr or larger agent.optim.warmup often helps."
                ) from None
            except EnvError as error:
                self.save(wait=True)
                raise TrainingStopped(
                    f"{error} (saved at {self.loop.progress.env_steps:,} steps in {self.folder})"
                ) from None

    def _train(self, stop: session.Stop) -> None:
        from dreamer.loops.clocks import Every

        cfg, progress, logger = self.cfg, self.loop.progress, self.logger
        assert logger is not None
        log_due, save_due = Every(cfg.log.every), Every(cfg.checkpoint.every)
        pending: list[dict[str, float]] = []
        next_eval = _next_multiple(progress.env_steps, cfg.eval.every)
        if progress.env_steps >= cfg.steps:
            return
        for turn in self.loop.turns():
            logger.tick(progress.env_steps, progress.updates)
            pending += turn.metrics
            for episode in turn.episodes:
                logger.episode(
                    {
                        "env_steps": episode.env_steps,
                        "return": episode.return_,
                        "length": episode.length,
                        "success": episode.success,
                    }
                )
            if pending and log_due():
                logger.metrics(_means(pending))
                pending = []
            if stop or progress.env_steps >= cfg.steps:
                break
            if progress.env_steps >= next_eval:
                next_eval = _next_multiple(progress.env_steps, cfg.eval.every)
                self._evaluate(cfg.eval.during)
            if save_due():
                self.save()
        pending += self.loop.settle()
        if pending:
            logger.metrics(_means(pending))

    def save(self, wait: bool = False) -> None:
        """Checkpoint learner, counters and replay; one that fails is reported and the run goes on."""
        from dreamer.checkpoint import CheckpointError
        from dreamer.player import spaces_to

        assert self.logger is not None
        self.loop.verify()
        progress = self.loop.progress
        progress.seconds, progress.cpu_seconds = self.logger.seconds, self._cpu_seconds()
        meta = {
            "config": schema.to_dict(self.cfg),
            "obs_space": spaces_to(self.env.obs_space),
            "act_space": spaces_to(self.env.act_space),
            "progress": dataclasses.asdict(progress),
            "replay": self.replay.counters,
            "episodes": self.env.episodes.tolist(),
        }
        try:
            if progress.env_steps != self.saved_at:
                self.store.save(progress.env_steps, self.loop.state, meta, self.replay.save)
                self.saved_at = progress.env_steps
                self.logger.checkpoint_saved()
            if wait:
                self.store.wait()
        except CheckpointError as error:
            self.saved_at = -1
            if wait:
                raise TrainingStopped(f"The final checkpoint could not be written: {error}") from None
            self._notice(str(error))

    def _cpu_seconds(self) -> float:
        """Of this process and of those the run was resumed from."""
        return self._cpu_before + time.process_time()

    def _wait(self) -> None:
        from dreamer.checkpoint import CheckpointError

        try:
            self.store.wait()
        except CheckpointError as error:
            self._notice(str(error))

    def _evaluate(self, episodes: int) -> dict[str, Any]:
        from dreamer.player import Player

        assert self.logger is not None
        cfg = self.cfg
        player = Player(self.agent, self.loop.state.params, self.hyper)
        num_envs = min(episodes, max(cfg.loop.num_envs, 16))
        env = envs.make(cfg.task, num_envs, obs=cfg.env.obs, parallel=cfg.env.parallel)
        try:
            result = evaluate.play(player, env, episodes, cfg.eval.seed)
        finally:
            env.close()
        flat = {k: v for k, v in result.items() if isinstance(v, float)}
        self.logger.metrics({f"eval/{k}": v for k, v in flat.items()})
        return result

    def _finish(self) -> dict[str, Any]:
        assert self.logger is not None
        cfg, progress = self.cfg, self.loop.progress
        result: dict[str, Any] = {
            "run": str(self.folder),
            "task": cfg.task,
            "env_steps": progress.env_steps,
            "updates": progress.updates,
        }
        told = ""
        if cfg.eval.episodes:
            evaluation = self._evaluate(cfg.eval.episodes)
            told = evaluate.sentence(evaluation)
            result |= evaluation
        result["seconds"] = round(self.logger.seconds, 1)
        result["cpu_seconds"] = round(self._cpu_seconds(), 1)
        session.write_atomically(self.folder / "result.json", jsonlib.dumps(result, indent=1))
        self._notice(
            f"{cfg.task} after {progress.env_steps:,} steps and {self.logger.seconds:,.0f} s: "
            f"{told or 'not evaluated'}"
        )
        self._notice(f"next: dreamer eval {self.folder} --episodes 1000 --seed 1000")
        return result


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {k: sum(row[k] for row in rows) / len(rows) for k in rows[0]}


def _next_multiple(value: int, unit: int) -> float:
    return (value // unit + 1) * unit if unit else math.inf


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
