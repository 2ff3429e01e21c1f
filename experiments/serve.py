"""A small server for pages on this machine only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from dreamer.schema import ConfigError

HOST = "127.0.0.1"
LARGEST = 2**16
"""Bytes of a request."""


class Reply(NamedTuple):
    """What a path answers."""

    body: bytes
    kind: str
    """Its media type."""

    @classmethod
    def html(cls, text: str) -> Reply:
        return cls(text.encode(), "text/html; charset=utf-8")

    @classmethod
    def json(cls, value: Any) -> Reply:
        return cls(json.dumps(value).encode(), "application/json")

    @classmethod
    def text(cls, text: str) -> Reply:
        return cls(text.encode(), "text/plain; charset=utf-8")


class Refused(Exception):
    """A request that cannot be; the message says what would be right."""


def server(
    port: int,
    get: Mapping[str, Callable[[], Reply]],
    post: Mapping[str, Callable[[dict[str, Any]], Reply]] | None = None,
) -> ThreadingHTTPServer:
    """A server that listens and waits for `serve_forever`.

    Args:
      port: 0 takes a free one; `server_address` tells.
      get: {path: what it answers}.
      post: {path: what it answers to a JSON object}.

    Raises:
      ConfigError: the port is in use.
    """
    posts = post or {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in get:
                self._answer(200, get[path]())
            else:
                self._answer(404, Reply.json({"error": f"there is nothing at {path}"}))

        def do_POST(self) -> None:
            try:
                if self.path not in posts:
                    raise Refused(f"there is nothing at {self.path}")
                if self.headers.get("Content-Type") != "application/json":
                    # A page of another site cannot send this type without being asked first.
                    raise Refused("the request must be application/json")
                self._answer(200, posts[self.path](self._object()))
            except Refused as error:
                self._answer(400, Reply.json({"error": str(error)}))

        def _object(self) -> dict[str, Any]:
            size = int(self.headers.get("Content-Length") or 0)
            if size > LARGEST:
                raise Refused(f"the request has {size} bytes, at most {LARGEST} are read")
            try:
                value = json.loads(self.rfile.read(size) or b"{}")
            except ValueError:
                raise Refused("the request is not JSON") from None
            if not isinstance(value, dict):
                raise Refused("the request must be a JSON object")
            return value

        def _answer(self, code: int, reply: Reply) -> None:
            self.send_response(code)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the terminal belongs to whoever started the server."""

    try:
        made = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise ConfigError(f"port {port} cannot be used ({error.strerror}); choose another --port") from None
    made.daemon_threads = True
    return made


def address(made: ThreadingHTTPServer) -> str:
    """Where a browser finds it."""
    return f"http://{HOST}:{made.server_address[1]}/"
