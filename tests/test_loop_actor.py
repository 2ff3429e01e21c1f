"""What acts while an agent trains: the actor that a loop is handed, in both loops and in a population."""

import dataclasses
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_fused
import tiny
from test_fused import AGENT, CFG, same

import dreamer
import envs
from dreamer import schema
from dreamer.actors import named
from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent
from dreamer.checkpoint import CheckpointStore
from dreamer.config import Config, EvalConfig, LogConfig, ReplayConfig, ReportConfig
from dreamer.logger import read_rows
from dreamer.loops.clocks import Progress
from dreamer.loops.collector import Collector
from dreamer.loops.fused import CompiledLoop, Fused, FusedLoop, stored
from dreamer.loops.host import HostLoop
from dreamer.loops.members import Members
from dreamer.numbers import trace
from dreamer.placement import SINGLE
from dreamer.replay.device import DeviceReplay
from dreamer.replay.host import HostReplay
from dreamer.schema import ConfigError
from envs.wrappers import Batched
from experiments.training import run, workspace

pytestmark = pytest.mark.usefixtures("compilation_cache")

PLANNER = "categorical_cem:horizon=2,samples=6,elites=2,proposals=2,iterations=2"
HALF = tiny.change(AGENT, behavior__horizon=2.0)
"""Discount one half."""
ON_DEVICE = Config(
    task="grid:Catch",
    steps=72,
    agent=AGENT,
    loop=dataclasses.replace(CFG, actor=PLANNER),
    replay=ReplayConfig(capacity=100),
    eval=EvalConfig(during=4, episodes=0),
    report=ReportConfig(episodes=0),
    log=LogConfig(every=0.01, tensorboard=False),
)
ON_HOST = schema.replace_paths(
    tiny.RUN, {"loop.actor": PLANNER, "steps": 160, "eval.episodes": 4, "report.episodes": 4}
)


class Count(NamedTuple):
    """Memory of an actor that counts its steps and promises ten more than those."""

    steps: jax.Array
    expected: jax.Array


@dataclasses.dataclass(frozen=True)
class Ones:
    """Always takes the action 1."""

    modules = ("reward",)

    def init(self, batch):
        return Count(jnp.zeros(batch, jnp.int32), jnp.full(batch, jnp.nan))

    def act(self, world, latent, memory, is_first, *, key):
        world.reward(latent.feat)  # its parameters must be there
        steps = jnp.where(is_first, 0, memory.steps + 1)
        return {"action": jnp.ones(len(is_first), jnp.int32)}, Count(steps, 10.0 + steps)


def counting_loop(actor):
    """The loop of the device in a world that cuts its episodes after five steps, and pays the action."""
    env = Batched(envs.make_jax("jax:my_jax_env:Counting"), CFG.num_envs)
    agent = Agent({"vector": env.obs_space["vector"]}, env.act_space, HALF)
    replay = DeviceReplay(400, CFG.num_envs, agent.obs_space, env.act_space, agent.entries)
    compiled = CompiledLoop(Fused(agent, env, replay, CFG, actor=actor))
    return FusedLoop(compiled, trace(HALF), 0, 40, Progress())


def test_fused_loop_acts_with_actor_and_pairs_promises_with_rewards():
    loop = counting_loop(Ones())
    episodes = [episode for output in loop.outputs() for episode in output.episodes]
    assert episodes and {e.return_ for e in episodes} == {5.0}
    # Promised 10, 11, 12, 13, and 14 stands for the rest: 8 = 1 + 14 / 2, 5 = 1 + 8 / 2, 3.5 and 2.75.
    for episode in episodes:
        assert episode.plans == pytest.approx({"planned": 11.5, "realised": 4.8125})


def test_fused_loop_sampled_promises_nothing_and_stores_what_it_did():
    loop = counting_loop(SAMPLED)
    assert jax.tree.leaves(loop.full.acting.plans) == []
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(stored(loop.full)["loop"])]
    assert not [name for name in names if ".plans" in name or ".memory" in name]
    assert all(e.plans == {} for output in loop.outputs() for e in output.episodes)


def test_host_loop_acts_with_actor_and_pairs_promises_with_rewards():
    env = envs.make("probe:chosen", 2)
    agent, numbers = Agent(env.obs_space, env.act_space, tiny.CFG), tiny.NUMBERS
    replay = HostReplay(40, 2, env.obs_space, env.act_space, agent.entries)
    state = jax.jit(agent.init)(jax.random.key(0))
    source = Collector(agent, env, replay, numbers, seed=0, actor=Ones())
    cfg = tiny.RUN.loop
    loop = HostLoop(agent, source, replay, cfg, numbers, state, Progress(), seed=0, actor=Ones())
    episodes = []
    for output in loop.outputs():
        episodes += output.episodes
        if loop.progress.updates >= 3:
            break
    # One step, which earns 1 for the action 1, then the end.
    assert {e.return_ for e in episodes} == {1.0} and {e.length for e in episodes} == {1}
    assert all(episode.plans == {"planned": 10.0, "realised": 1.0} for episode in episodes)


# Planners in runs.


@pytest.fixture(
    scope="module", params=[ON_HOST, pytest.param(ON_DEVICE, marks=pytest.mark.slow)], ids=["host", "device"]
)
def trained(request, tmp_path_factory):
    """The configuration and the folder of a run that planned in training."""
    folder = tmp_path_factory.mktemp("planned") / "run"
    assert run.train(request.param, folder) == 0
    return request.param, folder


def test_train_with_planner_marks_episodes_and_result(trained):
    cfg, folder = trained
    rows = read_rows(folder / "episodes.jsonl")
    assert rows and all(row["acted_with"] == PLANNER for row in rows)
    assert all(np.isfinite(row["planned"]) and np.isfinite(row["realised"]) for row in rows)
    result = json.loads((folder / "result.json").read_text())
    assert result["acted_with"] == PLANNER and result["updates"] > 0
    assert dreamer.load(folder).config.loop.actor == PLANNER


def test_train_with_planner_report_says_what_acted_and_draws_what_it_promised(trained):
    cfg, folder = trained
    if cfg is not ON_HOST:
        pytest.skip("one report is enough")
    page = (folder / "report.html").read_text()
    assert page.count(f"The run acted with {PLANNER}, not with sampled actions") == 1
    assert "discounted return of plans" in page and "actions, as in training" not in page


def test_train_with_other_actor_in_a_resume_is_refused_in_a_sentence(trained):
    cfg, folder = trained
    other = schema.replace_paths(cfg, {"loop.actor": "sampled", "steps": 2 * cfg.steps})
    with pytest.raises(
        ConfigError, match=r"loop.actor was 'categorical_cem:.*', now 'sampled'.*another --run"
    ):
        run.train(other, folder, force=("loop.actor",))


@pytest.fixture(scope="module")
def planned():
    """A loop of the device that planned to its end, and its episodes."""
    compiled = CompiledLoop(test_fused.functions(actor=planner()))
    loop = planned_loop(compiled)
    return loop, [episode for output in loop.outputs() for episode in output.episodes]


def planned_loop(compiled, steps=72, seed=0):
    return FusedLoop(compiled, trace(AGENT), seed, steps, Progress())


def planner():
    """For the actions of the board."""
    return named(PLANNER)(envs.make_jax("grid:Catch").act_space)


def test_fused_loop_stored_while_planning_resumes_bit_identically(planned, tmp_path):
    whole, episodes = planned
    first = planned_loop(whole.compiled, steps=56)
    before = [episode for output in first.outputs() for episode in output.episodes]
    assert int(first.full.acting.lengths[0]) > 0, "in the middle of episodes"
    store, held = CheckpointStore(tmp_path / "checkpoints"), first.checkpoint()
    store.save(56, held.arrays, {"progress": dataclasses.asdict(first.progress), **held.meta})
    store.wait()
    second = planned_loop(whole.compiled)
    _, arrays, meta = store.load(second.template)
    second.restore(arrays, meta)
    after = [episode for output in second.outputs() for episode in output.episodes]
    assert same(second.full, whole.full)
    assert before + after == episodes and all(episode.plans for episode in episodes)


def test_members_plan_each_with_its_parameters(planned):
    whole, episodes = planned
    numbers = jax.tree.map(lambda x: jnp.stack([x, x]), trace(AGENT))
    seeds = np.array([1, 0], np.int32)
    many = Members(whole.compiled, SINGLE, numbers, seeds, 72, Progress())
    outputs = []
    while not many.done:
        outputs.append(many.advance())
    logs = [[episode for output in outputs for episode in output[i].episodes] for i in (0, 1)]
    assert logs[1] == episodes != logs[0]
    assert same(jax.tree.map(lambda x: x[1], many.full), whole.full)


@pytest.mark.slow
def test_train_with_gumbel_trains(tmp_path):
    pytest.importorskip("mctx")
    cfg = schema.replace_paths(ON_DEVICE, {"loop.actor": "gumbel:simulations=3", "eval.episodes": 0})
    with jax.debug_key_reuse(False):  # mctx uses keys twice
        assert run.train(cfg, tmp_path / "run") == 0
    rows = read_rows(tmp_path / "run" / "episodes.jsonl")
    assert rows and all(np.isfinite(row["planned"]) for row in rows)


def test_members_in_one_batch_that_plan_print_nothing_of_failed_searches(capfd):
    fused = test_fused.functions(actor=planner())
    states = jax.jit(jax.vmap(fused.init))(jnp.arange(2))
    numbers = jax.tree.map(lambda x: jnp.stack([x, x]), trace(AGENT))
    with jax.debug_key_reuse(False):  # a vmapped loop carries its keys, which look as if used twice
        slot = jax.jit(jax.vmap(lambda *args: fused.slot(*args)[0]))
        states = slot(states, numbers, jnp.arange(2))
    jax.block_until_ready(states)
    jax.effects_barrier()
    assert "planner" not in capfd.readouterr().err
    assert np.isfinite(states.acting.carry.memory.expected).all()


# What is refused.


@pytest.mark.parametrize(
    ("actor", "message"),
    [
        ("mpi", r"^there is no actor 'mpi'; did you mean mppi\?$"),
        ("mppi:horizons=3", r"^the actor mppi has no option 'horizons'; it has "),
        ("mppi", r"^the actor mppi plans continuous actions, but 'action' is discrete: for those there are"),
    ],
)
@pytest.mark.parametrize("task", ["grid:Catch", "probe:chosen"])
def test_train_wrong_actor_is_refused_before_there_is_a_folder(actor, message, task, tmp_path):
    cfg = schema.replace_paths(ON_DEVICE, {"task": task, "loop.actor": actor})
    with pytest.raises(ConfigError, match=message):
        run.train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_workspace_gumbel_without_mctx_is_refused(monkeypatch):
    from dreamer.actors import gumbel

    def absent():
        raise ConfigError("the actor gumbel needs mctx: pip install 'dreamer-toolkit[planning]'")

    monkeypatch.setattr(gumbel, "_mctx", absent)
    cfg = schema.replace_paths(ON_DEVICE, {"loop.actor": "gumbel"})
    with pytest.raises(ConfigError, match="needs mctx"), workspace.opened(cfg):
        pass


@pytest.mark.parametrize("actor", ["sampled", PLANNER])
def test_structure_depends_on_the_actor(actor):
    cfg = schema.replace_paths(ON_DEVICE, {"loop.actor": actor})
    assert (workspace.structure(cfg) == workspace.structure(ON_DEVICE)) == (actor == PLANNER)
