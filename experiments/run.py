"""`dreamer train`: the one place that builds everything and holds a run together."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json as jsonlib
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import envs
from dreamer import schema
from dreamer.config import Config
from envs.api import EnvError, spaces_to
from experiments import evaluate, machine, session

if TYPE_CHECKING:
    from dreamer.loops.clocks import Progress
    from dreamer.loops.turn import Finished
    from experiments.report.report import Examiner


class TrainingStopped(Exception):
    """A run ended before its time; the message says why and what is safe."""


def train(cfg: Config, folder: Path, *, json: bool = False, force: tuple[str, ...] = ()) -> int:
    """Train, or go on training, in a run folder; the exit code.

    Raises:
      ConfigError: the folder holds a run of another configuration, or the task cannot be trained that way.
      TrainingStopped: the environment failed or a loss became NaN; what was saved is safe.
    """
    machine.prepare()
    cfg = dataclasses.replace(cfg, task=envs.canonical(cfg.task))
    with _world(cfg) as env:
        build = Run
        if not cfg.population.is_one:
            from experiments.population import PopulationRun, members

            members(cfg)  # a value that cannot be is told before there is a folder
            build = PopulationRun
        resume = session.open_folder(folder, cfg, force)
        session.record_surroundings(folder)
        with session.gentle_signals() as stop:
            result = build(cfg, folder, env, resume).train(stop)
    if stop:
        assert stop.signal is not None
        print(f"Stopped and saved; go on with: dreamer train --run {folder}", file=sys.stderr)
        if json:
            print(jsonlib.dumps({"run": str(folder), "stopped_by": signal.Signals(stop.signal).name}))
        return 128 + stop.signal
    if json:
        print(jsonlib.dumps(result))
    return 0


@contextlib.contextmanager
def _world(cfg: Config) -> Iterator[Any]:
    """The task: copies of it on the host, or its pure functions for the loop of the device."""
    if envs.is_on_device(cfg.task):
        if cfg.env.parallel:
            raise schema.ConfigError(f"env.parallel is for tasks of the host, but {cfg.task} is compiled in")
        yield envs.make_jax(cfg.task, obs=cfg.env.obs, levels=cfg.env.levels)
        return
    if not cfg.population.is_one:
        raise schema.ConfigError(
            f"a population is one program, but {cfg.task} runs on the host: train its members one after the "
            "other, or take a task of the device, such as grid:DoorKey-5x5"
        )
    how = {"obs": cfg.env.obs, "parallel": cfg.env.parallel, "levels": cfg.env.levels}
    env = envs.make(cfg.task, cfg.loop.num_envs, seed=cfg.seed, **how)
    try:
        yield env
    finally:
        env.close()


class Run:
    """Everything of one run, built; `train` goes on until its steps are done or somebody asks to stop."""

    def __init__(self, cfg: Config, folder: Path, env: Any, resume: bool):
        from dreamer.agent import Agent
        from dreamer.checkpoint import CheckpointStore
        from dreamer.logger import Logger
        from dreamer.loops.clocks import Progress

        self.cfg, self.folder, self.env = cfg, folder, env
        self._kept = contextlib.ExitStack()
        self.agent = Agent(env.obs_space, env.act_space, cfg.agent)
        self.store = CheckpointStore(folder / "checkpoints", cfg.checkpoint.keep, self._notice)
        self.notices: list[str] = []
        self.logger: Logger | None = None
        resume = resume and bool(self.store.steps())
        progress = Progress(**self.store.meta()["progress"]) if resume else Progress()
        build = self._fused_loop if envs.is_on_device(cfg.task) else self._host_loop
        self.loop = build(progress, resume)
        progress = self.loop.progress
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
        if resume:
            self._notice(f"resuming {folder} at {progress.env_steps:,} environment steps")
        else:
            self._introduce()
        self.saved_at = progress.env_steps if resume else -1
        self._cpu_before = progress.cpu_seconds

    def _replay_shape(self, capacity: int = 0) -> tuple[Any, ...]:
        """Capacity (by default what the run can fill), environments, spaces and latent of the replay."""
        cfg = self.cfg
        capacity = capacity or min(cfg.replay.capacity, _round_up(2 * cfg.steps, cfg.loop.num_envs))
        latent = (cfg.agent.rssm.deter, cfg.agent.rssm.stoch)
        return capacity, cfg.loop.num_envs, self.env.obs_space, self.env.act_space, latent

    def _host_loop(self, progress: Progress, resume: bool) -> Any:
        import jax

        from dreamer.hyper import Hyper
        from dreamer.loops.host import HostLoop
        from dreamer.replay.host import HostReplay

        cfg = self.cfg
        replay = HostReplay(*self._replay_shape(), online=cfg.replay.online)
        if resume:
            like = jax.eval_shape(self.agent.init, jax.random.key(0))
            step, state, meta = self.store.load(like)
            progress = dataclasses.replace(progress, **meta["progress"])
            replay.load(self.store.replay_folder, self.store.replay_files(step), meta["replay"])
            self.env.episodes[:] = meta["episodes"]
        else:
            state = jax.jit(self.agent.init)(jax.random.key(cfg.seed))
        hyper = Hyper.of(cfg.agent)
        return HostLoop(self.agent, self.env, replay, cfg.loop, hyper, state, progress, cfg.seed)

    def _fused_loop(self, progress: Progress, resume: bool) -> Any:
        from dreamer.hyper import Hyper
        from dreamer.loops.fused import FusedLoop
        from dreamer.loops.population import Data, fitting

        cfg = self.cfg
        shares = math.gcd(cfg.loop.num_envs, cfg.loop.batch_size)
        devices = fitting(self._devices(), shares)
        fused = self._fused(1, len(devices), resume, Data(devices) if len(devices) > 1 else None)
        state, progress = self._restored(fused.init, cfg.seed, progress) if resume else (None, progress)
        return FusedLoop(fused, Hyper.of(cfg.agent), cfg.seed, cfg.steps, progress, state)

    def _fused(self, members: int, devices: int, resume: bool, data: Any = None) -> Any:
        """The functions of the loop of the device, if all its replays fit."""
        from dreamer.loops.fused import Fused
        from dreamer.replay.device import DeviceReplay, available_memory
        from envs.wrappers import Batched

        cfg = self.cfg
        available = available_memory()
        share = None if available is None else available * devices // members
        capacity = self.store.meta()["capacity"] if resume else 0  # a ring does not grow
        replay = DeviceReplay(*self._replay_shape(capacity), online=cfg.replay.online, available=share)
        batched = Batched(self.env, cfg.loop.num_envs)
        return Fused(self.agent, batched, replay, cfg.loop, data)

    def _restored(self, init: Any, seed: Any, progress: Progress) -> tuple[Any, Progress]:
        """State and progress of the newest checkpoint that is whole."""
        import jax

        from dreamer.loops.fused import FusedState

        like = jax.eval_shape(init, seed)
        tree = {**like.learner._asdict(), "loop": like.acting}
        _, found, meta = self.store.load(tree)
        acting = found.pop("loop")
        return FusedState(type(like.learner)(**found), acting), dataclasses.replace(
            progress, **meta["progress"]
        )

    def _devices(self) -> list[Any]:
        """What the loop of the device may use: all accelerators, but of a CPU one device."""
        import jax

        wanted = self.cfg.loop.devices or (1 if jax.default_backend() == "cpu" else jax.local_device_count())
        return jax.local_devices()[:wanted]

    def _introduce(self) -> None:
        self._notice(
            f"{self.cfg.task}: {self._size()}; the first update compiles the program, which takes a while"
        )
        for text in self.agent.notices:
            self._notice(text)

    def _size(self) -> str:
        """How much there is of everything."""
        import jax

        layout = self.loop.layout
        parameters = sum(x.size for x in jax.tree.leaves(self.loop.state.params))
        return (
            f"{parameters:,} parameters, {layout.num_envs} environments, replay of at most "
            f"{layout.capacity_per_env * layout.num_envs:,} steps ({layout.nbytes / 2**20:,.0f} MB)"
        )

    def _notice(self, text: str) -> None:
        if self.logger is None:
            self.notices.append(text)
        else:
            self.logger.notice(text)

    def train(self, stop: session.Stop) -> dict[str, Any] | None:
        """Go on until the steps are done (then evaluate) or until asked to stop; saves in both cases."""
        from dreamer.loops.turn import Diverged

        assert self.logger is not None
        with self.logger, self._kept:
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
        log_due, between = Every(cfg.log.every), self._routine()
        pending: list[dict[str, float]] = []
        if progress.env_steps >= cfg.steps:
            return
        for turn in self.loop.turns():
            logger.tick(progress.env_steps, progress.updates)
            pending += turn.metrics
            for episode in turn.episodes:
                logger.episode(episode_row(episode))
            if pending and log_due():
                logger.metrics(means(pending))
                pending = []
            if stop or progress.env_steps >= cfg.steps:
                break
            between()
        pending += self.loop.settle()
        if pending:
            logger.metrics(means(pending))

    def _routine(self) -> Callable[[], None]:
        """What to call between turns: it evaluates, reports and saves whenever one of them is due."""
        from dreamer.loops.clocks import Every

        cfg, save_due = self.cfg, Every(self.cfg.checkpoint.every)
        begun = self.loop.progress.env_steps
        next_eval, next_report = (next_multiple(begun, unit) for unit in (cfg.eval.every, cfg.report.every))

        def between() -> None:
            nonlocal next_eval, next_report
            now = self.loop.progress.env_steps
            if now >= next_eval:
                next_eval = next_multiple(now, cfg.eval.every)
                self._evaluate(cfg.eval.during)
            if now >= next_report:
                next_report = next_multiple(now, cfg.report.every)
                self._try_report()
            if save_due():
                self.save()

        return between

    def save(self, wait: bool = False) -> None:
        """Checkpoint learner, counters and replay; one that fails is reported and the run goes on."""
        from dreamer.checkpoint import CheckpointError

        assert self.logger is not None
        self.loop.verify()
        progress = self.loop.progress
        progress.seconds, progress.cpu_seconds = self.logger.seconds, self._cpu_seconds()
        meta = {
            "config": schema.to_dict(self.cfg),
            "obs_space": spaces_to(self.env.obs_space),
            "act_space": spaces_to(self.env.act_space),
            "progress": dataclasses.asdict(progress),
            **self.loop.meta,
        }
        try:
            if progress.env_steps != self.saved_at:
                self.store.save(progress.env_steps, self.loop.arrays, meta, self.loop.files)
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
        player = Player(self.agent, self.loop.state.params, self.loop.hyper)
        with self._evaluation_world(episodes) as env:
            result = evaluate.play(player, env, episodes, self.cfg.eval.seed)
        flat = {k: v for k, v in result.items() if isinstance(v, float)}
        self.logger.metrics({f"eval/{k}": v for k, v in flat.items()})
        return result

    @contextlib.contextmanager
    def _evaluation_world(self, episodes: int) -> Iterator[Any]:
        cfg = self.cfg
        num_envs = min(episodes, max(cfg.loop.num_envs, 16))
        env = envs.make(cfg.task, num_envs, obs=cfg.env.obs, parallel=cfg.env.parallel)
        try:
            yield env
        finally:
            env.close()

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
        self._write_result(result)
        self._notice(
            f"{cfg.task} after {progress.env_steps:,} steps and {self.logger.seconds:,.0f} s: "
            f"{told or 'not evaluated'}"
        )
        self._notice(f"next: dreamer eval {self._playable()} --episodes 1000 --seed 1000")
        if cfg.report.episodes:
            self._notice(f"writing the report of {cfg.report.episodes} episodes")
            if page := self._try_report():
                result["report"] = str(page)
                self._notice(f"{page} has the report: open it in a browser")
        return result

    def _write_result(self, result: dict[str, Any]) -> None:
        session.write_atomically(self.folder / "result.json", jsonlib.dumps(result, indent=1))

    def _try_report(self) -> Path | None:
        """The page, or None where it cannot be made: a run is worth more than what is said about it."""
        if not self.cfg.report.episodes:
            return None
        try:
            return self._report()
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            if isinstance(error, OSError | EnvError):
                told = " ".join(str(error).split())
            else:  # a fault of the program, which whoever mends it wants to see
                self._notice(traceback.format_exc())
            self._notice(f"there is no report ({told}); try again with: dreamer report {self.folder}")
            return None

    def _report(self) -> Path:
        """Ask the world model, write the page, and put the numbers of the report card among the metrics."""
        from dreamer.player import Player
        from experiments.report.report import told, write_run

        assert self.logger is not None
        player = Player(
            self.agent,
            self.loop.state.params,
            self.loop.hyper,
            greedy=False,
            config=self.cfg,
            counters={"env_steps": self.loop.progress.env_steps, "updates": self.loop.progress.updates},
        )
        found = self._examiner.examine(player)
        numbers = {f"report/{k}": v for k, v in found.card.numbers.items() if v is not None}
        self.logger.metrics(numbers)
        return write_run(told(self.folder), found, player)

    @functools.cached_property
    def _examiner(self) -> Examiner:
        """Of all reports of this run: what the first one compiled serves the others."""
        from experiments.report.report import Examiner

        return self._kept.enter_context(Examiner(self.cfg))

    def _playable(self) -> Path:
        """A folder whose agent can be played with."""
        return self.folder


def episode_row(episode: Finished) -> dict[str, Any]:
    """An episode as `episodes.jsonl` has it."""
    return {
        "env_steps": episode.env_steps,
        "return": episode.return_,
        "length": episode.length,
        "success": episode.success,
    }


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric over rows that all have the same."""
    return {k: sum(row[k] for row in rows) / len(rows) for k in rows[0]}


def next_multiple(value: int, unit: int) -> float:
    """The first multiple of `unit` above `value`; never, if `unit` is 0."""
    return (value // unit + 1) * unit if unit else math.inf


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
