"""Answers: which action a reply in words names, and how it was found. What is not there is never guessed.

The ladder, from text alone; the first rung on which the reply names anything decides:

    json     an object {"action": ...}, alone or among other words
    tag      <action>...</action>
    phrase   the name of exactly one action stands in the reply as whole words

An object or tag beats all names in the words around it. Of several that differ, the one that ends the reply
decides if words set it apart from those before; a plain row of them names no single action. Case and
whitespace do not matter. Thoughts are no part of the answer, whether or not their beginning is marked.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

EMPTY, INVALID, AMBIGUOUS = "empty", "invalid", "ambiguous"

OPENS = "opens"
MARKS = re.compile(
    r"(?P<opens><(?:think|thinking|thoughts?|reasoning)>|\[THINK\])"
    r"|(?P<closes></(?:think|thinking|thoughts?|reasoning)>|\[/THINK\]|<\|channel\|>final<\|message\|>)",
    re.IGNORECASE,
)
"""Where thoughts begin and end, as models write it."""
TAG = re.compile(r"<action>([^<]*)</action>", re.IGNORECASE)
NO_WORDS = re.compile(r"(?:<[^<>]*>|[^\w<>])*")
"""What may stand after an answer that ends a reply, and between answers in a row."""
MOST_OBJECTS = 64
"""Braces that are tried, the last ones first."""
LONGEST = 100_000
"""Characters at the end of a reply that are read."""


class Answer(NamedTuple):
    """What a reply says."""

    action: str | None
    """The name of an action, None if there is no valid one."""
    rung: str
    """What gave the action: "json", "tag", "phrase"; else what was wrong: "empty", "invalid", "ambiguous"."""


def parse(reply: str | None, actions: Sequence[str]) -> Answer:
    """Find the action that a reply names, or say why there is none.

    Args:
      reply: what a model said; None for nothing.
      actions: the names that are allowed.
    """
    text = without_thoughts(reply or "")[0].strip()[-LONGEST:]
    if not text:
        return Answer(None, EMPTY)
    names = {normalised(action): action for action in actions}
    for rung, read in (("json", _objects), ("tag", _tags)):
        if answers := read(text):
            return _only(_decisive(text, answers), names, rung)
    return _only(_phrases(text, names) or {None}, names, "phrase")


def without_thoughts(text: str) -> tuple[str, str]:
    """A reply without its thoughts, and the thoughts.

    An end without a beginning ends a thought that began with the text; one without an end lasts to the end.
    """
    kept: list[str] = []
    thoughts: list[str] = []
    position, inside = 0, False
    for mark in MARKS.finditer(text):
        opens = mark.lastgroup == OPENS
        if inside and opens:
            continue
        part = text[position : mark.start()]
        if opens:
            kept.append(part)
        else:
            thoughts += [part] if inside else [*kept, part]
            kept = kept if inside else []
        position, inside = mark.end(), opens
    (thoughts if inside else kept).append(text[position:])
    return " ".join(kept).lstrip() if position else text, "\n".join(filter(None, map(str.strip, thoughts)))


def normalised(text: str) -> str:
    """Text without differences of case and whitespace."""
    return " ".join(text.casefold().split())


def _only(candidates: set, names: dict[str, str], rung: str) -> Answer:
    if len(candidates) > 1:
        return Answer(None, AMBIGUOUS)
    (name,) = candidates
    return Answer(names[name], rung) if name in names else Answer(None, INVALID)


class Explicit(NamedTuple):
    """An answer that is marked as one, and where it stands."""

    start: int
    end: int
    action: str | None
    """Normalised; None: something that is no text."""


def _decisive(text: str, answers: Sequence[Explicit]) -> set[str | None]:
    """What the answers of a reply say: the one that ends it, if words set it apart, else all of them."""
    actions = {answer.action for answer in answers}
    *before, last = sorted(answers, key=lambda answer: answer.end)
    apart = [answer for answer in before if answer.end <= last.start]
    ends = NO_WORDS.fullmatch(text, last.end) is not None
    if (
        len(apart) < len(before)
        or not apart
        or not ends
        or NO_WORDS.fullmatch(text, apart[-1].end, last.start)
    ):
        return actions
    return {last.action}


def _objects(text: str) -> list[Explicit]:
    """The actions of all objects in the text."""
    # As pairs, so that an object that says two actions is seen to do so.
    decoder = json.JSONDecoder(object_pairs_hook=tuple)
    answers: list[Explicit] = []
    starts = [match.start() for match in re.finditer(r"\{", text)][-MOST_OBJECTS:]
    for start in reversed(starts):
        # Deep nesting and numbers of thousands of digits are junk.
        with contextlib.suppress(ValueError, RecursionError):
            value, end = decoder.raw_decode(text, start)
            actions = [v for k, v in value if k.casefold() == "action"]
            answers += [Explicit(start, end, _text(action)) for action in actions]
    return answers


def _tags(text: str) -> list[Explicit]:
    return [Explicit(*tag.span(), normalised(tag.group(1))) for tag in TAG.finditer(text)]


def _text(value: object) -> str | None:
    return normalised(value) if isinstance(value, str) else None


def _phrases(text: str, names: dict[str, str]) -> set:
    """The names that stand in the text; of two that begin at the same word the longer one."""
    longest_first = sorted((n for n in names if n), key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    return set(re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", normalised(text))) if pattern else set()
