"""The score of a run is logged while it trains, equals that of its result, and takes no noticeable time."""

import json
from types import SimpleNamespace

import pytest
import tiny

from dreamer import schema
from dreamer.config import Config
from dreamer.logger import read_rows
from experiments.training import run, score


class Clock:
    """Every look at it takes this many seconds."""

    def __init__(self, takes: float):
        self.now, self.takes = 0.0, takes

    def __call__(self) -> float:
        self.now += self.takes
        return self.now


def config(task: str) -> Config:
    return schema.replace_paths(tiny.RUN, {"task": task})


def stored(path, rows, task, env_steps):
    """A run folder with these episodes, and what is logged in it."""
    (path / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    logged = []
    logger = SimpleNamespace(env_steps=env_steps, metrics=logged.append)
    return SimpleNamespace(path=path, cfg=config(task), logger=logger), logged


def test_meanwhile_logs_the_score_of_the_steps_so_far(tmp_path):
    rows = [
        {"env_steps": steps, "return": value}
        for steps, value in ((1000, 10.0), (9_600, 300.0), (10_000, 400.0))
    ]
    folder, logged = stored(tmp_path, rows, "dmc:walker-walk", 10_000)
    score.Meanwhile(folder)()
    assert logged == [{"score/return": 350.0}]


def test_log_leaves_out_single_achievements(tmp_path):
    folder, logged = stored(tmp_path, [], "crafter:reward", 0)
    score.log(folder, {"crafter_score": 50.0, "achievements/wake_up": 100.0, "return": 3.0})
    score.log(folder, {})
    assert logged == [{"score/crafter_score": 50.0, "score/return": 3.0}]


def test_meanwhile_before_the_first_episode_logs_nothing(tmp_path):
    folder, logged = stored(tmp_path, [], "dmc:walker-walk", 10)
    score.Meanwhile(folder)()
    assert logged == []


@pytest.mark.parametrize(("takes", "again"), [(2.0, 1000.0), (0.1, 50.0)])
def test_meanwhile_takes_at_most_its_share_of_the_time(tmp_path, takes, again):
    folder, logged = stored(tmp_path, [{"env_steps": 1, "return": 1.0}], "dmc:walker-walk", 1)
    clock = Clock(takes)
    meanwhile = score.Meanwhile(folder, clock)
    meanwhile()  # from `takes` to twice that
    clock.now = again - 0.1  # with `takes`, too early by a look
    meanwhile()
    assert len(logged) == 1
    clock.now = again + 0.1
    meanwhile()
    assert len(logged) == 2


def test_is_scored_suites_with_a_score_but_no_population():
    assert score.is_scored(config("dmc:walker-walk"))
    assert not score.is_scored(config("probe:chosen"))
    many = schema.replace_paths(config("grid:Catch"), {"population.seeds": 2})
    assert not score.is_scored(many)


@pytest.mark.usefixtures("compilation_cache")
def test_train_logs_the_score_meanwhile_and_at_its_end_that_of_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr(score, "EVERY", 0.0)
    monkeypatch.setattr(score, "SHARE", 1.0)
    cfg = schema.replace_paths(tiny.RUN, {"task": "grid:Catch", "eval.episodes": 0, "steps": 320})
    assert run.train(cfg, tmp_path / "run") == 0
    rows = [row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if "score/return" in row]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {row["env_steps"] for row in rows[:-1]} - {320}
    assert rows[-1]["env_steps"] == 320
    assert {f"score/{name}": value for name, value in result["score"].items()}.items() <= rows[-1].items()
