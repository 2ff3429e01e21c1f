"""The learned policy as an actor: its mode, or draws that have its distribution."""

import jax
import numpy as np
import pytest
import tiny
from scipy import stats

from dreamer.actors.policy import SAMPLED, Policy
from dreamer.ops import dists

N = 4000
"""Draws of one distribution."""


@pytest.fixture(scope="module")
def world():
    return tiny.agent(dists.RANDOM).world(tiny.state().params, tiny.NUMBERS)


@pytest.fixture(scope="module")
def latent(world):
    """[N] times the same, which was seen once."""
    obs = tiny.observation(np.random.default_rng(0), 1, 1)
    act = {k: np.zeros((1, 1, *space.shape), space.dtype) for k, space in tiny.ACT.items()}
    seen = world.observe(world.initial(1), obs, act, np.ones((1, 1), bool), key=jax.random.key(0))
    return jax.tree.map(lambda x: np.repeat(x[:, 0], N, 0), seen.latent)


def act(actor, world, latent, seed=0):
    first = np.zeros(len(latent.deter), bool)
    return actor.act(world, latent, actor.init(len(first)), first, key=jax.random.key(seed))


def heads(world, latent):
    return world.policy_head(latent.feat[0], world.numbers.behavior.unimix)


def test_policy_greedy_takes_the_mode_for_any_key(world, latent):
    (action, memory), (again, _) = (act(Policy(greedy=True), world, latent, seed) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, action, again)
    expected = heads(world, latent)
    np.testing.assert_array_equal(action["move"], np.argmax(expected["move"].logp))
    np.testing.assert_allclose(action["steer"], np.tile(expected["steer"].mean, (N, 1)), rtol=1e-5)
    assert memory == ()


def test_policy_sampled_has_the_distribution_of_the_policy(world, latent):
    action, expected = jax.device_get((act(SAMPLED, world, latent)[0], heads(world, latent)))
    counts = np.bincount(action["move"], minlength=3)
    chances = np.exp(np.float64(expected["move"].logp))
    assert stats.chisquare(counts, N * chances / chances.sum()).pvalue > 1e-3
    scores = (action["steer"] - expected["steer"].mean) / expected["steer"].std
    assert all(stats.kstest(column, "norm").pvalue > 1e-3 for column in scores.T)
    assert abs(np.corrcoef(scores.T)[0, 1]) < 0.1


def test_policy_sampled_in_a_greedy_world_takes_the_mode(latent):
    world = tiny.agent(dists.GREEDY).world(tiny.state().params, tiny.NUMBERS)
    jax.tree.map(np.testing.assert_array_equal, act(SAMPLED, world, latent), act(Policy(True), world, latent))


def test_policy_flags_of_wrong_shape_are_refused(world, latent):
    for first in (np.zeros(N - 1, bool), np.zeros((N, 1), bool)):
        with pytest.raises(AssertionError):
            SAMPLED.act(world, latent, (), first, key=jax.random.key(0))
