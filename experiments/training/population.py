"""A population: many agents in one program, each with a run folder of its own.

    RUN/config.toml, metrics.jsonl, episodes.jsonl, result.json, checkpoints/    shared
    RUN/members/000/config.toml, metrics.jsonl, episodes.jsonl, result.json      of each

A member's configuration is that of the equivalent single run. Its parameters are in the shared checkpoints,
where `dreamer.load` and `dreamer eval RUN/members/000` find them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamer import schema
from dreamer.config import Config, PopulationConfig
from experiments import evaluate
from experiments.benchmark import scores
from experiments.training import agents, collapse, session
from experiments.training.folder import acting, episode_row, write_result

if TYPE_CHECKING:
    from dreamer.logger import Logger
    from dreamer.loops.clocks import Progress
    from dreamer.loops.members import Members
    from dreamer.loops.outputs import LoopOutput
    from dreamer.player import Player
    from experiments.training.evaluator import Evaluator
    from experiments.training.folder import RunFolder
    from experiments.training.workspace import Workspace


def members(cfg: Config) -> list[Config]:
    """The configuration of every member: all combinations of the varied fields, with all seeds of each.

    Raises:
      ConfigError: a value is out of its range.
    """
    grid = cfg.population.grid()
    configs, alone = [], dataclasses.replace(cfg, population=PopulationConfig())
    for values in itertools.product(*grid.values()):
        changes = {f"agent.{path}": value for path, value in zip(grid, values, strict=True)}
        changes = {path: _whole(value) for path, value in changes.items()}
        for i in range(cfg.population.seeds):
            configs.append(schema.replace_paths(alone, {"seed": cfg.seed + i, **changes}))
    return configs


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


class Member(NamedTuple):
    """One agent of a population: a run folder without checkpoints."""

    cfg: Config
    path: Path
    logger: Logger


def opened(folder: RunFolder, cfgs: Sequence[Config], progress: Progress) -> list[Member]:
    """The folders of the members, with their logs as of when the population was saved."""
    from dreamer.player import MEMBERS

    places = [folder.path / MEMBERS / f"{i:03d}" for i in range(len(cfgs))]
    return [_opened(cfg, place, progress) for cfg, place in zip(cfgs, places, strict=True)]


def _opened(cfg: Config, place: Path, progress: Progress) -> Member:
    from rich.console import Console

    from dreamer.logger import Logger

    place.mkdir(parents=True, exist_ok=True)
    session.write_config(place, cfg)
    logger = Logger(
        place,
        total_steps=cfg.steps,
        seconds=progress.seconds,
        tensorboard=cfg.log.tensorboard,
        console=Console(quiet=True),
    )
    logger.rewind(progress.env_steps, progress.updates)
    return Member(cfg, place, logger)


class Population:
    """Many agents, saved, resumed and stopped as one."""

    def __init__(
        self,
        members: Sequence[Member],
        folder: RunFolder,
        workspace: Workspace,
        loop: Members,
        evaluator: Evaluator,
    ):
        self.members, self.folder, self.workspace, self.loop = members, folder, workspace, loop
        self.evaluator, self.until = evaluator, evaluator.until
        self.failed: dict[int, str] = {}
        self._collapses = [collapse.of(member.path) for member in members]
        self._outputs: list[list[LoopOutput]] = []
        """Outputs whose metrics are not logged yet."""
        loop.rest(self.until.solved)

    @property
    def size(self) -> str:
        return f"{len(self.members)} members; together {agents.size(self.loop)} each"

    @property
    def loggers(self) -> Sequence[Logger]:
        return [*(member.logger for member in self.members), self.folder.logger]

    def outputs(self) -> Iterator[list[LoopOutput]]:
        while not self.loop.done:
            yield self.loop.advance()

    def collect(self, output: list[LoopOutput]) -> None:
        self._report_failures()
        progress = self.loop.progress
        everywhere = min(part.running_since for part in output)
        self.folder.logger.tick(progress.env_steps, progress.updates, everywhere)
        for i, (part, member) in enumerate(zip(output, self.members, strict=True)):
            member.logger.tick(progress.env_steps, progress.updates, part.running_since)
            for episode in part.episodes:
                member.logger.episode(episode_row(episode, member.cfg))
                self.folder.episode(episode, member=i)
                self.until.hear(episode)
        self._outputs.append(output)

    def _report_failures(self) -> None:
        for i, why in self.loop.failures.items():
            if i not in self.failed:
                self.folder.notice(f"member {i:03d} diverged and stays as it was before: {why}")
        self.failed |= self.loop.failures

    @property
    def failure(self) -> str:
        if len(self.failed) < len(self.members):
            return ""
        return (
            f"every member diverged; member 000: {self.failed[0]}. A lower lr or larger warmup often helps."
        )

    def flush(self) -> None:
        """Nothing is in flight."""

    @property
    def has_metrics(self) -> bool:
        return bool(self._outputs)

    def log(self) -> None:
        """A row for every member, and their mean for all together."""
        outputs, self._outputs = self._outputs, []
        rows = []
        for i, member in enumerate(self.members):
            member_rows = [row for output in outputs for row in output[i].metrics]
            if member_rows:
                rows.append(agents.means(member_rows))
                member.logger.metrics(rows[-1])
                if text := self._collapses[i].hear(rows[-1]):
                    self.folder.notice(f"member {i:03d}: {text}")
        if rows:
            counts = {"population/members": len(self.members), "population/diverged": len(self.failed)}
            self.folder.logger.metrics({**agents.means(rows), **counts})

    @property
    def is_solved(self) -> bool:
        """Whether all members except the failed ones have reached `until`."""
        going = set(range(len(self.members))) - set(self.failed)
        return bool(self.until.solved) and going <= set(self.until.solved)

    @property
    def meta(self) -> dict[str, Any]:
        return agents.meta(self.workspace, self.until)

    def follow(self, solved: dict[str, Any]) -> None:
        """It sees for itself."""

    def check(self) -> None:
        """Check which members have reached `until`; those stop learning."""
        if not self.loop.progress.updates or not self.until.is_reachable:
            return
        solved = self.until.solved
        for i, (player, member) in enumerate(zip(self._players(), self.members, strict=True)):
            if i not in solved and i not in self.failed:
                self.evaluator.check(player, member.logger, self.loop.progress, i)
                if i in solved:
                    self.folder.notice(
                        f"member {i:03d} reached {self.folder.cfg.until} "
                        f"after {solved[i]['env_steps']:,} steps"
                    )
        self.loop.rest(solved)

    def _players(self, *, actor: str = "greedy") -> Iterator[Player]:
        """One player that becomes every member in turn, so that all play with one compiled program."""
        import jax

        stacked = self.loop.state.params, self.loop.numbers
        count = self.loop.progress
        counters = {"env_steps": count.env_steps, "updates": count.updates}
        for i, member in enumerate(self.members):
            params, numbers = jax.tree.map(lambda x, i=i: x[i], stacked)
            yield self.workspace.player(params, numbers, actor=actor, config=member.cfg, counters=counters)

    def evaluate(self, episodes: int, *, actor: str = "greedy") -> dict[str, Any]:
        """Play with every member, on the same seeds."""
        results = [
            self.evaluator.play(player, member.logger, episodes, actor=actor)
            for player, member in zip(self._players(actor=actor), self.members, strict=True)
        ]
        together = evaluate.over_members(results)
        self.folder.logger.metrics(evaluate.metrics(together, actor))
        return {**together, "members": results}

    def report(self) -> Path:
        """A report card for every member, and a page about all of them."""
        from experiments.report.report import read_run, save_card, write_many

        numbers = []
        for player, member in zip(self._players(actor="sampled"), self.members, strict=True):
            examination = self.workspace.examiner.examine(player, pictures=False)
            save_card(read_run(member.path), examination, player)
            numbers.append(examination.numbers)
            member.logger.metrics({f"report/{k}": v for k, v in numbers[-1].items() if v is not None})
        page = self.folder.path / "report.html"
        return write_many([read_run(member.path) for member in self.members], numbers, page)

    def write_result(self, result: dict[str, Any]) -> None:
        """One for all, and one for every member."""
        write_result(self.folder.path, result)
        done = {k: result[k] for k in ("task", "env_steps", "updates", "seconds", "cpu_seconds")}
        done |= acting(self.folder.cfg)
        cfg, solved = self.folder.cfg, self.until.solved
        for i, evaluation in enumerate(result.get("members", [])):
            path, sampled = self.members[i].path, {"sampled": result["sampled"]["members"][i]}
            row = {"run": str(path), **done, **evaluation, **sampled, "diverged": self.failed.get(i)}
            if cfg.until:
                row |= {"until": cfg.until, "solved": i in solved, "solved_at": solved.get(i)}
            write_result(path, row | scores.of_run(path, cfg.task, done["env_steps"]))

    @property
    def playable(self) -> Path:
        return self.members[0].path
