"""Results are what the run folders say, and the pictures are drawn from them."""

import json

import numpy as np
import pytest

from experiments import figures, results_table


def episode(env_steps, success):
    return {"env_steps": env_steps, "return": 2.0 * success, "length": 5, "success": bool(success)}


def test_curve_episodes_match_hand_computation():
    episodes = [episode(15, 0), episode(20, 1), episode(40, 1)]
    assert results_table.curve(episodes, steps=40, points=4, window=2) == {
        "env_steps": [10, 20, 30, 40],
        "return": [None, 1.0, 1.0, 2.0],
        "success": [None, 0.5, 0.5, 1.0],
    }


def test_curve_episodes_count_where_they_began():
    rows = [
        episode(5, 1) | {"began": 0},
        episode(12, 1) | {"began": 6},
        episode(20, 0) | {"began": 0, "length": 20},
    ]
    assert results_table.curve(rows, steps=20, points=4, window=5)["success"] == [0.5, 0.6667, 0.6667, 0.6667]


def test_row_many_seeds_shows_mean_and_worst():
    run = {"task": "t", "env_steps": 10, "return_mean": 1.0, "seconds": 7.0}
    row = results_table._row("x", [{**run, "success_rate": rate} for rate in (1.0,) * 5 + (0.4,)])
    assert "| 90.0% on average, 40% the worst | 1 | 7 s |" in row


def test_curve_without_success_is_none():
    rows = [{**episode(5, 0), "success": None}]
    assert results_table.curve(rows, 10, 1)["success"] == [None]


@pytest.fixture
def population(tmp_path, monkeypatch):
    """A folder of two members, as training leaves it."""
    monkeypatch.setattr(results_table, "RESULTS", tmp_path / "results")
    run, result = (
        tmp_path / "run",
        {"env_steps": 100, "seconds": 3.0, "success_rate": 1.0, "task": "grid:Catch"},
    )
    session = {k: None for k in ("time", "command", "cpus", "devices", "versions", "commit")}
    for i in range(2):
        (run / "members" / f"{i:03d}").mkdir(parents=True)
        (run / "members" / f"{i:03d}" / "result.json").write_text(json.dumps(result))
        rows = [episode(2 * t, np.random.default_rng(t + i).random() < t / 50) for t in range(1, 51)]
        (run / "members" / f"{i:03d}" / "episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (run / "environment.json").write_text(json.dumps({"sessions": [session | {"commit": "abc"}]}))
    return sorted((run / "members").iterdir())


def test_record_population_members_share_its_environment_record(population):
    rows = json.loads(results_table.record("x", population).read_text())["runs"]
    assert [row["commit"] for row in rows] == ["abc", "abc"]
    assert [len(row["curve"]["success"]) for row in rows] == [40, 40]


def test_record_folder_that_is_no_run_raises_naming_it(tmp_path):
    with pytest.raises(SystemExit, match="nothing is not a finished run"):
        results_table.record("x", [tmp_path / "nothing"])


def test_figures_recorded_results_are_drawn_as_png(population, tmp_path):
    pytest.importorskip("matplotlib")
    figures.seeds(json.loads(results_table.record("x", population).read_text()), tmp_path / "seeds.png")
    row = {"size": "tiny", "batch": 2, "length": 4, "env_steps_per_s": 90.0, "updates_per_s": 3.0}
    rows = [
        {**row, "loop": "host", "members": 1, "cpu_s_per_1000": 4.0},
        {**row, "loop": "fused", "members": 4, "cpu_s_per_1000": 2.0},
    ]
    figures.loops({"rows": rows, "device": "2 x cpu"}, tmp_path / "loops.png")
    trials = [
        {"params": {"agent.optim.lr": lr, "agent.behavior.entropy": lr}, "score": 0.5, "interval": [0.4, 0.6]}
        for lr in (1e-3, 4e-3)
    ]
    importance = {"agent.optim.lr": 0.2, "agent.behavior.entropy": 0.8}
    told = {"task": "t", "metric": "success_rate", "importance": importance, "trials": trials}
    figures.sweep(told, tmp_path / "sweep.png")
    for name in ("seeds", "loops", "sweep"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_speed_row_shows_the_reference_and_the_ratio(tmp_path, monkeypatch):
    monkeypatch.setattr(results_table, "RESULTS", tmp_path)
    row = {
        **{"size": "1m", "obs": "image", "dtype": "float32", "pairs": 9},
        **{"wall": 0.27, "wall_range": "0.25 0.31", "cpu": 0.281, "compile": 0.6, "memory": 0.3},
        **{"ours_ms": 1500.0, "ours_compile_s": 20.4, "ours_mb": 1234},
        **{"reference_ms": 5555.5, "reference_compile_s": 34.0, "reference_mb": 4113},
    }
    (tmp_path / "bench.json").write_text(json.dumps({"rows": [row]}))
    (line,) = results_table.speed().splitlines()[2:]
    cells = ["1m, image", "1,500 ms", "5,556 ms", "**0.27** (0.25 to 0.31)", "0.28", "20 s (0.60)"]
    assert line == f"| {' | '.join(cells)} | 1,234 MB (0.30) |"
