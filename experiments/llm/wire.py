"""What goes over the wire: a request and a reply, and how two kinds of endpoint write them.

An `Api` is data and pure functions, so that whoever sends knows nothing of the format and the formats know
nothing of sending.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

SCHEMA, GRAMMAR = "schema", "grammar"
"""Ways in which a server can be made to write nothing but a valid answer."""
ANTHROPIC_VERSION = "2023-06-01"
TOOL = "act"
"""How the answer is called where it is the input of a tool."""


class Broken(ValueError):
    """A body that is no reply; the message says what is missing."""


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    """system, user or assistant."""
    content: str


class Request(NamedTuple):
    """What a model is asked."""

    messages: tuple[Message, ...]
    """The system message first, if there is one."""
    max_tokens: int
    """Largest number of tokens of the reply, hidden reasoning included."""
    temperature: float | None = None
    """None: not sent, so the endpoint's own."""
    seed: int | None = None
    """Sent where it is set; endpoints promise little about it."""
    actions: tuple[str, ...] = ()
    """The only valid answers, where the reply is to be `{"action": one of these}`."""


class Usage(NamedTuple):
    """Tokens as the provider counted them."""

    input: int
    """The whole prompt, whatever a cache of the provider's did for it."""
    output: int
    """All that is billed as output, hidden reasoning included."""
    cached: int | None = None
    """Those of the input that were read from a cache (None: not told)."""
    written: int | None = None
    """Those of the input that were written to one, where that has a price of its own (None: not told)."""
    reasoning: int | None = None
    """Those of the output that nobody sees (None: not told)."""


class Reply(NamedTuple):
    """What a model answered, and what is known about it."""

    content: str | None
    """Its words; None or empty is a failure of the model, not of the endpoint."""
    reasoning: str | None = None
    """What it thought before, where the endpoint shows that."""
    finish_reason: str | None = None
    """`length` where it was cut short, in every format."""
    usage: Usage | None = None
    """None: the provider did not tell, which is not 0."""
    usd: float | None = None
    """What it cost by the price table (None: unknown)."""
    model: str | None = None
    """The model as it was served, which an alias does not say."""
    request_id: str | None = None
    fingerprint: str | None = None
    constraint: str | None = None
    """How the server was asked to write only valid answers: schema, grammar or None."""
    latency: float = 0.0
    """Seconds of the attempt that succeeded."""
    failures: tuple[str, ...] = ()
    """What went wrong in the attempts before."""
    replayed: bool = False
    """Whether it comes from the cache, so that nobody paid for it again."""
    repeated: bool = False
    """Whether it was given to an equal request of another step, so that this step cost nothing."""


class Api(NamedTuple):
    """A kind of endpoint."""

    base_url: str
    """Where its own provider is."""
    base_url_env: str
    """The environment variable that may say another place."""
    key_env: str
    """The environment variable that usually holds the key."""
    path: str
    """What follows the base address."""
    constraints: tuple[str, ...]
    """What it may understand, the best first."""
    headers: Callable[[str], dict[str, str]]
    """From a key (empty: none)."""
    encode: Callable[[Request, str, str | None, str], dict[str, Any]]
    """From a request, model, constraint and the name of the field that limits the output, to the body."""
    decode: Callable[[Any], Reply]
    """From the body of an answer; raises `Broken`."""


def schema(actions: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of a valid answer."""
    return {
        "type": "object",
        "properties": {"action": {"type": "string", "enum": list(actions)}},
        "required": ["action"],
        "additionalProperties": False,
    }


def grammar(actions: Sequence[str]) -> str:
    """The same as a GBNF grammar: an object with one of the actions, written as `answer` writes it."""
    return "root ::= " + " | ".join(json.dumps(answer(action)) for action in actions)


def answer(action: str) -> str:
    """A valid answer."""
    return json.dumps({"action": action})


def _openai_headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _openai_encode(request: Request, model: str, constraint: str | None, tokens_field: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [message._asdict() for message in request.messages],
        tokens_field or "max_tokens": request.max_tokens,
    }
    body |= _told(temperature=request.temperature, seed=request.seed)
    if constraint == SCHEMA:
        named = {"name": TOOL, "strict": True, "schema": schema(request.actions)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if constraint == GRAMMAR:
        body["grammar"] = grammar(request.actions)
    return body


def _openai_decode(body: Any) -> Reply:
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content, inside = _split(_words(message.get("content")))
        return Reply(
            content=content,
            reasoning=_text(message.get("reasoning_content")) or _text(message.get("reasoning")) or inside,
            finish_reason=_text(choice.get("finish_reason")),
            usage=_openai_usage(body.get("usage")),
            model=_text(body.get("model")),
            request_id=_text(body.get("id")),
            fingerprint=_text(body.get("system_fingerprint")),
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Broken(_complaint(body, "choices[0].message")) from None


def _openai_usage(told: Any) -> Usage | None:
    """Some providers leave hidden reasoning out of `completion_tokens`, but none out of `total_tokens`."""
    if not isinstance(told, Mapping):
        return None
    prompt, completion = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    total = _count(told.get("total_tokens")) or 0
    return Usage(
        input=prompt,
        output=max(completion, total - prompt),
        cached=_count(_inside(told, "prompt_tokens_details", "cached_tokens")),
        reasoning=_count(_inside(told, "completion_tokens_details", "reasoning_tokens")),
    )


def _anthropic_headers(key: str) -> dict[str, str]:
    return {"anthropic-version": ANTHROPIC_VERSION} | ({"x-api-key": key} if key else {})


def _anthropic_encode(
    request: Request, model: str, constraint: str | None, tokens_field: str
) -> dict[str, Any]:
    system = "\n\n".join(m.content for m in request.messages if m.role == "system")
    body: dict[str, Any] = {
        "model": model,
        "messages": [m._asdict() for m in request.messages if m.role != "system"],
        tokens_field or "max_tokens": request.max_tokens,
    }
    body |= _told(system=system or None, temperature=request.temperature)
    if constraint == SCHEMA:
        tool = {"name": TOOL, "description": "Act in the world.", "input_schema": schema(request.actions)}
        body |= {"tools": [tool], "tool_choice": {"type": "tool", "name": TOOL}}
    return body


def _anthropic_decode(body: Any) -> Reply:
    try:
        blocks = body["content"]
        said = [block["text"] for block in blocks if block["type"] == "text"]
        done = [json.dumps(block["input"]) for block in blocks if block["type"] == "tool_use"]
        thought = [block["thinking"] for block in blocks if block["type"] == "thinking"]
        stopped = _text(body.get("stop_reason"))
        return Reply(
            content=done[0] if done else _clean("".join(said)) if said else None,
            reasoning=_text("\n".join(thought)),
            finish_reason="length" if stopped == "max_tokens" else stopped,
            usage=_anthropic_usage(body.get("usage")),
            model=_text(body.get("model")),
            request_id=_text(body.get("id")),
        )
    except (KeyError, TypeError, AttributeError):
        raise Broken(_complaint(body, "content")) from None


def _anthropic_usage(told: Any) -> Usage | None:
    """Here `input_tokens` is what no cache had a part in."""
    if not isinstance(told, Mapping):
        return None
    fresh, output = _count(told.get("input_tokens")), _count(told.get("output_tokens"))
    if fresh is None or output is None:
        return None
    cached = _count(told.get("cache_read_input_tokens"))
    written = _count(told.get("cache_creation_input_tokens"))
    return Usage(fresh + (cached or 0) + (written or 0), output, cached, written)


def _told(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: Any) -> str | None:
    return _clean(value) if isinstance(value, str) and value else None


def _clean(text: str) -> str:
    """Text that can be written down: halves of a character, which JSON can say, cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _inside(told: Mapping[str, Any], group: str, name: str) -> Any:
    details = told.get(group)
    return details.get(name) if isinstance(details, Mapping) else None


def _words(content: Any) -> str | None:
    """The words of a message, which some servers send in parts."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    return _clean(content) if isinstance(content, str) else None


def _split(content: str | None) -> tuple[str | None, str | None]:
    """The answer and the thought before it, which some servers leave in the words between `<think>` tags."""
    start, end = "<think>", "</think>"
    if content is None or not content.lstrip().startswith(start):
        return content, None
    thought, _, rest = content.lstrip()[len(start) :].partition(end)
    return rest.lstrip(), thought.strip() or None


def _complaint(body: Any, missing: str) -> str:
    """What is wrong with an answer that is no reply: the error it tells, else what it lacks."""
    return error_in(body) or f"a reply without {missing}"


def error_in(body: Any) -> str | None:
    """What the endpoint itself says went wrong."""
    error = body.get("error") if isinstance(body, Mapping) else None
    error = error.get("message") if isinstance(error, Mapping) else error
    if isinstance(body, Mapping) and error is None:
        error = body.get("message") or body.get("detail")
    return _text(error)


APIS = {
    "openai": Api(
        base_url="https://api.openai.com/v1",
        base_url_env="OPENAI_BASE_URL",
        key_env="OPENAI_API_KEY",
        path="/chat/completions",
        constraints=(SCHEMA, GRAMMAR),
        headers=_openai_headers,
        encode=_openai_encode,
        decode=_openai_decode,
    ),
    "anthropic": Api(
        base_url="https://api.anthropic.com/v1",
        base_url_env="ANTHROPIC_BASE_URL",
        key_env="ANTHROPIC_API_KEY",
        path="/messages",
        constraints=(SCHEMA,),
        headers=_anthropic_headers,
        encode=_anthropic_encode,
        decode=_anthropic_decode,
    ),
}
"""Chat completions, which nearly everybody speaks, and Anthropic's messages."""
