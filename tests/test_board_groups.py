"""Sweeps, benchmarks and comparisons say how far they are, by their files and by their runs."""

import json

import objective_runs
import pytest
from benchmark_runs import flat, made, plan, store

from experiments.board.index import Index
from experiments.objectives import runs


def row(root, id):
    index = Index(root)
    index.look()
    return index.row(id)


def trial(state, score=None, **more):
    return {"state": state, "score": score, "metric": "success_rate", "seconds": 60.0, **more}


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.75), ("minimize", 0.25)])
def test_sweep_counts_its_trials_and_has_the_score_of_the_best(tmp_path, direction, best):
    text = f'[sweep]\ntask = ["grid:Catch", "grid:Empty-5x5"]\ntrials = 4\ndirection = "{direction}"\n'
    (tmp_path / "sweep.toml").write_text(text)
    trials = [trial("finished", 0.25), trial("finished", 0.75), trial("pruned"), trial("running"), "odd"]
    (tmp_path / "trials.json").write_text(json.dumps(trials))
    found = row(tmp_path, ".")
    assert (found.kind, found.task, found.status) == ("sweep", "grid:Catch, grid:Empty-5x5", "unfinished")
    assert (found.ready, found.total, found.unit) == (3, 4, "trials")
    assert (found.success_rate, found.return_mean, found.seconds) == (best, None, 180.0)
    (tmp_path / "trials.json").write_text(json.dumps([trial("failed")] * 4))
    assert row(tmp_path, ".").status == "done"


def test_sweep_with_a_damaged_file_says_so(tmp_path):
    (tmp_path / "sweep.toml").write_text("[sweep]\n")
    (tmp_path / "trials.json").write_text("{}")
    found = row(tmp_path, ".")
    assert found.status == "damaged" and found.problem.startswith("trials.json is damaged")


def test_benchmark_counts_the_runs_that_are_done(tmp_path):
    bench = made(
        tmp_path / "b", plan("dmc", "dmc:walker-walk", "dmc:reacher-easy", seeds=2), lambda part: None
    )
    found = row(tmp_path, "b")
    assert (found.kind, found.task, found.ready, found.total, found.unit) == (
        "benchmark",
        "dmc",
        0,
        4,
        "runs",
    )
    assert found.status == "unfinished"
    for part in bench.parts[:3]:
        store(part, flat(5.0))
    bench.fail(bench.parts[3], "loss/total is nan")
    index = Index(tmp_path)
    index.look()
    found = index.row("b")
    assert (found.status, found.ready, found.problem) == ("unfinished", 3, "")
    store(bench.parts[3], flat(5.0, 10_000), 10_000, done=False)
    index._due = 0.0
    index.look()
    assert index.row("b").problem == "1 of its runs failed" and index.row("b").status == "failed"
    store(bench.parts[3], flat(5.0))
    index._due = 0.0
    index.look()
    assert (index.row("b").status, index.row("b").ready) == ("done", 4)


def test_objectives_count_the_runs_that_are_done(tmp_path):
    comparison = runs.prepare(tmp_path / "o", objective_runs.plan("reconstruction", "none", seeds=2))
    objective_runs.store(comparison.parts[0])
    found = row(tmp_path, "o")
    assert (found.kind, found.task, found.ready, found.total) == ("objectives", "probe:chosen", 1, 4)
    assert (found.unit, found.status) == ("runs", "unfinished")


def test_comparison_counts_the_episodes_of_its_agents(tmp_path):
    question = {"tasks": ["grid:Catch"], "agents": ["random", "scripted"], "episodes": 5, "seed": 7}
    (tmp_path / "compare.json").write_text(json.dumps(question))
    found = row(tmp_path, ".")
    assert (found.kind, found.task, found.seed, found.status) == ("comparison", "grid:Catch", 7, "unfinished")
    for done, status in ((4, "unfinished"), (5, "done")):
        agents = {"random": {"finished": 5, "planned": 5}, "scripted": {"finished": done, "planned": 5}}
        (tmp_path / "results.json").write_text(json.dumps({"tasks": {"grid:Catch": agents}}))
        found = row(tmp_path, ".")
        assert (found.status, found.ready, found.total) == (status, 5 + done, 10)


def test_page_apart_from_its_runs_is_a_row_unless_another_program_wrote_it(tmp_path):
    from experiments.report import page

    (tmp_path / "report.html").write_text("<html>something else</html>")
    assert row(tmp_path, ".") is None
    (tmp_path / "report.html").write_text(page.render("board.html", most=1))
    assert (row(tmp_path, ".").kind, row(tmp_path, ".").page) == ("page", "report.html")
