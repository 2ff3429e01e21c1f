"""What plans promised and what came of it, against the definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.loops import promises
from dreamer.loops.promises import Promises
from envs.api import Step

HORIZON = 2.0
"""Discount one half."""


def step(reward=0.0, *, first=False, last=False, terminal=False):
    """One step of one environment."""
    column = lambda x, dtype: jnp.full(1, x, dtype)
    flags = (column(flag, bool) for flag in (first, last, terminal))
    return Step({}, column(reward, jnp.float32), *flags)


def followed(*steps):
    """The means after (expected return of the plan before, step) of one environment."""
    kept = Promises(*(jnp.zeros(1) for _ in Promises._fields))
    for expected, each in steps:
        kept = promises.follow(kept, jnp.full(1, expected), each, HORIZON)
    return promises.of(promises.means(kept), 0)


def test_promises_episode_that_ends_by_hand():
    means = followed((9.0, step(first=True)), (4.0, step(1.0)), (6.0, step(2.0, last=True, terminal=True)))
    # From the first step 1 + 2 / 2, from the second 2; what was promised before the episode does not count.
    assert means == {"planned": 5.0, "realised": 2.0}


def test_promises_episode_cut_by_a_limit_last_plan_stands_for_the_rest():
    means = followed((0.0, step(first=True)), (4.0, step(1.0)), (8.0, step(2.0)), (6.0, step(3.0, last=True)))
    # From the second step 2 + 6 / 2, from the first 1 + 5 / 2; the last plan is not judged.
    assert means == {"planned": 6.0, "realised": 4.25}


def test_promises_step_without_a_plan_is_left_out():
    nan, end = np.nan, step(2.0, last=True, terminal=True)
    assert followed((nan, step(first=True)), (nan, step(1.0)), (3.0, end)) == {
        "planned": 3.0,
        "realised": 2.0,
    }
    assert followed((nan, step(first=True)), (4.0, step(1.0)), (nan, end)) == {
        "planned": 4.0,
        "realised": 2.0,
    }


@pytest.mark.parametrize(
    "steps",
    [
        [(np.nan, step(first=True)), (np.nan, step(1.0, last=True, terminal=True))],  # no plan at all
        [(0.0, step(first=True)), (1.0, step(1.0, last=True))],  # cut at once
        [(0.0, step(first=True)), (1.0, step(1.0)), (np.nan, step(1.0, last=True))],  # nothing to end with
    ],
)
def test_promises_episode_without_a_clean_pair_says_nothing(steps):
    assert followed(*steps) == {}
    # What had no number is forgotten with its episode.
    end = (1.0, step(2.0, last=True, terminal=True))
    assert followed(*steps, (np.nan, step(first=True)), end) == {"planned": 1.0, "realised": 2.0}


def test_promises_random_episodes_match_the_definition():
    rng = np.random.default_rng(0)
    T, N, gamma = 40, 3, 1 - 1 / HORIZON
    reward, expected = rng.normal(size=(2, T, N)).astype(np.float32)
    last = rng.random((T, N)) < 0.2
    first = np.concatenate([np.ones((1, N), bool), last[:-1]])
    last &= ~first
    first = np.concatenate([np.ones((1, N), bool), last[:-1]])
    terminal = last & (rng.random((T, N)) < 0.5)
    kept, ended = Promises(*(jnp.zeros(N) for _ in Promises._fields)), 0
    for t in range(T):
        each = Step({}, *(jnp.asarray(x[t]) for x in (reward, first, last, terminal)))
        before = jnp.asarray(expected[t - 1] if t else np.full(N, np.nan, np.float32))
        kept = promises.follow(kept, before, each, HORIZON)
        for n in np.flatnonzero(last[t]):
            begin = max(s for s in range(t) if first[s, n])
            rewards, promised = reward[begin + 1 : t + 1, n], expected[begin:t, n]
            if not terminal[t, n]:
                rewards, promised = np.append(rewards[:-1], promised[-1]), promised[:-1]
            after = [sum(gamma**k * r for k, r in enumerate(rewards[s:])) for s in range(len(promised))]
            means = promises.of(promises.means(kept), n)
            if len(promised):
                np.testing.assert_allclose(means["planned"], np.mean(promised), rtol=1e-5)
                np.testing.assert_allclose(means["realised"], np.mean(after), rtol=1e-5)
            ended += 1
    assert ended > 10


def test_promises_actor_that_expects_nothing_adds_nothing():
    assert promises.start(()) == () == promises.follow((), None, step(), HORIZON)
    assert promises.means(()) == {} and promises.of({}, 0) == {}
