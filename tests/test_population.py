"""A population is its members, trained next to each other."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_fused import AGENT, CFG, STEPS, functions, loop, same

import dreamer
from dreamer import numbers, schema
from dreamer.checkpoint import CheckpointError
from dreamer.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
    LogConfig,
    PopulationConfig,
    ReplayConfig,
    ReportConfig,
    load_toml,
)
from dreamer.logger import read_rows
from dreamer.loops.clocks import Progress
from dreamer.loops.fused import FusedLoop, Programs
from dreamer.loops.population import InTurns, Together, fitting
from dreamer.numbers import trace
from experiments.training import run
from experiments.training.population import members

pytestmark = pytest.mark.usefixtures("compilation_cache", "quick_compilation")

SEEDS = np.array([0, 1, 0], np.int32)
RATES = (3e-3, 3e-3, 1e-3)


def stacked():
    return jax.tree.map(
        lambda *x: jnp.stack(x),
        *(numbers.replace(trace(AGENT), {"optim.lr": jnp.float32(rate)}) for rate in RATES),
    )


def trained(steps=STEPS, hyper=None):
    spread = InTurns(jax.local_devices()[:1])
    programs = Programs(functions(), spread, jit=tiny.jit)
    population = FusedLoop(programs, hyper or stacked(), SEEDS, steps, Progress())
    turns = []
    while not population.done:
        turns.append(population.advance())
    return population, turns


@pytest.fixture(scope="module")
def in_turns():
    return trained()


def single(i, steps=STEPS):
    alone = loop(
        steps, int(SEEDS[i]), hyper=numbers.replace(trace(AGENT), {"optim.lr": jnp.float32(RATES[i])})
    )
    return alone, list(alone.outputs())


@pytest.mark.parametrize("i", [0, 2])
def test_a_member_is_the_single_run_with_its_seed_and_numbers(in_turns, i):
    population, turns = in_turns
    alone, told = single(i)
    assert [e for turn in turns for e in turn[i].episodes] == [e for turn in told for e in turn.episodes]
    own = jax.tree.map(lambda x: x[i], population.state.params)
    assert same(own, alone.state.params)


def test_members_that_differ_do_different_things(in_turns):
    params = in_turns[0].state.params["policy"]
    for leaf in jax.tree.leaves(params)[:1]:
        assert not np.array_equal(leaf[0], leaf[1]) and not np.array_equal(leaf[0], leaf[2])


def test_together_they_do_the_same_as_in_turns():
    population, _ = trained(40)
    state, fused, seeds = population.full, population.fused, jnp.asarray(SEEDS)
    update = lambda _, state, hyper, seed: fused.update(state, hyper, seed)[0].learner.params
    act = lambda _, state, hyper, seed: fused.slot(state, hyper, seed)[0].acting.step.obs["board"]
    for function in (update, act):
        results = []
        for spread in (InTurns(jax.local_devices()[:1]), Together(jax.local_devices()[:1])):
            members = (spread.split(x) for x in (state, stacked(), seeds))
            with jax.debug_key_reuse(False):  # a vmapped loop carries its keys, which look as if used twice
                results.append(spread.gather(spread.run(function, tiny.jit)(None, *members)))
        for ours, theirs in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_one_that_diverges_is_told_and_the_others_go_on(in_turns):
    mad = stacked()._replace(lr=jnp.asarray([3e-3, 1e36, 1e-3], jnp.float32))
    population, _ = trained(hyper=mad)
    assert list(population.failures) == [1] and "not finite" in population.failures[1]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(population.state))
    assert population.state.updates[1] < population.state.updates[0]
    well = lambda state: jax.tree.map(lambda x: x[jnp.array([0, 2])], state.params)
    assert same(well(population.state), well(in_turns[0].state))


def test_a_member_that_rests_keeps_its_parameters_and_the_others_go_on():
    population, _ = trained(80)
    before = jax.tree.map(np.array, population.state.params)
    population.rest([1])
    population.total = STEPS // CFG.num_envs
    while not population.done:
        population.advance()
    after = population.state.params
    assert population.full.acting.slots.tolist() == [30, 20, 30], "with a turn of its own it takes no part"
    member = lambda tree, i: jax.tree.map(lambda x: x[i], tree)
    assert same(member(before, 1), member(after, 1)) and not same(member(before, 0), member(after, 0))


def test_devices_take_equal_shares():
    assert [len(fitting(range(8), n)) for n in (1, 3, 6, 8, 12)] == [1, 3, 6, 8, 6]


SPREAD = """
import sys; sys.path.insert(0, {tests!r})
import jax; jax.config.update("jax_num_cpu_devices", 8)
import numpy as np, tiny
from test_fused import *
from dreamer.loops.fused import Programs
from test_population import SEEDS, stacked
from dreamer.loops.population import Data, InTurns, Together, fitting

def run(fused, seeds, hyper, spread=None):
    made = FusedLoop(Programs(fused, spread, jit=tiny.jit), hyper, seeds, 72, Progress())
    while not made.done:
        made.advance()
    return made

def compare(a, b, **tolerance):
    for x, y in zip(*(jax.tree.leaves(m.learner.params) for m in (a, b)), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), **tolerance)

devices = jax.local_devices()
assert len(devices) == 8
many, one = (run(functions(), SEEDS, stacked(), spread=InTurns(d))
             for d in (devices[:3], devices[:1]))
compare(many.full, one.full, rtol=1e-4, atol=1e-6)  # a program for three devices rounds differently

update = lambda _, state, hyper, seed: one.fused.update(state, hyper, seed)[0]
together = []
for spread in (Together(fitting(devices, 3)), Together(devices[:1])):
    members = (spread.split(x) for x in (one.full, stacked(), SEEDS))
    together.append(spread.run(update, tiny.jit)(None, *members))
assert len(together[0].learner.updates.sharding.device_set) == 3
compare(*together, rtol=1e-3, atol=1e-5)

data = Data(fitting(devices, 4))
split, first = run(functions(data=data), 0, trace(AGENT)), jax.tree.map(lambda x: x[0], one.full)
assert len(split.full.acting.ring.columns["reward"].sharding.device_set) == 4
assert split.full.acting.ring.columns["reward"].sharding.spec[0] == "data"
ours, theirs = (m.acting.ring.columns["action/action"] for m in (split.full, first))
np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
compare(split.full, first, rtol=1e-3, atol=1e-4)
print("same")
"""


@pytest.mark.slow  # a dozen compilations of the whole agent
def test_eight_devices_give_what_one_gives():
    """Members over two or three of them, environments and batches of one agent over four."""
    code = SPREAD.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr[-3000:]


def test_the_members_of_a_configuration():
    cfg = Config("grid:Catch", 100, seed=5, population=PopulationConfig(2, ("lr=1e-4,3e-4", "warmup=10")))
    own = members(cfg)
    told = [(m.seed, m.agent.optim.lr, m.agent.optim.warmup) for m in own]
    assert told == [(5, 1e-4, 10), (6, 1e-4, 10), (5, 3e-4, 10), (6, 3e-4, 10)]
    assert all(m.population.is_one for m in own)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("lrr=1", "^vary names 'lrr', which no member can differ in; did you mean lr"),
        ("lr", "entries like lr=1e-4,3e-4, but one is 'lr'"),
        ("lr=a", "entries like lr=1e-4,3e-4, but one is 'lr=a'"),
    ],
)
def test_what_cannot_vary_gets_one_sentence(entry, message):
    with pytest.raises(schema.ConfigError, match=message):
        PopulationConfig(vary=(entry,))


def test_a_value_out_of_range_is_named_before_there_is_a_folder(tmp_path):
    cfg = Config("grid:Catch", 100, population=PopulationConfig(vary=("lr=-1",)))
    with pytest.raises(schema.ConfigError, match=r"agent.optim.lr must be .* at least 0, but it is -1"):
        run.train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


TASK = Config(
    task="grid:Catch",
    steps=72,
    agent=AGENT,
    loop=CFG,
    replay=ReplayConfig(capacity=100),
    population=PopulationConfig(2, ("lr=3e-3,1e-3",)),
    eval=EvalConfig(during=4, episodes=8),
    report=ReportConfig(episodes=0),
    log=LogConfig(every=0.01, tensorboard=False),
    checkpoint=CheckpointConfig(every=1000),
)


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("population") / "run"
    assert run.train(TASK, folder) == 0
    return folder


def test_every_member_has_a_run_folder(trained_run):
    folders = sorted((trained_run / "members").iterdir())
    assert [f.name for f in folders] == ["000", "001", "002", "003"]
    for folder, own in zip(folders, members(TASK), strict=True):
        assert load_toml(folder / "config.toml") == own
        result = json.loads((folder / "result.json").read_text())
        assert result["env_steps"] == 72 and result["episodes"] == 8 and result["diverged"] is None
        assert read_rows(folder / "episodes.jsonl") and read_rows(folder / "metrics.jsonl")
    together = json.loads((trained_run / "result.json").read_text())
    assert len(together["members"]) == 4 and together["episodes"] == 32
    told = {row["member"] for row in read_rows(trained_run / "episodes.jsonl")}
    assert told == {0, 1, 2, 3}


def test_a_member_plays_like_any_run(trained_run):
    player = dreamer.load(trained_run / "members" / "002")
    assert player.config.agent.optim.lr == 1e-3
    board = np.zeros((10, 5), np.uint8)
    action, _ = player.act(player.init(), {"board": board})
    assert action["action"] in (0, 1, 2)
    with pytest.raises(CheckpointError, match=r"holds a population; take one of its members, as .*000"):
        dreamer.load(trained_run)


def test_a_population_is_done_when_all_its_members_reached_the_goal(tmp_path):
    cfg = schema.replace_paths(TASK, {"until": "return=-2", "eval.until_every": 24, "eval.until_episodes": 4})
    assert run.train(cfg, tmp_path) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["solved"] and result["env_steps"] == 48, "the first check after the first update"
    for folder in (tmp_path / "members").iterdir():
        assert json.loads((folder / "result.json").read_text())["solved"]


def test_a_population_that_is_resumed_goes_on_as_one(trained_run, tmp_path):
    folder = tmp_path / "run"
    first = dataclasses.replace(TASK, steps=56)
    assert run.train(first, folder) == 0
    assert run.train(TASK, folder) == 0
    for name in ("000", "003"):
        ours, theirs = (dreamer.load(f / "members" / name).params for f in (folder, trained_run))
        assert same(ours, theirs)
        rows = [read_rows(f / "members" / name / "episodes.jsonl") for f in (folder, trained_run)]
        assert rows[0] == rows[1]


def test_a_task_of_the_host_has_no_population(tmp_path):
    cfg = dataclasses.replace(TASK, task="probe:chosen")
    with pytest.raises(schema.ConfigError, match=r"a population is one program, but probe:chosen runs on"):
        run.train(cfg, tmp_path / "run")
