"""What runs of one structure share is made once."""

from types import SimpleNamespace

import jax
import pytest
import tiny

from dreamer import schema
from dreamer.config import Config, EvalConfig
from dreamer.numbers import trace
from dreamer.processes import Processes
from experiments.training import workspace

CFG = Config("grid:Catch", 200, agent=tiny.CFG, eval=EvalConfig(episodes=8))


@pytest.mark.parametrize("path", ["seed", "agent.optim.lr", "agent.behavior.horizon", "agent.loss.free_nats"])
def test_structure_seed_and_traced_numbers_do_not_change_it(path):
    other = schema.replace_paths(CFG, {path: 3})
    assert other != CFG and workspace.structure(other) == workspace.structure(CFG)


@pytest.mark.parametrize(
    "path", ["steps", "agent.rssm.deter", "loop.train_ratio", "agent.behavior.imag_length"]
)
def test_structure_other_fields_change_it(path):
    assert workspace.structure(schema.replace_paths(CFG, {path: 8})) != workspace.structure(CFG)


def test_workspace_programs_players_and_worlds_are_cached():
    with workspace.opened(CFG) as shared:
        assert shared.alone() is shared.alone() and shared.alone(4_000) is not shared.alone()
        params, hyper = shared.agent.init(jax.random.key(0)).params, trace(CFG.agent)
        first = shared.player(params, hyper)
        other = jax.tree.map(lambda x: x + 1, params)
        assert shared.player(other, hyper) is first and first.everything == other
        assert shared.player(params, hyper, actor="sampled") is not first
        assert shared.evaluation_world(16) is shared.evaluation_world(100)


def test_workspace_exit_closes_the_worlds(monkeypatch):
    closed = []
    with workspace.opened(CFG) as shared:
        world = SimpleNamespace(close=lambda: closed.append(True))
        monkeypatch.setattr(workspace.envs, "make", lambda *_, **__: world)
        assert shared.evaluation_world(8) is world and not closed
    assert closed == [True]


def test_workspace_population_of_a_host_task_is_refused():
    cfg = schema.replace_paths(CFG, {"task": "minigrid:Empty-5x5", "population.seeds": 2})
    with pytest.raises(schema.ConfigError, match="a population is one program"), workspace.opened(cfg):
        pass


def test_workspace_sum_of_objectives_with_a_loss_of_one_name_is_refused_before_any_step():
    both = "my_objective:SlowTokens+my_objective:SlowTokensAgain"
    cfg = schema.replace_path(CFG, "agent.objective", both)
    with (
        pytest.raises(schema.ConfigError, match="both parts of agent.objective have a loss 'rec/tokens'"),
        workspace.opened(cfg),
    ):
        pass


def test_workspace_sum_of_objectives_with_losses_of_different_names_opens():
    cfg = schema.replace_path(CFG, "agent.objective", "barlow+my_objective:SlowTokens")
    with workspace.opened(cfg) as opened:
        assert opened.agent.cfg == cfg.agent


def test_workspace_notices_of_task_and_agent_are_combined():
    cells = schema.replace_path(CFG, "task", "gymnasium:cells:Cells-v0")
    with workspace.opened(cells) as opened:
        (notice,) = opened.notices
    assert "--env.pixels map" in notice
    with workspace.opened(schema.replace_path(cells, "env.pixels", ["map"])) as opened:
        (notice,) = opened.notices
    assert "padded to" in notice and opened.agent.obs_space["map"].is_image


def test_workspace_lives_levels_and_engine_are_of_training_only(monkeypatch):
    training = {"lives": "terminal-and-go-on", "levels": 3, "engine": "envpool"}
    changes = {"task": "gymnasium:CartPole-v1"} | {f"env.{name}": value for name, value in training.items()}
    asked, make = [], workspace.envs.make

    def recorded(task, num_envs, **how):
        asked.append({name: how.pop(name, None) for name in training})
        return make(task, num_envs, **how)

    monkeypatch.setattr(workspace.envs, "make", recorded)
    with workspace.opened(schema.replace_paths(CFG, changes)) as shared:
        shared.evaluation_world(1)
        assert shared.examiner
    assert asked == [training, *[dict.fromkeys(training)] * 2]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"loop.mesh": "data=4"},
            "loop.mesh data=4,fsdp=1 needs 4 devices, but there are 2",
        ),
        ({"loop.mesh": "data=2", "loop.num_envs": 5}, "2 devices, which cannot share 5 environments"),
    ],
)
def test_workspace_mesh_that_does_not_fit_is_refused(changes, sentence):
    cfg = schema.replace_paths(CFG, changes)
    with pytest.raises(schema.ConfigError, match=sentence), workspace.opened(cfg):
        pass


def test_workspace_mesh_is_that_of_its_loop():
    with workspace.opened(schema.replace_paths(CFG, {"loop.mesh": "fsdp=2"})) as shared:
        assert shared.alone().fused.sharding is shared.sharding
        assert dict(shared.sharding.mesh.shape) == {"data": 1, "fsdp": 2}


@pytest.fixture
def two(monkeypatch):
    """This process is one of two, as far as it knows."""
    monkeypatch.setattr(workspace.processes, "_current", Processes(1, 2))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loop.num_envs": 3}, "2 processes cannot share environments, loop.num_envs 3 equally"),
        ({"loop.batch_size": 5}, "2 processes cannot share a batch of 5 sequences over 2 devices equally"),
        ({"loop.mesh": "data=3", "loop.batch_size": 6}, "3 devices, which 2 processes cannot share equally"),
        ({"loop.mesh": "data=4"}, "on CPUs several processes have one each: take data=2 or fsdp=2"),
        ({"task": "grid:DoorKey-5x5"}, "but grid:DoorKey-5x5 is a JAX environment"),
        ({"population.seeds": 2}, "several processes train one agent, but this is a population"),
    ],
)
def test_workspace_what_processes_cannot_share_is_refused(two, changes, sentence):
    cfg = schema.replace_paths(CFG, {"task": "probe:chosen"} | changes)
    with pytest.raises(schema.ConfigError, match=sentence), workspace.opened(cfg):
        pass


def test_workspace_world_of_a_process_has_its_copies(two):
    with workspace._world(schema.replace_paths(CFG, {"task": "probe:chosen"})) as env:
        assert env.num_envs == CFG.loop.num_envs // 2
        assert list(env._numbers) == list(range(1, CFG.loop.num_envs, 2))
