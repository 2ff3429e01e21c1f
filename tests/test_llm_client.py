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


def test_a_reply_says_what_the_endpoint_said(endpoint, ask):
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
def test_what_passes_is_asked_again(fault, endpoint, ask):
    endpoint.inject(fault)
    patience = Patience(timeout=0.3 if fault == "timeout" else 5.0)
    reply = ask(endpoint, patience=patience).ask(REQUEST)
    assert reply.content == said(()) and len(reply.failures) == 1
    assert len(endpoint.bodies) == 2 and endpoint.served.requests == 1


@pytest.mark.parametrize("fault", ["401", "400"])
def test_what_asking_cannot_mend_is_told_at_once(fault, endpoint, ask):
    endpoint.inject(fault)
    with pytest.raises(LLMError, match=f"tiny at 127.0.0.1: HTTP {fault} "):
        ask(endpoint).ask(REQUEST)
    assert len(endpoint.bodies) == 1 and not ask.waits


@pytest.mark.parametrize(("fault", "words"), [("empty", ""), ("null", None)])
def test_an_empty_reply_is_a_reply(fault, words, endpoint, ask):
    endpoint.inject(fault)
    reply = ask(endpoint).ask(REQUEST)
    assert reply.content == words and reply.usage.output == 1 and not reply.failures


def test_patience_ends_with_the_attempts(endpoint, ask):
    endpoint.inject(*["500"] * 3)
    with pytest.raises(LLMError, match=r"no reply in 3 attempts, at last: HTTP 500 \(<html>sorry"):
        ask(endpoint, patience=Patience(attempts=3)).ask(REQUEST)
    assert ask.waits == [1.0, 2.0]  # twice as long every time, here without chance, and none after the last


def test_patience_ends_with_the_time(endpoint, ask):
    endpoint.inject(*["500"] * 6)
    now = [0.0]
    passed = lambda seconds: now.__setitem__(0, now[0] + seconds)
    client = ask(endpoint, patience=Patience(seconds=5.0), sleep=passed, clock=lambda: now[0])
    with pytest.raises(LLMError, match="3 attempts"):  # at 0, 1 and 3 seconds; the next would be at 7
        client.ask(REQUEST)


def test_waits_are_spread_by_chance(endpoint, ask):
    for draw, wait in ((0.0, 0.5), (1.0, 1.5)):
        endpoint.inject("500")
        ask(endpoint, draw=lambda draw=draw: draw).ask(REQUEST)
        assert ask.waits.pop() == wait


def test_retry_after_is_waited_for(endpoint, ask):
    endpoint.retry_after = "17"
    endpoint.inject("429")
    ask(endpoint).ask(REQUEST)
    assert ask.waits == [17.0]


def test_a_retry_after_beyond_all_patience_ends_it(endpoint, ask):
    endpoint.retry_after = "86400"
    endpoint.inject("429")
    with pytest.raises(LLMError, match="1 attempt, at last: HTTP 429"):
        ask(endpoint).ask(REQUEST)
    assert not ask.waits


def test_retry_after_is_seconds_or_a_date():
    now = datetime(2030, 1, 1, 12, tzinfo=UTC)
    seconds = lambda text: llm.seconds_of(text, now)
    assert seconds("2.5") == 2.5 and seconds("Tue, 01 Jan 2030 12:00:30 GMT") == 30.0
    assert seconds("Tue, 01 Jan 2030 11:00:00 GMT") == 0.0 and seconds("-3") == 0.0
    assert seconds("soon") is None and seconds(None) is None


def test_nobody_there_is_told(ask):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = LLMClient(f"http://127.0.0.1:{port}/v1", "tiny", sleep=lambda s: None)
    with client, pytest.raises(LLMError, match="6 attempts, at last: no connection"):
        client.ask(REQUEST)


# What the server is asked to keep to


def test_the_best_constraint_comes_first(endpoint, ask):
    reply = ask(endpoint).ask(REQUEST._replace(actions=ACTIONS))
    assert reply.constraint == "schema" and "response_format" in endpoint.bodies[0]


def test_without_actions_nothing_is_constrained(endpoint, ask):
    assert ask(endpoint).ask(REQUEST).constraint is None
    assert not {"response_format", "grammar"} & set(endpoint.bodies[0])


@pytest.mark.parametrize(
    ("refuses", "constraint"), [(["response_format"], "grammar"), (["response_format", "grammar"], None)]
)
def test_what_a_server_does_not_know_it_is_asked_once(refuses, constraint, endpoint, ask):
    endpoint.refuses = refuses
    client = ask(endpoint)
    replies = [client.ask(REQUEST._replace(actions=ACTIONS)) for _ in range(3)]
    assert [reply.constraint for reply in replies] == [constraint] * 3
    assert len(endpoint.bodies) == len(refuses) + 3
    assert len(client.refused) == len(refuses)
    assert "unknown field response_format" in client.refused["schema"]


def test_a_request_that_is_wrong_in_every_form_says_nothing_about_the_forms(endpoint, ask):
    endpoint.inject("400", "400", "400")
    client = ask(endpoint)
    with pytest.raises(LLMError, match="the context is too long"):
        client.ask(REQUEST._replace(actions=ACTIONS))
    assert not client.refused
    assert client.ask(REQUEST._replace(actions=ACTIONS)).constraint == "schema"


def test_fields_of_ones_own_are_sent(endpoint, ask):
    ask(endpoint, extra_body={"reasoning_effort": "low"}, tokens_field="max_completion_tokens").ask(REQUEST)
    assert endpoint.bodies[0]["reasoning_effort"] == "low"
    assert endpoint.bodies[0]["max_completion_tokens"] == 32 and "max_tokens" not in endpoint.bodies[0]


def test_the_other_format_is_spoken_too(endpoint, ask, monkeypatch):
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
def test_a_real_server_keeps_to_each_constraint(constraint, real):
    with LLMClient(real.base_url, real.model) as client:
        client.refused = {} if constraint == "schema" else {"schema": "as if it had none"}
        for seed in range(5):
            request = REQUEST._replace(actions=ACTIONS, temperature=1.0, seed=seed, max_tokens=200)
            reply = client.ask(request)
            assert reply.constraint == constraint and parse(reply.content, ACTIONS).rung == "json"
            assert reply.usage.input > 0 and reply.usage.output > 0


def test_a_real_server_refuses_what_is_too_long(real):
    words = Message("user", "many words " * 1000)
    with LLMClient(real.base_url, real.model) as client:
        with pytest.raises(LLMError, match="HTTP 400 .*context"):
            client.ask(REQUEST._replace(messages=(words,), actions=ACTIONS))
        assert not client.refused


# What endpoints of today refuse, and where they lead


SPOKEN = b'data: {"choices": [{"delta": {"content": "go"}}]}\n\ndata: [DONE]\n\n'


def test_a_refused_name_is_changed_once_and_remembered(endpoint, ask):
    endpoint.refuses = ["max_tokens"]
    client = ask(endpoint)
    for _ in range(3):
        assert client.ask(REQUEST._replace(actions=ACTIONS)).constraint == "schema"
    assert sum("max_tokens" in body for body in endpoint.bodies) == 1
    assert endpoint.bodies[-1]["max_completion_tokens"] == 32 and client.changes == {
        "max_tokens": "max_completion_tokens"
    }


def test_the_older_name_is_found_too(endpoint, ask):
    endpoint.refuses = ["max_completion_tokens"]
    ask(endpoint, tokens_field="max_completion_tokens").ask(REQUEST)
    assert endpoint.bodies[-1]["max_tokens"] == 32


@pytest.mark.parametrize("threads", [1, 8])
def test_a_fixed_temperature_is_left_out_and_told(endpoint, ask, threads):
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


def test_both_are_found_and_a_constraint_too(endpoint, ask):
    endpoint.refuses = ["temperature", "max_tokens", "response_format", "grammar"]
    client = ask(endpoint)
    for _ in range(2):
        assert client.ask(REQUEST._replace(temperature=0.0, actions=ACTIONS)).constraint is None
    assert len(endpoint.bodies) == 4 + 2


def test_what_is_not_refused_for_its_name_is_not_changed(endpoint, ask):
    said = {"error": {"message": "max_tokens is too large: the maximum context length is 8 tokens"}}
    endpoint.raw = (400, json.dumps(said).encode(), {})
    with pytest.raises(LLMError, match="context length"):
        ask(endpoint).ask(REQUEST)
    assert len(endpoint.bodies) == 1


def test_what_was_changed_is_replayed(endpoint, ask, tmp_path):
    endpoint.refuses = ["max_tokens", "temperature"]
    hot = REQUEST._replace(temperature=0.0)
    with Cache(tmp_path / "c") as cache:
        first = ask(endpoint, cache=cache).ask(hot)
        asked = len(endpoint.bodies)
        again = ask(endpoint, cache=cache).ask(hot)
    assert again == first._replace(replayed=True) and len(endpoint.bodies) == asked


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/event-stream; charset=utf-8"}])
def test_a_stream_is_asked_for_as_one_reply_once_and_said(endpoint, ask, headers):
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
def test_where_an_address_leads_elsewhere_the_right_one_is_named(endpoint, ask, status, headers, said):
    endpoint.raw = (status, b"<html></html>", headers)
    endpoint.url = endpoint.url.removesuffix("/v1")
    with pytest.raises(LLMError) as caught:
        ask(endpoint).ask(REQUEST)
    assert said.format(port=endpoint.url.rpartition(":")[2]) in str(caught.value)
    assert len(endpoint.bodies) == 1


def test_a_reply_that_is_too_large_is_said_and_not_asked_again(endpoint, ask):
    endpoint.raw = (200, gzip.compress(b" " * (9 * 2**20)), {"Content-Encoding": "gzip"})
    with pytest.raises(LLMError, match="above 8 MB, which was cut off"):
        ask(endpoint).ask(REQUEST)
    assert len(endpoint.bodies) == 1


def test_an_attempt_has_an_end(endpoint, ask):
    endpoint.delay = 20.0
    client = ask(endpoint, patience=Patience(timeout=60.0, longest=0.3, attempts=1))
    began = time.monotonic()
    with pytest.raises(LLMError, match="1 attempt, at last: timeout"):
        client.ask(REQUEST)
    assert time.monotonic() - began < 10


def test_the_hours_of_a_budget_end_an_attempt(endpoint, ask):
    endpoint.delay = 20.0
    began = time.monotonic()
    with pytest.raises(BudgetSpent, match="--max-hours"):
        ask(endpoint, patience=Patience(timeout=60.0), budget=Budget(max_hours=0.3 / 3600)).ask(REQUEST)
    assert time.monotonic() - began < 10


# Cache, price, budget


def test_nothing_is_paid_for_twice(endpoint, ask, tmp_path):
    with Cache(tmp_path / "c") as cache:
        first = ask(endpoint, cache=cache).ask(REQUEST, sample="0")
        again = ask(endpoint, cache=cache).ask(REQUEST, sample="0")
        other = ask(endpoint, cache=cache).ask(REQUEST, sample="1")
    assert again == first._replace(replayed=True) and not other.replayed
    assert len(endpoint.bodies) == 2


def test_equal_requests_share_a_greedy_reply_that_depends_on_nothing_else(endpoint, ask, tmp_path):
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


def test_a_server_is_asked_in_the_ways_it_is_said_to_know(endpoint, ask):
    reply = ask(endpoint, constraints=("grammar",)).ask(REQUEST._replace(actions=ACTIONS))
    assert reply.constraint == "grammar" and "response_format" not in endpoint.bodies[0]


def test_a_step_down_is_replayed_too(endpoint, ask, tmp_path):
    endpoint.refuses = ["response_format"]
    with Cache(tmp_path / "c") as cache:
        ask(endpoint, cache=cache).ask(REQUEST._replace(actions=ACTIONS))
        asked = len(endpoint.bodies)
        again = ask(endpoint, cache=cache).ask(REQUEST._replace(actions=ACTIONS))
    assert again.constraint == "grammar" and again.replayed and len(endpoint.bodies) == asked


def test_failures_are_not_remembered(endpoint, ask, tmp_path):
    endpoint.inject("401")
    with Cache(tmp_path / "c") as cache:
        with pytest.raises(LLMError):
            ask(endpoint, cache=cache).ask(REQUEST)
        assert not ask(endpoint, cache=cache).ask(REQUEST).replayed


def test_replaying_only_needs_no_key_and_asks_nobody(endpoint, ask, tmp_path):
    with Cache(tmp_path / "c") as cache:
        first = ask(endpoint, cache=cache).ask(REQUEST)
    with Cache(tmp_path / "c", replay_only=True) as cache:
        client = ask(endpoint, cache=cache)
        assert client.ask(REQUEST).content == first.content
        with pytest.raises(llm.ReplayMiss, match="has no reply of tiny"):
            client.ask(REQUEST, sample="other")
        LLMClient("https://api.example.org/v1", "tiny", cache=cache).close()
    assert len(endpoint.bodies) == 1


def test_a_price_is_per_request(endpoint, ask):
    table = {"tiny": prices.Price(input=1.0, cached=0.5, output=10.0)}
    reply = ask(endpoint, prices=table).ask(REQUEST)
    assert reply.usd == pytest.approx((4 * 1.0 + 4 * 0.5 + 4 * 10.0) / 1e6)


def test_without_usage_neither_tokens_nor_dollars_are_known(endpoint, ask):
    endpoint.usage = False
    reply = ask(endpoint, prices={"tiny": prices.Price(1.0, 1.0)}).ask(REQUEST)
    assert reply.usage is None and reply.usd is None


def test_a_spent_budget_asks_nobody(endpoint, ask):
    client = ask(endpoint, budget=Budget(max_tokens=12))
    client.ask(REQUEST)
    with pytest.raises(BudgetSpent):
        client.ask(REQUEST)
    assert len(endpoint.bodies) == 1


def test_what_was_paid_for_is_charged_and_given_after_the_end_of_a_budget(endpoint, ask, tmp_path):
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
def test_replies_that_were_lost_are_charged(endpoint, ask, fault):
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
def test_refusals_are_not_charged(endpoint, ask, fault):
    budget = Budget(max_tokens=1000)
    endpoint.inject(fault)
    assert ask(endpoint, budget=budget).ask(REQUEST).lost is None and budget.tokens == 12


def test_tokens_that_a_broken_reply_tells_are_charged_as_told(endpoint, ask):
    endpoint.raw = (200, b'{"usage": {"prompt_tokens": 50, "completion_tokens": 5}, "choices": [', {})
    budget = Budget(max_tokens=1000)
    with pytest.raises(LLMError):
        ask(endpoint, budget=budget, patience=Patience(attempts=3)).ask(REQUEST)
    assert budget.tokens == 3 * 55


def test_a_price_that_does_not_hold_for_the_size_ends_a_limit_in_dollars(endpoint, ask):
    client = ask(endpoint, prices={"tiny": prices.Price(1.0, 1.0, up_to=5)}, budget=Budget(max_usd=1.0))
    client.ask(REQUEST)
    with pytest.raises(BudgetSpent, match="no price is known for requests of this size"):
        client.ask(REQUEST)


def test_a_server_of_ones_own_needs_no_price(endpoint, ask):
    client = ask(endpoint, budget=Budget(max_usd=1.0), free=True)
    assert client.ask(REQUEST).usd is None and client.ask(REQUEST).usd is None
    with pytest.raises(ConfigError, match="--max-usd needs a price"):
        ask(endpoint, budget=Budget(max_usd=1.0))


def test_a_budget_in_dollars_needs_a_price(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match="--max-usd needs a price for gpt-99 at api.openai.com"):
        LLMClient("", "gpt-99", prices=prices.load(), budget=Budget(max_usd=1.0))
    LLMClient("", "gpt-4o-mini", prices=prices.load(), budget=Budget(max_usd=1.0)).close()


def test_threads_share_a_client(endpoint, ask, tmp_path):
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
def test_what_is_no_address_is_one_sentence(url):
    with pytest.raises(ConfigError, match="must be an address like"):
        LLMClient(url, "tiny")


@pytest.mark.parametrize(
    "url", [f"https://user:{KEY}@h/v1", f"https://h/v1?key={KEY}", f"https://h/v1#{KEY}"]
)
def test_a_key_in_the_address_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError, match="belongs in an environment variable") as caught:
        LLMClient(url, "tiny")
    assert KEY not in str(caught.value)


def test_addresses_come_from_the_flag_the_environment_or_the_api(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    url = lambda given, **options: (made := LLMClient(given, "m", **options)).close() or made.base_url
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert url("") == "https://api.openai.com/v1"
    assert url("", api="anthropic") == "https://api.anthropic.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1/")
    assert url("") == "http://localhost:1/v1"
    assert url("http://localhost:2/v1") == "http://localhost:2/v1"


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ConfigError, match="pip install httpx"):
        LLMClient("http://localhost:1/v1", "m")


def test_an_unknown_api_is_one_sentence():
    with pytest.raises(ConfigError, match="openai and anthropic"):
        LLMClient("http://localhost:1/v1", "m", api="grpc")


def test_openai_has_a_name_of_its_own_for_the_limit(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LLMClient("https://api.openai.com/v1", "m") as client:
        assert client.tokens_field == "max_completion_tokens"


def test_a_missing_key_is_one_sentence_and_none_is_needed_here(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="api.example.org needs a key: .* MY_KEY"):
        LLMClient("https://api.example.org/v1", "m", api_key_env="MY_KEY")
    for host in ("127.0.0.1", "localhost", "[::1]"):
        LLMClient(f"http://{host}:1/v1", "m", api_key_env="MY_KEY").close()


@pytest.mark.parametrize("key", ["sk-\u2026", "sk-a\nb"])
def test_what_cannot_be_a_key_is_not_repeated(key, monkeypatch):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ConfigError, match="MY_KEY holds something that cannot be a key") as caught:
        LLMClient("https://h/v1", "m", api_key_env="MY_KEY")
    assert key not in str(caught.value)


def test_the_usual_key_is_not_sent_to_another_company(monkeypatch):
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


def test_a_key_in_the_path_of_an_address_is_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match="belongs in an environment variable") as refused:
        LLMClient(f"http://127.0.0.1:1/{KEY}/v1", "tiny")
    assert KEY not in str(refused.value)


ESCAPED = "".join(f"\\u{ord(c):04x}" for c in KEY)
BASIC = base64.b64encode(f"user:{KEY}".encode()).decode()


@pytest.mark.parametrize("form", [ESCAPED, BASIC, KEY.upper(), quote(f"/keys/{KEY}/x", safe=""), KEY[4:24]])
@pytest.mark.parametrize("status", [200, 400, 401, 404, 307])
def test_a_key_is_not_shown_in_any_form_that_comes_back(endpoint, ask, monkeypatch, form, status, caplog):
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


def test_a_key_is_sent_and_never_shown(endpoint, ask, monkeypatch, tmp_path, caplog):
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
