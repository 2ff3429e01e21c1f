"""A new objective is one class, in a module of its user: here one that predicts what a slow encoder sees."""

import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import envs
from dreamer import checkpoint, numbers
from dreamer.agent import Agent
from dreamer.player import load
from dreamer.schema import ConfigError
from experiments.cli import main

pytestmark = pytest.mark.usefixtures("compilation_cache", "quick_compilation")


OURS = "my_objective:SlowTokens"


@pytest.fixture(scope="module")
def trained():
    """The agent with this objective, its state before and after one update, and the metrics."""
    agent = Agent(tiny.OBS, tiny.ACT, tiny.config(objective=OURS))
    state = tiny.jit(agent.init)(jax.random.key(0))
    told = numbers.replace(numbers.trace(agent.cfg), {"behavior.slow_rate": jnp.float32(0.25)})
    after, _, metrics = tiny.jit(agent.train_step)(state, tiny.batch(), told, key=jax.random.key(1))
    return agent, state, after, metrics


def test_init_slow_part_is_a_copy(trained):
    _, state, _, _ = trained
    jax.tree.map(np.testing.assert_array_equal, state.slow["objective"]["encoder"], state.params["encoder"])


def test_train_step_slow_part_follows_without_gradient(trained):
    _, state, after, _ = trained
    expected = jax.tree.map(
        lambda new, old: 0.25 * new + 0.75 * old,
        after.params["encoder"],
        state.slow["objective"]["encoder"],
    )
    slow = after.slow["objective"]["encoder"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), slow, expected)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), slow, state.params["encoder"])
    assert max(jax.tree.leaves(moved)) > 0


def test_train_step_objective_loss_and_diagnostics_are_logged(trained):
    metrics = trained[3]
    np.testing.assert_allclose(metrics["loss/rec/tokens"], metrics["objective/error"], rtol=1e-6)
    assert metrics["objective/error"] > 0


def test_store_slow_part_is_restored(trained, tmp_path):
    _, _, after, _ = trained
    store = checkpoint.CheckpointStore(tmp_path)
    store.save(1, after, {})
    store.wait()
    jax.tree.map(np.testing.assert_array_equal, store.load(after)[1].slow, after.slow)


def test_agent_rate_factor_of_unknown_module_is_refused():
    with pytest.raises(ConfigError, match=r"agent.optim.factors names 'encodr'.*the modules are cont, "):
        Agent(tiny.OBS, tiny.ACT, tiny.config(optim__factors=("encodr=0.5",)))


def test_train_step_rate_factor_of_zero_freezes_a_module():
    agent = Agent(tiny.OBS, tiny.ACT, tiny.config(optim__factors=("encoder=0",)), tiny.DETERMINISTIC)
    state = tiny.state()
    step = tiny.jit(agent.train_step)
    after, _, _ = step(state, tiny.batch(), numbers.trace(agent.cfg), key=jax.random.key(0))
    still = jax.tree.map(lambda a, b: bool((a == b).all()), after.params, state.params)
    assert all(jax.tree.leaves(still["encoder"])) and not any(jax.tree.leaves(still["rssm"]["gates"]))


# By name, in other processes.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of an untrained run with this objective, and its exported agent in it."""
    env = envs.make("probe:chosen", 1)
    agent = Agent(env.obs_space, env.act_space, tiny.config(objective=OURS))
    env.close()
    folder = tiny.store(tmp_path_factory.mktemp("runs") / "mine", agent.init(jax.random.key(0)), agent)
    assert main(["export", str(folder)]) == 0
    return folder


@pytest.fixture
def not_imported(monkeypatch):
    """As in a process that has not imported the module."""
    monkeypatch.delitem(sys.modules, "my_objective", raising=False)


def test_config_objective_name_without_module_is_refused():
    expected = "objective must be one of reconstruction, none, or a class of yours as .*did you mean none"
    with pytest.raises(ConfigError, match=expected):
        tiny.config(objective="nome")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my_objective:Lossless", "is no objective: that is a class of flax.nnx.Module with slow, follow"),
        ("my_objective:jax", "the module my_objective has no 'jax'"),
        ("my_objective:Linear", "is no objective"),
        ("my_objectives:Slow", "there is no module 'my_objectives' here"),
        ("tests/my_objective.py:SlowTokens", "did you mean tests.my_objective"),
    ],
)
def test_agent_objective_that_is_none_raises_one_sentence(name, expected):
    with pytest.raises(ValueError, match=expected):
        Agent(tiny.OBS, tiny.ACT, tiny.config(objective=name))


def test_weight_of_unknown_loss_names_the_one_that_has_a_weight():
    with pytest.raises(ConfigError, match="call it 'rec/tokens', which agent.loss.rec weighs"):
        tiny.NUMBERS.loss.weight("tokens")


@pytest.mark.parametrize("file", ["", "agent.safetensors"])
def test_load_objective_of_a_user_is_imported_by_the_program_not_by_the_file(run, not_imported, file):
    with pytest.raises(ValueError, match="`import my_objective` before loading it, if you trust"):
        load(run / file)
    assert "my_objective" not in sys.modules
    import my_objective  # noqa: F401

    assert load(run / file).agent.cfg.objective == OURS


def test_eval_command_imports_the_objective_and_says_so(run, not_imported, capsys):
    assert main(["eval", str(run), "--episodes", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["episodes"] == 2
    assert f"importing the module 'my_objective', which a file names: {Path(__file__).parent}" in err


@pytest.mark.parametrize("file", ["", "agent.safetensors"])
def test_eval_objective_in_the_run_folder_needs_trust(run, not_imported, tmp_path, monkeypatch, capsys, file):
    shutil.copytree(run, tmp_path / "mine")
    shutil.copy(Path(__file__).with_name("my_objective.py"), tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    words = ["eval", str(tmp_path / "mine" / file), "--episodes", "2"]
    assert main(words) == 2 and "my_objective" not in sys.modules
    assert "add --trust if you trust it" in capsys.readouterr().err
    assert main([*words, "--trust"]) == 0
