"""The row of a run says how far it is, how well it does and what is wrong with it."""

import json
import os
import time

import pytest
from board_runs import config, store

from experiments.board.index import Index


def aged(folder, seconds=3600):
    """The folder as it was left a while ago."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - seconds,) * 2)
    return folder


def row(root, id="a"):
    index = Index(root)
    index.look()
    return index.row(id)


def test_finished_run_has_the_numbers_of_its_result(tmp_path):
    aged(store(tmp_path / "a", config(3, "grid:Catch", 1000)))
    found = row(tmp_path)
    assert (found.kind, found.task, found.preset, found.seed) == ("run", "grid:Catch", "quickstart", 3)
    assert (found.status, found.ready, found.total, found.seconds) == ("done", 1000, 1000, 5.0)
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert found.return_mean == result["return_mean"] and found.success_rate == result["success_rate"]
    assert found.judged == "evaluation" and found.page == "a/report.html" and found.left is None


def test_run_without_a_result_has_means_of_its_last_training_episodes(tmp_path):
    folder = aged(store(tmp_path / "a", config(steps=1000), ended=0.5, result=False))
    episodes = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()][-100:]
    found = row(tmp_path)
    assert (found.status, found.ready, found.total, found.updates) == ("unfinished", 500, 1000, 125)
    assert found.success_rate == pytest.approx(sum(e["success"] for e in episodes) / 100)
    assert found.judged == "training" and found.page == ""


def test_evaluation_episodes_are_no_training_episodes(tmp_path):
    folder = store(tmp_path / "a", config(), ended=0.5, result=False)
    rows = [{"env_steps": 1, "return": 1.0, "success": None}, {"env_steps": 2, "return": 9.0, "kind": "eval"}]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = row(tmp_path)
    assert found.return_mean == 1.0 and found.success_rate is None


def test_run_that_was_just_written_to_is_training_and_says_what_is_left(tmp_path):
    store(tmp_path / "a", config(steps=1000), ended=0.5, result=False)
    found = row(tmp_path)
    assert found.status == "training" and found.left == pytest.approx(2.5)


def test_run_that_was_extended_is_unfinished_and_shows_training(tmp_path):
    folder = store(tmp_path / "a", config(steps=2000), ended=0.6, result=False)
    (folder / "result.json").write_text(json.dumps({"env_steps": 1000, "return_mean": 7.0}))
    found = row(aged(folder).parent)
    assert (found.status, found.ready, found.judged) == ("unfinished", 1200, "training")


@pytest.mark.parametrize("change", [{"solved": True}, {"updates": 50}])
def test_run_that_reached_its_goal_early_is_done(tmp_path, change):
    folder = store(tmp_path / "a", config(steps=2000, loop__updates=50), ended=0.1, result=False)
    result = {"env_steps": 200, "updates": 10, "return_mean": 1.0, **change}
    (folder / "result.json").write_text(json.dumps(result))
    assert row(aged(folder).parent).status == "done"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("result.json", '{"env_st', "result.json is damaged"),
        ("result.json", "[]", "result.json is damaged"),
        ("config.toml", "task = ", "config.toml is damaged"),
        ("config.toml", "", None),
        ("metrics.jsonl", "\0\0{", None),
        ("episodes.jsonl", "not\nJSON\n", None),
        ("result.json", '{"env_steps": "many", "return_mean": {}, "seconds": null}', None),
    ],
)
def test_damaged_file_is_a_row_that_says_so(tmp_path, name, content, problem):
    folder = store(tmp_path / "a", config())
    (folder / name).write_text(content)
    found = row(aged(folder).parent)
    assert found.problem.startswith(problem or "") and bool(problem) == bool(found.problem)
    assert (found.status == "damaged") == bool(problem)
    json.dumps(vars(found), allow_nan=False)


def test_run_without_its_configuration_is_a_row_that_says_so(tmp_path):
    (store(tmp_path / "a", config()) / "config.toml").unlink()
    found = row(tmp_path)
    assert (found.status, found.problem, found.task) == (
        "damaged",
        "config.toml is missing",
        "grid:DoorKey-5x5",
    )


@pytest.mark.parametrize("text", ["[tool]\nname = 1\n", "not toml at all"])
def test_configuration_of_another_program_is_no_row(tmp_path, text):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.toml").write_text(text)
    assert row(tmp_path) is None


def test_run_that_failed_in_a_benchmark_says_why(tmp_path):
    folder = store(tmp_path / "a", config(), ended=0.2, result=False)
    (tmp_path / "a.failed").write_text("loss/total is nan\n")
    found = row(aged(folder).parent)
    assert (found.status, found.problem) == ("failed", "loss/total is nan")


def test_ppo_run_is_done_once_it_has_its_steps(tmp_path):
    folder = store(tmp_path / "a", config(steps=1000), result=False)
    (folder / "config.toml").unlink()
    (folder / "ppo.json").write_text(
        json.dumps({"format": "x", "task": "grid:Catch", "seed": 2, "steps": 900})
    )
    found = row(aged(folder).parent)
    assert (found.kind, found.task, found.seed, found.status) == ("ppo", "grid:Catch", 2, "done")
