"""Run folders are reopened only for the same run, and have one writer."""

import dataclasses
import errno
import json
import os
import shutil

import pytest

from dreamer import schema
from dreamer.checkpoint import FORMAT, CheckpointError, _seal
from dreamer.config import Config
from dreamer.schema import ConfigError
from experiments import lock
from experiments.training import session

CFG = Config(task="probe:chosen", steps=2000)


def test_open_folder_new_folder_is_created_then_reopened(tmp_path):
    folder = tmp_path / "a" / "run"
    assert session.open_folder(folder, CFG, ()) is False
    assert session.open_folder(folder, CFG, ()) is True


def test_open_folder_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"exists but is not a run"):
        session.open_folder(tmp_path, CFG, ())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_open_folder_changed_learner_field_is_refused_unless_forced(tmp_path):
    session.open_folder(tmp_path, CFG, ())
    other = dataclasses.replace(CFG, seed=1)
    with pytest.raises(ConfigError, match=r"seed was 0, now 1.*--force seed"):
        session.open_folder(tmp_path, other, ())
    assert session.open_folder(tmp_path, other, ("seed",)) is True


def test_open_folder_setting_of_an_objective_that_no_run_has_may_change(tmp_path):
    """Presets weigh such losses anew from time to time; a run of before resumes with the same command."""
    session.open_folder(tmp_path, CFG, ())
    other = schema.replace_paths(CFG, {"agent.loss.barlow": 10.0, "agent.cdp.factors": ("encoder=0.015",)})
    assert session.open_folder(tmp_path, other, ()) is True


def test_check_folder_unknown_forced_field_raises_with_a_suggestion(tmp_path):
    session.open_folder(tmp_path, CFG, ())
    with pytest.raises(ConfigError, match=r"--force names loop.ratio, which is no field.*loop.train_ratio"):
        session.check_folder(tmp_path, CFG, ("loop.ratio",))


def checkpoint(folder):
    """What `steps` takes for a checkpoint, without its arrays."""
    path = folder / "checkpoints" / "step-000000000160"
    path.mkdir(parents=True)
    manifest = {"format": FORMAT, "version": 1, "step": 160, "files": {}, "replay": {}, "meta": {}}
    (path / "manifest.json").write_text(json.dumps({**manifest, "seal": _seal(manifest)}))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"loop.num_envs": 8},
        {"agent.rssm.deter": 1024},
        {"task": "probe:constant"},
        {"env.obs": "pixels"},
        {"agent.policy.units": 32},
        {"agent.objective": "barlow"},
    ],
)
def test_open_folder_unforceable_change_is_refused_and_nothing_is_written(tmp_path, changes):
    session.open_folder(tmp_path, CFG, ())
    checkpoint(tmp_path)
    before = (tmp_path / "config.toml").read_bytes()
    other = schema.replace_paths(CFG, changes)
    for force in ((), tuple(changes)):
        with pytest.raises(ConfigError, match=rf"{next(iter(changes))} was .*another --run") as refused:
            session.open_folder(tmp_path, other, force)
        assert "--force" not in str(refused.value)
    assert (tmp_path / "config.toml").read_bytes() == before


def history(folder):
    session.open_folder(folder, CFG, ())
    (folder / "metrics.jsonl").write_text('{"env_steps": 1500, "updates": 30, "seconds": 9}\n')
    (folder / "episodes.jsonl").write_text('{"env_steps": 9, "return": 1}\n' * 7)
    return checkpoint(folder)


@pytest.mark.parametrize("damage", ["empty", "missing", "deleted"])
def test_open_folder_log_without_checkpoint_is_refused_suggesting_fresh(tmp_path, damage):
    path = history(tmp_path)
    assert session.check_folder(tmp_path, CFG, ()) is True
    if damage == "empty":
        (path / "manifest.json").write_bytes(b"")
    elif damage == "missing":
        (path / "manifest.json").unlink()
    else:
        shutil.rmtree(path.parent)
    before = sorted(tmp_path.rglob("*"))
    for _ in (1, 2):
        with pytest.raises(ConfigError, match=r"30 updates, a log of 7 episodes.*--fresh") as refused:
            session.open_folder(tmp_path, CFG, ())
        assert damage == "deleted" or "manifest.json" in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("logs", [{}, {"metrics.jsonl": "", "episodes.jsonl": '{"env_steps": 9}\n'}])
def test_check_folder_run_ended_before_its_first_update_can_start(tmp_path, logs):
    session.open_folder(tmp_path, CFG, ())
    for name, text in logs.items():
        (tmp_path / name).write_text(text)
    (tmp_path / lock.NAME).write_text("of a process that was killed")
    assert session.check_folder(tmp_path, CFG, ()) is True


def test_check_folder_lock_file_alone_is_no_run(tmp_path):
    (tmp_path / lock.NAME).write_text("of a process that was killed")
    assert session.check_folder(tmp_path, CFG, ()) is False


def test_set_aside_old_run_is_moved_beside_the_folder(tmp_path, capsys):
    folder = tmp_path / "run"
    history(folder)
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    with session.claimed(folder):
        assert session.check_fresh(folder, CFG) is False
        session.set_aside(folder)
        assert [path.name for path in folder.iterdir()] == [lock.NAME]
    (old,) = (path for path in tmp_path.iterdir() if path != folder)
    assert old.name.startswith("run.before-") and str(old) in capsys.readouterr().err
    assert {path.relative_to(old) for path in old.rglob("*")} == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loop.batch_length": 500}, r"loop.batch_length is 500.* takes 8016 steps .* has 2000 steps"),
        ({"loop.prefill": 2001}, r"loop.prefill must be at most the steps of the run \(2000\)"),
    ],
)
def test_open_folder_too_short_run_is_refused_before_creating_it(tmp_path, changes, words):
    cfg = schema.replace_paths(CFG, changes)
    with pytest.raises(ConfigError, match=words):
        session.open_folder(tmp_path / "run", cfg, ())
    assert not list(tmp_path.iterdir())


def test_open_folder_name_with_brackets_is_refused_before_creating_it(tmp_path):
    with pytest.raises(CheckpointError, match="brackets"):
        session.open_folder(tmp_path / "run[1]", CFG, ())
    assert not list(tmp_path.iterdir())


def test_claimed_second_trainer_is_refused(tmp_path):
    refused = pytest.raises(ConfigError, match=f"a trainer .* process {os.getpid()};")
    with session.claimed(tmp_path), refused, session.claimed(tmp_path):
        pass


def test_open_folder_changed_steps_eval_log_and_checkpoint_are_accepted(tmp_path):
    session.open_folder(tmp_path, CFG, ())
    free = dataclasses.replace(
        CFG,
        steps=3000,
        eval=dataclasses.replace(CFG.eval, episodes=7),
        log=dataclasses.replace(CFG.log, every=1.0),
        checkpoint=dataclasses.replace(CFG.checkpoint, every=9.0),
    )
    assert session.open_folder(tmp_path, free, ()) is True


def test_open_folder_full_disk_raises_naming_the_file_and_leaves_no_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as failed:
        session.open_folder(tmp_path / "run", CFG, ())
    assert failed.value.filename == str(tmp_path / "run" / "config.toml")
    assert not list((tmp_path / "run").iterdir())
    monkeypatch.undo()
    assert session.open_folder(tmp_path / "run", CFG, ()) is False, "the same command goes on"


def test_never_change_has_every_field_of_the_agent_that_decides_which_arrays_there_are():
    import jax
    import tiny

    from dreamer.agent import Agent

    def arrays(cfg):
        agent = Agent(tiny.OBS, tiny.ACT, cfg)
        return jax.tree.map(lambda x: x.shape, jax.eval_shape(agent.init, jax.random.key(0)))

    missing, before = [], arrays(tiny.CFG)
    for path, value in schema.values(tiny.CFG):
        if f"agent.{path}".startswith(session.NEVER_CHANGE) or not isinstance(value, bool | int):
            continue
        changed = not value if isinstance(value, bool) else value + 1
        if arrays(schema.replace_path(tiny.CFG, path, changed)) != before:
            missing.append(path)
    assert missing == []
