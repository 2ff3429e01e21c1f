"""Random actions cover every kind of space evenly."""

import jax
import numpy as np
import pytest
import tiny
from scipy import stats

from dreamer.actors.uniform import Random
from envs.api import Space

N = 6000
SPACES = {
    "move": Space((), "int32", 3),
    "buttons": Space((2,), "int8", 5),
    "key": Space((), "uint8", 256),
    "steer": Space((2,), "float32"),
    "throttle": Space((), "float32"),
}


@pytest.fixture(scope="module")
def act():
    actor, world = Random(SPACES), tiny.agent().world({}, tiny.NUMBERS)
    latent, first = world.initial(N), np.zeros(N, bool)
    return lambda seed: actor.act(world, latent, actor.init(N), first, key=jax.random.key(seed))[0]


@pytest.mark.parametrize("name", SPACES)
def test_random_every_space_is_covered_uniformly(act, name):
    space, drawn = SPACES[name], np.asarray(act(0)[name])
    assert drawn.shape == (N, *space.shape)
    for column in drawn.reshape(N, -1).T:
        if space.is_discrete:
            counts = np.bincount(column, minlength=space.num_classes)
            assert len(counts) == space.num_classes and stats.chisquare(counts).pvalue > 1e-3
        else:
            assert stats.kstest(column, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_random_entries_and_keys_are_drawn_independently(act):
    action, other = act(0), act(1)
    columns = [np.asarray(v, float).reshape(N, -1) for v in (*action.values(), *other.values())]
    correlations = np.corrcoef(np.concatenate(columns, 1).T) - np.eye(2 * 7)
    assert np.abs(correlations).max() < 0.06


def test_random_actions_have_the_dtypes_of_the_space(act):
    assert {k: v.dtype for k, v in act(0).items()} == {k: np.dtype(s.dtype) for k, s in SPACES.items()}


def test_random_has_no_parameters_and_no_memory():
    actor = Random(SPACES)
    assert actor.modules == () and actor.init(3) == ()
