"""Training PPO in a folder.

A slot counts as E environment steps, also where it only holds a reset observation. A run that was
interrupted goes on from its last save: on the device bitwise as if nothing had happened, on the host with
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
    """Train on a task, or go on where that was interrupted; returns at once if it is finished.

    Args:
      folder: made if absent.
      preset: its name in `presets.PRESETS`, or a configuration.
      steps: in place of the configuration's.
      say: shows a line to people.
      stop: asked after every iteration; once true, the run saves and returns.
      world: keywords of `envs.make` for the task.

    Raises:
      ConfigError: the folder is something else, a run with another task, seed or configuration, one that
        was trained with other spaces, or somebody trains in it.
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
    from rich.console import Console

    cfg, began = agent.cfg, time.monotonic()
    (learner, acting), done, seconds = loop.begin(agent, seed), 0, 0.0
    tally = Tally(np.zeros(cfg.num_envs), np.zeros(cfg.num_envs, np.int64))
    if (folder / files.AGENT).is_file():
        arrays, counters = files.read(folder)
        params = files.params_from(folder, arrays, learner.params)
        rest = (learner._replace(params={}), acting, tally)
        learner, acting, tally = files.rest_from(folder, arrays, rest)
        learner, acting = learner._replace(params=params), loop.resume(acting)
        done, seconds = counters["iterations"], counters["seconds"]
        say(f"going on after {counters['env_steps']:,} steps")
    per_iteration = cfg.slots * cfg.num_envs
    seconds += time.monotonic() - began
    log = Logger(
        folder,
        total_steps=cfg.iterations * per_iteration,
        seconds=seconds,
        tensorboard=False,
        every=math.inf,
        console=Console(quiet=True, force_terminal=False),
    )
    with log:
        log.rewind(done * per_iteration)
        saved = said = time.monotonic()
        while done < cfg.iterations:
            learner, acting, metrics, slots = loop.iterate(agent, learner, acting, seed, done)
            metrics, slots = jax.device_get((metrics, slots))
            tally, episodes = ended(tally, slots, done * per_iteration)
            done += 1
            log.tick(done * per_iteration, done * cfg.epochs * cfg.minibatches)
            for row in episodes:
                log.episode(row)
            log.metrics(metrics)
            _check(metrics, done)
            now, finished, halt = time.monotonic(), done == cfg.iterations, stop()
            if finished or halt or now - said >= SAY_SECONDS:
                said = now
                say(status_line(log.status()))
            if finished or halt or now - saved >= SAVE_SECONDS:
                saved = now
                counters = files.Counters(
                    iterations=done,
                    env_steps=log.env_steps,
                    updates=log.updates,
                    seconds=log.seconds,
                    finished=finished,
                )
                rest = (learner._replace(params={}), acting, tally)
                files.save(folder, learner.params, rest, counters)
            if halt:
                return


def _check(metrics: dict[str, Any], iteration: int) -> None:
    """Refuse what learning cannot go on from; what is only logged may be anything."""
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
            told = slots.success[t, copy]
            rows.append(
                {
                    "env_steps": before + (t + 1) * len(first),
                    "return": float(returns[copy]),
                    "length": int(lengths[copy]),
                    "success": None if np.isnan(told) else bool(told > 0),
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
    told = [row["success"] for row in rows if row.get("success") is not None]
    return Trained(
        folder,
        finished=counters["finished"],
        env_steps=counters["env_steps"],
        updates=counters["updates"],
        seconds=counters["seconds"],
        return_mean=float(np.mean([row["return"] for row in rows])) if rows else None,
        success_rate=float(np.mean(told)) if told else None,
    )
