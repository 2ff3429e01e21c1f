import json
import threading

import numpy as np
import pytest
from faulty_endpoint import FaultyEndpoint, _send

import envs
from dreamer.schema import ConfigError
from envs.rollout import rollout
from envs.text import text_world
from experiments.llm import policy
from experiments.llm.budget import Budget, BudgetSpent
from experiments.llm.cache import Cache
from experiments.llm.client import LLMClient, LLMError, Patience
from experiments.llm.policy import LLMPolicy
from experiments.llm.prompt import Demonstration, Protocol
from experiments.llm.transcript import Transcript, read, tally
from experiments.llm.wire import Reply

TASK = "minigrid:Empty-5x5"
WAY = ("go forward", "go forward", "turn right", "go forward", "go forward")
"""From the corner to the goal."""


def walk(messages):
    """The next step of the way, by how many steps are in the conversation."""
    done = sum(message["role"] == "assistant" for message in messages)
    return json.dumps({"action": WAY[done % len(WAY)]})


def thoughtful(messages):
    done = sum(message["role"] == "assistant" for message in messages)
    return f"I see a wall, so not turn left. Step {done}. <action>{WAY[done % len(WAY)]}</action>"


@pytest.fixture
def env():
    made = envs.make(TASK, 1)
    yield made
    made.close()


@pytest.fixture
def endpoint():
    with FaultyEndpoint(walk) as made:
        yield made


@pytest.fixture
def play(env, tmp_path):
    """Plays one episode and returns it with its transcript."""

    def played(endpoint, protocol=None, *, max_steps=None, client=None, name="t", **options):
        asked = client or LLMClient(
            endpoint.url, "tiny", sleep=lambda s: None, patience=Patience(timeout=5.0)
        )
        with asked, Transcript(tmp_path / name) as transcript:
            player = LLMPolicy(
                asked,
                text_world(env),
                protocol or Protocol(),
                transcript=transcript,
                sample="0",
                max_steps=max_steps,
                **options,
            )
            (episode,) = rollout(player, env, [7], max_steps=max_steps)
            transcript.finish({"return": episode.return_})
        return episode, read(tmp_path / name)

    return played


def test_llm_policy_model_with_correct_actions_reaches_the_goal(endpoint, play):
    episode, (lines, result, _) = play(endpoint)
    assert episode.success and episode.length == len(WAY) == len(endpoint.bodies)
    assert [line["action"] for line in lines[:-1]] == list(WAY)
    assert {line["rung"] for line in lines[:-1]} == {"schema"}
    assert result == {"return": episode.return_}


def test_transcript_finished_episode_has_a_line_per_step_and_no_last_call(endpoint, play):
    episode, (lines, _, _) = play(endpoint)
    assert [line["step"] for line in lines] == list(range(episode.length + 1))
    assert [line["is_last"] for line in lines] == [False] * episode.length + [True]
    assert lines[-1]["is_terminal"] and lines[-1]["reward"] == pytest.approx(episode.return_)
    assert "calls" not in lines[-1] and "system" in lines[0] and "system" not in lines[1]


def test_tally_after_endpoint_faults_equals_the_server_counters(endpoint, play):
    endpoint.fault = lambda index, body: {1: "429", 3: "empty", 4: "truncated json", 6: "null"}.get(index)
    _, (lines, _, _) = play(endpoint)
    told, served = tally(lines), endpoint.served
    assert (told.calls, told.input, told.output) == (served.requests, served.input, served.output)
    assert (told.cached, told.reasoning) == (served.cached, served.reasoning)
    assert sum(told.failures.values()) == 2 and told.empty == told.reasked == 2


def test_transcript_lines_of_an_episode_reproduce_every_prompt(endpoint, play):
    _, (lines, _, _) = play(endpoint)
    asked = [body["messages"] for body in endpoint.bodies]
    assert asked[0] == [
        {"role": "system", "content": lines[0]["system"]},
        {"role": "user", "content": lines[0]["text"]},
    ]
    for line, messages in zip(lines, asked, strict=False):
        assert messages[-1]["content"] == line["text"] and len(messages) == 2 + 2 * line["shown"]


def test_llm_policy_next_prompt_keeps_the_prefix_of_the_last_one(endpoint, play):
    play(endpoint)
    for before, after in zip(endpoint.bodies, endpoint.bodies[1:], strict=False):
        # All but the newest observation, whose passing part goes.
        assert after["messages"][: len(before["messages"]) - 1] == before["messages"][:-1]


def test_rollout_max_steps_reached_requests_no_further_action(endpoint, play):
    episode, (lines, _, _) = play(endpoint, max_steps=3)
    assert episode.length == 3 == len(endpoint.bodies) and len(lines) == 4


@pytest.mark.parametrize(
    ("refuses", "rung"),
    [([], "schema"), (["response_format"], "grammar"), (["response_format", "grammar"], "json")],
)
def test_llm_policy_refused_constraints_records_the_rung_used(refuses, rung, endpoint, play):
    endpoint.refuses = refuses
    _, (lines, _, _) = play(endpoint)
    assert {line["rung"] for line in lines[:-1]} == {rung}


def test_llm_policy_unstructured_protocol_parses_phrases(endpoint, play):
    endpoint.answer = lambda messages: f"I think {json.loads(walk(messages))['action'].upper()}!"
    episode, (lines, _, _) = play(endpoint, Protocol(structured=False))
    assert episode.success and {line["rung"] for line in lines[:-1]} == {"phrase"}
    assert not any("response_format" in body for body in endpoint.bodies)


@pytest.mark.parametrize(
    ("first", "flaw", "reason"),
    [
        ("I dance", "invalid", "named none"),
        ("turn left or turn right", "invalid", "more than one"),
        ("", "empty", "was empty"),
        (None, "empty", "was empty"),
    ],
)
def test_llm_policy_invalid_reply_is_requeried_once_with_the_reason(first, flaw, reason, endpoint, play):
    replies = iter([first, '{"action": "go forward"}'])
    endpoint.answer = lambda messages: next(replies)
    _, (lines, _, _) = play(endpoint, max_steps=1)
    step = lines[0]
    assert step["action"] == "go forward" and step["rung"] == "schema"
    assert [step[name] for name in ("invalid", "empty")] == [flaw == "invalid", flaw == "empty"]
    assert step["reasked"] and not step["defaulted"] and len(step["calls"]) == 2
    assert reason in step["calls"][1]["asked"]
    roles = [message["role"] for message in endpoint.bodies[1]["messages"]]
    assert roles == (["system", "user", "assistant", "user"] if first else ["system", "user"])


def test_llm_policy_two_invalid_replies_give_the_recorded_default_action(env, endpoint, play):
    endpoint.answer = lambda messages: "I dance"
    _, (lines, _, _) = play(endpoint, max_steps=2)
    world = text_world(env)
    for line in lines[:-1]:
        assert (line["action"], line["rung"]) == (world.default, "default")
        assert line["invalid"] and line["reasked"] and line["defaulted"]
    assert tally(lines).defaulted == 2 and tally(lines).calls == 4
    assert f"was not valid, so {world.default} was done" in endpoint.bodies[2]["messages"][-1]["content"]


def test_llm_policy_truncated_reply_is_counted_and_requeried(endpoint, play):
    endpoint.inject("long")
    _, (lines, _, _) = play(endpoint, max_steps=1)
    assert lines[0]["truncated"] and lines[0]["reasked"] and not lines[0]["invalid"]
    assert "cut off" in lines[0]["calls"][1]["asked"]


@pytest.mark.parametrize("content", ["", None, " \n"])
def test_llm_policy_reply_truncated_before_any_content_counts_as_empty(content, endpoint, play, monkeypatch):
    def cut(self, handler, body, fault):
        reply = {"choices": [{"message": {"content": content}, "finish_reason": "length"}]}
        _send(handler, 200, json.dumps(reply).encode())

    monkeypatch.setattr(FaultyEndpoint, "_complete", cut)
    _, (lines, _, _) = play(endpoint, max_steps=1)
    counts = tally(lines)
    assert (counts.truncated, counts.empty, counts.reasked, counts.defaulted, counts.invalid) == (
        1,
        1,
        1,
        1,
        0,
    )
    assert "cut off" in lines[0]["calls"][1]["asked"]


@pytest.mark.parametrize(
    ("content", "judged"),
    [
        ('{"action": "turn left"}', ("turn left", "json")),
        ("<action>turn left</action> and", ("turn left", "tag")),
        ("if I turn left", (None, "truncated")),
        ("", (None, "truncated")),
    ],
)
def test_judge_truncated_reply_accepts_only_an_explicit_answer(content, judged):
    assert policy.judge(Reply(content, finish_reason="length"), ("turn left", "go forward")) == judged


def test_judge_ignored_constraint_gives_the_phrase_rung():
    assert policy.judge(Reply("turn left", constraint="schema"), ("turn left",)) == ("turn left", "phrase")


def test_llm_policy_chain_of_thought_records_all_and_sends_only_the_newest(endpoint, play):
    endpoint.answer = thoughtful
    episode, (lines, _, _) = play(endpoint, Protocol(mode="chain-of-thought"))
    assert episode.success and {line["rung"] for line in lines[:-1]} == {"tag"}
    said = [m["content"] for m in endpoint.bodies[3]["messages"] if m["role"] == "assistant"]
    assert said[:2] == ["<action>go forward</action>"] * 2 and said[2].startswith("I see a wall")
    assert lines[0]["calls"][0]["content"].startswith("I see a wall")


def test_llm_policy_few_shot_protocol_sends_the_demonstrations(endpoint, play):
    shown = [Demonstration("a goal far ahead", "go forward")]
    play(endpoint, Protocol(mode="few-shot", shots=1), demonstrations=shown)
    assert "a goal far ahead" in endpoint.bodies[0]["messages"][0]["content"]


def test_llm_policy_too_few_demonstrations_raises_config_error(env, endpoint, play):
    with pytest.raises(ConfigError, match="2 shots need as many demonstrations, not 0"):
        play(endpoint, Protocol(mode="few-shot", shots=2))


def test_llm_policy_limited_history_trims_the_messages(endpoint, play):
    endpoint.answer = lambda messages: '{"action": "turn left"}'
    _, (lines, _, _) = play(endpoint, Protocol(history=4), max_steps=12)
    assert [line["shown"] for line in lines[:9]] == [0, 1, 2, 3, 4, 2, 3, 4, 2]
    assert max(len(body["messages"]) for body in endpoint.bodies) == 2 + 2 * 4


def test_llm_policy_init_with_two_copies_raises_value_error(env, endpoint):
    with LLMClient(endpoint.url, "tiny") as client, pytest.raises(ValueError, match="not 2"):
        LLMPolicy(client, text_world(env), Protocol()).init(2)


def test_llm_policy_permanent_http_error_leaves_the_episode_unfinished(endpoint, play, tmp_path):
    endpoint.fault = lambda index, body: "401" if index >= 2 else None
    with pytest.raises(LLMError, match="HTTP 401"):
        play(endpoint)
    lines, result, _ = read(tmp_path / "t")
    assert [len(line["calls"]) for line in lines] == [1, 1, 0] and result is None


def test_tally_failed_step_counts_the_tokens_already_paid(endpoint, play, tmp_path):
    endpoint.inject("null", "401")
    with pytest.raises(LLMError):
        play(endpoint)
    lines = read(tmp_path / "t").lines
    assert tally(lines).input == endpoint.served.input > 0 and tally(lines).decisions == 0


def test_llm_policy_resumed_episode_replays_cached_calls_without_paying(endpoint, play, tmp_path):
    whole, (lines, _, _) = play(endpoint, name="whole")
    paid = len(endpoint.bodies)
    with Cache(tmp_path / "cache") as cache:
        make = lambda budget: LLMClient(endpoint.url, "tiny", cache=cache, budget=budget)
        first, third = tally(lines[:3]), tally(lines[2:3])
        # With some room: a call goes only if a somewhat dearer one would fit, too.
        limit = first.input + first.output + third.input
        with pytest.raises(BudgetSpent):
            play(endpoint, client=make(Budget(max_tokens=limit)))
        assert read(tmp_path / "t").result is None
        resumed, (again, _, _) = play(endpoint, client=make(Budget()))
    assert len(endpoint.bodies) == 2 * paid
    assert (resumed.return_, resumed.length) == (whole.return_, whole.length)
    told, before = tally(again), tally(lines)
    assert told.replayed == 3 and before.replayed == 0
    same = lambda t: (t.calls, t.input, t.output, t.cached, t.reasoning, t.rungs)
    assert same(told) == same(before)


def test_cache_equal_sample_is_reused_and_another_is_requested(env, endpoint, tmp_path):
    with Cache(tmp_path / "c") as cache, LLMClient(endpoint.url, "tiny", cache=cache) as client:
        for sample in ("0", "1", "0"):
            rollout(LLMPolicy(client, text_world(env), Protocol(), sample=sample), env, [7])
    assert len(endpoint.bodies) == 2 * len(WAY)


def test_llm_client_shared_by_threads_plays_every_episode_correctly(endpoint, tmp_path):
    done = {}

    def episode(seed, client):
        world = envs.make(TASK, 1)
        with Transcript(tmp_path / str(seed)) as transcript:
            player = LLMPolicy(client, text_world(world), Protocol(), transcript=transcript, sample=str(seed))
            done[seed] = rollout(player, world, [seed])[0].success
        world.close()

    with LLMClient(endpoint.url, "tiny") as client:
        threads = [threading.Thread(target=episode, args=(seed, client)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert done == dict.fromkeys(range(4), True)
    lines = [line for seed in range(4) for line in read(tmp_path / str(seed)).lines]
    assert tally(lines).input == endpoint.served.input


def test_llm_policy_act_on_one_observation_returns_a_batch_of_one(env, endpoint):
    with LLMClient(endpoint.url, "tiny") as client:
        player = LLMPolicy(client, text_world(env), Protocol())
        action, _ = player.act(player.init(1), env.reset([7]), key=0)
    (space,) = env.act_space.values()
    assert [value.shape for value in action.values()] == [(1, *space.shape)]
    assert np.all(next(iter(action.values())) == 2)  # go forward
