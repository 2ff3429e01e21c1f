"""A language model that plays: told in words, asked for an action, never moved silently.

From a reply to an action, and what each step records as its `rung`:

    schema, grammar     the server was asked to write nothing but a valid answer, and did
    json, tag, phrase   the answer was found in free words
    default             two replies had none: the declared action of the world was taken, counted apart
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dreamer.schema import ConfigError
from envs.api import Step
from envs.text import TextWorld, parse
from experiments.llm import prompt
from experiments.llm.budget import BudgetSpent
from experiments.llm.client import LLMClient, LLMError
from experiments.llm.memory import Note, similar
from experiments.llm.prompt import Demonstration, Past, Protocol
from experiments.llm.transcript import COUNTED, Transcript, call
from experiments.llm.wire import Message, Reply, Request

DEFAULT = "default"
TRUNCATED = "truncated"
ASKS = 2
"""Times that a model is asked in one step."""


class Memory(NamedTuple):
    """What the player carries from step to step."""

    step: int
    """Steps of the episode so far."""
    first: str
    """The first message."""
    past: tuple[Past, ...]
    """What it is shown of its own steps."""
    missed: str | None
    """The action that stood in for an answer in the last step, if one did."""


class Decision(NamedTuple):
    """What a step came to."""

    action: str
    rung: str
    words: str
    """The reply that named the action, or a valid answer with the default."""
    flaws: dict[str, bool]
    """What was wrong on the way, by the names of `transcript.COUNTED`."""


class LLMPolicy:
    """An `envs.api.Policy` for one copy of an environment.

    Args:
      demonstrations: at least as many as the protocol shows.
      notes: lessons of earlier episodes, of which the protocol's number of most similar ones is shown.
      transcript: gets a line per step.
      sample: tells this episode from others in the cache, as "task/seed": each is a sample of its own.
      max_steps: where the episode will be cut short, so that no action is asked for that is not taken.

    Raises:
      ConfigError: there are too few demonstrations.
    """

    def __init__(
        self,
        client: LLMClient,
        world: TextWorld,
        protocol: Protocol,
        *,
        demonstrations: Sequence[Demonstration] = (),
        notes: Sequence[Note] = (),
        transcript: Transcript | None = None,
        sample: str = "",
        max_steps: int | None = None,
    ):
        if len(demonstrations) < protocol.shots:
            raise ConfigError(
                f"{protocol.shots} shots need as many demonstrations, not {len(demonstrations)}"
            )
        self._client, self._world, self._protocol = client, world, protocol
        self._demonstrations, self._notes = demonstrations, notes
        self._transcript, self._sample, self._max_steps = transcript, sample, max_steps

    def init(self, batch: int) -> Memory:
        """Nothing seen yet.

        Raises:
          ValueError: there is more than one copy.
        """
        if batch != 1:
            raise ValueError(f"a language model plays one episode at a time, not {batch}")
        return Memory(0, "", (), None)

    def act(self, carry: Memory, step: Step, *, key: Any) -> tuple[Mapping[str, np.ndarray], Memory]:
        """Tell the model what there is and take the action that it names.

        Args:
          key: not used; the model's chance is its own.

        Raises:
          LLMError: the endpoint failed for good.
          BudgetSpent: nothing more may be asked.
        """
        text = self._world.tell({name: np.asarray(value)[0] for name, value in step.obs.items()})
        starts = bool(step.is_first[0])
        if starts:
            carry = Memory(0, self._system(text.lasting), (), None)
        line: dict[str, Any] = {"step": carry.step} | ({"system": carry.first} if starts else {})
        note = None if carry.missed is None else prompt.defaulted(carry.missed)
        lasting, asked = (_joined(note, words) for words in (text.lasting, _joined(*text)))
        line |= {"text": asked, "shown": len(carry.past), "reward": float(step.reward[0])}
        line |= {"is_last": bool(step.is_last[0]), "is_terminal": bool(step.is_terminal[0])}
        if line["is_last"] or carry.step == self._max_steps:
            self._write(line)
            return _batched(self._world.act(self._world.default)), carry
        messages = prompt.conversation(carry.first, carry.past, asked)
        calls = line["calls"] = list[dict[str, Any]]()
        try:
            decision = self._decide(messages, carry.step, calls)
        except (LLMError, BudgetSpent):
            self._write(line)  # what was paid for in a step that came to nothing counts, too
            raise
        self._write(line | {"action": decision.action, "rung": decision.rung} | decision.flaws)
        defaults = decision.rung == DEFAULT
        done = Past(lasting, prompt.written(decision.action, self._protocol.thinks), decision.words)
        past = prompt.trimmed((*carry.past, done), self._protocol.history)
        carry = Memory(carry.step + 1, carry.first, past, decision.action if defaults else None)
        return _batched(self._world.act(decision.action)), carry

    def _system(self, opening: str) -> str:
        chosen = similar(self._notes, opening, self._protocol.notes)
        lessons = [note.lesson for note in chosen]
        return prompt.system(self._world, self._protocol, self._demonstrations, lessons)

    def _decide(self, messages: tuple[Message, ...], step: int, calls: list[dict[str, Any]]) -> Decision:
        """Ask, ask once more where the answer is not valid, and else take the default.

        Args:
          calls: gets every call as it is answered.
        """
        actions, thinks = self._world.actions, self._protocol.thinks
        flaws = dict.fromkeys(COUNTED, False)
        asked = None
        for ask in range(ASKS):
            reply = self._client.ask(self._request(messages), sample=f"{self._sample}/{step}/{ask}")
            calls.append(call(reply, asked))
            action, rung = judge(reply, actions)
            flaws[TRUNCATED] |= reply.finish_reason == "length"
            if action is not None:
                return Decision(action, rung, _kept(reply, action, thinks), flaws)
            flaws["empty"] |= not (reply.content or "").strip()
            flaws["invalid"] |= rung not in (TRUNCATED, "empty")
            if ask < ASKS - 1:
                flaws["reasked"] = True
                asked = prompt.again(rung, actions, thinks)
                messages = _followed(messages, reply.content, asked)
        flaws["defaulted"] = True
        default = self._world.default
        return Decision(default, DEFAULT, prompt.written(default, thinks), flaws)

    def _request(self, messages: tuple[Message, ...]) -> Request:
        p = self._protocol
        actions = self._world.actions if p.constrained else ()
        return Request(messages, p.max_output_tokens, p.temperature, p.seed, actions)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._transcript is not None:
            self._transcript.write(line)


def judge(reply: Reply, actions: Sequence[str]) -> tuple[str | None, str]:
    """The action that a reply names and the rung that gave it, or what is wrong with it.

    A reply that was cut short may break off in the middle of a thought: only an explicit answer counts there.
    """
    action, rung = parse(reply.content, actions)
    cut = reply.finish_reason == "length"
    if action is None or (cut and rung == "phrase"):
        return None, TRUNCATED if cut else rung
    return action, reply.constraint if reply.constraint and rung == "json" else rung


def _kept(reply: Reply, action: str, thinks: bool) -> str:
    """What the newest answer looks like in the next prompt: as it was, where thoughts are kept."""
    return (reply.content or "").strip() if thinks else prompt.written(action, thinks)


def _followed(messages: tuple[Message, ...], content: str | None, asked: str) -> tuple[Message, ...]:
    """The conversation with a reply and a further question; without a reply, the last question goes on."""
    if content and content.strip():
        return (*messages, Message("assistant", content), Message("user", asked))
    *before, last = messages  # two messages of one speaker in a row are refused by many
    return (*before, Message(last.role, _joined(last.content, asked)))


def _joined(*parts: str | None) -> str:
    return "\n".join(part for part in parts if part)


def _batched(action: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value)[None] for name, value in action.items()}
