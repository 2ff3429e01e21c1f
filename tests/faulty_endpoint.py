"""A chat endpoint on loopback that answers and fails as it is told to and counts what it served.

    with FaultyEndpoint(lambda messages: '{"action": "go forward"}') as endpoint:
        endpoint.inject("429", "empty")             # the next two requests; or fault=lambda index, body: ...
        LLMClient(endpoint.url, "tiny", ...)
        endpoint.served.input                        # tokens, as every reply told them

It speaks Anthropic's format where it is asked in that. Tokens are words. A reply that went wrong on its way
is not in `served` but in `lost`.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Messages = list[dict[str, str]]
OF_THE_ENDPOINT = ("timeout", "dropped", "429", "500", "truncated json", "cut", "junk", "401", "400")
OF_THE_MODEL = ("empty", "null", "long")
FAULTS = OF_THE_ENDPOINT + OF_THE_MODEL
"""What can be injected; those of the model come with status 200 and usage."""


@dataclass
class Counts:
    """What was served whole."""

    requests: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def add(self, usage: dict[str, Any]) -> None:
        self.requests += 1
        self.input += usage["prompt_tokens"]
        self.output += usage["completion_tokens"]
        self.cached += usage["prompt_tokens_details"]["cached_tokens"]
        self.reasoning += usage["completion_tokens_details"]["reasoning_tokens"]


@dataclass
class FaultyEndpoint:
    """A context manager; `url` is the base address.

    Args:
      answer: from the messages to the content.
      fault: from the index of the request and its body to a name in `FAULTS`, or None.
      refuses: fields that are answered with 400, as a server that does not know them.
      usage: whether replies tell their tokens.
      delay: seconds before every reply.
    """

    answer: Callable[[Messages], str | None]
    fault: Callable[[int, dict[str, Any]], str | None] = lambda index, body: None
    refuses: Sequence[str] = ()
    usage: bool = True
    delay: float = 0.0
    retry_after: str = "0"
    raw: tuple[int, bytes, dict[str, str]] | None = None
    """Status, body and headers of every reply, instead of all else."""
    served: Counts = field(default_factory=Counts)
    lost: Counts = field(default_factory=Counts)
    faults: Counter = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def inject(self, *faults: str) -> None:
        """The next requests fail like this, one each."""
        assert set(faults) <= set(FAULTS), faults
        self._queue.extend(faults)

    def __post_init__(self) -> None:
        self._queue: deque[str] = deque()
        self._lock, self._over = threading.Lock(), threading.Event()

    def __enter__(self) -> FaultyEndpoint:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with contextlib.suppress(ConnectionError):  # whoever asked has gone
                    endpoint._handle(self, body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        bearer = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        key = handler.headers.get("x-api-key", bearer)
        with self._lock:
            index = len(self.bodies)
            self.bodies.append(body)
            self.keys.append(key)
            fault = self._queue.popleft() if self._queue else self.fault(index, body)
            self.faults[fault] += fault is not None
        self._over.wait(self.delay)
        if self.raw is not None:
            return _send(handler, self.raw[0], self.raw[1], self.raw[2])
        if not handler.path.startswith("/v1/"):
            return _send(handler, 404, b'{"detail": "Not Found"}')
        if fault is None and (unknown := [name for name in self.refuses if name in body]):
            return _send(handler, 400, _error(f"unknown field {unknown[0]}"))
        self._reply(handler, body, fault, key)

    def _reply(
        self, handler: BaseHTTPRequestHandler, body: dict[str, Any], fault: str | None, key: str
    ) -> None:
        if fault in ("timeout", "dropped"):
            self._over.wait(30.0 if fault == "timeout" else 0.0)
            handler.close_connection = True
        elif fault == "429":
            _send(handler, 429, _error("too fast"), {"Retry-After": self.retry_after})
        elif fault == "500":
            _send(handler, 500, b"<html>sorry</html>")
        elif fault == "400":
            _send(handler, 400, _error("the context is too long"))
        elif fault == "401":
            _send(handler, 401, _error(f"Incorrect API key {key}, starting {key[:12]}"))
        elif fault == "junk":
            _send(handler, 200, b"\x00\xff not json at all")
        else:
            self._complete(handler, body, fault)

    def _complete(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], fault: str | None) -> None:
        content = {"empty": "", "null": None, "long": "I would like to"}.get(
            fault or "", self.answer(body["messages"])
        )
        usage = _usage(body["messages"], content)
        reply = {
            "id": f"reply-{len(self.bodies)}",
            "model": f"{body['model']}-0101",
            "system_fingerprint": "fp",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": "length" if fault == "long" else "stop",
                }
            ],
        } | ({"usage": usage} if self.usage else {})
        if handler.path.endswith("/messages"):
            reply = _as_anthropic(reply, usage)
        data = json.dumps(reply).encode()
        broken = fault in ("truncated json", "cut")
        with self._lock:
            (self.lost if broken else self.served).add(usage)
        if fault == "cut":  # the connection ends before the length that was told
            handler.close_connection = True
            _send(handler, 200, data[: len(data) // 2], length=len(data))
        else:
            _send(handler, 200, data[: len(data) // 2] if broken else data)


def _usage(messages: Messages, content: str | None) -> dict[str, Any]:
    """Words; all messages but the last are as if cached, and every reply has one token of thought."""
    words = [len(message["content"].split()) for message in messages]
    output = len((content or "").split()) + 1
    return {
        "prompt_tokens": sum(words),
        "completion_tokens": output,
        "total_tokens": sum(words) + output,
        "prompt_tokens_details": {"cached_tokens": sum(words[:-1])},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def _as_anthropic(reply: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    (choice,) = reply["choices"]
    text = choice["message"]["content"]
    return {
        "id": reply["id"],
        "model": reply["model"],
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": "max_tokens" if choice["finish_reason"] == "length" else "end_turn",
        "usage": {
            "input_tokens": usage["prompt_tokens"] - cached,
            "cache_read_input_tokens": cached,
            "output_tokens": usage["completion_tokens"],
        },
    }


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "error"}}).encode()


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    data: bytes,
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> None:
    handler.send_response(status)
    if "Content-Type" not in (headers or {}):
        handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)
