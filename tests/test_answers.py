"""Answers: what a reply names is found, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.text.answers import Answer, normalised, parse

ACTIONS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ('{"action": "go forward"}', Answer("go forward", "json")),
        ('  {"thought": "drop? no", "action": "GO  Forward"}\n', Answer("go forward", "json")),
        ('So:\n```json\n{"action": "drop"}\n```\nnot toggle', Answer("drop", "json")),
        ('{"action": "fly", "why": "go forward"}', Answer(None, "invalid")),
        ('{"action": 2}', Answer(None, "invalid")),
        ('{"action": "drop", "action": "toggle"}', Answer(None, "ambiguous")),
        ("```\n{}\n```\ndrop", Answer("drop", "phrase")),
        ("I might toggle. <Action> pick\nup </Action>", Answer("pick up", "tag")),
        ("<action>drop</action> <action>drop</action>", Answer("drop", "tag")),
        ("<action>drop</action> <action>toggle</action>", Answer(None, "ambiguous")),
        ("<action>drop it</action>", Answer(None, "invalid")),
        ("I will Turn   Left now, turn left.", Answer("turn left", "phrase")),
        ("turn left, then go forward", Answer(None, "ambiguous")),
        ("raindrops", Answer(None, "invalid")),
        ("left", Answer(None, "invalid")),
        ('{"action": "go forw', Answer(None, "invalid")),
        ("<think>drop or toggle?</think>\ntoggle", Answer("toggle", "phrase")),
        ("<think>drop", Answer(None, "empty")),
        ("drop or toggle?\n</think>\n\ntoggle", Answer("toggle", "phrase")),
        ("drop?</think> toggle?</think> pick up", Answer("pick up", "phrase")),
        ("drop\n</think>", Answer(None, "empty")),
        ("<THINKING>drop?</Thinking>toggle", Answer("toggle", "phrase")),
        ("[THINK]drop?[/THINK] toggle", Answer("toggle", "phrase")),
        ("toggle <think>drop?", Answer("toggle", "phrase")),
        ("toggle <think>drop?</think>", Answer("toggle", "phrase")),
        ("analysis: drop<|end|><|channel|>final<|message|>toggle", Answer("toggle", "phrase")),
        ('I should not turn left. {"action": "go forward"}', Answer("go forward", "json")),
        ('{"action": "drop"}\nI drop it and do not toggle.', Answer("drop", "json")),
        ('{"why": "not toggle", "x": {"y": 1}, "Action": "drop"}', Answer("drop", "json")),
        ('Not {"action": "toggle"}, rather {"action": "drop"}.', Answer("drop", "json")),
        ('{"action": "drop"}\n{"action": "toggle"}', Answer(None, "ambiguous")),
        ('First {"action": "drop"}, then {"action": "toggle"} or so', Answer(None, "ambiguous")),
        ('toggle? {"action": "fly"}', Answer(None, "invalid")),
        (
            '<tool_call>{"name": "act", "arguments": {"action": "drop"}}</tool_call>',
            Answer("drop", "json"),
        ),
        ("Not <action>toggle</action> here: <action>drop</action>", Answer("drop", "tag")),
        ("<think>" * 100_000, Answer(None, "empty")),
        ("{" * 100_000 + '"action"', Answer(None, "invalid")),
        ("", Answer(None, "empty")),
        (" \n", Answer(None, "empty")),
        (None, Answer(None, "empty")),
        ('{"a":' * 100_000, Answer(None, "invalid")),
        ("9" * 10_000, Answer(None, "invalid")),
    ],
)
def test_parse_reply_returns_action_and_rung(reply, answer):
    assert parse(reply, ACTIONS) == answer


def test_parse_overlapping_names_returns_longer_name():
    assert parse("make stone pickaxe", ("stone", "make stone pickaxe")) == ("make stone pickaxe", "phrase")
    assert parse("action 10", ("action 1", "action 10")) == ("action 10", "phrase")
    assert parse("action 10", ("action 1",)) == (None, "invalid")


@pytest.mark.parametrize("action", ACTIONS)
def test_parse_every_action_in_every_format_is_recognized(action):
    assert parse(json.dumps({"action": action.upper()}), ACTIONS) == (action, "json")
    assert parse(f"<action>{action}</action>", ACTIONS) == (action, "tag")
    assert parse(f"I {action}.", ACTIONS) == (action, "phrase")


PIECES = st.sampled_from(
    [*ACTIONS, "<action>", "</action>", "```", "\n", '{"action": "', '"}', "{", "<think>"]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=8))).map("".join))
def test_parse_arbitrary_text_returns_only_actions_present_in_it(reply):
    action, rung = parse(reply, ACTIONS)
    if action is None:
        assert rung in ("empty", "invalid", "ambiguous")
    else:
        assert action in ACTIONS and rung in ("json", "tag", "phrase")
        assert action in normalised(reply)


@given(st.text())
def test_parse_text_without_action_name_returns_none(reply):
    free = reply.replace("o", "").replace("O", "").replace("u", "").replace("U", "")
    assert parse(free, ACTIONS).action is None
