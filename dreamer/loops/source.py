"""Where experience comes from: environments that an agent acts in, or other data that fills a replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from dreamer.agent import Params
from dreamer.loops.clocks import Progress
from dreamer.loops.outputs import EpisodeStats


class Collected(NamedTuple):
    """What is known of the latest row of experience."""

    episodes: list[EpisodeStats]
    """Those that ended with it."""
    running_since: int
    """Environment steps when the oldest episode that still runs began."""


class Source(Protocol):
    """Fills the replay of a host loop."""

    def rows(self, progress: Progress) -> Iterator[Collected]:
        """Add one row of steps after the other to the replay, and count them.

        The loop learns between two rows. When there are no more the iterator ends, and the loop continues
        learning from what the replay holds, one update per iteration.

        Args:
          progress: whose `env_steps` and `slots` grow with the rows.

        Raises:
          EnvError: from an environment; all up to then is in the replay.
        """
        ...

    def set_params(self, params: Params) -> None:
        """Act with these parameters from now on: those of the modules that acting needs."""
        ...

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint stores of it."""
        ...

    def restore(self, meta: Mapping[str, Any]) -> None:
        """Continue from a checkpoint with this meta; called before the first row."""
        ...
