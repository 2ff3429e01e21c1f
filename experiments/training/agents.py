"""What a run trains: one agent here, many in `population`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from envs.api import spaces_to
from experiments.training import collapse
from experiments.training.folder import write_result

if TYPE_CHECKING:
    from dreamer.logger import Logger
    from dreamer.loops.loop import Loop
    from dreamer.loops.outputs import LoopOutput
    from dreamer.player import Player
    from experiments.training.evaluator import Evaluator
    from experiments.training.folder import RunFolder
    from experiments.training.goal import Until
    from experiments.training.workspace import Workspace

T = TypeVar("T")


class Agents(Protocol[T]):
    """The agents that one loop trains, and how they are logged, evaluated and reported."""

    @property
    def loop(self) -> Loop:
        """What trains them."""
        ...

    @property
    def size(self) -> str:
        """Parameters, environments and replay, as text."""
        ...

    @property
    def loggers(self) -> Sequence[Logger]:
        """Every log, the shared one last."""
        ...

    def outputs(self) -> Iterator[T]:
        """Advance the loop until its steps are done."""
        ...

    def collect(self, output: T) -> None:
        """Log the episodes of an output, and keep its metrics for the next row."""
        ...

    def flush(self) -> None:
        """Collect the metrics of updates still in flight."""
        ...

    @property
    def has_metrics(self) -> bool:
        """Whether there is something for a row of metrics."""
        ...

    def log(self) -> None:
        """A row of the metrics of all updates since the last one."""
        ...

    @property
    def is_solved(self) -> bool:
        """Whether `until` is reached."""
        ...

    @property
    def failure(self) -> str:
        """Why no agent can continue; empty while one can."""
        ...

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint stores besides the loop."""
        ...

    def follow(self, solved: dict[str, Any]) -> None:
        """In another process than the first: take over what that has seen of `until`."""
        ...

    def check(self) -> None:
        """Check which agents have reached `until`."""
        ...

    def evaluate(self, episodes: int, *, actor: str = "greedy") -> dict[str, Any]:
        """Play with the actor of that name, and log the summary."""
        ...

    def report(self) -> Path:
        """Measure the report card of the world model, log its numbers, and write the page."""
        ...

    def write_result(self, result: dict[str, Any]) -> None:
        """Write the result of the run."""
        ...

    @property
    def playable(self) -> Path:
        """A folder whose agent can be played with."""
        ...


class OneAgent:
    """A run of one agent."""

    failure = ""
    """Its loop raises."""

    def __init__(self, folder: RunFolder, workspace: Workspace, loop: Loop, evaluator: Evaluator):
        self.folder, self.workspace, self.loop, self.evaluator = folder, workspace, loop, evaluator
        self.until: Until = evaluator.until
        self._collapse = collapse.of(folder.path)
        self._rows: list[dict[str, float]] = []

    @property
    def size(self) -> str:
        return size(self.loop)

    @property
    def loggers(self) -> Sequence[Logger]:
        return [self.folder.logger]

    def outputs(self) -> Iterator[LoopOutput]:
        return self.loop.outputs()

    def collect(self, output: LoopOutput) -> None:
        progress = self.loop.progress
        self.folder.logger.tick(progress.env_steps, progress.updates, output.running_since)
        for episode in output.episodes:
            self.folder.episode(episode)
            self.until.hear(episode)
        self._rows += output.metrics

    def flush(self) -> None:
        self._rows += self.loop.flush()

    @property
    def has_metrics(self) -> bool:
        return bool(self._rows)

    def log(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            row = means(rows)
            self.folder.logger.metrics({**row, "cpu_seconds": round(self.folder.cpu_seconds, 3)})
            if text := self._collapse.hear(row):
                self.folder.notice(text)

    @property
    def is_solved(self) -> bool:
        return bool(self.until.solved)

    @property
    def meta(self) -> dict[str, Any]:
        return meta(self.workspace, self.until)

    def follow(self, solved: dict[str, Any]) -> None:
        """It sees for itself."""

    def check(self) -> None:
        if self.loop.progress.updates and self.until.is_reachable:
            self.evaluator.check(self._player(), self.folder.logger, self.loop.progress)

    def evaluate(self, episodes: int, *, actor: str = "greedy") -> dict[str, Any]:
        return self.evaluator.play(self._player(actor), self.folder.logger, episodes, actor=actor)

    def report(self) -> Path:
        from experiments.report.report import read_run, write_run

        player = self._player(actor="sampled")
        examination = self.workspace.examiner.examine(player)
        numbers = {f"report/{k}": v for k, v in examination.numbers.items() if v is not None}
        self.folder.logger.metrics(numbers)
        return write_run(read_run(self.folder.path), examination, player)

    def write_result(self, result: dict[str, Any]) -> None:
        write_result(self.folder.path, result)

    @property
    def playable(self) -> Path:
        return self.folder.path

    def _player(self, actor: str = "greedy") -> Player:
        from dreamer.placement import on_one

        progress, numbers = self.loop.progress, self.loop.numbers
        params = on_one(self.loop.gather_params())
        counters = {"env_steps": progress.env_steps, "updates": progress.updates}
        return self.workspace.player(params, numbers, actor=actor, config=self.folder.cfg, counters=counters)


def meta(workspace: Workspace, until: Until) -> dict[str, Any]:
    """What a checkpoint stores besides its loop: the spaces of the task, and which agents reached `until`."""
    env = workspace.env
    spaces = {"obs_space": spaces_to(env.obs_space), "act_space": spaces_to(env.act_space)}
    return {**spaces, "solved": until.meta}


def size(loop: Loop) -> str:
    """Parameters, environments and replay of a loop, as text."""
    from dreamer.agent import size as parameters

    layout = loop.layout
    return (
        f"{parameters(loop.state.params):,} parameters, {layout.num_envs} environments, replay of at most "
        f"{layout.capacity_per_env * layout.num_envs:,} steps ({layout.nbytes / 2**20:,.0f} MB)"
    )


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric over rows that all have the same."""
    return {k: sum(row[k] for row in rows) / len(rows) for k in rows[0]}
