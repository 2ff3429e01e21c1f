"""What goes over the wire: a request and a reply, and how two kinds of endpoint write them.

An `Api` is data and pure functions, so that the sender knows nothing of the format and the formats know
nothing of sending.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from envs.text.answers import without_thoughts

SCHEMA, GRAMMAR = "schema", "grammar"
"""Ways in which a server can be made to write nothing but a valid answer."""
ANTHROPIC_VERSION = "2023-06-01"
TOOL = "act"
"""How the answer is called where it is the input of a tool."""
CUT = ("length", "max_tokens", "max_output_tokens", "model_length")
"""What formats and their gateways say of a reply that was cut short."""
THOUGHT = ("thinking", "reasoning", "redacted_thinking")
"""Parts of a message that are no answer."""


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
    """Those of the input that were read from a cache (None: not reported)."""
    written: int | None = None
    """Those of the input that were written to one, where that has a price of its own (None: not reported)."""
    reasoning: int | None = None
    """Those of the output that are hidden (None: not reported)."""


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
    """Whether it comes from the cache, so that it was not paid for again."""
    repeated: bool = False
    """Whether it was given to an equal request of another step, so that this step cost nothing."""
    unsent: tuple[str, ...] = ()
    """Fields that were left out because the endpoint refuses them."""
    lost: Usage | None = None
    """The most that attempts before may be billed for although no reply of theirs arrived whole."""
    lost_usd: float | None = None
    """What that costs at most by the price table (None: nothing was lost, or the price is unknown)."""


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
        if "choices" not in body and "output" in body:
            return _responses_decode(body)
        choice = body["choices"][0]
        message = choice["message"]
        words, thought = _words(message.get("content"))
        shown = _text(message.get("reasoning_content")) or _text(message.get("reasoning")) or thought
        return _reply(
            body,
            words=words if words else _text(message.get("refusal")) or words,
            calls=_calls(message),
            reasoning=shown,
            stopped=_text(choice.get("finish_reason")),
            usage=_openai_usage(body.get("usage")),
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Broken(_complaint(body, "choices[0].message")) from None


def _responses_decode(body: Any) -> Reply:
    """The form of OpenAI's Responses, which some gateways answer in."""
    parts = [part for item in body["output"] if item["type"] == "message" for part in item["content"]]
    words, thought = _words(parts)
    called = [item["arguments"] for item in body["output"] if item["type"] == "function_call"]
    incomplete = body.get("incomplete_details") or {}
    return _reply(
        body,
        words=words if parts else None,
        calls=[_arguments(arguments) for arguments in called],
        reasoning=thought,
        stopped=_text(incomplete.get("reason")) or _text(body.get("status")),
        usage=_openai_usage(body.get("usage")),
    )


def _calls(message: Mapping[str, Any]) -> list[str]:
    """The inputs of the tools that a message calls."""
    functions = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    return [_arguments(f.get("arguments")) for f in (*functions, message.get("function_call") or {})]


def _arguments(value: Any) -> str:
    """The input of a tool as text: endpoints send JSON as text or as itself."""
    return value if isinstance(value, str) else json.dumps(value) if value else ""


def _reply(
    body: Mapping[str, Any],
    *,
    words: str | None,
    calls: Sequence[str],
    reasoning: str | None,
    stopped: str | None,
    usage: Usage | None,
) -> Reply:
    """A reply from its parts: a tool's input is the answer, and words beside it are a thought."""
    # One line each: several calls name several actions, which is no answer.
    called = "\n".join(filter(None, calls))
    content, inside = (words, "") if words is None else without_thoughts(words)
    thoughts = [reasoning or inside, content] if called else [reasoning or inside]
    return Reply(
        content=_clean(called) if called else content,
        reasoning="\n".join(filter(None, thoughts)) or None,
        finish_reason="length" if stopped and stopped.casefold() in CUT else stopped,
        usage=usage,
        model=_text(body.get("model")),
        request_id=_text(body.get("id")),
        fingerprint=_text(body.get("system_fingerprint")),
    )


def _openai_usage(usage: Any) -> Usage | None:
    """Some providers leave hidden reasoning out of `completion_tokens`, but none out of `total_tokens`."""
    if not isinstance(usage, Mapping):
        return None
    read, written = ("prompt", "completion") if "prompt_tokens" in usage else ("input", "output")
    prompt, completion = _count(usage.get(f"{read}_tokens")), _count(usage.get(f"{written}_tokens"))
    if prompt is None or completion is None:
        return None
    total = _count(usage.get("total_tokens")) or 0
    return Usage(
        input=prompt,
        output=max(completion, total - prompt),
        cached=_count(_inside(usage, f"{read}_tokens_details", "cached_tokens")),
        reasoning=_count(_inside(usage, f"{written}_tokens_details", "reasoning_tokens")),
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
        words, thought = _words(blocks)
        called = [block["input"] for block in blocks if block["type"] == "tool_use"]
        return _reply(
            body,
            words=words or None,
            calls=[_arguments(value) for value in called],
            reasoning=thought,
            stopped=_text(body.get("stop_reason")),
            usage=_anthropic_usage(body.get("usage")),
        )
    except (KeyError, TypeError, AttributeError):
        raise Broken(_complaint(body, "content")) from None


def _anthropic_usage(usage: Any) -> Usage | None:
    """Here `input_tokens` is what no cache had a part in."""
    if not isinstance(usage, Mapping):
        return None
    fresh, output = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    if fresh is None or output is None:
        return None
    cached = _count(usage.get("cache_read_input_tokens"))
    written = _count(usage.get("cache_creation_input_tokens"))
    return Usage(fresh + (cached or 0) + (written or 0), output, cached, written)


def usage_in(text: str) -> Usage | None:
    """The tokens that a reply tells although it is broken or in pieces; of several counts the last."""
    last = lambda *names: next(
        (int(hits[-1]) for name in names if (hits := re.findall(rf'"{name}"\s*:\s*(\d{{1,12}})\b', text))),
        None,
    )
    read, written = last("prompt_tokens", "input_tokens"), last("completion_tokens", "output_tokens")
    if read is None or written is None:
        return None
    anthropic = sum(last(name) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))
    return Usage(read + anthropic, max(written, (last("total_tokens") or 0) - read))


def _told(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: Any) -> str | None:
    return _clean(value) if isinstance(value, str) and value else None


def _clean(text: str) -> str:
    """Text that can be written down: halves of a character, which JSON can say, cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _inside(usage: Mapping[str, Any], group: str, name: str) -> Any:
    details = usage.get(group)
    return details.get(name) if isinstance(details, Mapping) else None


def _words(content: Any) -> tuple[str | None, str | None]:
    """The words of a message and its thoughts; some servers send them in parts."""
    if isinstance(content, str):
        return _clean(content), None
    if isinstance(content, Mapping):
        content = [content if "text" in content else json.dumps(content)]
    if not isinstance(content, Sequence):
        return None, None
    texts = [_part(part, "text") for part in content if not _is_thought(part)]
    thought = [_part(part, "thinking") or _part(part, "text") for part in content if _is_thought(part)]
    return _clean("".join(texts)), _text("\n".join(filter(None, thought)))


def _is_thought(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in THOUGHT


def _part(part: Any, name: str) -> str:
    """The text of one part of a message, empty for a part of another kind."""
    if isinstance(part, str):
        return part
    value = part.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "".join(_part(inner, "text") for inner in value)
    return value if isinstance(value, str) else ""


def _complaint(body: Any, missing: str) -> str:
    """What is wrong with an answer that is no reply: the error it tells, else what it lacks."""
    return error_in(body) or f"a reply without {missing}"


def error_in(body: Any) -> str | None:
    """What the endpoint itself says went wrong."""
    body = body[0] if isinstance(body, list) and body else body
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
"""Chat completions, which nearly all servers speak, and Anthropic's messages."""
