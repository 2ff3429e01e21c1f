import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.llm import wire
from experiments.llm.wire import APIS, Broken, Message, Request, Usage

OPENAI, ANTHROPIC = APIS["openai"], APIS["anthropic"]
MESSAGES = (Message("system", "rules"), Message("user", "you see a door"))
REQUEST = Request(MESSAGES, max_tokens=64, temperature=0.0, seed=3, actions=("turn left", "go forward"))


def completion(message, **more):
    return {"choices": [{"message": message, "finish_reason": "stop"}]} | more


def used(prompt, completion, **more):
    return OPENAI.decode(
        {
            "choices": [{"message": {"content": "x"}}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion} | more,
        }
    ).usage


def test_openai_encode_request_keeps_the_messages():
    assert OPENAI.encode(REQUEST, "m", None, "max_tokens") == {
        "model": "m",
        "messages": [{"role": "system", "content": "rules"}, {"role": "user", "content": "you see a door"}],
        "max_tokens": 64,
        "temperature": 0.0,
        "seed": 3,
    }


def test_openai_encode_unset_fields_are_omitted():
    body = OPENAI.encode(Request(MESSAGES, 8), "m", None, "max_completion_tokens")
    assert set(body) == {"model", "messages", "max_completion_tokens"}


def test_openai_encode_with_schema_allows_only_the_actions():
    form = OPENAI.encode(REQUEST, "m", wire.SCHEMA, "max_tokens")["response_format"]
    assert form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"]["properties"]["action"]["enum"] == ["turn left", "go forward"]


def test_openai_encode_with_grammar_allows_the_same_answers_as_the_schema():
    rules = OPENAI.encode(REQUEST, "m", wire.GRAMMAR, "max_tokens")["grammar"].removeprefix("root ::= ")
    # A GBNF string is escaped as a JSON string is.
    assert [json.loads(json.loads(rule)) for rule in rules.split(" | ")] == [
        {"action": "turn left"},
        {"action": "go forward"},
    ]


def test_openai_decode_completion_returns_every_field():
    reply = OPENAI.decode(
        completion(
            {"content": "go", "reasoning_content": "hm"}, id="r1", model="m-0101", system_fingerprint="f"
        )
    )
    assert (reply.content, reply.reasoning, reply.finish_reason) == ("go", "hm", "stop")
    assert (reply.request_id, reply.model, reply.fingerprint, reply.usage) == ("r1", "m-0101", "f", None)


@pytest.mark.parametrize("content", [None, ""])
def test_openai_decode_empty_content_is_a_reply(content):
    assert not OPENAI.decode(completion({"content": content})).content


def test_openai_decode_think_tags_are_moved_to_reasoning():
    reply = OPENAI.decode(completion({"content": "<think>left or right\n</think>\ngo forward"}))
    assert (reply.content, reply.reasoning) == ("go forward", "left or right")
    assert OPENAI.decode(completion({"content": "<think>cut sh"})).content == ""


def test_openai_decode_content_parts_are_joined():
    parts = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "go "},
        {"type": "text", "text": "on"},
    ]
    assert OPENAI.decode(completion({"content": parts})).content == "go on"


def test_openai_decode_lone_surrogate_is_replaced():
    reply = OPENAI.decode(completion(json.loads('{"content": "go \\ud800"}')))
    assert reply.content == "go ?"


def test_openai_decode_usage_returns_the_reported_tokens():
    usage = used(
        100,
        7,
        prompt_tokens_details={"cached_tokens": 64},
        completion_tokens_details={"reasoning_tokens": 5},
    )
    assert usage == Usage(input=100, output=7, cached=64, reasoning=5)


def test_openai_decode_uncounted_reasoning_tokens_count_as_output():
    assert used(100, 7, total_tokens=407).output == 307
    assert used(100, 7, total_tokens=107).output == 7


@pytest.mark.parametrize(
    "told", [None, {}, {"prompt_tokens": 5}, {"prompt_tokens": -1, "completion_tokens": "x"}]
)
def test_openai_decode_missing_or_invalid_usage_is_none(told):
    assert OPENAI.decode(completion({"content": "x"}, usage=told)).usage is None


@pytest.mark.parametrize(
    "body", [None, [], 3, {}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": 1}]}]
)
def test_decode_body_without_a_reply_raises_broken(body):
    with pytest.raises(Broken, match="without"):
        OPENAI.decode(body)
    with pytest.raises(Broken):
        ANTHROPIC.decode(body)


def test_openai_decode_error_with_status_200_raises_broken():
    with pytest.raises(Broken, match="overloaded"):
        OPENAI.decode({"error": {"message": "overloaded"}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "type", "text", "input", "error"]),
            inner,
            max_size=3,
        )
    ),
)


@given(JSON, st.sampled_from([OPENAI, ANTHROPIC]))
def test_decode_any_json_returns_a_reply_or_raises_broken(body, api):
    try:
        reply = api.decode(body)
    except Broken as error:
        assert str(error)
    else:
        assert reply.content is None or isinstance(reply.content, str)


def test_anthropic_encode_system_message_is_a_separate_field():
    body = ANTHROPIC.encode(REQUEST, "c", None, "max_tokens")
    assert body == {
        "model": "c",
        "system": "rules",
        "messages": [{"role": "user", "content": "you see a door"}],
        "max_tokens": 64,
        "temperature": 0.0,
    }


def test_anthropic_tool_use_input_becomes_the_content():
    body = ANTHROPIC.encode(REQUEST, "c", wire.SCHEMA, "max_tokens")
    assert body["tool_choice"]["name"] == body["tools"][0]["name"]
    used = {"type": "tool_use", "name": "act", "input": {"action": "go forward"}}
    reply = ANTHROPIC.decode({"content": [{"type": "text", "text": "So:"}, used], "stop_reason": "tool_use"})
    assert json.loads(reply.content) == {"action": "go forward"}


def test_anthropic_decode_cache_tokens_are_added_to_the_input():
    reply = ANTHROPIC.decode(
        {
            "id": "msg",
            "model": "c-1",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "go"}],
            "stop_reason": "max_tokens",
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 20,
                "cache_creation_input_tokens": 5,
                "output_tokens": 3,
            },
        }
    )
    assert reply.usage == Usage(input=35, output=3, cached=20, written=5)
    assert (reply.content, reply.reasoning, reply.finish_reason) == ("go", "hm", "length")


def test_headers_api_key_is_sent_in_the_header_of_each_api():
    assert OPENAI.headers("k") == {"Authorization": "Bearer k"} and OPENAI.headers("") == {}
    assert ANTHROPIC.headers("k")["x-api-key"] == "k" and "x-api-key" not in ANTHROPIC.headers("")


# --- answers of today


ANSWER = '{"action": "go forward"}'


def called(arguments, name="act"):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "tool_calls": [called(ANSWER)]},
        {"content": "I should not turn left.", "tool_calls": [called(ANSWER)]},
        {"tool_calls": [called({"action": "go forward"})]},
        {"content": "", "function_call": {"name": "act", "arguments": ANSWER}},
        {"content": [{"type": "output_text", "text": ANSWER}]},
        {"content": [{"type": "reasoning", "text": "turn left?"}, {"type": "text", "text": ANSWER}]},
        {"content": [ANSWER]},
        {"content": {"type": "text", "text": ANSWER}},
        {"content": {"action": "go forward"}},
        {"content": ANSWER, "tool_calls": None, "function_call": None},
        {"content": ANSWER, "tool_calls": []},
        {"content": "Maybe turn left.\n</think>\n" + ANSWER},
    ],
)
def test_openai_decode_tool_call_variants_give_the_answer(message):
    assert json.loads(OPENAI.decode(completion(message)).content) == {"action": "go forward"}


def test_openai_decode_several_tool_calls_are_all_kept():
    message = {"tool_calls": [called(ANSWER), called('{"action": "turn left"}')]}
    assert OPENAI.decode(completion(message)).content.count("action") == 2


def test_openai_decode_text_beside_a_tool_call_becomes_reasoning():
    reply = OPENAI.decode(completion({"content": "not left", "tool_calls": [called(ANSWER)]}))
    assert reply.reasoning == "not left"


def test_openai_decode_think_tag_without_start_is_moved_to_reasoning():
    reply = OPENAI.decode(completion({"content": "left or right\n</think>\n\ngo forward"}))
    assert (reply.content, reply.reasoning) == ("go forward", "left or right")


@pytest.mark.parametrize(
    "reason", ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"]
)
def test_openai_decode_truncation_reasons_become_length(reason):
    body = {"choices": [{"message": {"content": ""}, "finish_reason": reason}]}
    assert OPENAI.decode(body).finish_reason == "length"


def test_openai_decode_responses_format_returns_every_field():
    reply = OPENAI.decode(
        {
            "id": "resp",
            "model": "m-1",
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "content": [{"type": "output_text", "text": ANSWER}]},
            ],
            "usage": {
                "input_tokens": 9,
                "output_tokens": 4,
                "input_tokens_details": {"cached_tokens": 3},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
        }
    )
    assert (reply.content, reply.finish_reason) == (ANSWER, "length")
    assert reply.usage == Usage(input=9, output=4, cached=3, reasoning=2)
    call = {"type": "function_call", "name": "act", "arguments": ANSWER}
    assert OPENAI.decode({"output": [call], "status": "completed"}).content == ANSWER


def test_error_in_list_body_returns_the_message():
    assert wire.error_in([{"error": {"message": "no quota"}}]) == "no quota"


@pytest.mark.parametrize(
    ("text", "usage"),
    [
        ('{"usage": {"prompt_tokens": 50, "completion_tokens": 5, "tot', Usage(50, 5)),
        ('"prompt_tokens":50,"completion_tokens":5,"total_tokens":99', Usage(50, 49)),
        ('{"usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5}}', Usage(7, 5)),
        ('data: {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n'
         'data: {"usage": {"prompt_tokens": 1, "completion_tokens": 6}}', Usage(1, 6)),
        ('{"usage": {"prompt_tokens": 50, "completion_tok', None),
        ("", None),
    ],
)  # fmt: skip
def test_usage_in_broken_json_returns_the_token_counts(text, usage):
    assert wire.usage_in(text) == usage
