"""The README says what is true: its table comes from the results, its commands exist."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import jax
import pytest
import tiny

import envs
from dreamer.agent import Agent
from experiments import cli, results_table
from experiments.presets import PRESETS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_readme_table_equals_the_one_made_from_the_results():
    assert results_table.with_tables(README.read_text()) == README.read_text()


def test_readme_is_read_in_two_minutes():
    """150 lines at most, with a moving picture of less than 2 MB near the top."""
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    (moving,) = re.findall(r"!\[[^\]]+\]\((\S+\.gif)\)", text)
    assert text.index(moving) < 1500 and (ROOT / moving).stat().st_size < 2_000_000


def test_readme_badges_say_what_the_project_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    badge = lambda name: (ROOT / ".ci" / "badges" / f"{name}.svg").read_text()
    assert f"{project['requires-python'].removeprefix('>=')} or newer" in badge("python")
    assert f"licence: {project['license']}" in badge("licence")
    assert all(
        tool in (ROOT / ".ci" / "run").read_text() for tool in re.findall(r"ruff|pyrefly|pytest", badge("ci"))
    )


def test_readme_named_commands_exist():
    named = set(re.findall(r"\bdreamer (\w[\w-]*)", README.read_text()))
    assert {"train", "eval", "envs", "doctor"} <= named
    assert named <= {name.split()[0] for name in cli.COMMANDS}


def test_readme_named_presets_exist():
    named = set(re.findall(r"(?:dreamer train|--preset) (\w[\w-]*)", README.read_text()))
    assert named and named <= set(PRESETS)


def test_documents_relative_links_exist():
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text()):
            assert target.startswith("http") or (ROOT / target).exists(), (document, target)


def test_ci_script_runs_the_test_command_of_the_readme():
    command = re.search(r"<!-- test command -->\n```sh\n(.+)\n", README.read_text())
    assert command and "pytest" in command[1]
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text()


def test_readme_python_blocks_run_on_trained_agents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "cartpole", lambda: replace(tiny.RUN, task="gymnasium:CartPole-v1"))
    for name, task in {"quickstart": "minigrid:DoorKey-5x5", "cartpole": "gymnasium:CartPole-v1"}.items():
        env = envs.make(task)
        agent = Agent(env.obs_space, env.act_space, tiny.CFG)
        state = jax.jit(agent.init)(jax.random.key(0))
        run = tiny.store(Path("runs") / f"{name}-seed0", state, agent, task=task)
        assert cli.main(["export", str(run)]) == 0
    blocks = re.findall(r"```python\n(.+?)```", README.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})


@pytest.mark.parametrize("extra", ["test", "wandb", "gpu", "tpu"])
def test_pyproject_extras_of_the_readme_are_declared(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"][extra]
