"""The update of loops: in parts it is that of the whole batch at once."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer import schema
from dreamer.agent import Agent
from dreamer.config import LoopConfig
from dreamer.loops.learner import Learner, _of_whole
from dreamer.schema import ConfigError
from envs.api import Space
from experiments.bench.update import noise

B = 4


@cache
def gradients(parts=1):
    """Of a batch of four sequences; actions are drawn, of a choice and of numbers."""
    agent = Agent(tiny.OBS, tiny.ACT, tiny.CFG)
    learner = Learner(agent, LoopConfig(batch_size=B, batch_length=tiny.T, accumulate=parts))
    batch = noise(agent, B, tiny.T)
    ends = (np.arange(tiny.T) == 2) & (np.arange(B) == 1)[:, None]
    state, batch = tiny.state(), batch._replace(is_terminal=ends, is_last=ends)
    above = state.stats["returns"]._replace(high=jnp.float32(9))  # the range counts
    state = state._replace(stats={"returns": above})
    compute = jax.jit(learner.compute_gradients)
    return jax.device_get(compute(state, batch, tiny.NUMBERS, key=jax.random.key(1)))


def assert_equal(ours, theirs, rtol=1e-5):
    """Each array up to rounding, as a share of its largest entry."""
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(initial=1e-6))


def test_compute_gradients_in_parts_equal_those_of_the_whole_batch():
    (whole, latent), (parts, joined) = gradients(), gradients(2)
    assert_equal(parts.params, whole.params)
    assert_equal(parts.stats, whole.stats)
    assert_equal(joined, latent)
    assert parts.metrics.keys() == whole.metrics.keys()
    assert_equal(parts.metrics, whole.metrics)
    assert whole.metrics["return_range"] > 1  # the range counts: it is above its limit


def test_of_whole_joins_means_and_standard_deviations():
    rows = np.random.default_rng(0).normal(3, 2, (4, 25)).astype(np.float32)
    metrics = {"x": rows.mean(1), "x_std": rows.std(1), "alone_std": rows.std(1)}
    joined = _of_whole(jax.tree.map(jnp.asarray, metrics))
    np.testing.assert_allclose(joined["x"], rows.mean(), rtol=1e-5)
    np.testing.assert_allclose(joined["x_std"], rows.std(), rtol=1e-5)
    np.testing.assert_allclose(joined["alone_std"], rows.std(1).mean(), rtol=1e-5)


def test_learner_in_parts_refuses_actions_of_several_axes():
    agent = Agent(tiny.OBS, {"grid": Space((2, 2), "int32", 3)}, tiny.CFG)
    with pytest.raises(ConfigError, match="actions that are numbers or vectors"):
        Learner(agent, LoopConfig(batch_size=4, accumulate=2))


@pytest.mark.parametrize("objective", ["barlow", "reconstruction+infonce", "my_objective:SlowTokens"])
def test_config_in_parts_refuses_losses_across_a_batch(objective):
    changes = {"agent.objective": objective, "loop.accumulate": 2}
    with pytest.raises(ConfigError, match=r"loop.accumulate needs losses of single sequences"):
        schema.replace_paths(tiny.RUN, changes)
