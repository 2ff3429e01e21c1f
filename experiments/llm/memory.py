"""Notes from episode to episode: after each the model writes a lesson, and later ones are shown what fits.

A note is a line of the transcript of its episode, so resuming a comparison finds it there. Because an episode
depends on those before it, they are played one after the other; what the lessons cost counts with the rest.

Reference: Shinn et al. (2023), Reflexion.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from envs.text import TextWorld
from experiments.llm.client import LLMClient
from experiments.llm.prompt import Protocol
from experiments.llm.transcript import Transcript, call
from experiments.llm.wire import Message, Request

REMEMBERED = 30
"""Last steps of an episode that are told when the lesson is asked for."""
LONGEST_LESSON = 500
"""Characters of a lesson."""
QUESTION = (
    "The episode is over: {outcome}. In at most two sentences, write the lesson that would most help "
    "somebody who plays another episode of this task. Write the lesson only."
)


class Note(NamedTuple):
    """What was learned from one episode."""

    opening: str
    """What its first observation was, by which it is found again."""
    lesson: str


def reflect(
    client: LLMClient,
    world: TextWorld,
    protocol: Protocol,
    transcript: Transcript,
    outcome: str,
    *,
    sample: str = "",
) -> Note | None:
    """Ask for the lesson of the episode in a transcript and write it there; None where nothing came.

    Args:
      outcome: how it ended, as "you failed, with a return of 0.0 after 64 steps".
      sample: as for `policy.LLMPolicy`.

    Raises:
      LLMError: the endpoint failed for good.
      BudgetSpent: nothing more may be asked.
    """
    asked = "\n\n".join((*_told(transcript.lines), QUESTION.format(outcome=outcome)))
    messages = (Message("system", world.rules), Message("user", asked))
    request = Request(messages, protocol.max_output_tokens, protocol.temperature, protocol.seed)
    reply = client.ask(request, sample=f"{sample}/note")
    lesson = " ".join((reply.content or "").split())[:LONGEST_LESSON]
    note = Note(transcript.lines[0]["text"], lesson) if lesson else None
    transcript.write({"note": None if note is None else note._asdict(), "calls": [call(reply, asked)]})
    return note


def notes(lines: Iterable[Mapping[str, Any]]) -> list[Note]:
    """The notes in the lines of transcripts, in their order."""
    return [Note(**line["note"]) for line in lines if line.get("note")]


def similar(candidates: Sequence[Note], opening: str, count: int) -> list[Note]:
    """The notes whose episodes began most like this one, the newer of equals; the best one last.

    Likeness is the share of words that two texts have in common.
    """
    order = sorted(range(len(candidates)), key=lambda i: (_likeness(candidates[i].opening, opening), i))
    return [candidates[i] for i in order[len(order) - min(count, len(order)) :]]


def _likeness(a: str, b: str) -> float:
    ours, theirs = (set(re.findall(r"\w+", text.casefold())) for text in (a, b))
    return len(ours & theirs) / max(1, len(ours | theirs))


def _told(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The last steps in words."""
    steps = [line for line in lines if "step" in line][-REMEMBERED:]
    return [line["text"] + (f"\nYou did: {line['action']}" if "action" in line else "") for line in steps]
