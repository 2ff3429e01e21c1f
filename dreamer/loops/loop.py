"""The interface of every loop, and all that a trainer knows of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dreamer.agent import Params, TrainState
from dreamer.loops.clocks import Progress
from dreamer.loops.outputs import LoopOutput
from dreamer.numbers import Numbers
from dreamer.replay.layout import Layout

Arrays = TrainState | Mapping[str, Any]
"""The learner, or a mapping of its fields and whatever else a loop needs to continue."""


class LoopCheckpoint(NamedTuple):
    """What a checkpoint holds of a loop, beside its progress."""

    arrays: Arrays
    meta: dict[str, Any]
    """Values that JSON can hold."""
    files: Callable[[Path], list[str]] | None
    """Writes files that never change into a folder and returns the names of all that are needed."""


class ReplayFiles(NamedTuple):
    """Where the files of a checkpoint are."""

    folder: Path
    names: list[str]
    parts: list[list[str]] = []
    """The names by the process that wrote them, where several did."""


class Loop(Protocol):
    """Acting and learning, for one agent or a population of them."""

    progress: Progress
    """Progress by both clocks: `env_steps` and `updates`."""
    numbers: Numbers

    @property
    def state(self) -> TrainState:
        """The learner."""
        ...

    def gather_params(self) -> Params:
        """All parameters, whole in this process; called in all of several."""
        ...

    @property
    def layout(self) -> Layout:
        """Of the replay."""
        ...

    def outputs(self) -> Iterator[LoopOutput]:
        """Advance, a little at a time, until its limit is reached or the caller stops iterating.

        Raises:
          EnvError: from the environment; all up to then is stored.
          Diverged: a loss is not finite.
        """
        ...

    def flush(self) -> list[dict[str, float]]:
        """Wait for the update in flight, if there is one, and take it in; its metrics.

        Raises:
          Diverged: it gave a loss that is not finite.
        """
        ...

    def check_finite(self) -> list[dict[str, float]]:
        """Wait for the update in flight without taking it in; its metrics. Changes nothing.

        Raises:
          Diverged: it gave a loss that is not finite.
        """
        ...

    def checkpoint(self) -> LoopCheckpoint:
        """All that `restore` needs to continue bitwise identically."""
        ...

    @property
    def template(self) -> Arrays:
        """Structure, shapes and dtypes of the arrays of a checkpoint, as `jax.ShapeDtypeStruct`s."""
        ...

    def restore(self, arrays: Arrays, meta: Mapping[str, Any], files: ReplayFiles | None) -> None:
        """Continue from a checkpoint; called before the first output.

        Args:
          arrays: in the structure of `template`.
          meta: of the checkpoint: what `checkpoint` gave, with `progress` and `config`.
          files: what `checkpoint().files` wrote; None continues with an empty replay, if it is separate.
        """
        ...

    def set_params(self, params: Params) -> None:
        """Start from these parameters of some modules; called before the first output.

        The rest of the learner is fresh: optimiser, statistics, and a slow critic that copies the critic.

        Args:
          params: {module: parameters} in the shapes of `state.params`; for a population those of one
            member, from which all of them start.
        """
        ...
