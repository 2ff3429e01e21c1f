"""Text worlds: an observation as words, and words as an action.

What is told is exactly what the agent itself observes: from the words of one step its observation can be
put together again. A privileged text tells more, says so in its version, and is for comparison only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from envs.api import LOG_PREFIX, Spaces, UnsupportedSpace

PRIVILEGED = "-privileged"
"""End of the version of a text that tells more than the agent observes."""


class Text(NamedTuple):
    """One observation in words; both parts together tell all of it."""

    lasting: str
    """What stays in the history."""
    passing: str
    """What is shown for the newest step only."""


class TextWorld(Protocol):
    """How one task is told and played in words."""

    @property
    def version(self) -> str:
        """The name of the text, as "minigrid-1"; any change of any text changes it."""
        ...

    @property
    def privileged(self) -> bool:
        """Whether it tells more than the agent's own observation holds."""
        ...

    @property
    def sees(self) -> str:
        """One sentence for a table: what the reader of this text is told."""
        ...

    @property
    def actions(self) -> tuple[str, ...]:
        """The names a player may answer with, in the order of the action space."""
        ...

    @property
    def default(self) -> str:
        """The action taken when no valid answer came; one that changes nothing, where there is one."""
        ...

    @property
    def rules(self) -> str:
        """For the first message: the world, what the descriptions mean, the goal and every action."""
        ...

    def tell(self, obs: Mapping[str, np.ndarray]) -> Text:
        """The observation of one copy (no batch axis) in words."""
        ...

    def act(self, name: str) -> dict[str, np.ndarray]:
        """The action `{key: [...]}` of one copy (no batch axis) with this name.

        Raises:
          ValueError: there is none.
        """
        ...


@dataclass(frozen=True)
class Teller:
    """A `TextWorld` made of sentences, a table of actions and a function."""

    version: str
    privileged: bool
    sees: str
    actions: tuple[str, ...]
    default: str
    rules: str
    key: str
    """Of the action."""
    names: tuple[str, ...]
    """Of every action there is, the ones not offered included."""
    describe: Callable[[Mapping[str, np.ndarray]], Text]

    def tell(self, obs: Mapping[str, np.ndarray]) -> Text:
        return self.describe(obs)

    def act(self, name: str) -> dict[str, np.ndarray]:
        if name not in self.names:
            raise ValueError(f"there is no action '{name}'; the actions are {', '.join(self.names)}")
        return {self.key: np.asarray(self.names.index(name), np.int32)}


def listed(sentences: Mapping[str, str], names: Sequence[str]) -> str:
    """The actions for the rules, one per line with what each does."""
    return "Actions:\n" + "\n".join(f"- {name}: {sentences[name]}" for name in names)


def joined(parts: Sequence[str], *, last: str = "and") -> str:
    """A list as a sentence has it: "a, b and c"."""
    return f" {last} ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def seen(spaces: Spaces) -> dict:
    """The spaces that an agent observes: all but those for people."""
    return {k: space for k, space in spaces.items() if not k.startswith(LOG_PREFIX)}


def choice(task: str, spaces: Spaces) -> tuple[str, int]:
    """The key of the action and the number of choices.

    Raises:
      UnsupportedSpace: unless an action is one choice.
    """
    (key, space), *more = spaces.items()
    if more or space.shape or space.classes is None:
        kind = "several parts" if more else "numbers" if space.classes is None else "several choices"
        raise UnsupportedSpace(
            f"{task} cannot be played in words: its action has {kind}, and a text world takes one choice"
        )
    return key, space.classes
