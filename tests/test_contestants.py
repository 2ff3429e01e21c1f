"""Agents that were trained, in a comparison: what they are, what they expected, and when they do not fit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_report import untrained

import envs
from dreamer.schema import ConfigError
from envs.api import Space
from experiments.compare import language
from experiments.compare.compare import compare
from experiments.compare.contestants import agree, run_and_actor, split
from experiments.compare.options import CompareOptions
from experiments.compare.page import _plays as plays
from experiments.compare.transcript import read

TASK = "minigrid:Empty-5x5"
pytestmark = pytest.mark.usefixtures("compilation_cache")


def results(out, task=TASK):
    return json.loads((out / "results.json").read_text())["tasks"][task]


@pytest.fixture(scope="module")
def compared(tmp_path_factory, compilation_cache):
    """A Dreamer that has learned nothing, and its folder."""
    folder = tmp_path_factory.mktemp("runs")
    run = untrained(folder / "run")
    rows = [{"env_steps": 10 * i, "return": i / 60, "length": 5, "success": i > 40} for i in range(60)]
    (run / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "result.json").write_text('{"seconds": 90.0, "env_steps": 160}')
    asked = CompareOptions(
        task=(TASK,),
        agents=("scripted", f"run:{run}"),
        episodes=2,
        out=str(folder / "out"),
        max_steps=5,
        watts=40.0,
    )
    assert compare(asked) == 0
    return folder / "out", run, asked


def test_compare_dreamer_run_row_discloses_training(compared):
    out, run, _ = compared
    row = results(out)[f"run:{run}"]
    assert (row["finished"], row["training_steps"], row["tokens_in"], row["usd"]) == (2, 160, 0, None)
    assert row["parameters"] > 1000
    assert row["disclosure"]["trained_on"] == "minigrid:MiniGrid-Empty-5x5-v0"
    timing = json.loads((out / "timing.json").read_text())["tasks"][TASK][f"run:{run}"]
    assert timing["training_seconds"] == 90.0
    assert timing["training_energy_wh_estimate"] == pytest.approx(1.0)
    assert (out / "transcripts" / TASK / f"run:{str(run).replace('/', '_')}" / "1.jsonl").is_file()


def test_compare_dreamer_run_page_shows_learning_and_predictions(compared):
    page = (compared[0] / "report.html").read_text()
    assert "<h3>Learning</h3>" in page
    stored = page.split('id="plays" type="application/json">')[1].split("</script>")[0]
    beside, *failures = json.loads(stored)
    assert len(beside["players"]) == 2
    (player,) = failures[0]["players"]
    assert player["seen"]["count"] == player["expected"]["count"] == len(player["steps"]) == 6
    assert player["seen"]["uri"] != player["expected"]["uri"]


def test_compare_run_trained_further_raises_config_error(compared):
    _, run, asked = compared
    untrained(run, env_steps=320)
    with pytest.raises(ConfigError, match="env_steps was 160 and is 320"):
        compare(asked)


def test_compare_run_with_actor_suffix_uses_that_actor(compared):
    _, run, asked = compared
    name = f"run:{run}@random"
    asked = replace(asked, agents=(name,), out=asked.out + "-random")
    assert compare(asked) == 0
    assert results(Path(asked.out))[name]["disclosure"]["actions"] == "random"


def test_run_and_actor_path_with_at_sign_is_parsed(tmp_path):
    (tmp_path / "a@random").mkdir()
    assert run_and_actor(f"{tmp_path}/a@random") == (tmp_path / "a@random", "greedy")
    assert run_and_actor(f"{tmp_path}/a@random@sampled") == (tmp_path / "a@random", "sampled")
    assert run_and_actor(f"{tmp_path}@host/run") == (Path(f"{tmp_path}@host/run"), "greedy")
    assert run_and_actor(f"{tmp_path}/run@random") == (tmp_path / "run", "random")
    assert run_and_actor("run@gumbel:simulations=8") == (Path("run"), "gumbel:simulations=8")
    with pytest.raises(ConfigError, match=r"^there is no actor 'dreamy'; there are greedy, sampled"):
        run_and_actor("run@dreamy")


def test_compare_run_of_other_task_raises_config_error(compared):
    _, run, asked = compared
    with pytest.raises(ConfigError, match="does not fit probe:chosen: its observation"):
        compare(replace(asked, task=("probe:chosen",), out=asked.out + "-2", agents=(f"run:{run}",)))


def test_compare_ppo_is_trained_once_and_reused(tmp_path, capsys):
    task = "probe:chosen"
    asked = CompareOptions(
        task=(task,), agents=("random", "ppo"), episodes=2, out=str(tmp_path), max_steps=5, ppo_steps=1
    )
    assert compare(asked) == 0
    row = results(tmp_path, task)["ppo"]
    assert row["finished"] == 2 and row["parameters"] > 100 and row["training_steps"] > 0
    weights = (tmp_path / "agents" / "ppo" / task / "agent.safetensors").stat().st_mtime_ns
    transcripts = tmp_path / "transcripts" / task / "ppo"
    before = (transcripts / "0.jsonl").read_bytes()
    assert compare(asked) == 0
    assert (tmp_path / "agents" / "ppo" / task / "agent.safetensors").stat().st_mtime_ns == weights
    assert (transcripts / "0.jsonl").read_bytes() == before
    with pytest.raises(ConfigError, match="steps was 1 and is 2"):
        compare(replace(asked, ppo_steps=2))
    folder = tmp_path / "agents" / "ppo" / task
    other = replace(asked, out=str(tmp_path / "other"), agents=(f"ppo:{folder}",))
    assert compare(other) == 0
    acts = lambda folder, agent: [
        line["act"] for line in read(folder / "transcripts" / task / agent / "1.jsonl").decisions
    ]
    assert acts(tmp_path, "ppo") == acts(tmp_path / "other", f"ppo:{str(folder).replace('/', '_')}")


def test_agree_mismatched_spaces_are_named():
    env = envs.make("probe:chosen", 1)
    told = {k: s for k, s in env.obs_space.items() if not k.startswith("log/")}
    try:
        agree("run:x", "probe:chosen", {"observation": told, "action": env.act_space}, env)
        with pytest.raises(
            ConfigError, match="its observation 'sound' is float32\\[2\\], but the task has nothing"
        ):
            theirs = {"observation": told | {"sound": Space((2,), "float32")}, "action": env.act_space}
            agree("run:x", "probe:chosen", theirs, env)
        with pytest.raises(ConfigError, match="its action"):
            agree("run:x", "probe:chosen", {"observation": told, "action": {}}, env)
    finally:
        env.close()


def test_compare_task_with_extra_observation_keys_is_played(compared, tmp_path):
    _, run, asked = compared
    task = "minigrid:BabyAI-GoToRedBallNoDists"  # has a mission besides
    assert compare(replace(asked, task=(task,), out=str(tmp_path), episodes=1)) == 0
    rows = results(tmp_path, task)
    assert rows[f"run:{run}"]["disclosure"]["sees"] == "the observation of the task without mission"
    assert rows[f"run:{run}"]["finished"] == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("random", ("random", "")),
        ("ppo", ("ppo", "")),
        ("ppo:a/b", ("ppo", "a/b")),
        ("run:a:b", ("run", "a:b")),
        ("llm:org/model:free", ("llm", "org/model:free")),
    ],
)
def test_split_agent_name_returns_kind(name, kind):
    assert split(name) == kind


def test_split_bare_run_folder_suggests_run_prefix(compared):
    with pytest.raises(ConfigError, match="did you mean run:"):
        split(str(compared[1]))


def test_shown_demonstrations_are_scripted_steps_in_words():
    env = envs.make(TASK, 1)
    try:
        world = language.text_world(env)
        steps = language.shown(env, world, 7)
        assert len(steps) == 7 and language.shown(env, world, 0) == []
        assert all(step.action in world.actions and "goal" in world.rules for step in steps)
        assert steps[0].text.startswith("You face")
        assert language.shown(env, world, 7) == steps
    finally:
        env.close()


def test_plays_without_episodes_is_empty():
    assert plays("t", []) == []
