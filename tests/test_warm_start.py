"""A new run starts from parts of another: what fits is taken bit by bit, what does not is listed."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import dreamer
from dreamer import schema
from dreamer.agent import Agent
from dreamer.checkpoint import CheckpointError, CheckpointStore
from dreamer.config import load_toml
from dreamer.schema import ConfigError
from experiments import cli
from experiments.training import run, warm_start, workspace
from experiments.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("compilation_cache")


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A run with checkpoints after 40 and 80 updates whose parameters differ from fresh ones."""
    with workspace.opened(tiny.RUN) as opened:
        agent = Agent(opened.env.obs_space, opened.env.act_space, tiny.CFG)
    folder = tmp_path_factory.mktemp("runs") / "origin"
    state = jax.jit(agent.init)(jax.random.key(7))
    for steps in (160, 320):
        state = state._replace(params=jax.tree.map(lambda x: x + 0.125, state.params))
        tiny.store(folder, state, agent, env_steps=steps)
    return folder


def begun(cfg, folder: Path) -> Trainer:
    """The run as it is before its first step."""
    with workspace.opened(cfg) as opened:
        return run.build(cfg, folder, opened, resume=False)


def starting(origin: Path | str, *modules: str, **fields):
    fields = {k.replace("__", "."): v for k, v in fields.items()}
    return schema.replace_paths(tiny.RUN, {"start.run": str(origin), "start.modules": modules, **fields})


def same(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b)))


def test_warm_start_named_modules_are_copied_and_others_stay_fresh(origin, tmp_path):
    fresh = begun(tiny.RUN, tmp_path / "fresh").loop.state
    own = begun(starting(origin, "encoder", "value"), tmp_path / "run")
    theirs, state = dreamer.load(origin).everything, own.loop.state
    for name in state.params:
        expected = theirs if name in ("encoder", "value") else fresh.params
        assert same(state.params[name], expected[name]), name
    assert same(state.slow["value"], theirs["value"])
    assert same((state.opt, state.updates), (fresh.opt, fresh.updates))
    assert own.loop.progress.updates == own.loop.progress.env_steps == 0


def test_warm_start_population_gives_every_member_the_same_modules(origin, tmp_path):
    with workspace.opened(schema.replace_paths(tiny.RUN, {"task": "grid:Catch"})) as opened:
        agent = opened.agent
    folder = tiny.store(tmp_path / "catch", jax.jit(agent.init)(jax.random.key(3)), agent, task="grid:Catch")
    cfg = starting(folder, task="grid:Catch", population__seeds=2)
    state = begun(cfg, tmp_path / "run").loop.state
    theirs = dreamer.load(folder).everything
    for member in range(2):
        assert same(jax.tree.map(lambda x, i=member: x[i], state.params), theirs)


def test_load_with_update_count_returns_that_checkpoint(origin, tmp_path):
    newest, older = warm_start.load(str(origin)), warm_start.load(f"{origin}@40")
    assert newest.counters["updates"] == 80 and older.counters["updates"] == 40
    assert not same(newest.everything, older.everything)
    with pytest.raises(CheckpointError, match="made after 41 updates; there are checkpoints after 40, 80"):
        warm_start.load(f"{origin}@41")


def test_warm_start_exported_file_equals_the_run(origin, tmp_path):
    file = tmp_path / "agent.safetensors"
    assert cli.main(["export", str(origin), str(file)]) == 0
    assert same(warm_start.load(str(file)).everything, dreamer.load(origin).everything)
    with pytest.raises(CheckpointError, match="is a file"):
        warm_start.load(f"{file}@40")


def test_warm_start_other_shapes_list_every_parameter_and_what_fits(origin, tmp_path):
    cfg = starting(origin, "encoder", "reward", "cont", agent__reward__units=16, agent__cont__units=16)
    with pytest.raises(ConfigError) as refused:
        begun(cfg, tmp_path / "run")
    text = str(refused.value)
    with workspace.opened(cfg) as opened:
        own = jax.eval_shape(opened.agent.init, jax.random.key(0)).params
    theirs = dreamer.load(origin).everything
    for module in ("reward", "cont"):
        pairs = zip(
            jax.tree_util.tree_flatten_with_path(own[module])[0], jax.tree.leaves(theirs[module]), strict=True
        )
        for (path, here), there in pairs:
            name = f"{module}.{jax.tree_util.keystr(path, simple=True, separator='.')}"
            line = f"{name} is {list(there.shape)} there, {list(here.shape)} here"
            assert (line in text) == (here.shape != there.shape)
    assert text.endswith("what fits is --modules encoder")
    assert not (tmp_path / "run" / "config.toml").exists()


def test_warm_start_missing_parameter_is_reported(origin, tmp_path):
    with pytest.raises(ConfigError, match=r"policy\.\S+ is missing there, \[\d+, \d+\] here"):
        begun(starting(origin, "policy", agent__policy__layers=2), tmp_path / "run")


def test_warm_start_unknown_module_lists_the_existing_ones(origin, tmp_path):
    with pytest.raises(ConfigError, match="names 'encodr', .* modules are cont, encoder,"):
        begun(starting(origin, "encodr"), tmp_path / "run")


def test_start_config_modules_without_a_run_are_refused():
    with pytest.raises(ConfigError, match="modules are for a run to start from"):
        schema.replace_paths(tiny.RUN, {"start.modules": ("encoder",)})


def test_train_from_another_run_is_resumed_by_the_same_command_only(origin, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(origin, "origin")
    path = tmp_path / "base.toml"
    path.write_text(schema.dump_toml(schema.replace_paths(tiny.RUN, {"eval.episodes": 0})))
    command = ["train", "--config", str(path), "--run", "new"]
    assert cli.main([*command, "--from", "origin@40", "--modules", "rssm,encoder"]) == 0
    assert "starting from" in capfd.readouterr().err
    cfg = load_toml(tmp_path / "new" / "config.toml")
    assert cfg.start.run == str(tmp_path / "origin@40") and cfg.start.modules == ("encoder", "rssm")
    (first,) = json.loads((tmp_path / "new" / "environment.json").read_text())["sessions"]
    assert first["start"]["updates"] == 40 and first["start"]["modules"] == ["encoder", "rssm"]
    before = CheckpointStore(tmp_path / "new" / "checkpoints").meta()["progress"]

    shutil.rmtree("origin")  # it is not needed any more
    for words in (["--from", "origin@40", "--modules", "encoder", "rssm"], []):
        assert cli.main([*command, *words]) == 0
        assert CheckpointStore(tmp_path / "new" / "checkpoints").meta()["progress"] == before
    assert "start" not in json.loads((tmp_path / "new" / "environment.json").read_text())["sessions"][-1]
    for words in (["--from", "elsewhere"], ["--from", "origin@40", "--modules", "encoder"]):
        assert cli.main([*command, *words]) == cli.MISTAKE
        assert "start." in capfd.readouterr().err


def test_build_from_another_run_ends_at_the_update_limit(origin):
    with dreamer.build(starting(origin, "encoder", loop__updates=3)) as training:
        assert same(training.loop.state.params["encoder"], dreamer.load(origin).everything["encoder"])
        list(training.outputs())
        assert training.loop.progress.updates == 3
