import dataclasses
import json

import pytest

import envs
from dreamer.schema import ConfigError
from envs.text import parse, text_world
from experiments.llm import prompt
from experiments.llm.prompt import Demonstration, Past, Protocol
from experiments.llm.wire import Message, answer


@pytest.fixture(scope="module")
def world():
    env = envs.make("minigrid:Empty-5x5", 1)
    yield text_world(env)
    env.close()


def past(n):
    return tuple(Past(f"saw {i}", f"did {i}", f"thought and did {i}") for i in range(n))


@pytest.mark.parametrize("thinks", [False, True])
def test_written_action_format_is_understood_by_parse(world, thinks):
    for action in world.actions:
        found = parse(prompt.written(action, thinks), world.actions)
        assert found == (action, "tag" if thinks else "json")


@pytest.mark.parametrize(
    "protocol", [Protocol(), Protocol(mode="chain-of-thought"), Protocol(mode="few-shot", shots=1)]
)
def test_system_any_protocol_contains_rules_actions_and_answer_format(world, protocol):
    text = prompt.system(world, protocol, [Demonstration("a goal ahead", "go forward")])
    assert text.startswith(world.rules)
    end = text[text.rindex("The actions are") :]
    assert all(action in end for action in world.actions)
    assert ("<action>" in text) == protocol.thinks and ('{"action"' in text) != protocol.thinks


def test_system_more_demonstrations_than_shots_contains_only_the_first(world):
    shown = [Demonstration(f"place {i}", "go forward") for i in range(5)]
    text = prompt.system(world, Protocol(mode="few-shot", shots=2), shown)
    assert f"place 0\n{answer('go forward')}" in text and "place 1" in text and "place 2" not in text
    assert "place" not in prompt.system(world, Protocol(), shown)


def test_system_with_lessons_lists_them(world):
    assert "- look left first" in prompt.system(world, Protocol(notes=1), lessons=["look left first"])


def test_conversation_with_past_alternates_roles_and_ends_with_a_question():
    messages = prompt.conversation("rules", past(3), "now")
    assert [m.role for m in messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert messages[-1] == Message("user", "now")


def test_conversation_with_thoughts_keeps_only_the_newest():
    said = [m.content for m in prompt.conversation("rules", past(3), "now") if m.role == "assistant"]
    assert said == ["did 0", "did 1", "thought and did 2"]


@pytest.mark.parametrize("history", [0, 1, 2, 5, 16])
def test_trimmed_growing_past_is_appended_to_and_cut_by_half_at_the_limit(history):
    kept, cuts = (), 0
    for n, step in enumerate(past(60)):
        before, kept = kept, prompt.trimmed((*kept, step), history)
        assert len(kept) <= history and (not history or kept[-1] == step)
        if kept[:-1] != before:
            cuts += 1
            assert kept == past(n + 1)[n + 1 - len(kept) :]
    # Each cut makes room for half of it.
    assert cuts <= 60 / max(1, history // 2)


def test_protocol_different_fields_have_different_digests_and_survive_json():
    names = {
        protocol.digest
        for protocol in (
            Protocol(),
            Protocol(temperature=None),
            Protocol(history=8),
            Protocol(structured=False),
            Protocol(notes=2),
            Protocol(mode="chain-of-thought"),
            Protocol(mode="few-shot", shots=2),
        )
    }
    assert len(names) == 7 and Protocol().digest == Protocol().digest
    assert Protocol(**json.loads(json.dumps(dataclasses.asdict(Protocol())))) == Protocol()


def test_prompt_hash_any_change_to_the_prompt_changes_the_hash(world):
    shown = [Demonstration("a", "go forward"), Demonstration("b", "go forward")]
    few = Protocol(mode="few-shot", shots=1)
    one = prompt.prompt_hash(world, few, shown)
    assert one == prompt.prompt_hash(world, few, shown[:1])
    assert one != prompt.prompt_hash(world, few, shown[1:])
    assert one != prompt.prompt_hash(dataclasses.replace(world, version="other"), few, shown)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "magic"},
        {"mode": "few-shot"},
        {"shots": 2},
        {"history": -1},
        {"notes": -1},
        {"max_output_tokens": 0},
    ],
)
def test_protocol_invalid_fields_raise_config_error(wrong):
    with pytest.raises(ConfigError):
        Protocol(**wrong)


def test_protocol_chain_of_thought_or_unstructured_is_not_constrained():
    assert Protocol().constrained and not Protocol(mode="chain-of-thought").constrained
    assert not Protocol(structured=False).constrained
