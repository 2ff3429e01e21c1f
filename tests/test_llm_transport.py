"""An answer comes within its limits, whatever an endpoint does."""

import contextlib
import gzip
import logging
import socket
import threading
import time
import zlib

import pytest

from experiments.llm import transport
from experiments.llm.transport import LARGEST, Connections, NoAnswer

pytest.importorskip("httpx", reason="httpx is not installed")

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Raw:
    """A server that sends what it is told to: bytes, or pieces with a pause before each."""

    def __init__(self, *pieces, pause=0.0):
        self._pieces, self._pause, self._over = pieces, pause, threading.Event()
        self.received = b""

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1/chat/completions"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def _serve(self):
        with contextlib.suppress(OSError):
            connection, _ = self._socket.accept()
            with connection:
                while not self.received.endswith(b"}"):
                    self.received += connection.recv(65536)
                for piece in self._pieces:
                    if self._over.wait(self._pause):
                        return
                    connection.sendall(piece)

    def __exit__(self, *_):
        self._over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def connections():
    made = Connections(5.0, is_local=True, encrypted=False)
    yield made
    made.close()


def post(connections, server, seconds=5.0, **headers):
    return connections.post(server.url, {"a": "\xe5"}, headers, seconds)


def whole(body, *headers):
    return (
        HEAD + b"".join(h + b"\r\n" for h in (*headers, b"Content-Length: %d" % len(body))) + b"\r\n" + body
    )


def test_post_complete_response_returns_status_body_and_headers(connections):
    with Raw(whole(b'{"x": 1}', b"X-Request-Id: 7")) as server:
        answer = post(connections, server, Authorization="Bearer k")
    assert (answer.status, answer.text, answer.flaw) == (200, '{"x": 1}', None)
    assert answer.headers["x-request-id"] == "7"
    assert b"Bearer k" in server.received and server.received.endswith('{"a":"\xe5"}'.encode())


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"Content-Length: 999\r\n\r\n"] + [b"x"] * 900,
        [HEAD[i : i + 1] for i in range(len(HEAD))] + [b"X: y\r\n"] * 900,
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n"] + [b"1\r\n \r\n"] * 900,
    ],
    ids=["body", "headers", "chunks"],
)
def test_post_slowly_dripping_response_times_out(connections, pieces):
    with Raw(*pieces, pause=0.05) as server:
        began = time.monotonic()
        try:
            assert post(connections, server, seconds=0.6).flaw == "timeout"
        except NoAnswer as none:
            assert str(none) == "timeout" and none.sent
        assert time.monotonic() - began < 4


def test_post_silent_server_times_out():
    made = Connections(0.2, is_local=True, encrypted=False)
    with contextlib.closing(made), Raw(b"", pause=30) as server, pytest.raises(NoAnswer) as none:
        post(made, server, seconds=60)
    assert str(none.value) == "timeout"
    assert none.value.sent


def test_post_no_server_raises_no_answer_with_nothing_sent(connections):
    with Raw() as server:
        pass
    with pytest.raises(NoAnswer, match="no connection") as none:
        post(connections, server)
    assert not none.value.sent


def test_post_truncated_response_keeps_the_received_part(connections):
    with Raw(whole(b"x" * 100)[:-50]) as server:
        answer = post(connections, server)
    assert answer.status == 200 and answer.text == "x" * 50 and answer.flaw.startswith("no connection")


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"x" * (LARGEST + 1), b"identity"),
        (gzip.compress(b"x" * (LARGEST + 1)), b"gzip"),
        (gzip.compress(b" " * (100 * LARGEST), 9), b"gzip"),
        (zlib.compress(b"x" * (LARGEST + 1)), b"deflate"),
    ],
    ids=["plain", "gzip", "bomb", "deflate"],
)
def test_post_response_above_the_size_limit_is_cut_off_and_reported(connections, body, coding):
    with Raw(whole(body, b"Content-Encoding: " + coding)) as server:
        answer = post(connections, server, seconds=60)
    assert answer.flaw == "a reply above 8 MB, which was cut off"
    assert len(answer.text) <= LARGEST + 2**16


def test_post_response_of_the_size_limit_is_read_completely(connections):
    with Raw(whole(gzip.compress(b"x" * LARGEST), b"Content-Encoding: gzip")) as server:
        answer = post(connections, server, seconds=60)
    assert answer.flaw is None and len(answer.text) == LARGEST


def test_post_invalid_gzip_body_is_reported_as_a_flaw(connections):
    with Raw(whole(b"not packed", b"Content-Encoding: gzip")) as server:
        assert "no connection" in post(connections, server).flaw


def test_post_redirect_is_not_followed(connections):
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    with Raw(moved) as server:
        assert post(connections, server).status == 307


def test_post_at_debug_log_level_logs_no_headers(connections, caplog):
    caplog.set_level(logging.DEBUG)
    with Raw(whole(b"{}", b"X-Echo: sk-secret")) as server:
        post(connections, server, Authorization="sk-secret")
    assert "sk-secret" not in caplog.text


def test_connections_closed_twice_raises_nothing():
    made = Connections(1.0, is_local=True, encrypted=False)
    made.close()
    made.close()
    assert transport.LARGEST == 8 * 2**20
