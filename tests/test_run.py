"""A run is a folder that survives: resume, kill, faults of the environment, numbers that are not finite."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import dreamer
from dreamer import schema
from dreamer.checkpoint import CheckpointError, CheckpointStore
from dreamer.config import Config
from dreamer.logger import read_rows
from envs.wrappers import Levels
from experiments import evaluate
from experiments.training import run, session, workspace

CFG = tiny.RUN

pytestmark = pytest.mark.usefixtures("compilation_cache")


def change(**fields) -> Config:
    return schema.replace_paths(CFG, {k.replace("__", "."): v for k, v in fields.items()})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run that went to its end in one go."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run.train(CFG, folder) == 0
    return folder


def test_train_finished_run_folder_has_every_expected_file(finished):
    names = {p.name for p in finished.iterdir()}
    assert names >= {
        "config.toml", "metrics.jsonl", "episodes.jsonl", "result.json", "environment.json", "checkpoints"
    }  # fmt: skip
    metrics, episodes = (read_rows(finished / f"{n}.jsonl") for n in ("metrics", "episodes"))
    assert all({"env_steps", "updates", "seconds"} <= row.keys() for row in metrics)
    assert all({"env_steps", "return", "length", "success"} <= row.keys() for row in episodes)
    assert all(row["success"] is None for row in episodes)
    steps = [row["env_steps"] for row in metrics]
    assert steps == sorted(steps) and steps[-1] == 160
    # 4 replayed steps per environment step, 16 a batch, from the end of the prefill on.
    result = json.loads((finished / "result.json").read_text())
    assert result["env_steps"] == 160 and result["updates"] == 120 * 4 // 16
    assert result["episodes"] == 8
    assert (result["truncated_by_limit"], result["step_limit"]) == (0, 10_000)


def test_load_finished_run_acts_with_the_newest_checkpoint(finished):
    player = dreamer.load(finished)
    action, _ = player.act(player.init(), {"vector": np.zeros(player.agent.obs_space["vector"].shape, "f")})
    assert action["action"].shape == () and action["action"] in (0, 1)


def test_train_with_more_steps_resumes_and_keeps_the_old_rows(finished, tmp_path):
    folder = tmp_path / "run"
    assert run.train(CFG, folder) == 0
    before = read_rows(folder / "metrics.jsonl")
    assert run.train(change(steps=240), folder) == 0
    after = read_rows(folder / "metrics.jsonl")
    assert after[: len(before)] == before and after[-1]["env_steps"] == 240
    assert after[-1]["updates"] == 200 * 4 // 16
    sessions = json.loads((folder / "environment.json").read_text())["sessions"]
    assert len(sessions) == 2


def test_build_resumed_run_has_the_learner_of_the_checkpoint_bitwise(finished):
    with workspace.opened(CFG) as opened:
        resumed = run.build(CFG, finished, opened, True)
    _, stored, meta = resumed.folder.store.load(jax.eval_shape(opened.agent.init, jax.random.key(0)))
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), resumed.loop.state, stored)
    assert all(jax.tree.leaves(same))
    assert resumed.loop.progress.env_steps == meta["progress"]["env_steps"] == 160
    assert resumed.loop.replay.counters == meta["replay"]


def test_train_equal_seed_gives_equal_episodes(finished, tmp_path):
    assert run.train(CFG, tmp_path / "again") == 0
    rows = [read_rows(folder / "episodes.jsonl") for folder in (finished, tmp_path / "again")]
    assert rows[0] == rows[1]


def test_train_finished_run_again_only_evaluates(finished):
    rows = read_rows(finished / "episodes.jsonl")
    assert run.train(CFG, finished) == 0
    assert read_rows(finished / "episodes.jsonl") == rows


def test_train_until_goal_reached_stops_early_and_is_resumable(tmp_path, capfd):
    folder, easy = tmp_path / "run", dict(until="return=-1000", eval__until_every=64, eval__until_episodes=4)
    easy["task"] = "probe:constant"  # of which it is not said that nothing was learned
    assert run.train(change(**easy), folder) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["solved"] and result["until"] == "return=-1000" and result["env_steps"] == 64
    assert result["solved_at"]["env_steps"] == 64
    assert "solved: return=-1000 was reached after 64 steps" in capfd.readouterr().err
    checks = [row for row in read_rows(folder / "metrics.jsonl") if "until/return" in row]
    assert [row["env_steps"] for row in checks] == [64]

    assert run.train(change(**easy), folder) == 0, "it is done, and stays so"
    assert json.loads((folder / "result.json").read_text())["env_steps"] == 64

    assert run.train(change(**easy | {"eval__until_episodes": 8}), folder) == 0, (
        "a longer check is another one"
    )
    assert json.loads((folder / "result.json").read_text())["env_steps"] == 128

    hard = easy | {"until": "return=1000"}
    assert run.train(change(**hard), folder) == 0
    result = json.loads((folder / "result.json").read_text())
    assert not result["solved"] and result["env_steps"] == 160
    assert "not solved: no check reached return=1000 within 160 steps. First try" in capfd.readouterr().err


def test_train_final_evaluation_plays_greedy_and_sampled(finished):
    result = json.loads((finished / "result.json").read_text())
    assert result["sampled"].keys() == {k for k in result if k in result["sampled"]}
    assert result["sampled"]["episodes"] == result["episodes"] == 8
    logged = {key for row in read_rows(finished / "metrics.jsonl") for key in row}
    assert {"eval/return_mean", "eval_sampled/return_mean"} <= logged


def test_evaluate_other_task_with_the_same_spaces_is_played(finished, capsys):
    how = dict(episodes=3, seed=0, actor="greedy", num_envs=2, out="", json=True)
    assert evaluate.evaluate(finished, task="probe:remembered", **how) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["task"], result["trained_on"]) == ("probe:remembered", "probe:chosen")
    assert result["length_mean"] == 3
    with pytest.raises(schema.ConfigError, match="does not fit probe:continuous: its action"):
        evaluate.evaluate(finished, task="probe:continuous", **how)


def test_train_logged_episodes_have_their_start_step(finished):
    rows = read_rows(finished / "episodes.jsonl")
    assert rows and all(0 <= row["began"] < row["env_steps"] for row in rows)


@pytest.mark.parametrize("task", ["probe:chosen", "grid:Catch"])
def test_train_update_limit_ends_the_run_and_a_higher_one_resumes_it(tmp_path, task):
    folder = tmp_path / "run"
    for limit in (4, 7):
        assert run.train(change(task=task, steps=4000, loop__updates=limit, eval__episodes=0), folder) == 0
        result = json.loads((folder / "result.json").read_text())
        assert result["updates"] == limit and result["env_steps"] < 160


def test_train_evaluations_by_updates_are_made_after_so_many(tmp_path):
    cfg = change(loop__updates=7, eval__episodes=0, eval__every_updates=2, eval__during=2)
    assert run.train(cfg, tmp_path / "run") == 0
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    evaluated = [row["updates"] for row in rows if "eval/return_mean" in row]
    assert evaluated and evaluated == sorted(set(evaluated)) and evaluated[0] in (2, 3, 4)


def test_save_again_at_equal_env_steps_keeps_the_newer_updates(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    with workspace.opened(CFG) as opened:
        own = run.build(CFG, tmp_path / "run", opened, True)
        own.save(wait=True)
        names = lambda: sorted(path.name for path in own.folder.store.folder.glob("step-*"))
        before = names()
        own.loop.progress.updates += 1
        own.save(wait=True)
        assert names()[-1] == "step-000000000160-1" and before[-1] == "step-000000000160"
        resumed = run.build(CFG, tmp_path / "run", opened, True)
    assert resumed.loop.progress.updates == own.loop.progress.updates == 31


def test_train_changed_config_is_refused_with_the_difference(finished):
    with pytest.raises(schema.ConfigError, match=r"agent.optim.lr was 0.01, now 0.5"):
        run.train(change(agent__optim__lr=0.5), finished)


def test_train_refused_run_leaves_every_file_unchanged(finished, tmp_path):
    """A trainer that is there, one too many, a run too short and a folder that is new."""
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with session.claimed(finished), pytest.raises(schema.ConfigError, match="in use: a trainer runs there"):
        run.train(CFG, finished)
    with pytest.raises(schema.ConfigError, match="--without-replay is for Gymnasium environments"):
        run.train(change(task="grid:Catch"), tmp_path / "new", without_replay=True)
    with pytest.raises(schema.ConfigError, match=r"task was .*another --run"):
        run.train(change(task="probe:constant"), finished, force=("task",))
    with pytest.raises(schema.ConfigError, match=r"loop.prefill must"):
        run.train(change(loop__prefill=161), finished, fresh=True)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before
    assert list(finished.parent.iterdir()) == [finished] and not list(tmp_path.iterdir())


def test_train_first_checkpoint_not_writable_stops_before_any_metrics(tmp_path, monkeypatch):
    """A disk that is full before the first checkpoint; with space the same command begins anew."""
    folder, save = tmp_path / "run", CheckpointStore.save

    def full(*_):
        raise CheckpointError("checkpoint 44 could not be written: No space left on device")

    monkeypatch.setattr(CheckpointStore, "save", full)
    with pytest.raises(run.TrainingStopped, match="No space left on device; rerun the same command"):
        run.train(CFG, folder)
    assert not read_rows(folder / "metrics.jsonl")
    monkeypatch.setattr(CheckpointStore, "save", save)
    assert run.train(CFG, folder) == 0


@pytest.mark.parametrize("name", ["manifest.json", "_METADATA"])
def test_train_without_a_valid_checkpoint_is_refused_and_changes_nothing(finished, tmp_path, name):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for file in (folder / "checkpoints").rglob(name):
        file.write_bytes(file.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for _ in (1, 2):
        with pytest.raises(schema.ConfigError, match="--fresh"):
            run.train(change(steps=240), folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_build_damaged_replay_is_refused_unless_without_replay(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for file in (folder / "checkpoints" / "replay").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    with workspace.opened(CFG) as opened:
        with pytest.raises(CheckpointError, match="resume without the replay .*--without-replay"):
            run.build(CFG, folder, opened, True)
        resumed = run.build(CFG, folder, opened, True, without_replay=True)
    progress = resumed.loop.progress
    assert (progress.env_steps, progress.updates, len(resumed.loop.replay)) == (160, 30, 0)
    assert progress.counted_since == -1 and resumed.loop._due() == 0


@pytest.mark.parametrize(
    ("fields", "anew"), [({}, None), ({"loop__train_ratio": 64}, -1), ({"loop__batch_size": 2}, -1)]
)
def test_build_changed_train_ratio_counts_from_the_resume(finished, tmp_path, fields, anew):
    shutil.copytree(finished, tmp_path / "run")
    with workspace.opened(change(**fields)) as opened:
        resumed = run.build(change(**fields), tmp_path / "run", opened, True)
        assert resumed.loop.progress.counted_since == anew


def test_train_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    mad = change(steps=400, agent__optim__lr=1e36)
    with pytest.raises(
        run.TrainingStopped, match=r"update \d+ gave .* not finite.*at \d+ steps is good"
    ) as stopped:
        run.train(mad, folder, force=("agent.optim.lr",))
    good = int(re.findall(r"at (\d+) steps", str(stopped.value))[0])
    assert (folder / "checkpoints" / f"step-{good:012d}").exists() and good >= 160
    assert json.loads((folder / "result.json").read_text())["env_steps"] == 160
    assert read_rows(folder / "metrics.jsonl")[-1]["diverged"] == 1.0
    assert dreamer.load(folder)


def test_train_environment_error_names_the_task_and_saves(tmp_path):
    faulty = change(task="gymnasium:faulty_env:Raises-v0")
    with pytest.raises(run.TrainingStopped, match=r"faulty_env:Raises-v0.*step.*saved at") as stopped:
        run.train(faulty, tmp_path / "run")
    assert "\n" not in str(stopped.value)
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_workspace_levels_limit_the_training_worlds_in_both_loops():
    with workspace.opened(change(task="probe:continuous", env__levels=2)) as opened:
        shown = np.concatenate([opened.env.reset().obs["vector"] for _ in range(9)])
    assert len(np.unique(shown, axis=0)) == 2
    with workspace.opened(change(task="grid:Catch", env__levels=2)) as opened:
        assert isinstance(opened.env, Levels) and opened.env.levels == 2


def start(folder: Path, **fields) -> subprocess.Popen:
    """The same run, but longer, as a process of its own."""
    path = folder.parent / f"{folder.name}.toml"
    path.write_text(schema.dump_toml(change(**{"steps": 600, **fields})))
    command = [sys.executable, "-m", "experiments.cli", "train", "quickstart", "--config", str(path)]
    return subprocess.Popen(
        [*command, "--run", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 900) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.02)


def test_train_sigterm_saves_and_prints_the_resume_command(tmp_path):
    folder = tmp_path / "run"
    process = start(folder, steps=20_000)
    wait_for(lambda: any(row["updates"] > 1 for row in read_rows(folder / "metrics.jsonl")), process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert f"dreamer train --run {folder}" in output and "Traceback" not in output


def end(process: subprocess.Popen) -> None:
    """Wait until a run has come to its end."""
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output


def survive(folder: Path, kills: int) -> None:
    """Kill the run at random moments, each time resume it, in the end finish it; nothing may be corrupt."""
    chance = random.Random(kills)
    for _ in range(kills):
        process = start(folder)
        wait_for(lambda: bool(list(folder.glob("checkpoints/step-*/manifest.json"))), process)
        time.sleep(chance.uniform(0, 12))
        process.kill()
        process.communicate()
    end(start(folder))
    rows = read_rows(folder / "metrics.jsonl")
    steps = [row["env_steps"] for row in rows]
    assert steps == sorted(steps) and steps[-1] == 600
    assert json.loads((folder / "result.json").read_text())["updates"] == 560 * 4 // 16
    assert not (folder / "checkpoints" / "quarantine").exists()


def test_train_killed_once_finishes_after_a_restart(tmp_path):
    survive(tmp_path / "run", 1)


@pytest.mark.slow
def test_train_killed_ten_times_finishes_after_restarts(tmp_path):
    survive(tmp_path / "run", 10)


@pytest.mark.slow
def test_train_on_device_killed_run_equals_an_uninterrupted_one_bitwise(tmp_path):
    fields = {"task": "grid:Catch", "steps": 20_000}
    end(start(tmp_path / "whole", **fields))
    folder, chance = tmp_path / "killed", random.Random(0)
    for wanted in (2_000, 6_000, 10_000):
        process = start(folder, **fields)
        at = lambda: max((row["env_steps"] for row in read_rows(folder / "metrics.jsonl")), default=0)
        wait_for(lambda wanted=wanted, at=at: (folder / "metrics.jsonl").is_file() and at() > wanted, process)
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        process.communicate()
    end(start(folder, **fields))
    sessions = json.loads((folder / "environment.json").read_text())["sessions"]
    assert len(sessions) == 4

    def arrays(folder: Path) -> list[np.ndarray]:
        cfg = change(**fields)
        with workspace.opened(cfg) as opened:
            return jax.tree.leaves(
                jax.device_get(run.build(cfg, folder, opened, True).loop.checkpoint().arrays)
            )

    ours, theirs = arrays(folder), arrays(tmp_path / "whole")
    assert len(ours) > 100
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
