"""`dreamer plan-report`: what planning brings a trained agent, and what a decision then costs.

Several actors of one agent play the same seeds. What an actor reached is written as soon as it has played,
and is not played again under the same circumstances.
"""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from dreamer.actors import Actor, model_steps
from dreamer.config import Config
from dreamer.player import Player, load
from dreamer.schema import ConfigError
from envs.api import Step, VectorEnv
from experiments import evaluate, lock, machine, sidecar, surroundings
from experiments.evaluate import Say
from experiments.plans import page, results, timing
from experiments.plans.contenders import check, contenders
from experiments.plans.options import PlanReportOptions


def report(run: Path, options: PlanReportOptions) -> int:
    """Play the actors that have not played yet, and write the page; the exit code.

    Raises:
      CheckpointError: there is no agent in the folder.
      UnknownTask, MissingExtra: there is no such task here.
      ConfigError: there is no such actor, one cannot plan such actions, the task has other spaces than the
        agent was trained with, or the folder cannot be written.
    """
    check(options.actors)
    machine.prepare()
    player = load(run)
    cfg = player.config
    assert cfg is not None
    say: Say = lambda text: print(text, file=sys.stderr, flush=True)
    actors = contenders(options.actors, player.agent.act_space, cfg.agent.value_ensemble, say)
    out = Path(options.out) if options.out else home(run) / "plans"
    with evaluate.opened_world(run, player.agent, cfg, options.episodes, options.num_envs) as env:
        _make(out)
        limit = evaluate.step_limit(options.max_steps or cfg.eval.max_steps, evaluate.longest_episode(run))
        contest = Contest(run, player, cfg, env, options, limit)
        with lock.held(out, "report on planning", "another --out"):
            content = _measured(contest, actors, out, say)
    Console(stderr=True).print(page.shown(content))
    for line in page.lines(content):
        say(line)
    say(f"{out / page.PAGE} has the figure and the tables: open it in a browser")
    if options.json:
        print(jsonlib.dumps(content))
    return 0


def home(run: Path) -> Path:
    """The folder of a run, also of a checkpoint in it; of an exported file the one in which it lies."""
    if run.absolute().parent.name == "checkpoints":
        return run.absolute().parent.parent
    return run if run.is_dir() else run.parent


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made: {error.strerror}") from None


@dataclass
class Contest:
    """One agent in its task, where actors are timed and play."""

    run: Path
    player: Player
    cfg: Config
    env: VectorEnv
    options: PlanReportOptions
    limit: int
    """Steps after which an episode is cut short."""
    session: dict[str, Any] = field(init=False)
    """Where, when and with what it is played."""

    def __post_init__(self) -> None:
        self.session = surroundings.session(self.cfg)

    @cached_property
    def asked(self) -> dict[str, Any]:
        """All that two actors must have in common to be compared."""
        fingerprint = results.fingerprint(self.player.everything)
        return {
            "task": self.env.task,
            "checkpoint": self.player.counters | {"fingerprint": fingerprint},
            "episodes": self.options.episodes,
            "seed": self.options.seed,
            "step_limit": self.limit,
            **{key: self.session[key] for key in ("cpus", "devices", "versions")},
        }

    @cached_property
    def steps(self) -> list[Step]:
        """What all actors are timed on."""
        return timing.observed(self.env, self.options.seed)

    def row(self, actor: Actor[Any], say: Say) -> dict[str, Any]:
        """Time decisions of an actor, and play its episodes."""
        one, o = self.player, self.options
        player = Player(one.agent, one.everything, one.numbers, actor=actor, config=self.cfg)
        timed = timing.decisions(player, self.steps)
        episodes = evaluate.play_each(player, self.env, o.episodes, o.seed, self.limit, say)
        return results.row(episodes, self.limit, timed, model_steps(actor))


def _measured(contest: Contest, actors: Mapping[str, Actor[Any]], out: Path, say: Say) -> dict[str, Any]:
    """Measure what is not measured yet, and write all of it after every actor."""
    before = results.usable(sidecar.read(out / page.EVERYTHING), contest.asked)
    rows: dict[str, Any] = {}
    content: dict[str, Any] = {}
    for text, actor in actors.items():
        known = text in before
        say(f"{text}: measured before" if known else f"{text}: {contest.options.episodes} episodes")
        rows[text] = before.pop(text) if known else contest.row(actor, say)
        content = results.results(str(contest.run), contest.asked, rows, before, contest.session)
        page.write(content, out)
    return content
