"""Many agents in one program: each does what it does alone."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_fused import AGENT, CFG, STEPS, functions, same

from dreamer.loops import members
from dreamer.loops.clocks import Progress
from dreamer.loops.fused import Acting, ChunkLog, CompiledLoop, FusedLoop, FusedState, Round
from dreamer.loops.members import Members, Stack
from dreamer.numbers import replace, trace
from dreamer.placement import SINGLE, Placement
from envs.api import Step

pytestmark = pytest.mark.usefixtures("compilation_cache")

SEEDS = np.array([0, 1, 0], np.int32)
RATES = (3e-3, 3e-3, 1e-3)


def numbers(rates=RATES):
    return jax.tree.map(
        lambda *x: jnp.stack(x), *(replace(trace(AGENT), {"optim.lr": jnp.float32(rate)}) for rate in rates)
    )


def population(compiled, rates=RATES, steps=STEPS, placement=SINGLE, **options):
    made = Members(compiled, placement, numbers(rates), SEEDS[: len(rates)], steps, Progress(), **options)
    turns = []
    while not made.done:
        turns.append(made.advance())
    return made, turns


def single(compiled, i, steps=STEPS):
    hyper = replace(trace(AGENT), {"optim.lr": jnp.float32(RATES[i])})
    return FusedLoop(compiled, hyper, int(SEEDS[i]), steps, Progress())


def member(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


@pytest.fixture(scope="module")
def compiled():
    return CompiledLoop(functions())


@pytest.fixture(scope="module")
def trained(compiled):
    """A population one after the other, and all that happened."""
    return population(compiled)


@pytest.fixture(scope="module")
def alone(compiled):
    """The single runs with the seeds and numbers of its members, and their episodes."""
    loops = [single(compiled, i) for i in range(len(SEEDS))]
    return [(loop, [e for turn in loop.outputs() for e in turn.episodes]) for loop in loops]


def test_members_in_sequence_equal_single_runs_bitwise(trained, alone):
    made, turns = trained
    for i, (loop, episodes) in enumerate(alone):
        assert [e for turn in turns for e in turn[i].episodes] == episodes
        assert same(member(made.full, i), loop.full)


def test_members_with_different_seeds_have_different_parameters(trained):
    params = trained[0].state.params["policy"]
    for leaf in jax.tree.leaves(params)[:1]:
        assert not np.array_equal(leaf[0], leaf[1]) and not np.array_equal(leaf[0], leaf[2])


def test_members_vmapped_match_members_in_sequence(compiled):
    fused, state, seeds = compiled.fused, population(compiled, steps=40)[0].full, jnp.asarray(SEEDS)
    update = lambda _, state, hyper, seed: fused.update(state, hyper, seed)[0].learner.params
    act = lambda _, state, hyper, seed: fused.slot(state, hyper, seed)[0].acting.step.obs["board"]
    vmapped = Placement.vmapped(jax.local_devices()[:1], 3)
    for function in (update, act):
        own = SINGLE.compile(function)
        theirs = [own(None, *(member(x, i) for x in (state, numbers(), seeds))) for i in range(3)]
        with jax.debug_key_reuse(False):  # a vmapped loop carries its keys, which look as if used twice
            ours = vmapped.compile(function)(None, state, numbers(), seeds)
        for a, *b in zip(*map(jax.tree.leaves, (ours, *theirs)), strict=True):
            np.testing.assert_allclose(a, np.stack(b), rtol=1e-3, atol=1e-5)


def test_members_one_diverging_is_reported_and_the_others_continue(compiled, trained):
    mad, _ = population(compiled, (3e-3, 1e36, 1e-3))
    assert list(mad.failures) == [1] and "not finite" in mad.failures[1]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(mad.state))
    assert mad.state.updates[1] < mad.state.updates[0]
    for i in (0, 2):
        assert same(member(mad.full, i), member(trained[0].full, i))


def test_members_rest_one_member_stays_unchanged_and_the_others_continue(compiled, alone):
    made, _ = population(compiled, steps=80)
    before = member(made.full, 1)
    made.rest([1])
    for loop in made.loops:
        loop.total = STEPS // CFG.num_envs
    while not made.done:
        turns = made.advance()
        assert turns[1] == ([], [], made.progress.env_steps)
    assert made.full.acting.slots.tolist() == [30, 20, 30] and made.progress.slots == 30
    assert same(before, member(made.full, 1)) and same(member(made.full, 2), alone[2][0].full)


def test_members_restored_with_one_behind_continues_from_its_own_step(compiled, trained):
    made, _ = population(compiled, steps=80)
    made.rest([1])
    for loop in made.loops:
        loop.total = STEPS // CFG.num_envs
    while not made.done:
        made.advance()
    state = jax.tree.map(jnp.asarray, made.full)
    stored = Members(compiled, SINGLE, numbers(), SEEDS, STEPS, dataclasses.replace(made.progress), state)
    assert [loop.progress.slots for loop in stored.loops] == [30, 20, 30] and stored.progress.slots == 30
    stored.rest([0, 2])
    while not stored.done:
        stored.advance()
    assert same(stored.full, trained[0].full)
    assert stored.progress == trained[0].progress == stored.loops[1].progress


# Agents of any age


def staggered(compiled, placement):
    """The second agent joins when the first one is two dispatches old."""
    waiting, going = [single(compiled, 2)], [single(compiled, 0)]
    everybody, episodes, turns = [*going, *waiting], {}, 0
    while going:
        for own, turn in zip(list(going), members.advance(going, placement), strict=True):
            episodes.setdefault(id(own), []).extend(turn.episodes)
        turns += 1
        if turns == 2:
            going += waiting
        going = [own for own in going if not own.done]
    return [(own, episodes[id(own)]) for own in everybody]


def test_advance_agent_added_later_equals_its_single_run(compiled, alone):
    for (own, episodes), (loop, expected) in zip(staggered(compiled, SINGLE), alone[::2], strict=True):
        assert episodes == expected and same(own.full, loop.full)


def test_fork_from_another_loop_continues_exactly_as_that_loop(compiled, alone):
    """With the numbers and the seed of the other one; those are its own."""
    leader, follower = single(compiled, 0), single(compiled, 0)
    follower.numbers = single(compiled, 2).numbers
    for own, turns in ((leader, 4), (follower, 2)):
        for _ in range(turns):
            own.advance()
    follower.progress.seconds = 5.0
    follower.fork_from(leader, leader.numbers)
    leader.advance()  # which gives its own arrays away
    assert follower.progress.seconds == 5.0 and follower.progress.slots < leader.progress.slots
    while not follower.done:
        follower.advance()
    assert same(follower.full, alone[0][0].full)


# Agents that share arrays, with a program that compiles in no time


class Learner(NamedTuple):
    params: jax.Array
    updates: jax.Array


class Adding:
    """In the place of `Fused`: a round adds a thousand learning rates to the parameters."""

    cfg, env, round, metric_names = CFG, SimpleNamespace(num_envs=4), Round(2, 1), ["loss"]

    def init(self, seed):
        zero, flags = jnp.zeros((), jnp.int32), jnp.zeros(4, bool)
        step = Step({}, jnp.zeros(4), flags, flags, flags)
        acting = Acting(seed, step, (), (), jnp.zeros(4), jnp.zeros(4, jnp.int32), zero, zero)
        return FusedState(Learner(1000.0 * seed, zero), acting)

    def rounds(self, state, hyper, seed, count, *, learn):
        (params, updates), acting = state
        slots = acting.slots + count * (2 if learn else 1)
        whole = jnp.round(1000 * hyper.optim.lr)  # sums of these are exact, whatever the size of a dispatch
        learner = Learner(params + whole * count, updates + count) if learn else state.learner
        return FusedState(learner, acting._replace(slots=slots)), ChunkLog.nothing(4, 1, acting.step)


SHARED = [(1, 3), (2, 1), (2, 2)]
"""Devices, and agents on each."""


def placed(devices, rows):
    return Placement(tuple(jax.local_devices()[:devices]), rows)


@pytest.mark.parametrize("shared", SHARED)
def test_advance_agents_joining_and_leaving_shared_arrays_equal_single_runs(shared):
    expected = staggered(CompiledLoop(Adding()), SINGLE)
    for (own, _), (loop, _) in zip(staggered(CompiledLoop(Adding()), placed(*shared)), expected, strict=True):
        assert same(own.full, loop.full) and own.progress == loop.progress


@pytest.mark.parametrize("shared", SHARED)
def test_members_rest_in_shared_arrays_leaves_the_others_unchanged(shared):
    rates, seeds = (1.0, 2.0, 3.0) * 4, np.arange(12, dtype=np.int32)
    ours, theirs = (
        Members(CompiledLoop(Adding()), placement, numbers(rates), seeds, STEPS, Progress())
        for placement in (placed(*shared), SINGLE)
    )
    while not ours.progress.updates:
        ours.advance()
    before = ours.full
    ours.rest([1, 4, 5])
    for made in (ours, theirs):
        while not made.done:
            made.advance()
    for i in range(12):
        assert same(member(ours.full, i), member(before if i in (1, 4, 5) else theirs.full, i))


def test_advance_agents_joining_and_leaving_are_copied_individually(monkeypatch):
    calls = []
    counted = lambda name, function: lambda *args: calls.append(name) or function(*args)
    monkeypatch.setattr(Stack, "of", counted("stack", Stack.of))
    monkeypatch.setattr(members, "_write", counted("write", members._write))
    compiled, placement = CompiledLoop(Adding()), placed(1, 3)
    going = [single(compiled, i, steps=10_000) for i in range(3)]
    for _ in range(5):
        members.advance(going, placement)
    left = going.pop(1)
    before = left.full
    for _ in range(2):
        members.advance(going, placement)
    assert calls == ["stack"] and same(left.full, before)
    going.append(single(compiled, 1))
    while going[-1].progress.updates == 0:
        members.advance(going, placement)
    members.advance(going, placement)
    assert calls == ["stack", "write"]


def test_members_population_in_one_call_is_stored_without_a_copy():
    made = Members(CompiledLoop(Adding()), placed(1, 3), numbers(), SEEDS, 100, Progress())
    made.advance()
    assert made.state.params is made.loops[0].kept.stack.state.learner.params


@pytest.mark.slow  # a batch of three whole agents compiles for half a minute
def test_advance_vmapped_batch_with_a_free_row_matches_single_runs(compiled, alone):
    with jax.debug_key_reuse(False):  # a vmapped loop carries its keys, which look as if used twice
        found = staggered(compiled, Placement.vmapped(jax.local_devices()[:1], 3))
    for (own, _), (theirs, _) in zip(found, alone[::2], strict=True):
        assert dataclasses.asdict(own.progress) == dataclasses.asdict(theirs.progress)
        for a, b in zip(*(jax.tree.leaves(x.state.params) for x in (own, theirs)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


SPREAD = """
import sys; sys.path.insert(0, {tests!r})
import jax; jax.config.update("jax_num_cpu_devices", 8)
import numpy as np, tiny
from test_fused import *
from test_members import SEEDS, numbers
from dreamer.loops.fused import CompiledLoop
from dreamer.loops.members import Members
from dreamer.placement import Placement, Sharding, fitting

def run(made):
    while not made.done:
        made.advance()
    return made

def compare(a, b, **tolerance):
    for x, y in zip(*(jax.tree.leaves(m.learner.params) for m in (a, b)), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), **tolerance)

devices = jax.local_devices()
assert len(devices) == 8
compiled = CompiledLoop(functions())
many, one = (run(Members(compiled, Placement.sequential(d), numbers(), SEEDS, 72, Progress()))
             for d in (devices[:3], devices[:1]))
compare(many.full, one.full, rtol=1e-4, atol=1e-6)  # a program for three devices rounds differently

update = lambda _, state, hyper, seed: one.fused.update(state, hyper, seed)[0]
together = []
for own in (fitting(devices, 3), devices[:1]):
    placement = Placement.vmapped(own, 3)
    stacked = (placement.put(x) for x in (one.full, numbers(), SEEDS))
    together.append(placement.compile(update)(None, *stacked))
assert len(together[0].learner.updates.sharding.device_set) == 3
compare(*together, rtol=1e-3, atol=1e-5)

data = Sharding.data(fitting(devices, 4))
split = run(FusedLoop(CompiledLoop(functions(data=data)), trace(AGENT), 0, 72, Progress()))
first = jax.tree.map(lambda x: x[0], one.full)
assert len(split.full.acting.ring.columns["reward"].sharding.device_set) == 4
assert split.full.acting.ring.columns["reward"].sharding.spec[0] == "data"
ours, theirs = (m.acting.ring.columns["action/action"] for m in (split.full, first))
np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
compare(split.full, first, rtol=1e-3, atol=1e-4)
print("same")
"""


@pytest.mark.slow  # a dozen compilations of the whole agent
def test_placement_eight_devices_equal_one_device():
    """Members over two or three of them, environments and batches of one agent over four."""
    code = SPREAD.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr[-3000:]
