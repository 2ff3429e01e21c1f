"""A small server for pages on this machine only.

Any program of this machine can ask it, of any user, and so can the pages of any site that a browser shows. It
answers requests by a name of this machine and not those of another site's pages; with a token, it takes
requests only from where its address is known.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import socket
import sys
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from dreamer.schema import ConfigError

HOST = "127.0.0.1"
NAMES = (HOST, "localhost", "[::1]")
"""Host names that are accepted: any other name could be made to resolve to this machine (DNS rebinding)."""
WAITING = 128
"""Connections that may wait to be accepted."""
SECONDS = 10.0
"""Within which a request has to arrive."""
ANSWER_SECONDS = 60.0
"""Within which its answer has to be received."""
LARGEST = 2**16
"""Bytes of a request."""


class Reply(NamedTuple):
    """The response of a path."""

    body: bytes
    kind: str
    """Its media type."""
    policy: str = ""
    """What the page may load and run, as a Content-Security-Policy; empty for no limits."""

    @classmethod
    def html(cls, text: str, policy: str = "") -> Reply:
        return cls(text.encode(), "text/html; charset=utf-8", policy)

    @classmethod
    def json(cls, value: Any) -> Reply:
        return cls(json.dumps(value).encode(), "application/json")

    @classmethod
    def text(cls, text: str) -> Reply:
        return cls(text.encode(), "text/plain; charset=utf-8")


class Refused(Exception):
    """An invalid request; the message says what would be right."""


def server(
    port: int,
    get: Mapping[str, Callable[[], Reply]],
    post: Mapping[str, Callable[[dict[str, Any]], Reply]] | None = None,
    *,
    find: Callable[[str], Reply | None] = lambda path: None,
    token: str = "",
) -> ThreadingHTTPServer:
    """A server that listens and waits for `serve_forever`.

    Args:
      port: 0 takes a free one; `server_address` tells.
      get: {path: what it answers}.
      post: {path: what it answers to a JSON object}.
      find: the answer of any other path that can be read, if there is one.
      token: what a request with a JSON object has to bring as its `Authorization`; empty for nothing.

    Raises:
      ConfigError: the port is in use.
    """
    posts = post or {}

    class Handler(BaseHTTPRequestHandler):
        """Its requests have to arrive within `SECONDS`, however slowly they come."""

        def setup(self) -> None:
            super().setup()
            self.rfile = io.BufferedReader(_Arriving(self.connection))

        def do_GET(self) -> None:
            self._handle(lambda path, body: get[path]() if path in get else find(path))

        def do_POST(self) -> None:
            self._handle(lambda path, body: posts[path](self._object(body)) if path in posts else None)

        def _handle(self, call: Callable[[str, bytes], Reply | None]) -> None:
            path = self.path.partition("?")[0]
            try:
                body = self._body()  # also of what is refused: its sender would not hear why
                self._check_sender()
                reply = call(path, body)
                if reply is None:
                    self._answer(404, Reply.json({"error": f"there is nothing at {path}"}))
                else:
                    self._answer(200, reply)
            except Refused as error:
                self._answer(400, Reply.json({"error": str(error)}))
            except TimeoutError:
                self._answer(408, Reply.json({"error": f"the request did not arrive in {SECONDS:g} s"}))

        def _check_sender(self) -> None:
            host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
            if _name(host) not in NAMES:
                raise Refused(f"this page is only at {HOST} or localhost")
            if origin is not None and origin.lower() != f"http://{host.strip().lower()}":
                raise Refused("this page answers no other one")

        def _body(self) -> bytes:
            size = self.headers.get("Content-Length", "0")
            if not (size.isdecimal() and len(size) < 9 and int(size) <= LARGEST):
                raise Refused(f"a request has at most {LARGEST} bytes, but this one has {size:.9}")
            return self.rfile.read(int(size))

        def _object(self, body: bytes) -> dict[str, Any]:
            if self.headers.get("Content-Type") != "application/json":
                # A page of another site cannot send this type without being asked first.
                raise Refused("the request must be application/json")
            shown = self.headers.get("Authorization", "")
            if token and not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
                raise Refused("this page needs the whole address that was printed where it was started")
            try:
                value = json.loads(body or b"{}")
            except (ValueError, RecursionError):
                raise Refused("the request is not JSON") from None
            if not isinstance(value, dict):
                raise Refused("the request must be a JSON object")
            return value

        def _answer(self, code: int, reply: Reply) -> None:
            self.connection.settimeout(ANSWER_SECONDS)
            with contextlib.suppress(ConnectionError, TimeoutError):  # the client is gone
                self.send_response(code)
                self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(reply.body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.send_header("Referrer-Policy", "no-referrer")
                if reply.policy:
                    self.send_header("Content-Security-Policy", reply.policy)
                self.end_headers()
                self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: requests are not logged to the terminal."""

    return _listen(port, Handler)


class _Arriving(io.RawIOBase):
    """What comes from a connection until its time is over; then it raises a TimeoutError."""

    def __init__(self, connection: socket.socket):
        self._connection, self._until = connection, time.monotonic() + SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Server(ThreadingHTTPServer):
    request_queue_size = WAITING
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may disconnect at any time; anything else is a bug."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _name(host: str) -> str:
    """What a Host header calls this machine, without the port."""
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdecimal() else host.strip().lower()


def check(port: int) -> None:
    """Raise a ConfigError if this port is not available now."""
    _listen(port, BaseHTTPRequestHandler).server_close()


def _listen(port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    try:
        return _Server((HOST, port), handler)
    except OSError as error:
        raise ConfigError(f"port {port} cannot be used ({error.strerror}); choose another --port") from None


def until_interrupted(server: ThreadingHTTPServer) -> None:
    """Answer requests until Ctrl-C, then close the server."""
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()


def address(server: ThreadingHTTPServer) -> str:
    """The URL of a server."""
    return f"http://{HOST}:{server.server_address[1]}/"
