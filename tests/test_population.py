"""A population is its members, trained next to each other."""

import dataclasses
import json

import numpy as np
import pytest
from test_fused import AGENT, CFG, same

import dreamer
from dreamer import schema
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
from experiments.training import run
from experiments.training.population import members

pytestmark = pytest.mark.usefixtures("compilation_cache")


def test_members_config_expands_to_one_config_per_seed_and_value():
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
def test_population_config_invalid_vary_raises_one_sentence(entry, message):
    with pytest.raises(schema.ConfigError, match=message):
        PopulationConfig(vary=(entry,))


def test_train_vary_value_out_of_range_raises_before_creating_the_folder(tmp_path):
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


def test_train_population_gives_every_member_a_run_folder(trained_run):
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


def test_load_member_acts_like_a_single_run(trained_run):
    player = dreamer.load(trained_run / "members" / "002")
    assert player.config.agent.optim.lr == 1e-3
    board = np.zeros((10, 5), np.uint8)
    action, _ = player.act(player.init(), {"board": board})
    assert action["action"] in (0, 1, 2)
    with pytest.raises(CheckpointError, match=r"holds a population; take one of its members, as .*000"):
        dreamer.load(trained_run)


def test_train_population_until_goal_stops_when_every_member_reached_it(tmp_path):
    cfg = schema.replace_paths(TASK, {"until": "return=-2", "eval.until_every": 24, "eval.until_episodes": 4})
    assert run.train(cfg, tmp_path) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["solved"] and result["env_steps"] == 48, "the first check after the first update"
    for folder in (tmp_path / "members").iterdir():
        assert json.loads((folder / "result.json").read_text())["solved"]


def test_train_resumed_population_equals_an_uninterrupted_one(trained_run, tmp_path):
    folder = tmp_path / "run"
    first = dataclasses.replace(TASK, steps=56)
    assert run.train(first, folder) == 0
    assert run.train(TASK, folder) == 0
    for name in ("000", "003"):
        ours, theirs = (dreamer.load(f / "members" / name).params for f in (folder, trained_run))
        assert same(ours, theirs)
        rows = [read_rows(f / "members" / name / "episodes.jsonl") for f in (folder, trained_run)]
        assert rows[0] == rows[1]


def test_train_population_on_a_host_task_is_refused(tmp_path):
    cfg = dataclasses.replace(TASK, task="probe:chosen")
    with pytest.raises(schema.ConfigError, match=r"a population is one program, but probe:chosen runs on"):
        run.train(cfg, tmp_path / "run")
