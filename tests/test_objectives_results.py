"""What a comparison of objectives reached, from hand-made logs with known answers."""

import csv
import io
import json

import numpy as np
import objective_runs
import pytest
from objective_runs import store
from rich.console import Console
from test_learning_curve import Copies

from experiments.benchmark.figures import binned, settled
from experiments.objectives import figures, page, results
from experiments.objectives.runs import prepare

COSTS = {
    "objectives": {"none": {"params": 12345, "update_ms": 2.5, "update_cpu_ms": 5.0, "update_mb": 1.5}},
    "surroundings": {"device": "2 x cpu", "jax": "0.10.2"},
}
NOTHING = {"objectives": {}}


def compared(folder, *stored, plan=None, costs=NOTHING):
    """The results of `reconstruction` and `none` with one seed each, or of a plan; None stores nothing."""
    plan = plan or objective_runs.plan("reconstruction", "none")
    comparison = prepare(folder, plan)
    for part, how in zip(comparison.parts, stored, strict=True):
        if how is not None:
            store(part, **how)
    runs = results.read(comparison)
    return results.results(plan, runs, costs), runs


def test_results_at_equal_cpu_take_the_slower_run_where_the_faster_one_ended(tmp_path):
    grown = lambda steps: float(steps)
    told, _ = compared(tmp_path / "x", {"cpu": 20.0, "curve": grown}, {"cpu": 10.0, "curve": grown})
    assert told["cpu_budget"] == 10.0
    slow, fast = told["objectives"].values()
    assert (slow["at_equal_cpu"]["steps"], fast["at_equal_cpu"]["steps"]) == (500.0, 1000.0)
    assert (slow["cpu_seconds_per_1000_steps"], fast["cpu_seconds_per_1000_steps"]) == (20.0, 10.0)


def test_results_at_equal_cpu_are_of_the_last_window_of_training_episodes(tmp_path):
    late = lambda steps: float(steps > 500)
    told, _ = compared(tmp_path / "x", {"cpu": 20.0, "curve": late}, {"cpu": 10.0, "curve": late})
    slow, fast = told["objectives"].values()
    assert (slow["at_equal_cpu"]["mean"], fast["at_equal_cpu"]["mean"]) == (0.0, 1.0)
    assert slow["at_equal_cpu"]["interval"] is None, "one seed has none"


def spiked(folder):
    """A comparison of one run that succeeds in half of its episodes, from its first to its last step.

    Of its 4 copies, in the fused loop, successes take 5 steps and failures 60.
    """
    comparison = prepare(folder, objective_runs.plan("none", steps=4000))
    (part,) = comparison.parts
    store(part)
    drawn = np.random.default_rng(0)
    world = Copies(4, iter(lambda: 5 if drawn.random() < 0.5 else 60, None), counts_resets=True)
    while world.env_steps < 4000:
        world.slot()
    rows = [row | {"return": float(row["success"])} for row in world.rows]
    (part.folder / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = results.read(comparison)
    return run, rows


def test_curves_of_objectives_do_not_open_with_the_episodes_that_end_first(tmp_path):
    run, rows = spiked(tmp_path / "x")
    by_end = binned([(row["env_steps"], row["return"]) for row in rows], 200, 4000)
    line = settled(run.points().tolist(), 200, run.settled)
    assert by_end[0] > 0.9
    windows = [[row["return"] for row in rows if 200 * i <= row["began"] < 200 * (i + 1)] for i in range(20)]
    np.testing.assert_allclose(line, [np.mean(window) for window in windows[: len(line)]])
    assert 17 <= len(line) < 20 and line[0] < 0.75


def test_recent_is_of_episodes_that_were_over_by_then(tmp_path):
    run, rows = spiked(tmp_path / "x")
    assert run.recent(100, 200) is None, "of the episodes that have ended by then, all succeeded"
    since = min(row["began"] for row in rows if row["env_steps"] > 2000)
    last = max(row["began"] for row in rows if row["began"] < since)
    wanted = [row["return"] for row in rows if last - 200 < row["began"] <= last]
    assert run.recent(2000, 200) == pytest.approx(np.mean(wanted))


def test_results_over_seeds_are_means_with_bootstrap_intervals(tmp_path):
    plan = objective_runs.plan("none", seeds=3)
    told, _ = compared(tmp_path / "x", {"score": 0.0}, {"score": 0.5}, {"score": 1.0}, plan=plan)
    none = told["objectives"]["none"]
    assert none["greedy"]["mean"] == 0.5 and none["greedy"]["scores"] == [0.0, 0.5, 1.0]
    low, high = none["greedy"]["interval"]
    assert 0.0 <= low < 0.5 < high <= 1.0 and none["greedy"]["over"] == "seeds"
    assert none["sampled"]["mean"] == 0.25 and none["peak_mb"] == 102


def test_results_of_one_seed_have_the_interval_over_its_episodes(tmp_path):
    told, _ = compared(tmp_path / "x", {"score": 0.5}, {"score": 0.5, "success": True})
    greedy = told["objectives"]["none"]["greedy"]
    assert (greedy["over"], greedy["interval"]) == ("episodes", [0.3, 0.7])
    assert told["metric"] == "success_rate" and told["curve"] == "return"  # of a probe task


def test_results_where_a_run_has_no_success_are_of_returns(tmp_path):
    told, _ = compared(tmp_path / "x", {"success": False}, {})
    assert told["metric"] == "return_mean"
    assert told["objectives"]["reconstruction"]["greedy"]["interval"] == [0.4, 0.6]


def test_results_without_cpu_time_compare_steps_alone(tmp_path):
    comparison = prepare(tmp_path / "x", objective_runs.plan("none"))
    (part,) = comparison.parts
    store(part)
    (part.folder / "metrics.jsonl").write_text('{"env_steps": 1000, "loss": 1.0}\n')
    told = results.results(comparison.plan, results.read(comparison), NOTHING)
    assert told["cpu_budget"] is None and told["objectives"]["none"]["at_equal_cpu"] is None
    assert told["objectives"]["none"]["greedy"]["mean"] == 0.5
    assert len(figures.curves(told, results.read(comparison)).axes) == 2


def test_results_unfinished_runs_are_named_and_left_out(tmp_path):
    told, _ = compared(tmp_path / "x", {"steps": 300, "cpu": 1.0}, {})
    assert told["excluded"] == [
        {
            "objective": "reconstruction",
            "seed": 0,
            "state": "unfinished",
            "why": "has taken 300 of 1,000 steps",
        }
    ]
    assert told["cpu_budget"] == 10.0 and told["objectives"]["reconstruction"]["greedy"] is None
    assert page.lines(told) == ["excluded: reconstruction seed 0, unfinished: has taken 300 of 1,000 steps"]


def test_results_probe_error_is_the_mean_over_keys_and_seeds_by_step(tmp_path):
    plan = objective_runs.plan("reconstruction", "none", seeds=2)
    stored = [{"error": [0.1, 0.2, None]}, {}, {"error": [0.3, None, None]}, {}]
    told, _ = compared(tmp_path / "x", *stored, plan=plan)
    with_error, without = told["objectives"].values()
    assert with_error["probe_error"] == [pytest.approx(0.2), pytest.approx(0.2), None]
    assert without["probe_error"] is None and without["prediction_skill"] is None
    assert figures.horizon(told).startswith("<svg")


def test_table_has_every_run_and_blanks_for_what_is_not_known(tmp_path):
    told, runs = compared(tmp_path / "x", {"score": 0.75, "error": [0.1]}, None)
    first, second = csv.DictReader(io.StringIO(results.table(runs, told)))
    assert (first["greedy_success_rate"], first["prediction_skill"], first["why"]) == ("0.75", "0.25", "")
    assert (second["state"], second["greedy_success_rate"], second["why"]) == ("missing", "", "has not begun")


def test_clock_interpolates_between_rows_and_counts_from_the_first():
    clock = results.Clock(np.array([100.0, 200.0, 400.0]), np.array([0.0, 10.0, 20.0]))
    assert clock.steps_at(15.0) == 300.0
    assert clock.seconds_at(np.array([150.0, 300.0])).tolist() == [5.0, 15.0]
    assert np.isnan(clock.seconds_at(np.array([50.0, 500.0]))).all(), "outside of the log"


def test_write_page_has_every_objective_and_its_files(tmp_path):
    plan = objective_runs.plan("reconstruction", "none", "my_module:<b>")
    comparison = prepare(tmp_path / "x", plan)
    for part in comparison.parts[:2]:
        store(part, error=[0.1, 0.2])
    told = page.write(plan, results.read(comparison), COSTS, tmp_path / "x")
    text = (tmp_path / "x" / "objectives.html").read_text()
    assert "3 objectives on probe:chosen" in text and "12,345" in text and "2 x cpu" in text
    assert "my_module:&lt;b&gt;" in text and "my_module:<b>" not in text
    assert json.loads((tmp_path / "x" / "objectives.json").read_text()) == json.loads(json.dumps(told))
    assert (tmp_path / "x" / "objectives.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "x" / "objectives.csv").read_text().splitlines()) == 4


def test_shown_table_has_dashes_where_nothing_is_known(tmp_path):
    told, _ = compared(tmp_path / "x", {"score": 0.5}, None, costs=COSTS)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(page.shown(told))
    lines = captured.get().splitlines()
    (reconstruction,) = (line for line in lines if "reconstruction" in line)
    (none,) = (line for line in lines if " none " in line)
    assert "0.5 [0.3, 0.7]" in reconstruction and "12,345" in none and none.count("–") == 4


def test_look_of_many_objectives_is_never_the_same():
    looks = [tuple(figures.look(i).values()) for i in range(24)]
    assert len(set(looks)) == len(looks)
