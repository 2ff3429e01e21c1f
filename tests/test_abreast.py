"""Agents side by side, of any age: each does what it does alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_fused import AGENT, STEPS, functions, same

from dreamer.loops import abreast
from dreamer.loops.clocks import Progress
from dreamer.loops.fused import FusedLoop, Programs
from dreamer.numbers import trace

pytestmark = pytest.mark.usefixtures("compilation_cache")


@pytest.fixture(scope="module")
def programs():
    return Programs(functions(), jit=tiny.jit)


def loop(programs, seed, lr=3e-3, steps=STEPS):
    return FusedLoop(programs, trace(AGENT)._replace(lr=jnp.float32(lr)), seed, steps, Progress())


@pytest.fixture(scope="module")
def alone(programs):
    """{(seed, learning rate): the loop at its end and its episodes}."""
    found = {}
    for seed, lr in ((0, 3e-3), (1, 1e-3)):
        own = loop(programs, seed, lr)
        found[seed] = own, [e for turn in own.outputs() for e in turn.episodes]
    return found


def staggered(programs, batch):
    """The second agent takes its seat when the first one is two dispatches old."""
    waiting, seated = [loop(programs, 1, 1e-3)], [loop(programs, 0)]
    everybody, episodes, turns = [*seated, *waiting], {}, 0
    while seated:
        for own, turn in zip(list(seated), abreast.advance(seated, batch), strict=True):
            episodes.setdefault(id(own), []).extend(turn.episodes)
        turns += 1
        if turns == 2:
            seated += waiting
        seated = [own for own in seated if not own.done]
    return [(own, episodes[id(own)]) for own in everybody]


def test_in_turns_each_does_exactly_what_it_does_alone(programs, alone):
    for seed, (own, episodes) in enumerate(staggered(programs, 1)):
        assert episodes == alone[seed][1]
        assert same(own.full, alone[seed][0].full)


def test_one_that_follows_another_does_what_that_would_have_done(programs, alone):
    """With the numbers and the seed of the other one; those are its own."""
    leader, follower = loop(programs, 0), loop(programs, 0, lr=1e-3)
    for own, turns in ((leader, 4), (follower, 2)):
        for _ in range(turns):
            own.advance()
    follower.progress.seconds = 5.0
    follower.fork_from(leader, leader.hyper)
    leader.advance()  # which gives its own arrays away
    assert follower.progress.seconds == 5.0 and follower.progress.slots < leader.progress.slots
    while not follower.done:
        follower.advance()
    assert same(follower.full, alone[0][0].full)


@pytest.mark.slow  # a batch of three whole agents compiles for half a minute
def test_as_a_batch_with_a_free_seat_each_does_what_it_does_alone(programs, alone):
    with jax.debug_key_reuse(False):  # a vmapped loop carries its keys, which look as if used twice
        found = staggered(programs, 3)
    for seed, (own, _) in enumerate(found):
        theirs = alone[seed][0]
        assert dataclasses.asdict(own.progress) == dataclasses.asdict(theirs.progress)
        for a, b in zip(*(jax.tree.leaves(x.state.params) for x in (own, theirs)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)
