"""Answers: which action a reply in words names, and how it was found. What is not there is never guessed.

The ladder, from text alone; the first rung on which the reply names anything decides:

    json     the reply, or a code fence in it, is an object {"action": ...}
    tag      <action>...</action>
    phrase   the name of exactly one action stands in the reply as whole words

Case and whitespace do not matter. Thoughts in <think>...</think> are no part of the answer.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

EMPTY, INVALID, AMBIGUOUS = "empty", "invalid", "ambiguous"

THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
TAG = re.compile(r"<action>([^<]*)</action>", re.IGNORECASE)


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
    text = THOUGHTS.sub(" ", reply or "").strip()
    if not text:
        return Answer(None, EMPTY)
    names = {normalised(action): action for action in actions}
    for rung, read in (("json", _objects), ("tag", TAG.findall)):
        said = {normalised(value) if isinstance(value, str) else None for value in read(text)}
        if said:
            return _only(said, names, rung)
    return _only(_phrases(text, names) or {None}, names, "phrase")


def normalised(text: str) -> str:
    """Text without differences of case and whitespace."""
    return " ".join(text.casefold().split())


def _only(said: set, names: dict[str, str], rung: str) -> Answer:
    if len(said) > 1:
        return Answer(None, AMBIGUOUS)
    (name,) = said
    return Answer(names[name], rung) if name in names else Answer(None, INVALID)


def _objects(text: str) -> list[object]:
    """The actions of all objects that are the text or a code fence in it."""
    actions: list[object] = []
    for part in (text, *FENCE.findall(text)):
        # Deep nesting and numbers of thousands of digits are junk too.
        with contextlib.suppress(ValueError, RecursionError):
            # As pairs, so that an object that says two actions is seen to do so.
            value = json.loads(part, object_pairs_hook=tuple)
            if isinstance(value, tuple):
                actions += [v for k, v in value if k == "action"]
    return actions


def _phrases(text: str, names: dict[str, str]) -> set:
    """The names that stand in the text; of two that begin at the same word the longer one."""
    longest_first = sorted((n for n in names if n), key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    return set(re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", normalised(text))) if pattern else set()
