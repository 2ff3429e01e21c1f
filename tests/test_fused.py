"""The loop of the device: what it does depends on counters and seeds alone, and it never compiles twice."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import envs
from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent
from dreamer.config import LoopConfig
from dreamer.loops.clocks import Progress
from dreamer.loops.fused import CompiledLoop, Fused, FusedLoop, Round
from dreamer.loops.outputs import Diverged
from dreamer.numbers import replace, trace
from dreamer.replay.device import DeviceReplay
from envs.wrappers import Batched

CFG = LoopConfig(num_envs=4, batch_size=4, batch_length=4, prefill=40, train_ratio=2)
AGENT = tiny.config(optim__lr=3e-3, optim__warmup=0)
STEPS = 120


pytestmark = pytest.mark.usefixtures("compilation_cache")


def functions(cfg=CFG, data=None, actor=SAMPLED):
    env = Batched(envs.make_jax("grid:Catch"), cfg.num_envs)
    agent = Agent(env.obs_space, env.act_space, AGENT)
    replay = DeviceReplay(400, cfg.num_envs, env.obs_space, env.act_space, agent.entries)
    return Fused(agent, env, replay, cfg, data, actor=actor)


def loop(steps=STEPS, seed=0, **options):
    hyper, cfg = options.pop("numbers", trace(AGENT)), options.pop("cfg", CFG)
    return FusedLoop(CompiledLoop(functions(cfg)), hyper, seed, steps, Progress(), **options)


def same(a, b):
    equal = jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True), a, b)
    return all(jax.tree.leaves(equal))


@pytest.fixture(scope="module")
def finished():
    """A loop at its end, and all that happened."""
    whole = loop()
    return whole, list(whole.outputs())


@pytest.mark.parametrize(
    ("ratio", "num_envs", "batch", "length", "expected"),
    [
        (32, 16, 16, 32, (1, 1)),
        (32, 16, 16, 64, (2, 1)),
        (2, 4, 4, 4, (2, 1)),
        (1, 1, 16, 64, (1024, 1)),
        (0.3, 16, 16, 32, (213, 2)),
        (96, 16, 16, 64, (2, 3)),
        (0.5, 8, 8, 8, (16, 1)),
    ],
)
def test_round_of_config_has_ratio_in_whole_numbers(ratio, num_envs, batch, length, expected):
    cfg = LoopConfig(num_envs=num_envs, train_ratio=ratio, batch_size=batch, batch_length=length)
    assert Round.of(cfg) == expected


@pytest.mark.parametrize("ratio", [2, 4])
def test_compiled_loop_ring_buffer_is_updated_in_place(ratio):
    """Neither to act nor to learn is a column of it copied, or converted to what a CPU can compute with."""
    whole = loop(cfg=dataclasses.replace(CFG, train_ratio=ratio))
    for program in (whole.compiled.collect, whole.compiled.learn):
        text = program.lower(np.int32(1), whole.full, *whole.arguments).compile().as_text()
        column = r"\w+\[4,100\b\S*"
        assert re.search(rf"= {column} \S*fusion\(", text)
        assert not re.findall(rf"= {column} (?:copy|convert)\(.*", text)


def test_fused_loop_finished_has_expected_steps_and_updates(finished):
    whole, turns = finished
    assert whole.done and whole.progress.env_steps == STEPS
    assert int(whole.full.acting.slots) == STEPS // CFG.num_envs
    # Two slots of four environments, eight steps, for every update of sixteen.
    assert whole.progress.updates == int(whole.state.updates) == (STEPS - 40) * 2 // 16
    assert sum(bool(turn.metrics) for turn in turns) > 0
    assert int(whole.full.acting.ring.inserted) == STEPS // CFG.num_envs


def test_fused_loop_episodes_match_game_rules(finished):
    episodes = [episode for turn in finished[1] for episode in turn.episodes]
    # Ten slots an episode: nine steps and the reset.
    assert len(episodes) == STEPS // CFG.num_envs // 10 * CFG.num_envs
    assert {e.length for e in episodes} == {9} and {e.return_ for e in episodes} <= {-1.0, 1.0}
    assert all(e.success == (e.return_ > 0) for e in episodes)
    steps = [e.env_steps for e in episodes]
    assert steps == sorted(steps) and steps[0] == 9 * CFG.num_envs


def test_fused_loop_episodes_record_small_log_observations():
    env = Batched(envs.make_jax("jax:my_jax_env:Counting"), CFG.num_envs)
    agent = Agent({"vector": env.obs_space["vector"]}, env.act_space, AGENT)
    replay = DeviceReplay(400, CFG.num_envs, agent.obs_space, env.act_space, agent.entries)
    compiled = CompiledLoop(Fused(agent, env, replay, CFG, actor=SAMPLED))
    fused = FusedLoop(compiled, trace(AGENT), 0, 40, Progress())
    episodes = [episode for turn in fused.outputs() for episode in turn.episodes]
    assert episodes and all(episode.log == {"counts": [5, 50]} for episode in episodes)


def test_fused_loop_any_dispatch_size_gives_same_result(finished):
    small = loop()
    while not small.done:
        small._next = {False: 3, True: 1}
        small.advance()
    assert same(small.full, finished[0].full)


def test_fused_loop_resumed_while_learning_ignores_new_prefill():
    """Only what plans is there; a round of the new ratio follows, and updates count from here on."""
    cfg = dataclasses.replace(CFG, prefill=4000, train_ratio=4)
    fused = SimpleNamespace(cfg=cfg, env=SimpleNamespace(num_envs=4), round=Round.of(cfg))
    stored = Progress(env_steps=80, slots=20, updates=5, learning_since=40)
    resumed = FusedLoop(SimpleNamespace(fused=fused), None, 0, 160, stored, state={})
    assert resumed.plan() == (True, 1) and resumed.total == 40
    assert FusedLoop(resumed.compiled, None, 0, 160, Progress(), state={}).plan() == (False, 32)


def test_fused_loop_long_dispatch_stops_at_every_pause():
    paused, ends = loop(pause_every=30), set()
    while not paused.done:
        paused._next = {False: 100, True: 100}
        paused.advance()
        ends.add(paused.progress.env_steps)
    # Slots of four steps; rounds of two slots from the 40 steps of the prefill on.
    assert ends == {32, 40, 64, 96, 120}


def test_fused_loop_episodes_report_start_and_oldest_running_start(finished):
    for turn in finished[1]:
        assert all(e.env_steps - e.began == e.length * CFG.num_envs for e in turn.episodes)
    # The board takes nine steps and a reset, in all copies at once.
    whole = loop(steps=40)
    first = whole.advance()
    assert whole.progress.env_steps == 40 and first.running_since == 40


def test_fused_loop_whole_run_compiles_once(finished):
    whole, _ = finished
    assert whole.compiled.collect._cache_size() == whole.compiled.learn._cache_size() == 1


def test_fused_loop_other_seed_gives_other_actions(finished):
    other = loop(steps=44, seed=1)
    list(other.outputs())
    ours, theirs = (x.full.acting.ring.columns["action/action"][:, :10] for x in (finished[0], other))
    assert not np.array_equal(ours, theirs)


def test_fused_loop_non_finite_update_raises_and_keeps_learner():
    mad = loop(numbers=replace(trace(AGENT), {"optim.lr": jnp.float32(1e36)}))
    with pytest.raises(Diverged, match=r"update \d+ gave values that are not finite: .*opt/param_norm"):
        list(mad.outputs())
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(mad.state))
    failed, updates = int(mad.full.acting.failed), int(mad.state.updates)
    assert failed == updates + 1


def test_fused_loop_resumed_from_arrays_is_bit_identical(finished):
    first = loop(steps=80)
    list(first.outputs())
    stored = jax.tree.map(np.array, first.full)
    state = jax.tree.map(jnp.asarray, stored)
    second = FusedLoop(first.compiled, first.numbers, 0, STEPS, first.progress, state)
    list(second.outputs())
    assert same(second.full, finished[0].full)
