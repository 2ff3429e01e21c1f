"""An agent whose objective is none learns from rewards and endings alone, and shows what it can."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import dreamer
import envs
from dreamer import schema
from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent
from dreamer.config import AgentConfig
from dreamer.inspection import Inspector
from dreamer.objectives import OBJECTIVES
from dreamer.player import Player
from experiments.cli import main
from experiments.compare.expectation import Expectation
from experiments.play.adviser import Adviser
from experiments.play.session import Session

ROOM = "grid:Empty-5x5"
BLIND = tiny.config(objective="none")

pytestmark = pytest.mark.usefixtures("compilation_cache")


@pytest.fixture(scope="module")
def blind():
    """An agent for a room, and its state."""
    env = envs.make(ROOM, 1)
    agent = Agent(env.obs_space, env.act_space, BLIND)
    env.close()
    return agent, jax.jit(agent.init)(jax.random.key(0))


def test_objectives_table_equals_the_config_choices():
    (named,) = schema.annotations(schema.paths(AgentConfig)["objective"].type, schema.Named)
    assert set(named.names) == set(OBJECTIVES)


def test_none_objective_has_no_parameters_and_heads_train_the_encoder():
    agent, sampler = tiny.agent(cfg=BLIND), tiny.state().params
    params = {**sampler, "objective": {}}
    state = jax.jit(agent.init)(jax.random.key(0))
    assert state.params["objective"] == {}
    batch = tiny.batch()
    latent = agent.unpack(batch.context_latent)
    prev = {k: jnp.asarray(v) for k, v in batch.action.items()}

    def total(encoder):
        own = {**params, "encoder": encoder}
        loss, out = agent.loss(
            own, state.slow, state.stats, batch, latent, prev, tiny.NUMBERS, key=jax.random.key(0)
        )
        return loss, out.losses

    gradient, losses = jax.jit(jax.grad(total, has_aux=True))(params["encoder"])
    assert losses.keys() == {"dyn", "rep", "reward", "cont", "policy", "value", "replay_value"}
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(gradient))


def test_none_objective_store_and_export_restore_all_parameters(blind, tmp_path):
    agent, state = blind
    folder = tiny.store(tmp_path / "run", state, agent, task=ROOM)
    assert main(["export", str(folder)]) == 0
    for place in (folder, folder / "agent.safetensors"):
        loaded = dreamer.load(place)
        assert loaded.agent.cfg.objective == "none" and loaded.everything["objective"] == {}
        jax.tree.map(np.testing.assert_array_equal, loaded.everything, jax.device_get(state.params))


def test_none_objective_inspector_decodes_heads_but_no_observation(blind):
    agent, state = blind
    inspector = Inspector(agent, state.params, tiny.NUMBERS)
    latent = agent.init_carry(2, SAMPLED).latent
    shown = inspector.decode(latent)
    assert shown.obs is None and inspector.decode_prior(latent) is None
    assert shown.heads.value.shape == (2,)


def test_none_objective_report_states_what_is_missing(blind, tmp_path):
    agent, state = blind
    changes = dict(task=ROOM, preset="quickstart", report__episodes=3, report__max_steps=12)
    folder = tiny.store(tmp_path / "run", state, agent, **changes)
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "predicts no observations" in page and "Report card" in page
    assert '"seen"' in page and '"expected": {' not in page


def test_none_objective_play_session_runs_without_dream_pictures(blind):
    agent, state = blind
    adviser = Adviser(Player(agent, state.params, tiny.NUMBERS), "greedy")
    session = Session(envs.make(ROOM, 1), adviser, 0)
    session.act(None)
    shown = session.state()
    assert "frame" in shown["world"]
    (sentence,) = shown["dream"]["values"]
    assert "predicts no observations" in sentence and "--agent.probe_decoder true" in sentence
    assert shown["dream"]["title"] == "Dream"


def test_none_objective_expectation_is_none(blind):
    agent, state = blind
    seen = {k: np.zeros((1, *s.shape), s.dtype)[0] for k, s in agent.obs_space.items()}
    line = {"reward": 0.0, "is_terminal": False}
    assert Expectation(Player(agent, state.params, tiny.NUMBERS))([seen], [line]) is None
