"""`dreamer train`: the one place that builds everything and holds a run together."""

from __future__ import annotations

import contextlib
import dataclasses
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
from dreamer.config import Config, EvalConfig
from dreamer.logger import read_rows
from envs.api import EnvError, spaces_from, spaces_to
from envs.watchdog import Interrupted
from experiments import evaluate, machine, program, session, sidecar, signals, surroundings
from experiments.agreement import agree
from experiments.goal import reached, seeds
from experiments.verdict import verdict

if TYPE_CHECKING:
    from dreamer.logger import Logger
    from dreamer.loops.clocks import Progress
    from dreamer.loops.turn import Finished, Turn
    from dreamer.player import Player
    from experiments.program import Program


LONG = 1.0
"""Seconds of an evaluation or report between turns from which on the run is saved before the next one."""


class TrainingStopped(Exception):
    """A run ended before its time; the message says why and what is safe."""


def train(
    cfg: Config,
    folder: Path,
    *,
    json: bool = False,
    force: tuple[str, ...] = (),
    fresh: bool = False,
    without_replay: bool = False,
) -> int:
    """Train, or go on training, in a run folder; the exit code.

    What is refused is refused before anything is written.

    Args:
      force: fields in which the run may differ from what it was.
      fresh: begin anew; what is in the folder is kept beside it.
      without_replay: go on with the learner alone, and fill the replay anew.

    Raises:
      ConfigError: the folder holds a run of another configuration or one that cannot go on, somebody trains
        in it, or the task cannot be trained that way.
      TrainingStopped: the environment failed or a loss became NaN; what was saved is safe.
    """
    machine.prepare()
    cfg = dataclasses.replace(cfg, task=envs.canonical(cfg.task))
    with signals.gentle_signals(signals.stop_at_once()) as stop:
        result, go_on = None, f"dreamer train --run {folder}"
        stop.last_words = f"stopped in the middle of a computation; go on from what was saved with: {go_on}"
        with contextlib.suppress(Interrupted):
            result = _train(cfg, folder, stop, force, fresh=fresh, without_replay=without_replay)
    if stop:
        assert stop.signal is not None
        print(f"Stopped and saved; go on with: {go_on}", file=sys.stderr)
        if json:
            print(jsonlib.dumps({"run": str(folder), "stopped_by": signal.Signals(stop.signal).name}))
        return 128 + stop.signal
    if json:
        print(jsonlib.dumps(result))
    return 0


def _train(
    cfg: Config,
    folder: Path,
    stop: signals.Stop,
    force: tuple[str, ...],
    *,
    fresh: bool,
    without_replay: bool,
) -> dict[str, Any] | None:
    """The result of a run; None where it was asked to stop."""
    build = Run
    if not cfg.population.is_one:
        from experiments.population import PopulationRun, members

        members(cfg)  # a value that cannot be is told before there is a folder
        build = PopulationRun
    with _claimed(folder, cfg, force, fresh) as resume, program.opened(cfg) as opened:
        if fresh:
            session.set_aside(folder)
        run = build(cfg, folder, opened, resume, without_replay=without_replay)
        surroundings.notice(folder, cfg)
        surroundings.record(folder, cfg)
        return run.train(stop)


@contextlib.contextmanager
def _claimed(folder: Path, cfg: Config, force: tuple[str, ...], fresh: bool) -> Iterator[bool]:
    """Within it the folder is this process's; gives whether it holds a run to go on with."""
    session.check_place(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with session.claimed(folder):
            check = session.check_fresh if fresh else session.check_folder
            yield check(folder, cfg, force)
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


class Run:
    """Everything of one run, built; `train` goes on until its steps are done or somebody asks to stop.

    Args:
      program: what is compiled; runs of one structure may share it.
      resume: whether the folder has held this run before.
      without_replay: go on with the learner alone (tasks of the host).
      console: where progress is shown; standard error by default.
      cpu_clock: CPU seconds spent on this run.
    """

    def __init__(
        self,
        cfg: Config,
        folder: Path,
        program: Program,
        resume: bool,
        console: Any = None,
        cpu_clock: Callable[[], float] = time.process_time,
        without_replay: bool = False,
    ):
        from dreamer.checkpoint import CheckpointStore
        from dreamer.logger import Logger
        from dreamer.loops.clocks import Progress

        self.cfg, self.folder, self.program = cfg, folder, program
        self.store = CheckpointStore(
            folder / "checkpoints",
            cfg.checkpoint.keep,
            self._notice,
            owner=True,
            written=machine.release_memory,
        )
        self._without_replay = without_replay
        self.notices: list[str] = []
        self.logger: Logger | None = None
        resume = resume and bool(self.store.steps())
        progress = self._stood() if resume else Progress()
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
            console=console,
        )
        session.write_config(folder, cfg)  # nothing can be refused any more
        if dropped := self.logger.rewind(progress.env_steps):
            since = f"after the checkpoint at {progress.env_steps:,} steps" if resume else "before any"
            self.notices.append(f"{dropped:,} rows that were logged {since} are dropped and come again")
        for text in self.notices:
            self.logger.notice(text)
        if resume:
            self._notice(f"resuming {folder} at {progress.env_steps:,} environment steps")
        else:
            self._introduce()
        self.solved = self._solved_before() if resume else {}
        """{member: how far it was when it reached `until`}; a run of one agent is member 0."""
        rows = read_rows(folder / "episodes.jsonl") if resume else []
        self._tells_success = any(row.get("success") is not None for row in rows)
        self._is_beyond = False
        """Whether a return was larger than any number that can be predicted."""
        self.saved_at = progress.env_steps if resume else -1
        self._is_first_due = not resume
        self.stop = signals.Stop()
        """Whether somebody wants the run to end."""
        self._aside_seconds = math.inf
        self._cpu_clock, self._cpu_before = cpu_clock, progress.cpu_seconds
        self._begin()

    def _stood(self) -> Progress:
        """How far the stored run is.

        Raises:
          ConfigError: the task has other spaces than it was trained with.
        """
        from dreamer.loops.clocks import Progress

        meta = self.store.meta()
        trained = {"observation": spaces_from(meta["obs_space"]), "action": spaces_from(meta["act_space"])}
        agree(str(self.folder), self.cfg.task, trained, self.program.env)
        return Progress(**meta["progress"])

    def _host_loop(self, progress: Progress, resume: bool) -> Any:
        import jax

        from dreamer.hyper import Hyper
        from dreamer.loops.clocks import count_anew
        from dreamer.loops.host import HostLoop
        from dreamer.replay.host import HostReplay

        cfg, agent = self.cfg, self.program.agent
        replay = HostReplay(*self.program.replay_shape(), online=cfg.replay.online)
        if resume:
            like = jax.eval_shape(agent.init, jax.random.key(0))
            step, state, meta = self._load(like)
            progress = dataclasses.replace(progress, **meta["progress"])
            if self._without_replay:
                self._notice(f"going on without the replay of step {step:,}: it is filled anew")
                count_anew(progress)
            else:
                replay.load(self.store.replay_folder, self.store.replay_files(step), meta["replay"])
            if _ratio(meta["config"]) != _ratio(schema.to_dict(cfg)):
                count_anew(progress)
            self.program.env.episodes[:] = meta["episodes"]
        else:
            state = jax.jit(agent.init)(jax.random.key(cfg.seed))
        hyper = Hyper.of(cfg.agent)
        return HostLoop(agent, self.program.env, replay, cfg.loop, hyper, state, progress, cfg.seed)

    def _fused_loop(self, progress: Progress, resume: bool) -> Any:
        from dreamer.hyper import Hyper
        from dreamer.loops.fused import FusedLoop

        self._check_replay_kept()
        cfg, programs = self.cfg, self.program.alone(self._capacity(resume))
        init = programs.fused.init
        state, progress = self._restored(init, cfg.seed, progress) if resume else (None, progress)
        return FusedLoop(programs, Hyper.of(cfg.agent), cfg.seed, cfg.steps, progress, state, self._pauses)

    def _check_replay_kept(self) -> None:
        """Raises a ConfigError if it was to go without the replay, which here is part of the checkpoint."""
        if self._without_replay:
            raise schema.ConfigError(
                f"--without-replay is for tasks of the host, but {self.cfg.task} is compiled in: its replay "
                "is part of the checkpoint"
            )

    def _load(self, like: Any) -> tuple[int, Any, dict[str, Any]]:
        """The newest checkpoint that is whole.

        Raises:
          ConfigError: none is; says what can be done.
        """
        from dreamer.checkpoint import NoCheckpoint

        try:
            return self.store.load(like, replay=not self._without_replay)
        except NoCheckpoint as error:
            raise schema.ConfigError(session.no_way_on(self.folder, f"cannot go on: {error}")) from None

    @property
    def _pauses(self) -> int:
        """Environment steps between two checks of `until`, 0 where there are none."""
        return self.cfg.eval.until_every if self.cfg.until else 0

    def _capacity(self, resume: bool) -> int:
        """Of the replay of the device where it is stored, as a ring does not grow; else 0."""
        return self.store.meta()["capacity"] if resume else 0

    def _restored(self, init: Any, seed: Any, progress: Progress) -> tuple[Any, Progress]:
        """State and progress of the newest checkpoint that is whole."""
        import jax

        from dreamer.loops.fused import FusedState

        like = jax.eval_shape(init, seed)
        tree = {**like.learner._asdict(), "loop": like.acting}
        _, found, meta = self._load(tree)
        acting = found.pop("loop")
        return FusedState(type(like.learner)(**found), acting), dataclasses.replace(
            progress, **meta["progress"]
        )

    def _introduce(self) -> None:
        self._notice(
            f"{self.cfg.task}: {self._size()}; the first update compiles the program, which takes a while"
        )
        for text in self.program.notices:
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

    def train(self, stop: signals.Stop) -> dict[str, Any] | None:
        """Go on until the steps are done (then evaluate) or until asked to stop; saves in both cases.

        Raises:
          Interrupted: asked to stop after everything was saved.
        """
        self.stop = stop
        with self.opened(), stop.held(), self.guarded():
            with contextlib.suppress(Interrupted):
                self._train(stop)
            self.end()
            if stop:
                return None
            with stop.released():
                return self.finish()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Within it the run can be logged."""
        assert self.logger is not None
        with self.logger:
            yield

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Around training: what goes wrong in it ends the run with what is safe.

        Raises:
          TrainingStopped: a loss is not finite, the environment failed, or a row cannot be logged.
        """
        from dreamer.logger import LoggerError
        from dreamer.loops.turn import Diverged

        try:
            yield
        except Diverged as error:
            self._wait()
            last = self.store.steps()
            kept = f"the checkpoint at {last[-1]:,} steps is good" if last else "nothing was saved yet"
            raise TrainingStopped(
                f"{error}; {kept}. A lower agent.optim.lr or larger agent.optim.warmup often helps."
            ) from None
        except LoggerError as error:
            self.save(wait=True)
            at = f"saved at {self.loop.progress.env_steps:,} steps in {self.folder}"
            raise TrainingStopped(f"{error} ({at}; the same command goes on)") from None
        except EnvError as error:
            self.save(wait=True)
            raise TrainingStopped(
                f"{error} (saved at {self.loop.progress.env_steps:,} steps in {self.folder})"
            ) from None

    @property
    def done(self) -> bool:
        """Whether all steps are taken, or `until` is reached."""
        return self.is_solved or self.loop.progress.env_steps >= self.cfg.steps

    @property
    def is_solved(self) -> bool:
        """Whether `until` is reached."""
        return bool(self.solved)

    def _solved_before(self) -> dict[int, dict[str, Any]]:
        """Who had reached `until` at the checkpoint, if it said the same then and was checked as now."""
        stored = self.store.meta().get("solved", {})
        asked = self.cfg.until, self.cfg.eval.until_episodes
        same = (stored.get("until"), stored.get("episodes", EvalConfig.until_episodes)) == asked
        return {int(member): counts for member, counts in stored["members"].items()} if same else {}

    def _train(self, stop: signals.Stop) -> None:
        if self.done or stop:
            return
        for turn in self.loop.turns():
            self.take(turn)
            if stop or self.done:
                break
            self.between()
            if self.done:
                break
        self._pending += self.loop.settle()

    def _begin(self) -> None:
        """Set the clocks of what happens between turns."""
        from dreamer.loops.clocks import Every

        cfg, begun = self.cfg, self.loop.progress.env_steps
        self._pending: list[dict[str, float]] = []
        self._log_due, self._save_due = Every(cfg.log.every), Every(cfg.checkpoint.every)
        self._next_eval, self._next_report, self._next_check = (
            next_multiple(begun, unit) for unit in (cfg.eval.every, cfg.report.every, self._pauses)
        )

    def _save_first(self) -> None:
        """Save before the first row about an update: a log of updates means that there was a checkpoint.

        Raises:
          TrainingStopped: it cannot be written; the same command begins anew.
        """
        if self._is_first_due and self.loop.progress.updates:
            self._is_first_due = False
            self.save(wait=True)

    def take(self, turn: Turn) -> None:
        """Log what happened in a turn of the loop."""
        assert self.logger is not None
        self._save_first()
        progress = self.loop.progress
        self.logger.tick(progress.env_steps, progress.updates, turn.running_since)
        for episode in turn.episodes:
            self.logger.episode(episode_row(episode))
            self._heed(episode)
        self._pending += turn.metrics
        if self._pending and self._log_due():
            self._log()

    def _heed(self, episode: Finished) -> None:
        """Note what an episode says of its task: whether it tells success, and once if it pays too much."""
        from dreamer.ops.dists import REACH

        self._tells_success |= episode.success is not None
        most = math.expm1(REACH)
        if abs(episode.return_) > most and not self._is_beyond:
            self._is_beyond = True
            self._notice(
                f"an episode had the return {episode.return_:.4g}, but rewards and values are learned only "
                f"up to {most:,.0f}: what lies beyond counts as that, so divide the rewards (env.wrappers)"
            )

    def _log(self) -> None:
        """A row of metrics of all updates since the last one."""
        assert self.logger is not None
        rows, self._pending = self._pending, []
        if rows:
            self.logger.metrics(means(rows))

    def end(self) -> None:
        """Log what is left, and save."""
        self._log()
        self.save(wait=True)

    def between(self) -> None:
        """Check, evaluate, report and save if one of them is due.

        Raises:
          Interrupted: somebody asked to stop meanwhile.
        """
        now, due = self.loop.progress.env_steps, (self._next_check, self._next_eval, self._next_report)
        if now >= min(due):
            with self._aside():
                self._look_at(now)
        if self._save_due():
            self.save()

    def _look_at(self, now: int) -> None:
        """Check, evaluate and report if it is due."""
        cfg = self.cfg
        if now >= self._next_check:
            self._next_check = next_multiple(now, cfg.eval.until_every)
            if self.loop.progress.updates and self._can_be_reached():
                self._check(now // cfg.eval.until_every)
        if now >= self._next_eval:
            self._next_eval = next_multiple(now, cfg.eval.every)
            if cut := evaluate.cut_short(self._evaluate(cfg.eval.during)):
                self._notice(f"evaluation at {now:,} steps: {cfg.eval.during} episodes, {cut}")
        if now >= self._next_report:
            self._next_report = next_multiple(now, cfg.report.every)
            self._try_report()

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Around what changes nothing of the run, which a signal may therefore interrupt wherever it is.

        Only a computation cannot be interrupted, for which the process is ended, so what may take long begins
        with a save.
        """
        if self._aside_seconds > LONG:
            self.save()
            self._wait()
        began = time.monotonic()
        with self.stop.released():
            yield
        self._aside_seconds = time.monotonic() - began

    def become(self, leader: Run, cfg: Config) -> None:
        """Go on from where another run of the same program is, with other numbers of `Hyper`; saved."""
        from dreamer.hyper import Hyper

        self._log()
        self.cfg, self.saved_at = cfg, -1
        self.loop.become(leader.loop, Hyper.of(cfg.agent))
        self._begin()
        session.write_config(self.folder, cfg)
        self._notice(f"going on from {leader.folder} at {self.loop.progress.env_steps:,} environment steps")
        self.save()

    def save(self, wait: bool = False) -> None:
        """Checkpoint learner, counters and replay; one that fails is reported and the run goes on."""
        with self.stop.unhurried():
            self._save(wait)

    def _save(self, wait: bool) -> None:
        from dreamer.checkpoint import CheckpointError

        assert self.logger is not None
        self.loop.verify()
        progress = self.loop.progress
        progress.seconds, progress.cpu_seconds = self.logger.seconds, self._cpu_seconds()
        meta = {
            "config": schema.to_dict(self.cfg),
            "obs_space": spaces_to(self.program.env.obs_space),
            "act_space": spaces_to(self.program.env.act_space),
            "progress": dataclasses.asdict(progress),
            "solved": {
                "until": self.cfg.until,
                "episodes": self.cfg.eval.until_episodes,
                "members": self.solved,
            },
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
                raise TrainingStopped(f"{error}; the same command goes on") from None
            self._notice(str(error))

    def _cpu_seconds(self) -> float:
        """Of this session and of those the run was resumed from."""
        return self._cpu_before + self._cpu_clock()

    def _wait(self) -> None:
        from dreamer.checkpoint import CheckpointError

        try:
            self.store.wait()
        except CheckpointError as error:
            self._notice(str(error))

    @property
    def step_limit(self) -> int:
        """Steps after which its evaluations cut an episode short."""
        assert self.logger is not None
        return evaluate.step_limit(self.cfg.eval.max_steps, self.logger.longest_episode)

    def _check(self, number: int) -> None:
        """See whether the agent has reached `until`; the run is done if it has."""
        assert self.logger is not None
        self._judge(number, 0, self.program.player(self.loop.state.params, self.loop.hyper), self.logger)

    def _can_be_reached(self) -> bool:
        """Whether a check can find `until` reached; not success where no episode has said what that is."""
        goal = self.cfg.goal
        return goal is not None and (goal.metric != "success" or self._tells_success)

    def _judge(self, number: int, member: int, player: Player, logger: Logger) -> None:
        goal, episodes = self.cfg.goal, self.cfg.eval.until_episodes
        assert goal is not None and self.logger is not None
        world = self.program.evaluation_world(episodes)
        is_reached, mean = reached(goal, player, world, seeds(number, episodes), self.step_limit)
        logger.metrics({f"until/{goal.metric}": mean})
        if is_reached:
            progress = self.loop.progress
            counts = {"env_steps": progress.env_steps, "updates": progress.updates}
            self.solved[member] = {**counts, "seconds": round(self.logger.seconds, 1)}
            self.saved_at = -1  # a checkpoint of these steps, made before the check, does not know

    def _evaluate(self, episodes: int, actor: str = "greedy") -> dict[str, Any]:
        """Play with the most likely or with sampled actions, and log what came of it."""
        assert self.logger is not None
        player = self.program.player(self.loop.state.params, self.loop.hyper, actor=actor)
        world = self.program.evaluation_world(episodes)
        result = evaluate.play(player, world, episodes, self.cfg.eval.seed, self.step_limit, self._notice)
        self.logger.metrics(evaluate.metrics(result, actor))
        return result

    def finish(self) -> dict[str, Any]:
        """Evaluate, write the result and the report; the result."""
        assert self.logger is not None
        cfg, progress = self.cfg, self.loop.progress
        result: dict[str, Any] = {
            "run": str(self.folder),
            "task": cfg.task,
            "env_steps": progress.env_steps,
            "updates": progress.updates,
        }
        told, evaluation = "not evaluated", {}
        if cfg.until:
            result |= {"until": cfg.until, "solved": self.is_solved, "solved_at": self.solved.get(0)}
        if cfg.eval.episodes:
            evaluation = self._evaluate(cfg.eval.episodes)
            sampled = self._evaluate(cfg.eval.episodes, "sampled")
            told = evaluate.sentence(evaluation) + evaluate.beside(evaluation, sampled)
            result |= evaluation | {"sampled": sampled}
        result["seconds"] = round(self.logger.seconds, 1)
        result["cpu_seconds"] = round(self._cpu_seconds(), 1)
        self._write_result(result)
        self._notice(
            f"{cfg.task} after {progress.env_steps:,} steps and {self.logger.seconds:,.0f} s: {told}"
        )
        if text := self._verdict(evaluation):
            self._notice(text)
        if note := envs.note(cfg.task):
            self._notice(note)
        self._notice(f"next: dreamer eval {self._playable()} --episodes 1000 --seed 1000")
        if cfg.report.episodes:
            self._notice(f"writing the report of {cfg.report.episodes} episodes")
            if page := self._try_report():
                result["report"] = str(page)
                self._notice(f"{page} has the report: open it in a browser")
        return result

    def _verdict(self, evaluation: dict[str, Any]) -> str:
        """Whether it is solved or learned nothing, and what to try then."""
        episodes = read_rows(self.folder / "episodes.jsonl", "env_steps", "return")
        return verdict(
            self.cfg,
            run=str(self.folder),
            progress=self.loop.progress,
            solved=self.is_solved,
            reachable=self._can_be_reached(),
            evaluation=evaluation,
            episodes=episodes,
        )

    def _write_result(self, result: dict[str, Any]) -> None:
        sidecar.keep_damaged(self.folder / "result.json")
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
        from experiments.report.report import told, write_run

        assert self.logger is not None
        progress = self.loop.progress
        counters = {"env_steps": progress.env_steps, "updates": progress.updates}
        params, hyper = self.loop.state.params, self.loop.hyper
        player = self.program.player(params, hyper, actor="sampled", config=self.cfg, counters=counters)
        found = self.program.examiner.examine(player)
        numbers = {f"report/{k}": v for k, v in found.card.numbers.items() if v is not None}
        self.logger.metrics(numbers)
        return write_run(told(self.folder), found, player)

    def _playable(self) -> Path:
        """A folder whose agent can be played with."""
        return self.folder


def episode_row(episode: Finished) -> dict[str, Any]:
    """An episode as `episodes.jsonl` has it."""
    return {
        "env_steps": episode.env_steps,
        "began": episode.began,
        "return": episode.return_,
        "length": episode.length,
        "success": episode.success,
    }


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric over rows that all have the same."""
    return {k: sum(row[k] for row in rows) / len(rows) for k in rows[0]}


def _ratio(cfg: dict[str, Any]) -> list[Any]:
    """What decides how many updates are due for a step, of a configuration in dictionaries."""
    return [cfg["loop"].get(name) for name in ("train_ratio", "batch_size", "batch_length")]


def next_multiple(value: int, unit: int) -> float:
    """The first multiple of `unit` above `value`; never, if `unit` is 0."""
    return (value // unit + 1) * unit if unit else math.inf
