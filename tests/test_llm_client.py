import base64
import gzip
import json
import logging
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from faulty_endpoint import OF_THE_ENDPOINT, FaultyEndpoint

from dreamer.schema import ConfigError
from envs.text import parse
from experiments.llm import client as llm
from experiments.llm import prices
from experiments.llm.budget import Budget, BudgetSpent
from experiments.llm.cache import Cache
from experiments.llm.client import LLMClient, LLMError, Patience
from experiments.llm.wire import Message, Request, Usage

KEY = "sk-proj-7aQ2_very-secret-key-0815"
ACTIONS = ("turn left", "go forward")
REQUEST = Request((Message("system", "rules of the world"), Message("user", "you see a door")), 32)
PASSING = ("timeout", "dropped", "429", "500", "truncated json", "cut", "junk")


def said(messages):
    return '{"action": "go forward"}'


@pytest.fixture
def endpoint():
    with FaultyEndpoint(said) as made:
        yield made


@pytest.fixture
def ask(monkeypatch):
    """Makes clients that never sleep, and closes them."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made, waits = [], []

    def make(endpoint, **options):
        options = {"patience": Patience(timeout=5.0), "sleep": waits.append, "draw": lambda: 0.5} | options
        made.append(LLMClient(endpoint.url, "tiny", **options))
        return made[-1]

    make.waits = waits
    yield make
    for client in made:
        client.close()


def test_client_reply_has_content_usage_and_metadata(endpoint, ask):
    reply = ask(endpoint).ask(REQUEST)
    assert (reply.content, reply.model, reply.request_id, reply.fingerprint) == (
        said(()),
        "tiny-0101",
        "reply-1",
        "fp",
    )
    # "rules of the world" and "you see a door" are 4 words each, the answer has 3 and one of thought.
    assert reply.usage == (8, 4, 4, None, 1)
    assert reply.usd is None and reply.failures == () and reply.latency > 0 and not reply.replayed


@pytest.mark.parametrize("fault", PASSING)
def test_client_transient_fault_is_retried(fault, endpoint, ask):
    endpoint.inject(fault)
    patience = Patience(timeout=0.3 if fault == "timeout" else 5.0)
    reply = ask(endpoint, patience=patience).ask(REQUEST)
    assert reply.content == said(()) and len(reply.failures) == 1
    assert len(endpoint.bodies) == 2 and endpoint.served.requests == 1


@pytest.mark.parametrize("fault", ["401", "400"])
def test_client_permanent_error_raises_at_once(fault, endpoint, ask):
    endpoint.inject(fault)
    with pytest.raises(LLMError, match=f"tiny at 127.0.0.1: HTTP {fault} "):
        ask(endpoint).ask(REQUEST)
    assert len(endpoint.bodies) == 1 and not ask.waits


@pytest.mark.parametrize(("fault", "words"), [("empty", ""), ("null", None)])
def test_client_empty_reply_is_returned(fault, words, endpoint, ask):
    endpoint.inject(fault)
    reply = ask(endpoint).ask(REQUEST)
    assert reply.content == words and reply.usage.output == 1 and not reply.failures


def test_client_attempts_exhausted_raises_llm_error(endpoint, ask):
    endpoint.inject(*["500"] * 3)
    with pytest.raises(LLMError, match=r"no reply in 3 attempts, at last: HTTP 500 \(<html>sorry"):
        ask(endpoint, patience=Patience(attempts=3)).ask(REQUEST)
    assert ask.waits == [1.0, 2.0]  # twice as long every time, here without chance, and none after the last


def test_client_time_exhausted_raises_llm_error(endpoint, ask):
    endpoint.inject(*["500"] * 6)
    now = [0.0]
    passed = lambda seconds: now.__setitem__(0, now[0] + seconds)
    client = ask(endpoint, patience=Patience(seconds=5.0), sleep=passed, clock=lambda: now[0])
    with pytest.raises(LLMError, match="3 attempts"):  # at 0, 1 and 3 seconds; the next would be at 7
        client.ask(REQUEST)


def test_client_retry_waits_are_jittered(endpoint, ask):
    for draw, wait in ((0.0, 0.5), (1.0, 1.5)):
        endpoint.inject("500")
        ask(endpoint, draw=lambda draw=draw: draw).ask(REQUEST)
        assert ask.waits.pop() == wait


def test_client_retry_after_header_is_respected(endpoint, ask):
    endpoint.retry_after = "17"
    endpoint.inject("429")
    ask(endpoint).ask(REQUEST)
    assert ask.waits == [17.0]


def test_client_retry_after_beyond_patience_raises_at_once(endpoint, ask):
    endpoint.retry_after = "86400"
    endpoint.inject("429")
    with pytest.raises(LLMError, match="1 attempt, at last: HTTP 429"):
        ask(endpoint).ask(REQUEST)
    assert not ask.waits


def test_seconds_of_retry_after_parses_seconds_and_dates():
    now = datetime(2030, 1, 1, 12, tzinfo=UTC)
    seconds = lambda text: llm.seconds_of(text, now)
    assert seconds("2.5") == 2.5 and seconds("Tue, 01 Jan 2030 12:00:30 GMT") == 30.0
    assert seconds("Tue, 01 Jan 2030 11:00:00 GMT") == 0.0 and seconds("-3") == 0.0
    assert seconds("soon") is None and seconds(None) is None


def test_client_no_server_raises_llm_error(ask):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = LLMClient(f"http://127.0.0.1:{port}/v1", "tiny", sleep=lambda s: None)
    with client, pytest.raises(LLMError, match="6 attempts, at last: no connection"):
        client.ask(REQUEST)


# What the server is asked to keep to


def test_client_with_actions_sends_schema_first(endpoint, ask):
    reply = ask(endpoint).ask(REQUEST._replace(actions=ACTIONS))
    assert reply.constraint == "schema" and "response_format" in endpoint.bodies[0]


def test_client_without_actions_sends_no_constraint(endpoint, ask):
    assert ask(endpoint).ask(REQUEST).constraint is None
    assert not {"response_format", "grammar"} & set(endpoint.bodies[0])


@pytest.mark.parametrize(
    ("refuses", "constraint"), [(["response_format"], "grammar"), (["response_format", "grammar"], None)]
)
def test_client_refused_constraint_is_tried_once_then_replaced(refuses, constraint, endpoint, ask):
    endpoint.refuses = refuses
    client = ask(endpoint)
    replies = [client.ask(REQUEST._replace(actions=ACTIONS)) for _ in range(3)]
    assert [reply.constraint for reply in replies] == [constraint] * 3
    assert len(endpoint.bodies) == len(refuses) + 3
    assert len(client.refused) == len(refuses)
    assert "unknown field response_format" in client.refused["schema"]


def test_client_error_in_every_form_disables_no_constraint(endpoint, ask):
    endpoint.inject("400", "400", "400")
    client = ask(endpoint)
    with pytest.raises(LLMError, match="the context is too long"):
        client.ask(REQUEST._replace(actions=ACTIONS))
    assert not client.refused
    assert client.ask(REQUEST._replace(actions=ACTIONS)).constraint == "schema"


def test_client_extra_body_and_tokens_field_are_sent(endpoint, ask):
    ask(endpoint, extra_body={"reasoning_effort": "low"}, tokens_field="max_completion_tokens").ask(REQUEST)
    assert endpoint.bodies[0]["reasoning_effort"] == "low"
    assert endpoint.bodies[0]["max_completion_tokens"] == 32 and "max_tokens" not in endpoint.bodies[0]


def test_client_anthropic_api_is_supported(endpoint, ask, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    endpoint.inject("429", "long", "null")
    client = ask(endpoint, api="anthropic")
    cut, empty, fine = (client.ask(REQUEST) for _ in range(3))
    assert cut.finish_reason == "length" and empty.content is None and fine.content == said(())
    assert fine.usage == (4, 4, 0, None, None) and endpoint.keys == [KEY] * 4
    assert client.ask(REQUEST._replace(actions=ACTIONS)).constraint == "schema"
    assert endpoint.bodies[-1]["tool_choice"] and endpoint.bodies[-1]["system"] == "rules of the world"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A llama.cpp server with a model of random numbers."""
    pytest.importorskip("xllamacpp", reason="the server is in the extra llm-local")
    pytest.importorskip("gguf", reason="the writer of model files is in the extra test")
    import tiny_gguf

    from experiments.llm.local import LocalServer

    with LocalServer(tiny_gguf.write(tmp_path_factory.mktemp("model") / "tiny.gguf")) as server:
        yield server


@pytest.mark.parametrize("constraint", ["schema", "grammar"])
def test_client_real_server_obeys_each_constraint(constraint, real):
    with LLMClient(real.base_url, real.model) as client:
        client.refused = {} if constraint == "schema" else {"schema": "as if it had none"}
        for seed in range(5):
            request = REQUEST._replace(actions=ACTIONS, temperature=1.0, seed=seed, max_tokens=200)
            reply = client.ask(request)
            assert reply.constraint == constraint and parse(reply.content, ACTIONS).rung == "json"
            assert reply.usage.input > 0 and reply.usage.output > 0


def test_client_real_server_too_long_request_raises_llm_error(real):
    words = Message("user", "many words " * 1000)
    with LLMClient(real.base_url, real.model) as client:
        with pytest.raises(LLMError, match="HTTP 400 .*context"):
            client.ask(REQUEST._replace(messages=(words,), actions=ACTIONS))
        assert not client.refused


# What endpoints of today refuse, and where they lead


SPOKEN = b'data: {"choices": [{"delta": {"content": "go"}}]}\n\ndata: [DONE]\n\n'


def test_client_refused_tokens_field_is_renamed_once(endpoint, ask):
    endpoint.refuses = ["max_tokens"]
    client = ask(endpoint)
    for _ in range(3):
        assert client.ask(REQUEST._replace(actions=ACTIONS)).constraint == "schema"
    assert sum("max_tokens" in body for body in endpoint.bodies) == 1
    assert endpoint.bodies[-1]["max_completion_tokens"] == 32 and client.changes == {
        "max_tokens": "max_completion_tokens"
    }


def test_client_refused_newer_tokens_field_falls_back_to_older(endpoint, ask):
    endpoint.refuses = ["max_completion_tokens"]
    ask(endpoint, tokens_field="max_completion_tokens").ask(REQUEST)
    assert endpoint.bodies[-1]["max_tokens"] == 32


@pytest.mark.parametrize("threads", [1, 8])
def test_client_refused_temperature_is_left_out_and_reported(endpoint, ask, threads):
    endpoint.refuses = ["temperature"]
    client, replies = ask(endpoint), []
    hot = REQUEST._replace(temperature=0.0, actions=ACTIONS)
    work = [threading.Thread(target=lambda: replies.append(client.ask(hot))) for _ in range(threads)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert [reply.unsent for reply in replies] == [("temperature",)] * threads
    assert sum("temperature" in body for body in endpoint.bodies) == 1  # however many there are
    assert {reply.constraint for reply in replies} == {"schema"}


def test_client_several_refused_fields_are_all_adapted(endpoint, ask):
    endpoint.refuses = ["temperature", "max_tokens", "response_format", "grammar"]
    client = ask(endpoint)
    for _ in range(2):
        assert client.ask(REQUEST._replace(temperature=0.0, actions=ACTIONS)).constraint is None
    assert len(endpoint.bodies) == 4 + 2


def test_client_error_about_value_does_not_rename_field(endpoint, ask):
    said = {"error": {"message": "max_tokens is too large: the maximum context length is 8 tokens"}}
    endpoint.raw = (400, json.dumps(said).encode(), {})
    with pytest.raises(LLMError, match="context length"):
        ask(endpoint).ask(REQUEST)
    assert len(endpoint.bodies) == 1


def test_client_changed_request_is_replayed_from_cache(endpoint, ask, tmp_path):
    endpoint.refuses = ["max_tokens", "temperature"]
    hot = REQUEST._replace(temperature=0.0)
    with Cache(tmp_path / "c") as cache:
        first = ask(endpoint, cache=cache).ask(hot)
        asked = len(endpoint.bodies)
        again = ask(endpoint, cache=cache).ask(hot)
    assert again == first._replace(replayed=True) and len(endpoint.bodies) == asked


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/event-stream; charset=utf-8"}])
def test_client_streamed_reply_is_requested_unstreamed_once_and_raises(endpoint, ask, headers):
    endpoint.raw = (200, SPOKEN, headers)
    with pytest.raises(LLMError, match="answers with a stream"):
        ask(endpoint).ask(REQUEST)
    assert [body.get("stream") for body in endpoint.bodies] == [None, False]


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (404, {}, "--llm-base-url http://127.0.0.1:{port}/v1"),
        (308, {"Location": "https://h.example/v1/chat/completions"}, "--llm-base-url https://h.example/v1"),
        (302, {"Location": "/login"}, "leads on to http://127.0.0.1:{port}/login"),
        (200, {"Content-Type": "text/html"}, "a web page"),
    ],
)
def test_client_wrong_base_url_raises_with_right_one(endpoint, ask, status, headers, said):
    endpoint.raw = (status, b"<html></html>", headers)
    endpoint.url = endpoint.url.removesuffix("/v1")
    with pytest.raises(LLMError) as caught:
        ask(endpoint).ask(REQUEST)
    assert said.format(port=endpoint.url.rpartition(":")[2]) in str(caught.value)
    assert len(endpoint.bodies) == 1


def test_client_too_large_reply_raises_without_retry(endpoint, ask):
    endpoint.raw = (200, gzip.compress(b" " * (9 * 2**20)), {"Content-Encoding": "gzip"})
    with pytest.raises(LLMError, match="above 8 MB, which was cut off"):
        ask(endpoint).ask(REQUEST)
    assert len(endpoint.bodies) == 1


def test_client_attempt_exceeding_longest_times_out(endpoint, ask):
    endpoint.delay = 20.0
    client = ask(endpoint, patience=Patience(timeout=60.0, longest=0.3, attempts=1))
    began = time.monotonic()
    with pytest.raises(LLMError, match="1 attempt, at last: timeout"):
        client.ask(REQUEST)
    assert time.monotonic() - began < 10


def test_client_max_hours_ends_running_attempt(endpoint, ask):
    endpoint.delay = 20.0
    began = time.monotonic()
    with pytest.raises(BudgetSpent, match="--max-hours"):
        ask(endpoint, patience=Patience(timeout=60.0), budget=Budget(max_hours=0.3 / 3600)).ask(REQUEST)
    assert time.monotonic() - began < 10


# Cache, price, budget


def test_client_cached_request_is_not_sent_again(endpoint, ask, tmp_path):
    with Cache(tmp_path / "c") as cache:
        first = ask(endpoint, cache=cache).ask(REQUEST, sample="0")
        again = ask(endpoint, cache=cache).ask(REQUEST, sample="0")
        other = ask(endpoint, cache=cache).ask(REQUEST, sample="1")
    assert again == first._replace(replayed=True) and not other.replayed
    assert len(endpoint.bodies) == 2


def test_client_equal_greedy_requests_share_one_reply(endpoint, ask, tmp_path):
    greedy = REQUEST._replace(temperature=0.0)
    with Cache(tmp_path / "c") as cache:
        client = ask(endpoint, cache=cache, repeats=True)
        first, other, again = (client.ask(greedy, sample=sample) for sample in "010")
        drawn = [client.ask(greedy._replace(temperature=1.0), sample=sample) for sample in "01"]
    assert (first.repeated, other.repeated, again.repeated) == (False, True, False)
    assert other == first._replace(usage=Usage(0, 0), replayed=True, repeated=True)
    assert again == first._replace(replayed=True)
    assert not any(reply.replayed for reply in drawn) and len(endpoint.bodies) == 3
    told = sum(reply.usage.input for reply in (first, other, *drawn))
    assert told == endpoint.served.input


def test_client_given_constraints_are_used_first(endpoint, ask):
    reply = ask(endpoint, constraints=("grammar",)).ask(REQUEST._replace(actions=ACTIONS))
    assert reply.constraint == "grammar" and "response_format" not in endpoint.bodies[0]


def test_client_fallback_constraint_is_replayed_from_cache(endpoint, ask, tmp_path):
    endpoint.refuses = ["response_format"]
    with Cache(tmp_path / "c") as cache:
        ask(endpoint, cache=cache).ask(REQUEST._replace(actions=ACTIONS))
        asked = len(endpoint.bodies)
        again = ask(endpoint, cache=cache).ask(REQUEST._replace(actions=ACTIONS))
    assert again.constraint == "grammar" and again.replayed and len(endpoint.bodies) == asked


def test_client_failures_are_not_cached(endpoint, ask, tmp_path):
    endpoint.inject("401")
    with Cache(tmp_path / "c") as cache:
        with pytest.raises(LLMError):
            ask(endpoint, cache=cache).ask(REQUEST)
        assert not ask(endpoint, cache=cache).ask(REQUEST).replayed


def test_client_replay_only_needs_no_key_and_sends_nothing(endpoint, ask, tmp_path):
    with Cache(tmp_path / "c") as cache:
        first = ask(endpoint, cache=cache).ask(REQUEST)
    with Cache(tmp_path / "c", replay_only=True) as cache:
        client = ask(endpoint, cache=cache)
        assert client.ask(REQUEST).content == first.content
        with pytest.raises(llm.ReplayMiss, match="has no reply of tiny"):
            client.ask(REQUEST, sample="other")
        LLMClient("https://api.example.org/v1", "tiny", cache=cache).close()
    assert len(endpoint.bodies) == 1


def test_client_price_table_gives_cost_per_request(endpoint, ask):
    table = {"tiny": prices.Price(input=1.0, cached=0.5, output=10.0)}
    reply = ask(endpoint, prices=table).ask(REQUEST)
    assert reply.usd == pytest.approx((4 * 1.0 + 4 * 0.5 + 4 * 10.0) / 1e6)


def test_client_without_usage_has_no_tokens_and_cost(endpoint, ask):
    endpoint.usage = False
    reply = ask(endpoint, prices={"tiny": prices.Price(1.0, 1.0)}).ask(REQUEST)
    assert reply.usage is None and reply.usd is None


def test_client_spent_budget_sends_nothing(endpoint, ask):
    client = ask(endpoint, budget=Budget(max_tokens=12))
    client.ask(REQUEST)
    with pytest.raises(BudgetSpent):
        client.ask(REQUEST)
    assert len(endpoint.bodies) == 1


def test_client_last_paid_reply_is_charged_and_returned(endpoint, ask, tmp_path):
    with Cache(tmp_path / "c") as cache:
        ask(endpoint, cache=cache).ask(REQUEST)
        budget = Budget(max_tokens=12)
        client = ask(endpoint, cache=cache, budget=budget)
        client.ask(REQUEST)
        assert budget.tokens == endpoint.served.input + endpoint.served.output == 12
        assert client.ask(REQUEST).replayed
        with pytest.raises(BudgetSpent):
            client.ask(REQUEST, sample="new")


@pytest.mark.parametrize("fault", ["truncated json", "cut", "junk", "timeout", "dropped"])
def test_client_lost_replies_are_charged(endpoint, ask, fault):
    table = {"tiny": prices.Price(input=1.0, output=10.0)}
    budget = Budget(max_usd=1.0)
    endpoint.inject(fault)
    patience = Patience(timeout=0.5 if fault == "timeout" else 5.0)
    reply = ask(endpoint, prices=table, budget=budget, patience=patience).ask(REQUEST)
    lost = endpoint.lost.input + endpoint.lost.output
    assert reply.lost.input + reply.lost.output >= max(lost, 1) and reply.lost_usd > 0
    assert budget.usd == pytest.approx(reply.usd + reply.lost_usd)
    assert budget.tokens == 12 + reply.lost.input + reply.lost.output


@pytest.mark.parametrize("fault", ["429", "500"])
def test_client_refused_requests_are_not_charged(endpoint, ask, fault):
    budget = Budget(max_tokens=1000)
    endpoint.inject(fault)
    assert ask(endpoint, budget=budget).ask(REQUEST).lost is None and budget.tokens == 12


def test_client_broken_replies_with_usage_are_charged_as_reported(endpoint, ask):
    endpoint.raw = (200, b'{"usage": {"prompt_tokens": 50, "completion_tokens": 5}, "choices": [', {})
    budget = Budget(max_tokens=1000)
    with pytest.raises(LLMError):
        ask(endpoint, budget=budget, patience=Patience(attempts=3)).ask(REQUEST)
    assert budget.tokens == 3 * 55


def test_client_price_invalid_for_size_ends_max_usd_budget(endpoint, ask):
    client = ask(endpoint, prices={"tiny": prices.Price(1.0, 1.0, up_to=5)}, budget=Budget(max_usd=1.0))
    client.ask(REQUEST)
    with pytest.raises(BudgetSpent, match="no price is known for requests of this size"):
        client.ask(REQUEST)


def test_client_free_server_needs_no_price(endpoint, ask):
    client = ask(endpoint, budget=Budget(max_usd=1.0), free=True)
    assert client.ask(REQUEST).usd is None and client.ask(REQUEST).usd is None
    with pytest.raises(ConfigError, match="--max-usd needs a price"):
        ask(endpoint, budget=Budget(max_usd=1.0))


def test_client_max_usd_without_known_price_raises_config_error(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match="--max-usd needs a price for gpt-99 at api.openai.com"):
        LLMClient("", "gpt-99", prices=prices.load(), budget=Budget(max_usd=1.0))
    LLMClient("", "gpt-4o-mini", prices=prices.load(), budget=Budget(max_usd=1.0)).close()


def test_client_shared_by_threads_counts_exactly(endpoint, ask, tmp_path):
    endpoint.fault = lambda index, body: "429" if index % 5 == 3 else None
    with Cache(tmp_path / "c") as cache:
        client = ask(endpoint, cache=cache)
        replies = []
        play = lambda n: [replies.append(client.ask(REQUEST, sample=f"{n}/{i}")) for i in range(5)]
        threads = [threading.Thread(target=play, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(replies) == 30 == endpoint.served.requests
    assert sum(reply.usage.input for reply in replies) == endpoint.served.input
    assert sum(len(reply.failures) for reply in replies) == endpoint.faults["429"]
    assert client.budget.tokens == endpoint.served.input + endpoint.served.output


# Addresses and keys


@pytest.mark.parametrize(
    "url", ["ftp://x", "127.0.0.1:80", "http://", "http://h:99999/v1", "http://[", "http://h:0/v1"]
)
def test_client_invalid_url_raises_config_error(url):
    with pytest.raises(ConfigError, match="must be an address like"):
        LLMClient(url, "tiny")


@pytest.mark.parametrize(
    "url", [f"https://user:{KEY}@h/v1", f"https://h/v1?key={KEY}", f"https://h/v1#{KEY}"]
)
def test_client_key_in_url_raises_without_showing_key(url):
    with pytest.raises(ConfigError, match="belongs in an environment variable") as caught:
        LLMClient(url, "tiny")
    assert KEY not in str(caught.value)


def test_client_base_url_comes_from_flag_environment_or_api(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    url = lambda given, **options: (made := LLMClient(given, "m", **options)).close() or made.base_url
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert url("") == "https://api.openai.com/v1"
    assert url("", api="anthropic") == "https://api.anthropic.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1/")
    assert url("") == "http://localhost:1/v1"
    assert url("http://localhost:2/v1") == "http://localhost:2/v1"


def test_client_missing_httpx_raises_config_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ConfigError, match="pip install httpx"):
        LLMClient("http://localhost:1/v1", "m")


def test_client_unknown_api_raises_config_error():
    with pytest.raises(ConfigError, match="openai and anthropic"):
        LLMClient("http://localhost:1/v1", "m", api="grpc")


def test_client_openai_uses_max_completion_tokens(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LLMClient("https://api.openai.com/v1", "m") as client:
        assert client.tokens_field == "max_completion_tokens"


def test_client_missing_key_raises_except_for_local_server(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="api.example.org needs a key: .* MY_KEY"):
        LLMClient("https://api.example.org/v1", "m", api_key_env="MY_KEY")
    for host in ("127.0.0.1", "localhost", "[::1]"):
        LLMClient(f"http://{host}:1/v1", "m", api_key_env="MY_KEY").close()


@pytest.mark.parametrize("key", ["sk-\u2026", "sk-a\nb"])
def test_client_malformed_key_raises_without_showing_it(key, monkeypatch):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ConfigError, match="MY_KEY holds something that cannot be a key") as caught:
        LLMClient("https://h/v1", "m", api_key_env="MY_KEY")
    assert key not in str(caught.value)


def test_client_default_key_for_other_host_raises_config_error(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for url in ("https://api.example.org/v1", "http://10.0.0.7:8000/v1"):
        with pytest.raises(ConfigError, match="not to .*--llm-api-key-env") as refused:
            LLMClient(url, "tiny")
        assert KEY not in str(refused.value)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.example.org/v1")
    with pytest.raises(ConfigError, match="not to api.example.org"):
        LLMClient("", "tiny")
    LLMClient("https://api.example.org/v1", "tiny", api_key_env="OPENAI_API_KEY").close()
    with pytest.raises(ConfigError, match="in the clear"):
        LLMClient("http://10.0.0.7/v1", "tiny", api_key_env="OPENAI_API_KEY")
    LLMClient("http://10.0.0.7/v1", "tiny", api_key_env="OPENAI_API_KEY", plain_http=True).close()


def test_client_key_in_url_path_raises_without_showing_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match="belongs in an environment variable") as refused:
        LLMClient(f"http://127.0.0.1:1/{KEY}/v1", "tiny")
    assert KEY not in str(refused.value)


ESCAPED = "".join(f"\\u{ord(c):04x}" for c in KEY)
BASIC = base64.b64encode(f"user:{KEY}".encode()).decode()


@pytest.mark.parametrize("form", [ESCAPED, BASIC, KEY.upper(), quote(f"/keys/{KEY}/x", safe=""), KEY[4:24]])
@pytest.mark.parametrize("status", [200, 400, 401, 404, 307])
def test_client_key_echoed_in_any_encoding_is_redacted(endpoint, ask, monkeypatch, form, status, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY)
    shown = form.encode()
    content = b'{"choices": [{"message": {"content": "your key %s"}}], "id": "%s", "model": "%s"}' % (
        (shown,) * 3
    )
    error = b'{"error": {"message": "wrong key %s", "type": "%s"}}' % (shown, shown)
    headers = {"x-request-id": form, "Location": f"/{quote(form)}/v1/chat/completions"}
    endpoint.raw = (status, content if status == 200 else error, headers)
    client = ask(endpoint, api_key_env="MY_KEY")
    try:
        told = repr(client.ask(REQUEST))
    except LLMError as caught:
        told = repr(caught)
    for text in (told, caplog.text):
        small = text.lower()
        assert form.lower() not in small and not any(
            KEY[i : i + 12].lower() in small for i in range(len(KEY) - 12)
        )
        assert BASIC[8:24].lower() not in small
    assert "key" in told or status == 307


def test_client_key_is_sent_but_never_logged_or_stored(endpoint, ask, monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY)
    endpoint.answer = lambda messages: f"your key is {KEY}, in JSON too"
    with Cache(tmp_path / "c") as cache:
        client = ask(endpoint, api_key_env="MY_KEY", cache=cache, extra_body={"user": KEY})
        shown = [repr(client.ask(REQUEST)), repr(client), str(client.settings)]
        for fault in OF_THE_ENDPOINT:
            endpoint.inject(fault)
            failing = ask(endpoint, api_key_env="MY_KEY", patience=Patience(timeout=0.2, attempts=1))
            with pytest.raises(LLMError) as caught:
                failing.ask(REQUEST)
            shown.append(repr(vars(failing)))
            error = caught.value
            while error is not None:
                shown.append(repr(error))
                error = error.__cause__ or error.__context__
    assert set(endpoint.keys) == {KEY}
    shown += [caplog.text, (tmp_path / "c").read_bytes().decode("latin-1")]
    for text in shown:
        assert KEY not in text and KEY[:12] not in text
