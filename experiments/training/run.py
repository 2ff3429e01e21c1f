"""`dreamer train`: the one place that builds everything of a run, and what starts and ends it."""

from __future__ import annotations

import contextlib
import dataclasses
import json as jsonlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import envs
from dreamer.config import Config
from dreamer.logger import read_rows
from dreamer.processes import current
from envs.watchdog import Interrupted
from experiments import cluster, machine, signals, surroundings
from experiments.learning_curve import acted_with
from experiments.training import loops, population, result, score, session, warm_start, workspace
from experiments.training.agents import Agents, OneAgent
from experiments.training.evaluator import Evaluator
from experiments.training.folder import RunFolder, TrainingStopped, acting
from experiments.training.follower import Follower
from experiments.training.goal import Until
from experiments.training.hooks import Hook
from experiments.training.trainer import Trainer
from experiments.training.workspace import Workspace

if TYPE_CHECKING:
    from dreamer.loops.loop import Loop

__all__ = ["TrainingStopped", "build", "train"]


def train(
    cfg: Config,
    folder: Path,
    *,
    json: bool = False,
    force: tuple[str, ...] = (),
    fresh: bool = False,
    without_replay: bool = False,
) -> int:
    """Train an agent or resume a run in a folder; the exit code.

    Errors in the configuration are raised before anything is written.

    Args:
      force: fields in which the run may differ from what it was.
      fresh: start from scratch; what is in the folder is kept beside it.
      without_replay: resume the learner alone, and refill the replay from scratch.

    Raises:
      ConfigError: the folder holds a run of another configuration, one that cannot be resumed or one that is
        being trained, or the task cannot be trained that way.
      TrainingStopped: the environment failed or a loss became NaN; what was saved is safe.
    """
    machine.prepare()
    with signals.gentle_signals(signals.stop_at_once()) as stop:
        cluster.listen(stop)
        outcome, resume = None, f"dreamer train --run {folder}"
        stop.last_words = f"stopped in the middle of a computation; resume from the last save with: {resume}"
        with contextlib.suppress(Interrupted):
            outcome = trained(cfg, folder, stop, force=force, fresh=fresh, without_replay=without_replay)
    if stop and not current().is_first:
        assert stop.signal is not None
        return 128 + stop.signal
    if stop:
        assert stop.signal is not None
        print(f"Stopped and saved; resume with: {resume}", file=sys.stderr)
        if json:
            print(jsonlib.dumps({"run": str(folder), "stopped_by": signal.Signals(stop.signal).name}))
        return 128 + stop.signal
    if json and current().is_first:
        print(jsonlib.dumps(outcome))
    return 0


def trained(
    cfg: Config,
    folder: Path,
    stop: signals.Stop,
    *,
    force: tuple[str, ...] = (),
    fresh: bool = False,
    without_replay: bool = False,
) -> dict[str, Any] | None:
    """The result of a run; None where it was asked to stop. Arguments and errors as of `train`."""
    cfg = dataclasses.replace(cfg, task=envs.canonical(cfg.task))
    population.members(cfg)  # invalid values are reported before there is a folder
    us = current()
    claimed = _claimed(folder, cfg, force, fresh) if us.is_first else contextlib.nullcontext(False)
    with claimed as resume, workspace.opened(cfg) as opened:
        if fresh and us.is_first:
            session.set_aside(folder)
        resume = us.first(resume)
        trainer = build(cfg, folder, opened, resume, without_replay=without_replay)
        if us.is_first:
            surroundings.notice(folder, cfg)
            surroundings.record(folder, cfg, trainer.folder.origin)
        return trainer.train(stop)


@contextlib.contextmanager
def _claimed(folder: Path, cfg: Config, force: tuple[str, ...], fresh: bool) -> Iterator[bool]:
    """Within it the folder belongs to this process; yields whether it holds a run to resume."""
    session.check_place(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with session.claimed(folder):
            check = session.check_fresh if fresh else session.check_folder
            yield check(folder, cfg, force)
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def build(
    cfg: Config,
    folder: Path,
    workspace: Workspace,
    resume: bool,
    *,
    console: Any = None,
    cpu_clock: Callable[[], float] = time.process_time,
    without_replay: bool = False,
) -> Trainer[Any]:
    """A run, ready to train in its folder.

    Args:
      workspace: what is compiled; runs of one structure may share it.
      resume: whether the folder has held this run before.
      console: where progress is shown; standard error by default.
      cpu_clock: CPU seconds spent on this run.
      without_replay: resume the learner alone (Gymnasium environments).

    Raises:
      ConfigError: the run cannot be resumed, or the task cannot be trained that way.
    """
    if without_replay:
        loops.check_replay_apart(cfg)
    us = workspace.processes
    run_folder = RunFolder(folder, cfg, cpu_clock, us)
    resume = us.first(resume and bool(run_folder.store.steps()))
    members = population.members(cfg)
    begun = run_folder if resume else None
    many = None if cfg.population.is_one else loops.population(cfg, workspace, begun, members=members)
    loop = loops.single(cfg, workspace, begun) if many is None else many
    if not resume:
        run_folder.origin = warm_start.apply(loop, workspace.agent, cfg.start)
    else:
        loops.restore(loop, workspace, run_folder, without_replay=without_replay)
    if not us.is_first:
        return _following(cfg, run_folder, workspace, loop, resume)
    run_folder.open_log(loop.progress, is_resumed=resume, console=console)
    stored = run_folder.store.meta().get("solved") if resume else None
    until = Until(cfg, stored, read_rows(folder / "episodes.jsonl") if resume else ())
    evaluator = Evaluator(run_folder, workspace, until)
    agents: Agents[Any] = OneAgent(run_folder, workspace, loop, evaluator)
    if many is not None:
        opened = population.opened(run_folder, members, loop.progress)
        agents = population.Population(opened, run_folder, workspace, many, evaluator)
    _introduce(run_folder, workspace, agents, resume)
    finish, every = partial(result.finish, agents, run_folder, until), cfg.checkpoint.every
    hooks = _hooks(cfg, run_folder, agents)
    how: dict[str, Any] = {"save_every": every, "is_resumed": resume, "processes": us}
    return Trainer(agents, run_folder, workspace, hooks, finish, **how)


def _following(
    cfg: Config, folder: RunFolder, workspace: Workspace, loop: Loop, resume: bool
) -> Trainer[Any]:
    """The same run in another process than the first: with as many hooks, which do nothing here but save."""
    agents = Follower(folder, loop)
    hooks = [
        Hook(hook.unit, hook.n, lambda: None, is_aside=hook.is_aside) for hook in _hooks(cfg, folder, agents)
    ]
    how: dict[str, Any] = {
        "save_every": cfg.checkpoint.every,
        "is_resumed": resume,
        "processes": workspace.processes,
    }
    return Trainer(agents, folder, workspace, hooks, dict, **how)


def _hooks(cfg: Config, folder: RunFolder, agents: Agents[Any]) -> list[Hook]:
    """What is done during training besides saving, in this order."""
    meanwhile = partial(result.evaluate_meanwhile, agents, folder)
    report = partial(result.try_report, agents, folder)
    return [
        Hook("seconds", cfg.log.every, agents.log, is_ready=lambda: agents.has_metrics),
        *([Hook("seconds", score.EVERY, score.Meanwhile(folder))] if score.is_scored(cfg) else []),
        Hook("env_steps", loops.pauses(cfg), agents.check, is_aside=True),
        Hook("env_steps", cfg.eval.every, meanwhile, is_aside=True),
        Hook("updates", cfg.eval.every_updates, meanwhile, is_aside=True),
        Hook("env_steps", cfg.report.every, report, is_aside=True),
        Hook("updates", cfg.report.every_updates, report, is_aside=True),
    ]


def _introduce(folder: RunFolder, workspace: Workspace, agents: Agents[Any], resume: bool) -> None:
    """Log what is trained."""
    if resume:
        at = f"{agents.loop.progress.env_steps:,} environment steps"
        folder.notice(f"resuming {folder.path} at {at}")
        return
    about = f"{folder.cfg.task}: {agents.size}"
    if words := acted_with([acting(folder.cfg)]):
        about = f"{about}, {words}"
    folder.notice(f"{about}; the first update compiles the program, which takes a while")
    if folder.origin is not None:
        folder.notice(warm_start.sentence(folder.origin))
    for text in workspace.notices:
        folder.notice(text)
