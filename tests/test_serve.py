"""The server answers this machine only, and says in one sentence why it does not."""

import contextlib
import http.client
import json
import socket
import threading
import time

import pytest

from dreamer.schema import ConfigError
from experiments import serve
from experiments.serve import LARGEST, Refused, Reply

JSON = {"Content-Type": "application/json"}


def refuse(told):
    raise Refused("there is no such move")


@pytest.fixture(scope="module")
def port():
    made = serve.server(
        0,
        {"/": lambda: Reply.html("<p>å</p>"), "/version": lambda: Reply.text("7")},
        {"/echo": Reply.json, "/refuse": refuse},
    )
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()
    thread.join()


def ask(port: int, method: str, path: str, body: bytes | None = None, headers=JSON):
    """Status, type and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.getheader("Content-Type"), answer.read()
    connection.close()
    return found


def why(port: int, *request, **rest) -> tuple[int, str]:
    """Status and sentence of a refusal."""
    status, kind, body = ask(port, *request, **rest)
    assert kind == "application/json"
    told = json.loads(body)
    assert told.keys() == {"error"}
    return status, told["error"]


def test_server_get_path_returns_body_and_content_type(port):
    assert ask(port, "GET", "/?x=1") == (200, "text/html; charset=utf-8", "<p>å</p>".encode())
    assert ask(port, "GET", "/version") == (200, "text/plain; charset=utf-8", b"7")


def test_server_post_path_receives_the_json_object(port):
    assert ask(port, "POST", "/echo", b'{"a": [1]}') == (200, "application/json", b'{"a": [1]}')
    assert ask(port, "POST", "/echo") == (200, "application/json", b"{}")


@pytest.mark.parametrize(("method", "path"), [("GET", "/echo"), ("GET", "/../serve.py"), ("POST", "/")])
def test_server_unknown_path_returns_404(port, method, path):
    assert why(port, method, path) == (404, f"there is nothing at {path}")


def test_server_refused_request_returns_400_with_the_reason(port):
    assert why(port, "POST", "/refuse", b"{}") == (400, "there is no such move")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "the request is not JSON"),
        (b"\xff", "the request is not JSON"),
        (b"[" * LARGEST, "the request is not JSON"),
        (b"[1]", "the request must be a JSON object"),
        (b"null", "the request must be a JSON object"),
    ],
)
def test_server_body_that_is_no_json_object_returns_400(port, body, sentence):
    assert why(port, "POST", "/echo", body) == (400, sentence)


@pytest.mark.parametrize("length", [str(LARGEST + 1), "-1", "many", "9" * 5000])
def test_server_content_length_out_of_range_returns_400(port, length):
    refused = why(port, "POST", "/echo", headers={**JSON, "Content-Length": length})
    assert refused == (400, f"a request has at most {LARGEST} bytes, but this one has {length[:9]}")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_server_other_content_type_returns_400(port, kind):
    refused = why(port, "POST", "/echo", b"{}", headers={"Content-Type": kind})
    assert refused == (400, "the request must be application/json")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "",
        "[::1].evil.example",
        "[::2]:80",
        "::1]",
        "[",
    ],
)
def test_server_foreign_host_header_returns_400(port, method, host):
    path = "/" if method == "GET" else "/echo"
    refused = why(port, method, path, headers={**JSON, "Host": host})
    assert refused == (400, "this page is only at 127.0.0.1 or localhost")


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:9000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:9000", "LocalHost:1"],
)
def test_server_local_host_header_is_accepted(port, host):
    assert ask(port, "GET", "/version", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:1", "https://localhost", "null", ""]
)
def test_server_request_of_another_page_returns_400(port, method, origin):
    path = "/" if method == "GET" else "/echo"
    refused = why(port, method, path, headers={**JSON, "Host": "localhost", "Origin": origin})
    assert refused == (400, "this page answers no other one")


def test_server_request_of_its_page_is_accepted(port):
    headers = {**JSON, "Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert ask(port, "POST", "/echo", b"{}", headers)[0] == 200


@pytest.fixture(scope="module")
def secret():
    """The port of a server with a token, which finds paths and has a policy."""
    made = serve.server(
        0,
        {"/": lambda: Reply.html("x", "default-src 'none'")},
        {"/echo": Reply.json},
        find=lambda path: Reply.text(path) if path.startswith("/found/") else None,
        token="key",
    )
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.parametrize("shown", [None, "", "key", "Bearer", "Bearer ke", "Bearer key2", "Bearer \xe9"])
def test_server_with_a_token_refuses_objects_without_it(secret, shown):
    headers = JSON if shown is None else {**JSON, "Authorization": shown}
    refused = why(secret, "POST", "/echo", b"{}", headers=headers)
    assert refused == (400, "this page needs the whole address that was printed where it was started")


def test_server_with_a_token_accepts_objects_with_it(secret):
    headers = {**JSON, "Authorization": "Bearer key"}
    assert ask(secret, "POST", "/echo", b'{"a": 1}', headers=headers)[2] == b'{"a": 1}'


def test_server_finds_paths_that_are_not_listed(secret):
    assert ask(secret, "GET", "/found/a%20b?x")[2] == b"/found/a%20b"
    assert why(secret, "GET", "/lost") == (404, "there is nothing at /lost")
    assert why(secret, "POST", "/found/a") == (404, "there is nothing at /found/a")


def test_server_page_with_a_policy_sends_it(secret, port):
    policies = []
    for at in (secret, port):
        connection = http.client.HTTPConnection("127.0.0.1", at, timeout=30)
        connection.request("GET", "/")
        answer = connection.getresponse()
        policies.append(answer.getheader("Content-Security-Policy"))
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Referrer-Policy") == "no-referrer"
        connection.close()
    assert policies == ["default-src 'none'", None]


def test_server_listens_on_localhost_only(port):
    made = serve.server(0, {})
    assert made.server_address[0] == "127.0.0.1"
    assert serve.address(made) == f"http://127.0.0.1:{made.server_address[1]}/"
    made.server_close()


def test_server_port_in_use_raises_config_error(port):
    with pytest.raises(ConfigError, match=rf"port {port} cannot be used .*choose another --port"):
        serve.server(port, {})


def test_server_fifty_simultaneous_requests_are_all_answered(monkeypatch):
    """Also those that wait because the server has not yet taken their connection."""
    made = serve.server(0, {"/": lambda: Reply.text("x")})
    address = made.server_address
    with contextlib.ExitStack() as stack:
        asked = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(50)]
        for one in asked:
            one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        answers = [one.recv(64) for one in asked]
        made.shutdown()
        made.server_close()
        thread.join()
    assert all(answer.startswith(b"HTTP/1.0 200") for answer in answers)


@pytest.fixture
def impatient(monkeypatch):
    """A server that waits half a second for a request."""
    monkeypatch.setattr(serve, "SECONDS", 0.5)
    made = serve.server(0, {"/": lambda: Reply.text("x")}, {"/echo": Reply.json})
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made.server_address
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /ec",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n",
    ],
)
def test_server_incomplete_request_times_out(impatient, begun, slowly, capfd):
    with socket.create_connection(impatient, timeout=20) as asked:
        asked.sendall(begun)
        began, over = time.monotonic(), threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                while slowly and not over.wait(0.1):
                    asked.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        answer = b""
        with contextlib.suppress(ConnectionError):  # it is closed while letters are on their way
            answer = asked.recv(4096)
        over.set()
        thread.join()
        assert time.monotonic() - began < 10
        if b"\r\n\r\n" in begun and not slowly:
            assert answer.startswith(b"HTTP/1.0 408")
    assert "Traceback" not in capfd.readouterr().err
