"""What a run's other processes do of it: they train and save, and leave words and games to process 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamer.logger import Logger
    from dreamer.loops.loop import Loop
    from dreamer.loops.outputs import LoopOutput
    from experiments.training.folder import RunFolder


class Follower:
    """An `Agents` that logs and plays nothing, in every process of a run but the first."""

    failure = ""
    """Its loop raises."""
    size = ""
    loggers: Sequence[Logger] = ()
    has_metrics = False

    def __init__(self, folder: RunFolder, loop: Loop):
        self.folder, self.loop = folder, loop
        self.is_solved = False

    def outputs(self) -> Iterator[LoopOutput]:
        return self.loop.outputs()

    def collect(self, output: LoopOutput) -> None:
        """Process 0 logs it."""

    def flush(self) -> None:
        self.loop.flush()

    def log(self) -> None:
        """Process 0 does."""

    @property
    def meta(self) -> dict[str, Any]:
        """Process 0 writes it."""
        return {}

    def follow(self, solved: dict[str, Any]) -> None:
        """Take over what process 0 has seen of `until`."""
        self.is_solved = bool(solved["members"])

    def check(self) -> None:
        """Process 0 plays."""

    def evaluate(self, episodes: int, *, actor: str = "greedy") -> dict[str, Any]:
        """Process 0 plays."""
        return {}

    def report(self) -> Path:
        """Process 0 reports."""
        return self.folder.path

    def write_result(self, result: dict[str, Any]) -> None:
        """Process 0 does."""

    @property
    def playable(self) -> Path:
        return self.folder.path
