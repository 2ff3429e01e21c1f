"""Whole comparisons, with a language model behind an endpoint that fails as it is told to."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faulty_endpoint import FAULTS, FaultyEndpoint

import envs
from dreamer.schema import ConfigError
from envs.api import Step
from envs.rollout import Random
from experiments import lock
from experiments.compare import language
from experiments.compare.compare import compare
from experiments.compare.options import CompareOptions
from experiments.compare.play import Recorded, Seat, Stopped, named, play
from experiments.compare.question import place
from experiments.compare.replay import seen
from experiments.compare.transcript import Together, read, read_all
from experiments.llm.client import Patience

pytest.importorskip("httpx", reason="httpx is not installed")

TASK = "minigrid:Empty-5x5"
KEY = "sk-very-secret-0123456789"
PRICES = 'date = "2026-11-01"\n[models]\n"tiny" = { input = 1.0, cached = 0.5, output = 2.0 }\n'
HASTY = Patience(timeout=1.0, attempts=3, first_delay=0.0)
ROOT = Path(__file__).parents[1]


def wise(messages):
    """A deterministic answer that depends on what was told."""
    words = messages[-1]["content"]
    return json.dumps({"action": "go forward" if len(words) % 2 else "turn right"})


def options(out, url="", **changes):
    plain = CompareOptions(
        task=(TASK,),
        agents=("random", "scripted", "llm:tiny"),
        episodes=4,
        out=str(out),
        max_steps=6,
        llm_base_url=url,
        concurrency=2,
    )
    return replace(plain, **changes)


def results(out, name="results.json"):
    return json.loads((Path(out) / name).read_text())["tasks"][TASK]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """An endpoint is asked again at once, and not often."""
    monkeypatch.setattr(language, "PATIENCE", HASTY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


# --- one comparison, looked at from all sides ------------------------------------------------------

FAULTY = {
    0: "500",
    5: "429",
    9: "empty",
    12: "truncated json",
    15: "junk",
    18: "null",
    22: "long",
    23: "dropped",
    26: "timeout",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    (out / "prices.toml").write_text(PRICES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language, "PATIENCE", HASTY)
        patch.setenv("OPENAI_API_KEY", KEY)
        with FaultyEndpoint(wise, fault=lambda index, body: FAULTY.get(index)) as endpoint:
            code = compare(options(out / "c", endpoint.url, prices=str(out / "prices.toml"), watts=10.0))
    return out / "c", endpoint, code


def test_compare_faulty_endpoint_finishes_all_episodes(made):
    out, endpoint, code = made
    rows = results(out)
    assert code == 0
    assert {fault for fault in endpoint.faults if fault} == set(FAULTY.values())
    for row in rows.values():
        assert (row["planned"], row["finished"], row["errored"]) == (4, 4, 0)
    assert rows["llm:tiny"]["reasked"] >= 2 and rows["llm:tiny"]["truncated"] == 1


def test_compare_usage_totals_match_server_counts(made):
    out, endpoint, _ = made
    row = results(out)["llm:tiny"]
    served = endpoint.served
    assert (row["calls"], row["tokens_in"], row["tokens_out"]) == (
        served.requests,
        served.input,
        served.output,
    )
    assert (row["tokens_cached"], row["tokens_reasoning"]) == (served.cached, served.reasoning)
    usd = (served.input - served.cached) * 1.0 + served.cached * 0.5 + served.output * 2.0
    assert row["usd"] == pytest.approx(usd / 1e6)
    lines = [line for p in read_all(out / "transcripts" / TASK / "llm:tiny", range(4)) for line in p.lines]
    assert sum(call["usage"]["input"] for line in lines for call in line.get("calls", ())) == served.input


def test_compare_report_lists_endpoint_failures(made):
    out, _, _ = made
    page = (out / "report.html").read_text()
    faults = results(out, "timing.json")["llm:tiny"]["faults"]
    assert any("HTTP 500" in fault for fault in faults) and any("HTTP 429" in fault for fault in faults)
    assert "HTTP 500" in page and "What failed" in page


def test_compare_report_is_self_contained_with_disclosures(made):
    page = (made[0] / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page.replace(
        "https://matplotlib", ""
    )
    for said in (
        "What each had seen",
        "the full state",
        "minigrid-1",
        "prompt",
        "of 2026-11-01",
        "side by side",
    ):
        assert said in page, said


def test_compare_contestants_play_same_seeds_and_scripted_wins(made):
    rows = results(made[0])
    assert rows["scripted"]["success_rate"] == 1.0
    assert rows["random"]["difference"] is None
    assert rows["scripted"]["difference"]["pairs"] == 4
    for agent in rows:
        files = sorted((made[0] / "transcripts" / TASK / agent).glob("*.jsonl"))
        assert [int(path.stem) for path in files] == [0, 1, 2, 3]


def test_compare_api_key_appears_in_no_output_file(made):
    out, endpoint, _ = made
    assert set(endpoint.keys) == {KEY}
    files = [path for path in out.rglob("*") if path.is_file()]
    assert files and not any(KEY.encode() in path.read_bytes() for path in files)


def test_seen_recorded_episode_replays_same_rewards(made):
    folder = made[0] / "transcripts" / TASK / "random"
    seat = Seat(lambda: envs.make(TASK, 1), lambda env, seed, file: Random(env.act_space))
    played = read(folder / "2.jsonl")
    observations = seen(seat, played).observations
    assert len(observations) == len(played.steps) == played.result["length"] + 1
    assert seen(seat, played).astray is None


def test_compare_repeated_replays_nothing_and_keeps_results(made, capsys):
    out, endpoint, _ = made
    before = (out / "results.json").read_bytes()
    again = options(
        out, "http://127.0.0.1:9/v1", prices=str(out.parent / "prices.toml"), watts=10.0, json=True
    )
    assert compare(again) == 0
    assert (out / "results.json").read_bytes() == before
    assert json.loads(capsys.readouterr().out)["tasks"][TASK]["scripted"]["success_rate"] == 1.0


def test_compare_task_note_is_printed_and_in_report(made, monkeypatch, capsys):
    out, _, _ = made
    adapter = next(suite for suite in envs.suites() if TASK.startswith(suite.name + ":")).adapter()
    monkeypatch.setattr(adapter, "note", lambda name: f"{name} is another game.", raising=False)
    assert compare(options(out, "http://127.0.0.1:9/v1", prices=str(out.parent / "prices.toml"))) == 0
    text = f"{TASK.partition(':')[2]} is another game."
    assert text in capsys.readouterr().err.splitlines()
    assert (out / "report.html").read_text().count(f'<p class="note">{text}</p>') == 1


def test_compare_other_seed_in_same_folder_raises_config_error(made):
    with pytest.raises(ConfigError, match="seed was 0 and is 7"):
        compare(options(made[0], "http://127.0.0.1:9/v1", seed=7))


# --- failures, budgets, interruptions --------------------------------------------------------------


def test_compare_permanent_endpoint_error_fails_only_its_episodes(tmp_path, capsys):
    with FaultyEndpoint(wise, fault=lambda index, body: "401" if index in (0, 1) else None) as endpoint:
        compare(options(tmp_path, endpoint.url, concurrency=1))
        row = results(tmp_path)["llm:tiny"]
        assert (row["finished"], row["errored"]) == (2, 2)
        assert row["tokens_in"] == endpoint.served.input
        assert sum(row["errors"].values()) == 2 and "HTTP 401" in next(iter(row["errors"]))
        assert KEY not in "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.*"))
        assert KEY not in capsys.readouterr().err
        assert "HTTP 401" in (tmp_path / "report.html").read_text()
        compare(options(tmp_path, endpoint.url))
        row = results(tmp_path)["llm:tiny"]
        assert (row["finished"], row["errored"], row["tokens_in"]) == (4, 0, endpoint.served.input)


@pytest.mark.parametrize("fault", FAULTS)
def test_compare_always_failing_server_ends_episodes_but_not_comparison(tmp_path, fault, capsys):
    with FaultyEndpoint(wise, fault=lambda index, body: fault) as endpoint:
        wanted = options(tmp_path, endpoint.url, agents=("random", "llm:tiny"), episodes=1, max_steps=2)
        code = compare(wanted)
    rows = results(tmp_path)
    assert rows["random"]["finished"] == 1
    defaulted = fault in ("empty", "null", "long")  # the model's fault and not the server's
    printed = capsys.readouterr().err
    assert code == (0 if defaulted else 2)
    assert ("all 1 episodes of llm:tiny" in printed) == (not defaulted)
    assert ("2 of 2 answers without an action" in printed and "2 moved by default" in printed) == defaulted
    assert rows["llm:tiny"]["defaulted"] == 2 * defaulted
    assert (rows["llm:tiny"]["finished"], rows["llm:tiny"]["errored"]) == (defaulted, 1 - defaulted)


def test_compare_token_budget_spent_stops_and_larger_budget_resumes(tmp_path, capsys):
    with FaultyEndpoint(wise) as endpoint:
        compare(options(tmp_path / "a", endpoint.url))
        everything = results(tmp_path / "a")["llm:tiny"]["tokens_in"]
    with FaultyEndpoint(wise) as endpoint:
        small = options(
            tmp_path / "b", endpoint.url, max_tokens=everything // 2, agents=("llm:tiny", "random")
        )
        assert compare(small) == 0
        rows = results(tmp_path / "b")
        assert "--max-tokens" in capsys.readouterr().err
        assert rows["llm:tiny"]["finished"] < 4 and rows["llm:tiny"]["errored"] == 0
        assert rows["random"]["finished"] == 4
        assert rows["llm:tiny"]["tokens_in"] == endpoint.served.input < everything
        compare(replace(small, max_tokens=0))
        assert results(tmp_path / "b")["llm:tiny"]["tokens_in"] == endpoint.served.input == everything


DEAR = 'date = "2026-11-01"\n[models]\n"tiny" = { input = 1000.0, output = 1000.0 }\n'


@pytest.mark.parametrize("broken", [None, "truncated json", "cut", "junk"])
def test_compare_max_usd_with_concurrency_and_lost_replies_is_kept(tmp_path, broken, capsys):
    (tmp_path / "prices.toml").write_text(DEAR)
    with FaultyEndpoint(wise, delay=0.02, fault=lambda i, body: broken if i % 3 == 2 else None) as endpoint:
        asked = options(
            tmp_path / "c",
            endpoint.url,
            agents=("llm:tiny",),
            episodes=24,
            concurrency=24,
            max_usd=2.0,
            max_steps=2,
            prices=str(tmp_path / "prices.toml"),
            llm_output_tokens=16,
        )
        assert compare(asked) == 0
    billed = [endpoint.served.input + endpoint.served.output, endpoint.lost.input + endpoint.lost.output]
    assert 0 < sum(billed) * 1000 / 1e6 <= 2.0 and len(endpoint.bodies) > 1
    assert "not all is played: --max-usd 2.0 is spent" in capsys.readouterr().err


def test_compare_max_usd_without_price_raises_before_first_request(tmp_path):
    with FaultyEndpoint(wise) as endpoint:
        asked = options(tmp_path / "c", endpoint.url, max_usd=1.0)
        with pytest.raises(ConfigError, match="--max-usd needs a price for tiny .*--prices.*--max-tokens"):
            compare(asked)
        assert not endpoint.bodies
    assert not list((tmp_path / "c").rglob("*.jsonl"))


@pytest.mark.parametrize("limit", [{"max_usd": 1.0}, {"max_tokens": 100_000}])
def test_compare_limit_on_unreported_usage_stops_at_once(tmp_path, limit, capsys):
    (tmp_path / "prices.toml").write_text(PRICES)
    with FaultyEndpoint(wise, usage=False) as endpoint:
        asked = options(tmp_path / "c", endpoint.url, prices=str(tmp_path / "prices.toml"), **limit)
        assert compare(asked) == 2
    assert "cannot be kept: the endpoint does not tell its tokens" in capsys.readouterr().err
    assert len(endpoint.bodies) <= asked.concurrency


def test_compare_max_hours_with_slow_endpoint_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(language, "PATIENCE", Patience(timeout=60.0))
    with FaultyEndpoint(wise, delay=30.0) as endpoint:
        began = time.monotonic()
        asked = options(tmp_path, endpoint.url, agents=("llm:tiny",), episodes=2, max_hours=0.5 / 3600)
        assert compare(asked) == 0
        assert time.monotonic() - began < 20
    assert "--max-hours" in capsys.readouterr().err


# --- a folder has one comparison -------------------------------------------------------------------


def test_compare_second_process_in_folder_is_refused_and_first_finishes(tmp_path):
    with FaultyEndpoint(wise, delay=0.05) as endpoint:
        first = options(tmp_path, endpoint.url, agents=("llm:tiny",), episodes=3)
        codes = []
        thread = threading.Thread(target=lambda: codes.append(compare(first)))
        thread.start()
        until = time.monotonic() + 60
        while len(endpoint.bodies) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(
            ConfigError, match=rf"a comparison runs there since .* process {os.getpid()}; .*--out"
        ):
            compare(first)
        thread.join()
    assert codes == [0] and results(tmp_path)["llm:tiny"]["finished"] == 3
    assert not (tmp_path / lock.NAME).exists()


def test_compare_refused_arguments_create_no_folder(tmp_path):
    with pytest.raises(ConfigError):
        compare(options(tmp_path / "new" / "c", agents=("scripted",), task=("probe:continuous",)))
    assert not (tmp_path / "new" / "c").exists()


# --- endpoints of today ----------------------------------------------------------------------------


@pytest.mark.parametrize("refuses", [["max_tokens"], ["temperature"], ["temperature", "max_tokens"]])
def test_compare_fields_refused_by_endpoint_are_changed_once_and_disclosed(tmp_path, refuses, capsys):
    with FaultyEndpoint(wise, refuses=refuses) as endpoint:
        assert compare(options(tmp_path, endpoint.url, agents=("llm:tiny",))) == 0
    refused = [body for body in endpoint.bodies if set(refuses) & set(body)]
    assert len(refused) == len(refuses)  # each once, although two episodes are played at a time
    row = results(tmp_path)["llm:tiny"]
    assert (row["finished"], row["errored"], row["defaulted"]) == (4, 0, 0)
    assert row["unsent"] == ["temperature"] * ("temperature" in refuses)
    assert ("without temperature, which the endpoint refuses" in capsys.readouterr().err) == bool(
        row["unsent"]
    )


def test_compare_base_url_without_version_suggests_right_one(tmp_path, capsys):
    with FaultyEndpoint(wise) as endpoint:
        wrong = endpoint.url.removesuffix("/v1")
        assert compare(options(tmp_path, wrong, agents=("llm:tiny",), episodes=2)) == 2
    assert f"--llm-base-url {endpoint.url}" in capsys.readouterr().err.splitlines()[-1]


def test_compare_killed_and_restarted_gives_identical_results(tmp_path):
    code = (
        "import sys\nfrom experiments.compare.compare import compare\n"
        "from experiments.compare.options import CompareOptions\n"
        f"compare(CompareOptions(task=({TASK!r},), agents=('random', 'scripted', 'llm:tiny'), episodes=4,"
        f" out={str(tmp_path / 'killed')!r}, max_steps=6, llm_base_url=sys.argv[1], concurrency=2))\n"
    )
    with FaultyEndpoint(wise, delay=0.1) as endpoint:
        process = subprocess.Popen(
            [sys.executable, "-c", code, endpoint.url], cwd=ROOT, env=os.environ, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while len(endpoint.bodies) < 9 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # what was under way is answered to nobody
    assert not (tmp_path / "killed" / "results.json").exists()
    with FaultyEndpoint(wise) as again:
        compare(options(tmp_path / "killed", again.url))
    with FaultyEndpoint(wise) as whole:
        compare(options(tmp_path / "whole", whole.url))
    assert again.served.requests < whole.served.requests
    killed, uninterrupted = ((tmp_path / name / "results.json").read_bytes() for name in ("killed", "whole"))
    assert killed == uninterrupted


# --- ways to ask -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told", "disclosed"),
    [
        ({"llm_mode": "few-shot", "llm_shots": 3}, "Examples", {"mode": "few-shot", "shots": 3}),
        ({"llm_mode": "chain-of-thought"}, "first think", {"mode": "chain-of-thought"}),
        ({"llm_notes": 1}, "Lessons from earlier", {"notes": 1}),
        ({"llm_privileged": True}, "", {"privileged": True}),
        ({"llm_temperature": -1.0}, "", {"temperature": "the endpoint's"}),
    ],
)
def test_compare_prompt_options_appear_in_prompt_and_disclosure(tmp_path, changes, told, disclosed):
    thoughtful = lambda messages: "I go. <action>go forward</action>"
    with FaultyEndpoint(thoughtful) as endpoint:
        compare(options(tmp_path, endpoint.url, agents=("llm:tiny",), episodes=2, max_steps=2, **changes))
    row = results(tmp_path)["llm:tiny"]
    assert told in endpoint.bodies[-1 - bool(changes.get("llm_notes"))]["messages"][0]["content"]
    assert disclosed.items() <= row["disclosure"].items()
    assert ("temperature" in endpoint.bodies[0]) == ("llm_temperature" not in changes)
    assert (row["finished"], row["tokens_in"]) == (2, endpoint.served.input)
    assert row["rungs"] == {"tag": 4} and row["decisions"] == 4


def test_compare_cache_replay_needs_no_server_or_key(tmp_path, monkeypatch):
    with FaultyEndpoint(wise) as endpoint:
        asked = options(tmp_path, endpoint.url, agents=("llm:tiny",), episodes=2)
        compare(asked)
    before = (tmp_path / "results.json").read_bytes()
    for path in (tmp_path / "transcripts").rglob("*.jsonl"):
        path.unlink()
    monkeypatch.delenv("OPENAI_API_KEY")
    compare(replace(asked, llm_cache="replay"))
    assert (tmp_path / "results.json").read_bytes() == before


def test_compare_local_model_reuses_repeated_requests(tmp_path):
    pytest.importorskip("xllamacpp", reason="the server is in the extra llm-local")
    pytest.importorskip("gguf", reason="the writer of model files is in the extra test")
    import tiny_gguf

    task, out = "gymnasium:FrozenLake-v1", tmp_path / "out"  # every episode begins in the same place
    model = f"llm:{tiny_gguf.write(tmp_path / 'tiny.gguf')}"
    asked = options(out, "", task=(task,), agents=(model,), episodes=2, max_steps=4, llm_history=0)
    compare(asked)
    row = json.loads((out / "results.json").read_text())["tasks"][task][model]
    assert row["finished"] == 2 and row["rungs"] == {"grammar": row["calls"]}
    folder = place(out, task, model)
    said = lambda seed: [c for line in read(folder / f"{seed}.jsonl").decisions for c in line["calls"]]
    first, second = said(0), said(1)
    assert not first[0]["repeated"] and second[0]["repeated"]
    assert second[0]["content"] == first[0]["content"]
    assert row["repeated"] == sum(call["repeated"] for call in first + second)
    assert row["tokens_in"] == sum(call["usage"]["input"] for call in first + second) > 0
    before = (out / "results.json").read_bytes()
    (folder / "0.jsonl").unlink()  # as if it had been killed there
    compare(asked)
    assert (out / "results.json").read_bytes() == before


# --- what cannot be --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        (("randm",), "did you mean random"),
        (("random", "random"), "twice"),
        (("llm",), "llm:MODEL"),
        (("run:",), "run:FOLDER"),
        (("scripted:x",), "takes nothing after it"),
        (("run:/nowhere",), "no run folder"),
        (("ppo:/nowhere",), "nowhere"),
        ((), "agents is missing"),
    ],
)
def test_compare_invalid_agent_name_raises_before_playing(tmp_path, agents, said):
    with pytest.raises(Exception, match=said) as error:
        compare(options(tmp_path / "out", agents=("random", *agents) if agents else ()))
    assert not isinstance(error.value, KeyError | AttributeError | TypeError)
    assert not (tmp_path / "out" / "transcripts").exists()


def test_compare_task_without_script_or_words_raises_config_error(tmp_path):
    pendulum = replace(options(tmp_path), task=("probe:continuous",))
    with pytest.raises(ConfigError, match="scripted player"):
        compare(replace(pendulum, agents=("scripted",)))
    with pytest.raises(ConfigError, match="llm:x cannot play probe:continuous"):
        compare(replace(pendulum, agents=("llm:x",), llm_base_url="http://127.0.0.1:9/v1"))


def test_compare_task_without_any_player_raises_before_playing(tmp_path):
    asked = options(tmp_path, "http://127.0.0.1:9/v1", task=(TASK, "probe:continuous"))
    with pytest.raises(ConfigError, match="no agent can play probe:continuous: .* no scripted player"):
        compare(replace(asked, agents=("scripted", "llm:x")))
    assert not (tmp_path / "transcripts").exists()


def test_compare_contestant_unable_to_play_task_is_absent_there_only(tmp_path, capsys):
    both = options(
        tmp_path, task=(TASK, "probe:chosen"), agents=("scripted", "random"), episodes=2, json=True
    )
    assert compare(both) == 0
    printed = capsys.readouterr()
    tasks = json.loads(printed.out)["tasks"]
    assert tasks[TASK]["scripted"]["finished"] == 2
    row = tasks["probe:chosen"]["scripted"]
    assert (row["planned"], row["finished"], row["success_rate"]) == (0, 0, None)
    assert "no scripted player" in row["absent"] and row["absent"] in printed.err
    assert tasks["probe:chosen"]["random"]["finished"] == 2
    page = (tmp_path / "report.html").read_text()
    assert "does not play here" in page
    overview = page.split('<table class="overview">')[1].split("</table>")[0]
    scripted, random = overview.split("<tr>")[2:]
    assert "100.0%" in scripted and "does not play" in scripted and "does not play" not in random


# --- playing ---------------------------------------------------------------------------------------


class Breaks:
    """A policy that fails in some episodes."""

    def __init__(self, env, seed):
        self.env, self.seed = env, seed

    def init(self, batch):
        return 0

    def act(self, carry, step, *, key):
        if self.seed == 1 and carry == 2:
            raise RuntimeError("the bot\nfell over")
        return {"action": np.zeros(1, np.int32)}, carry + 1


def test_play_episode_error_is_recorded_and_retried(tmp_path):
    said = []
    seat = Seat(lambda: envs.make(TASK, 1), lambda env, seed, file: Breaks(env, seed))
    play(seat, range(3), tmp_path, max_steps=4, say=said.append)
    played = read_all(tmp_path, range(3))
    assert [p.error for p in played] == [None, "the bot fell over", None]
    assert len(played[1].decisions) == 2 and said == ["seed 1 failed: the bot fell over"]
    before = (tmp_path / "0.jsonl").read_bytes()
    play(
        replace(seat, make_policy=lambda env, seed, file: Breaks(env, 0)),
        range(3),
        tmp_path,
        max_steps=4,
        say=said.append,
    )
    assert [p.error for p in read_all(tmp_path, range(3))] == [None, None, None]
    assert (tmp_path / "0.jsonl").read_bytes() == before


def test_play_any_concurrency_gives_same_episodes(tmp_path):
    seat = Seat(lambda: envs.make(TASK, 1), lambda env, seed, file: Random(env.act_space))
    for name, workers in (("one", 1), ("three", 3)):
        play(replace(seat, concurrency=workers), range(5), tmp_path / name, max_steps=9, say=print)
    acts = lambda name: [[line["act"] for line in p.decisions] for p in read_all(tmp_path / name, range(5))]
    assert acts("one") == acts("three")
    assert len({json.dumps(episode) for episode in acts("one")}) == 5


def test_recorded_policy_at_last_step_is_not_queried(tmp_path):
    asked = []

    class Counting:
        def init(self, batch):
            return None

        def act(self, carry, step, *, key):
            asked.append(bool(step.is_last[0]))
            return {"action": np.ones(1, np.int32)}, carry

    file = Together(tmp_path / "0.jsonl")
    seat = Seat(lambda: envs.make(TASK, 1), lambda env, seed, file: Counting())
    policy = Recorded(seat, Counting(), file, max_steps=2)
    step = lambda last=False: Step({}, *(np.array([x]) for x in (0.5, False, last, False)))
    carry = policy.init(1)
    for _ in range(3):
        _, carry = policy.act(carry, step(), key=0)
    assert len(asked) == 2
    file.finish({"seed": 0})
    assert [("action" in line) for line in read(tmp_path / "0.jsonl").steps] == [True, True, False]


def test_play_budget_spent_raises_stopped_without_results(tmp_path):
    from experiments.llm.budget import BudgetSpent

    class Poor(Breaks):
        def act(self, carry, step, *, key):
            raise BudgetSpent("all is spent")

    seat = Seat(lambda: envs.make(TASK, 1), lambda env, seed, file: Poor(env, seed), concurrency=2)
    with pytest.raises(Stopped, match="all is spent"):
        play(seat, range(4), tmp_path, max_steps=4, say=print)
    assert all(p.result is None and p.error is None for p in read_all(tmp_path, range(4)))


def test_named_action_returns_words_or_numbers():
    assert named({"action": 1}, ("left", "right")) == "right"
    assert named({"action": 3}, None) == "3"
    assert named({"push": [0.12345, -1.0], "jump": 1}, None) == "[0.123, -1], 1"


@pytest.mark.parametrize("task", ["gymnasium:faulty_env:Endless-v0", "gymnasium:faulty_env:IgnoresSeed-v0"])
def test_compare_endless_or_unseeded_env_is_played_and_disclosed(tmp_path, monkeypatch, capsys, task):
    monkeypatch.setattr("experiments.compare.options.LONGEST", 30)
    asked = CompareOptions(task=(task,), agents=("random",), episodes=2, out=str(tmp_path))
    assert compare(asked) == 0
    said, page = capsys.readouterr().err, (tmp_path / "report.html").read_text()
    assert "at the latest after 30 steps" in page
    endless, astray = "Endless" in task, "this world went another way at step 0"
    assert ("2 of them cut short by the limit of steps" in said) == ("2 cut short" in page) == endless
    assert (astray in page) == ("not all of these worlds are functions of their seed" in page) != endless


@pytest.mark.parametrize(
    ("change", "astray"),
    [
        ({}, None),
        ({"reward": 0.5}, 1),
        ({"seen": "00000000"}, 1),
        ({"is_last": True}, 1),
        ({"seen": None}, None),
    ],
)
def test_seen_replay_diverges_reports_difference(tmp_path, change, astray):
    seat = Seat(lambda: envs.make("probe:delayed", 1), lambda env, seed, file: Random(env.act_space))
    play(seat, [3], tmp_path, max_steps=None, say=pytest.fail)
    played = read(tmp_path / "3.jsonl")
    lines = [line | (change if line.get("step") == 1 else {}) for line in played.lines]
    assert seen(seat, played._replace(lines=tuple(lines))).astray == astray
