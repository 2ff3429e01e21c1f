"""Curves are read as their logs grow, and have as many points as a screen can show."""

import json

import numpy as np
import pytest
from board_runs import config, store

from experiments.board import curves
from experiments.board.curves import POINTS, Curves, binned, means
from experiments.board.files import Files


def write(path, rows, mode="w"):
    with path.open(mode) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "a").mkdir()
    metrics = [{"env_steps": 10 * i, "updates": i, "seconds": 2.0 * i, "loss": 5 - i} for i in range(1, 4)]
    write(
        tmp_path / "a" / "metrics.jsonl", [*metrics, {"env_steps": 30, "updates": 3, "eval/return_mean": 9.0}]
    )
    episodes = [{"env_steps": 5 * i, "return": float(i), "length": 5, "success": i > 2} for i in range(1, 7)]
    episodes += [{"env_steps": 30, "return": 99.0, "kind": "eval"}, {"env_steps": 30, "log": {"score": 4}}]
    write(tmp_path / "a" / "episodes.jsonl", episodes)
    return tmp_path


def test_read_curves_of_metrics_and_of_training_episodes(run):
    found = Curves(Files(run))
    assert found.names("a") == ["return", "success", "length", "log/score", "eval/return_mean", "loss"]
    read = found.read(
        "a", ["return", "success", "loss", "eval/return_mean", "log/score", "none"], "env_steps"
    )
    assert read == {
        "return": ([5.0, 10.0, 15.0, 20.0, 25.0, 30.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        "success": ([5.0, 10.0, 15.0, 20.0, 25.0, 30.0], [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
        "loss": ([10.0, 20.0, 30.0], [4.0, 3.0, 2.0]),
        "eval/return_mean": ([30.0], [9.0]),
        "log/score": ([30.0], [4.0]),
    }


def test_read_over_other_clocks_takes_them_from_the_metrics(run):
    found = Curves(Files(run))
    assert found.read("a", ["loss"], "updates")["loss"] == ([1.0, 2.0, 3.0], [4.0, 3.0, 2.0])
    times, values = found.read("a", ["return"], "seconds")["return"]
    assert times == [2.0, 2.0, 3.0, 4.0, 5.0, 6.0] and values == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_read_appended_rows_alone_are_parsed(run, monkeypatch):
    found, parsed = Curves(Files(run)), []
    found.read("a", ["loss"], "env_steps")
    loads = json.loads
    monkeypatch.setattr(curves.json, "loads", lambda line: parsed.append(line) or loads(line))
    write(run / "a" / "metrics.jsonl", [{"env_steps": 40, "loss": 1.0}], "a")
    assert found.read("a", ["loss"], "env_steps")["loss"] == ([10.0, 20.0, 30.0, 40.0], [4.0, 3.0, 2.0, 1.0])
    assert len(parsed) == 1


def test_read_log_that_was_rewound_is_read_again(run):
    found = Curves(Files(run))
    found.read("a", ["loss"], "env_steps")
    write(run / "a" / "new", [{"env_steps": 10, "loss": 7.0}])
    (run / "a" / "new").rename(run / "a" / "metrics.jsonl")
    assert found.read("a", ["loss"], "env_steps")["loss"] == ([10.0], [7.0])


@pytest.mark.parametrize(
    "content", ["", "{", "[]\n", '{"env_steps": NaN, "loss": 1}\n', '{"env_steps": 1, "loss": null}\n']
)
def test_read_log_without_whole_rows_has_no_curves(run, content):
    (run / "a" / "metrics.jsonl").write_text(content)
    assert Curves(Files(run)).read("a", ["loss"], "env_steps") == {}
    assert Curves(Files(run)).read("none", ["loss"], "env_steps") == {}


def test_read_symbolic_link_is_not_followed(run):
    (run / "b").mkdir()
    (run / "b" / "metrics.jsonl").symlink_to(run / "a" / "metrics.jsonl")
    assert Curves(Files(run)).names("b") == []


def test_logs_over_the_limit_are_forgotten(run, monkeypatch):
    monkeypatch.setattr(curves, "KEPT", 1)
    found = Curves(Files(run))
    for name in "bc":
        store(run / name, config())
    for name in "abca":
        assert found.read(name, ["return"], "env_steps")["return"]
    assert len(found._logs) == 2


def test_means_are_of_the_last_values_once_there_are_enough():
    assert means(np.array([1.0, 3.0, 5.0, 7.0]), 2).tolist() == [2.0, 4.0, 6.0]
    assert means(np.array([1.0, 3.0]), 1).tolist() == [1.0, 3.0] and means(np.array([]), 9).tolist() == []


def test_read_many_episodes_are_the_means_of_the_last_hundred(run):
    returns = np.random.default_rng(0).normal(size=600)
    rows = [{"env_steps": i, "return": float(value)} for i, value in enumerate(returns)]
    write(run / "a" / "episodes.jsonl", rows)
    steps, values = Curves(Files(run)).read("a", ["return"], "env_steps")["return"]
    last = np.mean([returns[i - 99 : i + 1].mean() for i in (598, 599)])
    assert values[-1] == pytest.approx(last, abs=1e-2)
    assert len(steps) == POINTS and 99 <= steps[0] < 102 and np.ptp(values) < 0.8


def test_read_episodes_count_where_they_began(run):
    """Of two copies one fails, in 40 steps, while the other succeeds in 10 and 20; then both run on."""
    rows = [(20, 0, 10, 1), (62, 22, 20, 1), (80, 0, 40, 0)]
    keys = ("env_steps", "began", "length", "return")
    path = run / "a" / "episodes.jsonl"
    write(path, [dict(zip(keys, row, strict=True)) for row in rows[:2]])
    found = Curves(Files(run))
    assert found.read("a", ["return"], "env_steps") == {}, "all wait for the first of the other"
    write(path, [dict(zip(keys, rows[2], strict=True))], "a")
    assert found.read("a", ["return"], "env_steps")["return"] == ([0.0, 22.0], [0.0, 1.0])


def test_binned_few_points_are_all_there_in_order():
    assert binned(np.array([3.0, 1.0, np.nan, 2.0]), np.array([30.0, 10.0, 0.0, 20.0])) == (
        [1, 2, 3],
        [10, 20, 30],
    )


def test_binned_many_points_keep_their_means():
    x = np.arange(100_000.0)
    y = np.sin(x / 9000)
    at, mean = map(np.asarray, binned(x, y))
    assert len(at) == POINTS and np.all(np.diff(at) > 0)
    assert np.abs(mean - np.sin(at / 9000)).max() < 1e-3


def test_binned_points_at_one_time_are_one_point():
    assert binned(np.full(1000, 7.0), np.arange(1000.0)) == ([7.0], [499.5])
