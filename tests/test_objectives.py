"""A new objective is one class and one line in the table: here one that predicts what a slow encoder sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from dreamer import checkpoint, numbers
from dreamer.agent import Agent
from dreamer.nets.layers import Linear
from dreamer.objectives import OBJECTIVES
from dreamer.ops import running
from dreamer.records import ObjectiveLosses
from dreamer.schema import ConfigError

pytestmark = pytest.mark.usefixtures("compilation_cache", "quick_compilation")


class SlowTokens(nnx.Module):
    """Predict the tokens of an encoder that follows the learned one slowly."""

    def __init__(self, obs_space, tokens, cfg, *, init):
        self.out = Linear(cfg.rssm.features, tokens, init=init)

    def slow(self, params):
        return {"encoder": params["encoder"]}

    def follow(self, slow, params, numbers):
        return {"encoder": running.mix(slow["encoder"], params["encoder"], numbers.behavior.slow_rate)}

    def loss(self, world, batch, seen, slow, key):
        target = nnx.merge(world.modules.encoder, slow["encoder"])(batch.obs, 2, world.dtype)
        error = jnp.square(self.out(seen.latent.feat) - jax.lax.stop_gradient(target)).sum(-1)
        return ObjectiveLosses({"rec/tokens": error}, {"objective/error": error.mean()})

    def decode(self, latent):
        return None


@pytest.fixture(scope="module")
def trained():
    """The agent with this objective, its state before and after one update, and the metrics."""
    OBJECTIVES["none"], before = SlowTokens, OBJECTIVES["none"]
    try:
        agent = Agent(tiny.OBS, tiny.ACT, tiny.config(objective="none"))
        state = tiny.jit(agent.init)(jax.random.key(0))
    finally:
        OBJECTIVES["none"] = before
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
