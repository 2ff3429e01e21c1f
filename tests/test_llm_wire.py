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


def test_a_chat_completion_has_the_messages_as_they_are():
    assert OPENAI.encode(REQUEST, "m", None, "max_tokens") == {
        "model": "m",
        "messages": [{"role": "system", "content": "rules"}, {"role": "user", "content": "you see a door"}],
        "max_tokens": 64,
        "temperature": 0.0,
        "seed": 3,
    }


def test_what_is_not_set_is_not_sent():
    body = OPENAI.encode(Request(MESSAGES, 8), "m", None, "max_completion_tokens")
    assert set(body) == {"model", "messages", "max_completion_tokens"}


def test_a_schema_allows_the_actions_only():
    form = OPENAI.encode(REQUEST, "m", wire.SCHEMA, "max_tokens")["response_format"]
    assert form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"]["properties"]["action"]["enum"] == ["turn left", "go forward"]


def test_the_grammar_says_the_same_answers():
    rules = OPENAI.encode(REQUEST, "m", wire.GRAMMAR, "max_tokens")["grammar"].removeprefix("root ::= ")
    # A GBNF string is escaped as a JSON string is.
    assert [json.loads(json.loads(rule)) for rule in rules.split(" | ")] == [
        {"action": "turn left"},
        {"action": "go forward"},
    ]


def test_a_completion_is_read():
    reply = OPENAI.decode(
        completion(
            {"content": "go", "reasoning_content": "hm"}, id="r1", model="m-0101", system_fingerprint="f"
        )
    )
    assert (reply.content, reply.reasoning, reply.finish_reason) == ("go", "hm", "stop")
    assert (reply.request_id, reply.model, reply.fingerprint, reply.usage) == ("r1", "m-0101", "f", None)


@pytest.mark.parametrize("content", [None, ""])
def test_no_words_are_a_reply_too(content):
    assert not OPENAI.decode(completion({"content": content})).content


def test_thoughts_left_in_the_words_are_split_off():
    reply = OPENAI.decode(completion({"content": "<think>left or right\n</think>\ngo forward"}))
    assert (reply.content, reply.reasoning) == ("go forward", "left or right")
    assert OPENAI.decode(completion({"content": "<think>cut sh"})).content == ""


def test_parts_of_a_message_are_joined():
    parts = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "go "},
        {"type": "text", "text": "on"},
    ]
    assert OPENAI.decode(completion({"content": parts})).content == "go on"


def test_halves_of_a_character_can_be_written_down():
    reply = OPENAI.decode(completion(json.loads('{"content": "go \\ud800"}')))
    assert reply.content == "go ?"


def test_usage_is_the_providers():
    usage = used(
        100,
        7,
        prompt_tokens_details={"cached_tokens": 64},
        completion_tokens_details={"reasoning_tokens": 5},
    )
    assert usage == Usage(input=100, output=7, cached=64, reasoning=5)


def test_reasoning_outside_the_completion_counts_as_output():
    assert used(100, 7, total_tokens=407).output == 307
    assert used(100, 7, total_tokens=107).output == 7


@pytest.mark.parametrize(
    "told", [None, {}, {"prompt_tokens": 5}, {"prompt_tokens": -1, "completion_tokens": "x"}]
)
def test_usage_that_is_not_told_is_unknown(told):
    assert OPENAI.decode(completion({"content": "x"}, usage=told)).usage is None


@pytest.mark.parametrize(
    "body", [None, [], 3, {}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": 1}]}]
)
def test_what_is_no_reply_is_broken(body):
    with pytest.raises(Broken, match="without"):
        OPENAI.decode(body)
    with pytest.raises(Broken):
        ANTHROPIC.decode(body)


def test_an_error_with_status_200_is_told():
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
def test_no_body_is_more_than_broken(body, api):
    try:
        reply = api.decode(body)
    except Broken as error:
        assert str(error)
    else:
        assert reply.content is None or isinstance(reply.content, str)


def test_anthropic_keeps_the_system_message_apart():
    body = ANTHROPIC.encode(REQUEST, "c", None, "max_tokens")
    assert body == {
        "model": "c",
        "system": "rules",
        "messages": [{"role": "user", "content": "you see a door"}],
        "max_tokens": 64,
        "temperature": 0.0,
    }


def test_anthropic_answers_as_the_input_of_a_tool():
    body = ANTHROPIC.encode(REQUEST, "c", wire.SCHEMA, "max_tokens")
    assert body["tool_choice"]["name"] == body["tools"][0]["name"]
    used = {"type": "tool_use", "name": "act", "input": {"action": "go forward"}}
    reply = ANTHROPIC.decode({"content": [{"type": "text", "text": "So:"}, used], "stop_reason": "tool_use"})
    assert json.loads(reply.content) == {"action": "go forward"}


def test_anthropic_counts_its_cache_apart():
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


def test_keys_go_where_each_wants_them():
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
def test_an_answer_is_found_wherever_an_endpoint_puts_it(message):
    assert json.loads(OPENAI.decode(completion(message)).content) == {"action": "go forward"}


def test_several_calls_are_no_single_answer():
    message = {"tool_calls": [called(ANSWER), called('{"action": "turn left"}')]}
    assert OPENAI.decode(completion(message)).content.count("action") == 2


def test_words_beside_a_call_are_kept_as_a_thought():
    reply = OPENAI.decode(completion({"content": "not left", "tool_calls": [called(ANSWER)]}))
    assert reply.reasoning == "not left"


def test_thoughts_without_a_beginning_are_split_off():
    reply = OPENAI.decode(completion({"content": "left or right\n</think>\n\ngo forward"}))
    assert (reply.content, reply.reasoning) == ("go forward", "left or right")


@pytest.mark.parametrize(
    "reason", ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"]
)
def test_cut_short_has_one_name(reason):
    body = {"choices": [{"message": {"content": ""}, "finish_reason": reason}]}
    assert OPENAI.decode(body).finish_reason == "length"


def test_the_form_of_responses_is_read():
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


def test_an_error_in_a_list_is_told():
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
def test_tokens_of_a_broken_reply_count_where_they_are_told(text, usage):
    assert wire.usage_in(text) == usage
