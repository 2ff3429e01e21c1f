"""What a model is told: the protocol, the first message, and how much of the past stays.

The past is only appended to; when it is full its older half goes at once. So the beginning of the prompt is
the same for many steps, and a server that remembers prefixes need not read it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, get_args

from dreamer.schema import ConfigError
from envs.text import TextWorld
from experiments.llm.wire import Message, answer

VERSION = "prompt-1"
"""Of every sentence in this file; any change of any of them changes it."""

Mode = Literal["zero-shot", "few-shot", "chain-of-thought"]


@dataclass(frozen=True)
class Protocol:
    """How a model is asked; fixed before anything is played."""

    mode: Mode = "zero-shot"
    """few-shot shows it steps of another player, chain-of-thought lets it write down its thoughts."""
    shots: int = 0
    """Steps that few-shot shows."""
    history: int = 16
    """Largest number of its own past steps that it is shown."""
    temperature: float | None = 0.0
    """None: not sent, as models that reason ask for."""
    max_output_tokens: int = 512
    """Of one reply, hidden reasoning included."""
    structured: bool = True
    """Ask the server to write valid actions only; not with chain-of-thought, which needs other words too."""
    notes: int = 0
    """Lessons from earlier episodes that it is shown (0: none are written, which costs nothing)."""
    seed: int | None = None
    """Sent where it is set."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"there is no mode {self.mode!r}; there are {', '.join(get_args(Mode))}")
        if (self.mode == "few-shot") != (self.shots > 0):
            raise ConfigError("few-shot needs a number of shots above 0, and no other mode has any")
        if self.history < 0 or self.notes < 0 or self.max_output_tokens < 1:
            raise ConfigError("history and notes are at least 0, max_output_tokens at least 1")

    @property
    def thinks(self) -> bool:
        """Whether the model writes down its thoughts before it answers."""
        return self.mode == "chain-of-thought"

    @property
    def constrained(self) -> bool:
        """Whether the server is asked to write valid actions only."""
        return self.structured and not self.thinks

    @property
    def digest(self) -> str:
        """A name for all of this: 12 hexadecimal digits."""
        return _digest(VERSION, json.dumps(asdict(self), sort_keys=True))


class Demonstration(NamedTuple):
    """What a player that knows the task did in one step."""

    text: str
    action: str


class Past(NamedTuple):
    """A step of this episode that is over."""

    asked: str
    """What stays of what the model was told."""
    answered: str
    """What it is shown to have answered: the action that was taken."""
    thought: str
    """The same with the thoughts before it, where it wrote some."""


def prompt_hash(world: TextWorld, protocol: Protocol, demonstrations: Sequence[Demonstration] = ()) -> str:
    """A name for what a model is told before the first observation, notes apart: 12 hexadecimal digits."""
    return _digest(protocol.digest, world.version, system(world, protocol, demonstrations))


def system(
    world: TextWorld,
    protocol: Protocol,
    demonstrations: Sequence[Demonstration] = (),
    lessons: Sequence[str] = (),
) -> str:
    """The first message: the rules, what others did, what was learned before, and how to answer."""
    parts = [world.rules]
    if shown := demonstrations[: protocol.shots]:
        steps = "\n\n".join(f"{step.text}\n{answer(step.action)}" for step in shown)
        parts.append(f"Examples, from somebody who does it well:\n\n{steps}")
    if lessons:
        parts.append("Lessons from earlier episodes:\n" + "\n".join(f"- {lesson}" for lesson in lessons))
    parts.append(_format(world.actions, protocol.thinks))
    return "\n\n".join(parts)


def written(action: str, thinks: bool) -> str:
    """An action as an answer."""
    return f"<action>{action}</action>" if thinks else answer(action)


def _format(actions: Sequence[str], thinks: bool) -> str:
    names = ", ".join(actions)
    if thinks:
        return (
            "In every turn, first think in a few sentences about what you see and what to do. Then end with "
            f"one action in tags, for example {written(actions[0], thinks)}. The actions are: {names}."
        )
    return (
        "Answer every turn with one JSON object and nothing else, for example "
        f"{written(actions[0], thinks)}. The actions are: {names}."
    )


def defaulted(action: str) -> str:
    """What the model is told after a step without a valid answer."""
    return f"Your last answer was not valid, so {action} was done instead."


def again(wrong: str, actions: Sequence[str], thinks: bool) -> str:
    """The question after an answer that was not valid."""
    reasons = {
        "empty": "Your answer was empty.",
        "truncated": "Your answer was too long and was cut off.",
        "ambiguous": "Your answer named more than one action.",
        "invalid": "Your answer named none of the actions.",
    }
    return f"{reasons[wrong]} {_format(actions, thinks)}"


def trimmed(past: tuple[Past, ...], history: int) -> tuple[Past, ...]:
    """The past without its older half once it is longer than it may be."""
    if len(past) <= history:
        return past
    keep = (history + 1) // 2
    return past[len(past) - keep :]


def conversation(first: str, past: Sequence[Past], asked: str) -> tuple[Message, ...]:
    """The messages of one request; of the thoughts only the newest is kept.

    Args:
      first: the first message.
      asked: the newest observation, its passing part included.
    """
    messages = [Message("system", first)]
    for index, step in enumerate(past):
        newest = index == len(past) - 1
        messages += [
            Message("user", step.asked),
            Message("assistant", step.thought if newest else step.answered),
        ]
    return (*messages, Message("user", asked))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
