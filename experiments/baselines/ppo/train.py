"""Training PPO in a folder.

A slot counts as E environment steps, also where it only holds a reset observation. A run that was
interrupted resumes from its last save: on the device bitwise as if nothing had happened, on the host with
new episodes, because an environment of Gymnasium cannot be saved.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

import envs
from dreamer import schema
from dreamer.logger import Logger, read_rows
from dreamer.loops.outputs import Diverged, vital
from dreamer.status import status_line
from experiments import lock
from experiments.agreement import agree
from experiments.baselines.ppo import folder as files
from experiments.baselines.ppo.agent import Agent, Slot
from experiments.baselines.ppo.loops import Loop, loop_of
from experiments.baselines.ppo.presets import PPOConfig, named
from experiments.training.hooks import Hook

SAVE_SECONDS, SAY_SECONDS = 60.0, 10.0
RECENT = 100
"""Episodes in the means of a result."""


class Tally(NamedTuple):
    """How the episodes that are being played stand, [E] each."""

    returns: np.ndarray
    lengths: np.ndarray


class Trained(NamedTuple):
    """How a run stands."""

    folder: Path
    finished: bool
    env_steps: int
    updates: int
    seconds: float
    """Wall-clock of all its sessions."""
    return_mean: float | None
    """Of the last episodes of the training, None before the first one has ended."""
    success_rate: float | None
    """Of those that say."""


def train(
    task: str,
    folder: Path,
    preset: str | PPOConfig,
    *,
    seed: int = 0,
    steps: int | None = None,
    say: Callable[[str], None] = partial(print, file=sys.stderr),
    stop: Callable[[], bool] = lambda: False,
    world: Mapping[str, Any] = MappingProxyType({}),
) -> Trained:
    """Train on a task or resume an interrupted run; returns at once if it is finished.

    Args:
      folder: made if absent.
      preset: its name in `presets.PRESETS`, or a configuration.
      steps: in place of the configuration's.
      say: shows a line to people.
      stop: asked after every iteration; once true, the run saves and returns.
      world: keywords of `envs.make` for the task.

    Raises:
      ConfigError: the folder is something else, a run with another task, seed or configuration, one that
        was trained with other spaces, or another trainer is at work in it.
      Diverged: a loss is not finite.
    """
    cfg = named(preset) if isinstance(preset, str) else preset
    cfg = cfg if steps is None else schema.replace_path(cfg, "steps", steps)
    task = envs.canonical(task)
    files.open_folder(folder, task, seed, cfg)
    if (folder / files.AGENT).is_file() and (stood := stands(folder)).finished:
        return stood
    with lock.held(folder, what="PPO trainer"), contextlib.closing(loop_of(task, cfg, seed, world)) as loop:
        if (folder / files.AGENT).is_file():
            agree(str(folder), task, files.spaces_of(files.manifest(folder)), loop)
        agent = Agent(loop.obs_space, loop.act_space, cfg)
        files.write_manifest(folder, task, seed, agent)
        _run(loop, agent, folder, seed, lambda text: say(f"ppo {task}: {text}"), stop)
    return stands(folder)


def _run(
    loop: Loop, agent: Agent, folder: Path, seed: int, say: Callable[[str], None], stop: Callable[[], bool]
) -> None:
    training = Training(loop, agent, folder, seed, say)
    hooks = Hook("seconds", SAY_SECONDS, training.tell), Hook("seconds", SAVE_SECONDS, training.save)
    with training.log:
        for hook in hooks:
            hook.start(training.log)
        while not training.finished:
            training.iterate()
            halt = stop()
            for hook in hooks:
                if training.finished or halt or hook.is_due(training.log):
                    hook.run(training.log)
            if halt:
                return


class Training:
    """A run as far as it is: new, or as it was saved.

    Args:
      loop: where the worlds are.
      say: shows a line to people.
    """

    def __init__(self, loop: Loop, agent: Agent, folder: Path, seed: int, say: Callable[[str], None]):
        self.loop, self.agent, self.folder, self.seed, self.say = loop, agent, folder, seed, say
        cfg, began = agent.cfg, time.monotonic()
        self.learner, self.acting = loop.begin(agent, seed)
        self.tally = Tally(np.zeros(cfg.num_envs), np.zeros(cfg.num_envs, np.int64))
        self.done, seconds = 0, 0.0
        """Iterations."""
        if (folder / files.AGENT).is_file():
            seconds = self._resume()
        self.log = self._opened(seconds + time.monotonic() - began)
        self.log.rewind(self.done * self._steps)

    @property
    def _steps(self) -> int:
        """Environment steps of an iteration."""
        return self.agent.cfg.slots * self.agent.cfg.num_envs

    @property
    def _rest(self) -> tuple[Any, ...]:
        """All that changes but the parameters."""
        return self.learner._replace(params={}), self.acting, self.tally

    def _resume(self) -> float:
        """Go on from the last save; the seconds it had taken."""
        arrays, counters = files.read(self.folder)
        params = files.params_from(self.folder, arrays, self.learner.params)
        learner, acting, self.tally = files.rest_from(self.folder, arrays, self._rest)
        self.learner, self.acting = learner._replace(params=params), self.loop.resume(acting)
        self.done = counters["iterations"]
        self.say(f"resuming after {counters['env_steps']:,} steps")
        return counters["seconds"]

    def _opened(self, seconds: float) -> Logger:
        from rich.console import Console

        return Logger(
            self.folder,
            total_steps=self.agent.cfg.iterations * self._steps,
            seconds=seconds,
            tensorboard=False,
            every=math.inf,
            console=Console(quiet=True, force_terminal=False),
        )

    @property
    def finished(self) -> bool:
        """Whether all iterations are done."""
        return self.done == self.agent.cfg.iterations

    def iterate(self) -> None:
        """One iteration, and what it says.

        Raises:
          Diverged: a loss is not finite.
        """
        cfg = self.agent.cfg
        self.learner, self.acting, metrics, slots = self.loop.iterate(
            self.agent, self.learner, self.acting, self.seed, self.done
        )
        metrics, slots = jax.device_get((metrics, slots))
        self.tally, episodes = ended(self.tally, slots, self.done * self._steps)
        self.done += 1
        self.log.tick(self.done * self._steps, self.done * cfg.epochs * cfg.minibatches)
        for row in episodes:
            self.log.episode(row)
        self.log.metrics(metrics)
        _check(metrics, self.done)

    def tell(self) -> None:
        """Say how far it is."""
        self.say(status_line(self.log.status()))

    def save(self) -> None:
        """Write the agent, and until the run is finished what it resumes from."""
        counters = files.Counters(
            iterations=self.done,
            env_steps=self.log.env_steps,
            updates=self.log.updates,
            seconds=self.log.seconds,
            finished=self.finished,
        )
        files.save(self.folder, self.learner.params, self._rest, counters)


def _check(metrics: dict[str, Any], iteration: int) -> None:
    """Refuse values with which learning cannot continue; what is only logged may be anything."""
    if wrong := [name for name in (*vital(metrics), "grad_norm") if not math.isfinite(metrics[name])]:
        raise Diverged(f"iteration {iteration} of PPO gave values that are not finite: {', '.join(wrong)}")


def ended(tally: Tally, slots: Slot, before: int) -> tuple[Tally, list[dict[str, Any]]]:
    """The episodes that ended in some slots, as rows, and how the others stand.

    Args:
      slots: [T, E] on the host; observations and actions are not read.
      before: environment steps before the first of them.
    """
    (returns, lengths), rows = tally, []
    for t, first in enumerate(slots.is_first):
        returns = np.where(first, 0.0, returns) + slots.outcome.reward[t]
        lengths = np.where(first, 0, lengths + 1)
        for copy in np.flatnonzero(slots.outcome.is_last[t]):
            success = slots.success[t, copy]
            rows.append(
                {
                    "env_steps": before + (t + 1) * len(first),
                    "began": before + (t + 1 - int(lengths[copy])) * len(first),
                    "return": float(returns[copy]),
                    "length": int(lengths[copy]),
                    "success": None if np.isnan(success) else bool(success > 0),
                }
            )
    return Tally(returns, lengths), rows


def stands(folder: Path) -> Trained:
    """How the run in a folder stood when it last saved.

    Raises:
      ConfigError: nothing was saved, or the file is damaged.
    """
    counters = files.read(folder)[1]
    rows = read_rows(folder / "episodes.jsonl", "env_steps", "return")
    rows = [row for row in rows if row["env_steps"] <= counters["env_steps"]][-RECENT:]
    successes = [row["success"] for row in rows if row.get("success") is not None]
    return Trained(
        folder,
        finished=counters["finished"],
        env_steps=counters["env_steps"],
        updates=counters["updates"],
        seconds=counters["seconds"],
        return_mean=float(np.mean([row["return"] for row in rows])) if rows else None,
        success_rate=float(np.mean(successes)) if successes else None,
    )
