"""A population: many agents in one program, each with a run folder of its own.

    RUN/config.toml, metrics.jsonl, episodes.jsonl, result.json, checkpoints/    of all together
    RUN/members/000/config.toml, metrics.jsonl, episodes.jsonl, result.json      of each

A member's configuration is that of the single run it equals. Its parameters are in the checkpoints of all,
where `dreamer.load` and `dreamer eval RUN/members/000` find them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamer import schema
from dreamer.config import HYPER, Config, PopulationConfig
from experiments import evaluate, session, sidecar, signals
from experiments.run import Run, TrainingStopped, episode_row, means

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dreamer.loops.clocks import Progress
    from dreamer.loops.turn import Turn
    from dreamer.player import Player
    from experiments.program import Program


def members(cfg: Config) -> list[Config]:
    """The configuration of every member: all combinations of what varies, with all seeds of each.

    Raises:
      ConfigError: a value is out of its range.
    """
    grid = cfg.population.grid()
    found, alone = [], dataclasses.replace(cfg, population=PopulationConfig())
    for values in itertools.product(*grid.values()):
        changes = {f"agent.{HYPER[name]}": value for name, value in zip(grid, values, strict=True)}
        changes = {path: _whole(value) for path, value in changes.items()}
        for i in range(cfg.population.seeds):
            found.append(schema.replace_paths(alone, {"seed": cfg.seed + i, **changes}))
    return found


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


class PopulationRun(Run):
    """A run of many members, saved, resumed and stopped as one."""

    def __init__(
        self,
        cfg: Config,
        folder: Path,
        program: Program,
        resume: bool,
        console: Any = None,
        without_replay: bool = False,
    ):
        from rich.console import Console

        from dreamer.logger import Logger
        from dreamer.player import MEMBERS

        self.members = members(cfg)
        super().__init__(cfg, folder, program, resume, console, without_replay=without_replay)
        progress = self.loop.progress
        self.failed: dict[int, str] = {}
        self.loop.rest(self.solved)
        self.folders = [folder / MEMBERS / f"{i:03d}" for i in range(len(self.members))]
        self.loggers = []
        for own, place in zip(self.members, self.folders, strict=True):
            place.mkdir(parents=True, exist_ok=True)
            session.write_config(place, own)
            logger = Logger(
                place,
                total_steps=cfg.steps,
                seconds=progress.seconds,
                tensorboard=cfg.log.tensorboard,
                console=Console(quiet=True),
            )
            logger.rewind(progress.env_steps)
            self.loggers.append(logger)

    def _fused_loop(self, progress: Progress, resume: bool) -> Any:
        import jax
        import jax.numpy as jnp

        from dreamer.hyper import Hyper
        from dreamer.loops.fused import FusedLoop, Programs
        from dreamer.loops.population import InTurns, Together, fitting

        self._check_replay_kept()
        count = len(self.members)
        devices, on_cpu = fitting(self.program.devices(count), count), jax.default_backend() == "cpu"
        memories = 1 if on_cpu else len(devices)
        fused = self.program.fused(memories / count, self._capacity(resume))
        spread = InTurns(devices) if on_cpu else Together(devices)
        hyper = jax.tree.map(lambda *x: jnp.stack(x), *(Hyper.of(own.agent) for own in self.members))
        seeds = np.array([own.seed for own in self.members], np.int32)
        state, progress = (
            self._restored(jax.vmap(fused.init), seeds, progress) if resume else (None, progress)
        )
        programs, steps = Programs(fused, spread), self.cfg.steps
        return FusedLoop(programs, hyper, seeds, steps, progress, state, self._pauses)

    def _size(self) -> str:
        return f"{len(self.members)} members; together {super()._size()} each"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """As for one agent, with the logs of all members."""
        with contextlib.ExitStack() as stack:
            for own in self.loggers:
                stack.enter_context(own)
            with super().opened():
                yield

    def _train(self, stop: signals.Stop) -> None:
        loop, pending = self.loop, []
        while not (loop.done or self.is_solved or stop):
            pending.append(loop.advance())
            self._save_first()
            self._report_failures()
            self._episodes(pending[-1])
            if self._log_due():
                self._metrics(pending)
                pending = []
            self.between()
        self._metrics(pending)

    @property
    def is_solved(self) -> bool:
        """Whether all members have reached `until`, but for those that failed."""
        going = set(range(len(self.members))) - set(self.failed)
        return bool(self.solved) and going <= set(self.solved)

    def _check(self, number: int) -> None:
        """See who has reached `until`; they learn no more."""
        pairs = zip(self._players("greedy"), self.loggers, strict=True)
        for i, (player, logger) in enumerate(pairs):
            if i not in self.solved and i not in self.failed:
                self._judge(number, i, player, logger)
                if i in self.solved:
                    self._notice(
                        f"member {i:03d} reached {self.cfg.until} after {self.solved[i]['env_steps']:,} steps"
                    )
        self.loop.rest(self.solved)

    def _report_failures(self) -> None:
        for i, why in self.loop.failures.items():
            if i not in self.failed:
                self._notice(f"member {i:03d} diverged and stays as it was before: {why}")
        self.failed |= self.loop.failures
        if len(self.failed) == len(self.members):
            self.save(wait=True)
            raise TrainingStopped(
                f"every member diverged; member 000: {self.failed[0]}. "
                "A lower lr or larger warmup often helps."
            )

    def _episodes(self, turns: list[Turn]) -> None:
        assert self.logger is not None
        progress = self.loop.progress
        everywhere = min(turn.running_since for turn in turns)
        self.logger.tick(progress.env_steps, progress.updates, everywhere)
        for i, (turn, logger) in enumerate(zip(turns, self.loggers, strict=True)):
            logger.tick(progress.env_steps, progress.updates, turn.running_since)
            for episode in turn.episodes:
                logger.episode(episode_row(episode))
                self.logger.episode({**episode_row(episode), "member": i})
                self._heed(episode)

    def _metrics(self, pending: list[list[Turn]]) -> None:
        """A row for every member, and their mean for all together."""
        assert self.logger is not None
        rows = []
        for i, logger in enumerate(self.loggers):
            own = [row for turns in pending for row in turns[i].metrics]
            if own:
                rows.append(means(own))
                logger.metrics(rows[-1])
        if rows:
            told = {"population/members": len(self.members), "population/diverged": len(self.failed)}
            self.logger.metrics({**means(rows), **told})

    def _players(self, actor: str) -> Iterator[Player]:
        """One player that becomes every member in turn, so that all play with one compiled program."""
        import jax

        everybody = self.loop.state.params, self.loop.hyper
        count = self.loop.progress
        counters = {"env_steps": count.env_steps, "updates": count.updates}
        for i, own in enumerate(self.members):
            params, hyper = jax.tree.map(lambda x, i=i: x[i], everybody)
            yield self.program.player(params, hyper, actor=actor, config=own, counters=counters)

    def _evaluate(self, episodes: int, actor: str = "greedy") -> dict[str, Any]:
        """Play with every member, on the same seeds."""
        assert self.logger is not None
        results = []
        world = self.program.evaluation_world(episodes)
        how = world, episodes, self.cfg.eval.seed, self.step_limit, self._notice
        for player, logger in zip(self._players(actor), self.loggers, strict=True):
            results.append(evaluate.play(player, *how))
            logger.metrics(evaluate.metrics(results[-1], actor))
        told = evaluate.over_members(results)
        self.logger.metrics(evaluate.metrics(told, actor))
        return {**told, "members": results}

    def _report(self) -> Path:
        """A report card for every member, and a page about all of them."""
        from experiments.report.report import save_card, told, write_many

        numbers = []
        everybody = zip(self._players("sampled"), self.folders, self.loggers, strict=True)
        for player, place, logger in everybody:
            found = self.program.examiner.examine(player, pictures=False)
            save_card(place, found, player)
            numbers.append(found.card.numbers)
            logger.metrics({f"report/{k}": v for k, v in numbers[-1].items() if v is not None})
        return write_many([told(place) for place in self.folders], numbers, self.folder / "report.html")

    def _playable(self) -> Path:
        return self.folders[0]

    def _write_result(self, result: dict[str, Any]) -> None:
        super()._write_result(result)
        done = {k: result[k] for k in ("task", "env_steps", "updates", "seconds", "cpu_seconds")}
        for i, own in enumerate(result.get("members", [])):
            sampled = {"sampled": result["sampled"]["members"][i]}
            row = {"run": str(self.folders[i]), **done, **own, **sampled, "diverged": self.failed.get(i)}
            if self.cfg.until:
                row |= {"until": self.cfg.until, "solved": i in self.solved, "solved_at": self.solved.get(i)}
            sidecar.keep_damaged(self.folders[i] / "result.json")
            session.write_atomically(self.folders[i] / "result.json", jsonlib.dumps(row, indent=1))
