"""A model card says what was measured of the agent in the file, and that nothing was where nothing was."""

import contextlib
import json
import re
from pathlib import Path

import jax
import pytest
import tiny
import yaml

import dreamer
import envs
from dreamer.agent import Agent
from experiments import cli, model_card
from experiments.model_card import Subject, card, front_matter

pytestmark = pytest.mark.usefixtures("compilation_cache")

TASK = "probe:chosen"
SUMMARY = {
    "episodes": 100,
    "seed": 0,
    "success_rate": 0.25,
    "success_interval": [0.175, 0.343],
    "return_mean": 1e-05,
    "return_interval": [-1.5, 1234567.0],
    "length_mean": 40.0,
    "truncated_by_limit": 0,
    "step_limit": 10000,
}
SAMPLED = SUMMARY | {"success_rate": None, "success_interval": None, "return_mean": 2.0}
RESULT = {"task": TASK, "env_steps": 160, "updates": 40, **SUMMARY, "sampled": SAMPLED}


def subject(**changes) -> Subject:
    cfg = dreamer.Config(task=TASK, steps=160, seed=3, agent=tiny.CFG)
    fields = {
        **{"name": "my run", "file": "agent.safetensors", "cfg": cfg, "dtype": "float32"},
        **{"obs_space": tiny.OBS, "act_space": tiny.ACT, "parameters": 3723, "result": RESULT},
        "counters": {"env_steps": 160, "updates": 40},
    }
    return Subject(**fields | changes)


def metadata(text: str) -> dict:
    """The front matter, as any reader of YAML has it."""
    opening, front, body = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    assert opening == "" and body.startswith("\n# ")
    return yaml.safe_load(front)


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_card_front_matter_reads_as_the_values_that_were_written():
    wanted = subject(name='a "b": é 🤖 #1', license="apache-2.0")
    assert metadata(card(wanted)) == front_matter(wanted)
    assert front_matter(wanted)["license"] == "apache-2.0"


def test_card_front_matter_has_every_score_with_episodes_and_actions():
    ((index,), shown) = (front_matter(subject())[name] for name in ("model-index", "tags"))
    (result,) = index["results"]
    assert result["dataset"]["name"] == TASK and TASK in shown
    assert [(m["type"], m["name"], m["value"]) for m in result["metrics"]] == [
        ("mean_reward", "mean return (100 episodes, greedy actions)", 1e-05),
        ("success_rate", "success rate (100 episodes, greedy actions)", 0.25),
        ("mean_reward", "mean return (100 episodes, sampled actions)", 2.0),
    ]


def test_card_scores_have_intervals_and_seeds():
    text = section(card(subject()), "Scores")
    assert "| the most likely ones | 25.0% [17.5%, 34.3%] | 1e-05 [-1.5, 1.235e+06] | 40.0 | 100 |" in text
    assert "| sampled, as in training | not reported by the task | 2 [" in text
    assert "seeds 0 to 99" in text and f"{envs.api.FIRST_TRAINING_SEED:,}" in text


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({}, "It was not evaluated: its run has no `result.json`."),
        ({"env_steps": 160, "updates": 40}, "the `result.json` of its run has no episodes."),
        (RESULT | {"return_mean": None, "sampled": {}}, "the `result.json` of its run has no episodes."),
        (RESULT | {"env_steps": 2000}, "is of 2000 environment steps and 40 updates."),
        (RESULT | {"updates": 41}, "is of 160 environment steps and 41 updates."),
    ],
)
def test_card_without_scores_of_this_agent_says_so(result, sentence):
    text = card(subject(result=result))
    assert sentence in section(text, "Scores") and "model-index" not in metadata(text)
    assert "%" not in text


def test_card_limits_name_what_was_not_reached_and_not_measured():
    cut = {"until": "success=0.9", "solved": False, "truncated_by_limit": 7, "diverged": "loss is nan"}
    cfg = dreamer.Config(task=TASK, steps=1000, seed=3, agent=tiny.CFG)
    text = card(subject(result=RESULT | cut, cfg=cfg, dtype="bfloat16"))
    limits = section(text, "Limits")
    assert "one training seed (3)" in limits and "rounded to bfloat16" in limits
    assert "success=0.9, was not reached" in limits and "loss is nan" in limits
    assert "1,000 environment steps at most, and had 160" in limits
    assert "After 10,000 steps 7 of the greedy episodes were cut short." in section(text, "Scores")


def test_card_training_has_task_spaces_and_versions():
    session = {"python": "3.11.7", "versions": {"dreamer-toolkit": "0.1.0", "jax": "0.10.2"}, "commit": "abc"}
    cfg = dreamer.Config(
        task=TASK,
        steps=160,
        agent=tiny.CFG,
        env=dreamer.config.EnvConfig(kwargs='{"a|b": 1}', levels=200),
    )
    text = section(card(subject(session=session, cfg=cfg)), "What it was trained on")
    assert "`vector` 3 float32, `token` 2 of 5 classes" in text and "| parameters | 3,723" in text
    assert "python 3.11.7, dreamer-toolkit 0.1.0, jax 0.10.2, commit abc" in text
    assert "levels `200`" in text and r"a\|b" in text
    assert "| last session with | not recorded |" in card(subject())


def test_card_of_probed_agent_says_that_the_probe_is_in_the_file_and_not_of_the_agent():
    without, text = card(subject()), card(subject(probe=1234))
    assert "decoder" not in without
    assert "the module `probe`, that shows what its latents hold" in text.split("\n## ")[0]
    training = section(text, "What it was trained on")
    assert "| parameters | 3,723, stored as float32 |" in training
    assert "| probe decoder | 1,234 parameters more, not of the agent" in training
    assert "not what the world model was trained to predict" in section(text, "Limits")


def test_recorded_member_has_its_result_and_the_sessions_of_all(tmp_path):
    home = tmp_path / "wide" / "members" / "001"
    home.mkdir(parents=True)
    (home / "result.json").write_text('{"return_mean": NaN, "return_interval": [1.0, Infinity]}')
    (tmp_path / "wide" / "environment.json").write_text('{"sessions": [{"commit": "a"}, {"commit": "b"}]}')
    assert model_card.recorded(home) == {
        "name": "wide-001",
        "result": {"return_mean": None, "return_interval": [1.0, None]},
        "session": {"commit": "b"},
    }


# The command.


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    with contextlib.closing(envs.make(TASK)) as env:
        agent = Agent(env.obs_space, env.act_space, tiny.CFG)
    state = jax.jit(agent.init)(jax.random.key(0))
    folder = tiny.store(tmp_path_factory.mktemp("runs") / "run", state, agent, task=TASK)
    (folder / "result.json").write_text(json.dumps(RESULT))
    return folder


def test_export_command_writes_card_whose_python_runs(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(["export", str(run), "agent.safetensors", "--hub-card", "--license", "mit", "--json"]) == 0
    )
    summary = json.loads(capsys.readouterr().out)
    text = Path("README.md").read_text()
    assert summary["card"] == "README.md" and metadata(text)["license"] == "mit"
    assert f"{summary['parameters']:,}" in text and "25.0% [17.5%, 34.3%]" in text
    (block,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    names: dict = {}
    exec(block, names)
    names["env"].close()
    assert set(names["action"]) == set(names["agent"].agent.act_space)


def test_export_command_keeps_foreign_readme_and_writes_nothing(run, tmp_path, capsys):
    file, readme = tmp_path / "agent.safetensors", tmp_path / "README.md"
    readme.write_text("# My project\n")
    for force in ([], ["--force"]):
        assert cli.main(["export", str(run), str(file), "--hub-card", *force]) == 2
        assert "is no model card of ours: export into another folder" in capsys.readouterr().err
    assert readme.read_text() == "# My project\n" and not file.exists()


def test_export_command_replaces_its_card_only_with_force(run, tmp_path, capsys):
    words = ["export", str(run), str(tmp_path / "agent.safetensors"), "--hub-card"]
    assert cli.main(words) == 0
    (tmp_path / "agent.safetensors").unlink()
    assert cli.main(words) == 2
    assert "README.md exists already: export into another folder, or use --force" in capsys.readouterr().err
    assert cli.main([*words, "--force"]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--license", "mit"], "--license is named in a model card: add --hub-card"),
        (["--license", "The MIT", "--hub-card"], "--license must be an identifier as mit or apache-2.0"),
    ],
)
def test_export_command_invalid_license_is_refused(run, capsys, words, sentence):
    assert cli.main(["export", str(run), *words]) == 2
    assert sentence in capsys.readouterr().err
