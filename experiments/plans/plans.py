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

from dreamer.actors import model_steps
from dreamer.config import Config
from dreamer.player import Player, load
from dreamer.schema import ConfigError
from envs.api import Step, VectorEnv
from experiments import evaluate, lock, machine, sidecar, surroundings
from experiments.agreement import agree, spaces
from experiments.costs import reading, summary
from experiments.costs.ledger import Ledger
from experiments.costs.reading import Terms
from experiments.evaluate import Say
from experiments.plans import page, results, timing
from experiments.plans.contenders import check, contenders
from experiments.plans.options import PlanReportOptions

IMAGINED = "imagined"
"""Name of the policy that learned in dreams, beside those of actors."""


def report(run: Path, options: PlanReportOptions) -> int:
    """Play the actors that have not played yet, and write the page; the exit code.

    Raises:
      CheckpointError: there is no agent in the folder.
      UnknownTask, MissingExtra: there is no such task here.
      ConfigError: there is no such actor, one cannot plan such actions, a cost cannot be used, the task has
        other spaces than an agent was trained with, or the folder cannot be written.
    """
    check(options.actors)
    machine.prepare()
    player = load(run)
    cfg = player.config
    assert cfg is not None
    say: Say = lambda text: print(text, file=sys.stderr, flush=True)
    terms = reading.read(options, player)
    players = _players(player, terms, options, say)
    out = Path(options.out) if options.out else home(run) / "plans"
    with evaluate.opened_world(run, player.agent, cfg, options.episodes, options.num_envs) as env:
        if IMAGINED in players:
            agree(options.imagined, cfg.task, spaces(players[IMAGINED].agent), env)
        _make(out)
        limit = evaluate.step_limit(options.max_steps or cfg.eval.max_steps, evaluate.longest_episode(run))
        contest = Contest(run, player, cfg, env, options, limit, terms)
        with lock.held(out, "report on planning", "another --out"):
            content = _measured(contest, players, out, say)
    console = Console(stderr=True)
    console.print(page.shown(content))
    if terms:
        console.print(page.shown_costs(content))
    for line in page.lines(content):
        say(line)
    say(f"{out / page.PAGE} has the figure and the tables: open it in a browser")
    if options.json:
        print(jsonlib.dumps(content))
    return 0


def _players(player: Player, terms: Terms, options: PlanReportOptions, say: Say) -> dict[str, Player]:
    """{name: player} of all that play: the actors of the run, and the policy that learned in dreams."""
    cfg, agent = player.config, player.agent
    assert cfg is not None
    names = contenders(options.actors, agent.act_space, cfg.agent.value_ensemble, say)
    actors = {text: reading.charged(text, agent, terms, options.reward_weight) for text in names}
    if terms and not any(map(reading.plans, actors.values())):
        say("no actor here plans: costs change nothing in what they do and are only added up")
    players = {
        text: Player(agent, player.everything, player.numbers, actor=actor, config=cfg)
        for text, actor in actors.items()
    }
    if options.imagined:
        players[IMAGINED] = load(options.imagined)
        for text, (cost, _) in terms.items():
            reading.check(text, cost, players[IMAGINED])
    return players


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
    terms: Terms
    """The costs that planners plan with, and that are added up for all."""
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
            "wanted": self.options.described,
            **{key: self.session[key] for key in ("cpus", "devices", "versions")},
        }

    @cached_property
    def steps(self) -> list[Step]:
        """What all actors are timed on."""
        return timing.observed(self.env, self.options.seed)

    def row(self, player: Player, imagined: Mapping[str, Any] | None, say: Say) -> dict[str, Any]:
        """Time decisions of a player, and play its episodes."""
        o, ledger = self.options, Ledger(player, self.terms) if self.terms else None
        policy, also = (ledger, ledger.on_step) if ledger else (player, None)
        timed = timing.decisions(player, self.steps)
        episodes = evaluate.play_each(policy, self.env, o.episodes, o.seed, self.limit, say, also)
        costs = summary.summary(ledger.rows()) if ledger else {}
        return results.row(episodes, self.limit, timed, model_steps(player.actor), costs, imagined)


def _measured(contest: Contest, players: Mapping[str, Player], out: Path, say: Say) -> dict[str, Any]:
    """Measure what is not measured yet, and write all of it after every actor."""
    imagined = _origin(contest.options.imagined, players[IMAGINED]) if IMAGINED in players else None
    before = results.usable(sidecar.read(out / page.EVERYTHING), contest.asked, imagined)
    rows: dict[str, Any] = {}
    content: dict[str, Any] = {}
    for text, player in players.items():
        known, origin = text in before, imagined if text == IMAGINED else None
        say(f"{text}: measured before" if known else f"{text}: {contest.options.episodes} episodes")
        rows[text] = before.pop(text) | {"imagined": origin} if known else contest.row(player, origin, say)
        content = results.results(str(contest.run), contest.asked, rows, before, contest.session)
        page.write(content, out)
    return content


def _origin(file: str, player: Player) -> dict[str, Any]:
    """Which agent learned in dreams, as its row says it."""
    return {
        "file": file,
        "updates": player.counters.get("imagined_updates"),
        "fingerprint": results.fingerprint(player.everything),
    }
