import pytest
from faulty_endpoint import FaultyEndpoint
from test_llm_policy import TASK, WAY, walk

import envs
from envs.rollout import rollout
from envs.text import text_world
from experiments.llm.client import LLMClient
from experiments.llm.memory import Note, notes, reflect, similar
from experiments.llm.policy import LLMPolicy
from experiments.llm.prompt import Protocol
from experiments.llm.transcript import Transcript, read, tally


@pytest.fixture
def env():
    made = envs.make(TASK, 1)
    yield made
    made.close()


@pytest.fixture
def endpoint():
    with FaultyEndpoint(walk) as made:
        yield made


def test_reflect_after_an_episode_stores_a_note_that_later_prompts_show(env, endpoint, tmp_path):
    protocol, world = Protocol(notes=1), text_world(env)
    lesson = "walk two steps,\nthen turn right"
    endpoint.answer = lambda m: lesson if "lesson" in m[-1]["content"] else walk(m)
    with LLMClient(endpoint.url, "tiny") as client, Transcript(tmp_path / "0") as transcript:
        rollout(LLMPolicy(client, world, protocol, transcript=transcript), env, [7])
        note = reflect(client, world, protocol, transcript, "you succeeded")
        transcript.finish({})
        asked = endpoint.bodies[-1]["messages"][-1]["content"]
        assert "you succeeded" in asked and "You did: turn right" in asked
        lines = read(tmp_path / "0").lines
        assert notes(lines) == [note] and note.lesson == "walk two steps, then turn right"
        assert tally(lines).input == endpoint.served.input and tally(lines).decisions == len(WAY)
        rollout(LLMPolicy(client, world, protocol, notes=[note]), env, [8])
    assert note.lesson in endpoint.bodies[-1]["messages"][0]["content"]


def test_reflect_reply_without_content_gives_no_note(env, endpoint, tmp_path):
    endpoint.answer = lambda m: None if "lesson" in m[-1]["content"] else walk(m)
    with LLMClient(endpoint.url, "tiny") as client, Transcript(tmp_path / "0") as transcript:
        rollout(LLMPolicy(client, text_world(env), Protocol(), transcript=transcript), env, [7])
        assert reflect(client, text_world(env), Protocol(), transcript, "you failed") is None
        assert notes(transcript.lines) == []


def test_similar_more_notes_than_asked_for_returns_closest_then_newest():
    found = [
        Note("a red door", "0"),
        Note("a blue ball", "1"),
        Note("a red door", "2"),
        Note("a red ball", "3"),
    ]
    lessons = lambda count: [note.lesson for note in similar(found, "A red door.", count)]
    assert lessons(0) == [] and lessons(1) == ["2"] and lessons(2) == ["0", "2"]
    assert lessons(3) == ["3", "0", "2"] and len(lessons(9)) == 4
    assert similar([], "x", 3) == []
