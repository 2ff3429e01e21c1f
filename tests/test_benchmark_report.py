"""What a benchmark reached, in numbers computed by hand, beside what was published."""

import csv
import json

import benchmark_runs
import pytest
from benchmark_runs import REACHER, WALKER, flat, made, store

from dreamer.schema import ConfigError
from experiments.benchmark import page, published, report
from experiments.benchmark.runs import prepare


def height(part) -> float:
    """Walker 100 and 300, reacher 500 and 900."""
    return {WALKER: 100.0, REACHER: 500.0}[part.cfg.task] + {0: 0, 1: 200, 2: 400}[part.cfg.seed]


def test_results_of_two_tasks_match_hand_computation(tmp_path):
    made(tmp_path / "a", benchmark_runs.plan("dmc", WALKER, REACHER, seeds=2), height)
    told = report.results([report.read(tmp_path / "a")])
    walker = told["tasks"][WALKER]
    ours = walker["variants"]["a"]
    assert (ours["mean"], ours["scores"], ours["steps"]) == (200.0, [100.0, 300.0], 30_000)
    curve = published.of(WALKER).curve
    assert curve is not None
    assert ours["at_the_same_steps"] == {"published": curve.mean[2], "window": 10_000.0, "mean": 200.0}
    assert ours["evaluated"]["greedy_return_mean"] == 5.0 and ours["evaluated"]["sampled_return_mean"] == 4.0
    assert walker["published"]["dreamerv3"]["mean"] == 935.752
    summary = told["aggregates"]["a"]
    assert summary["mean"]["value"] == pytest.approx(0.4)
    assert summary["median"]["value"] == pytest.approx(0.4)
    assert summary["iqm"]["value"] == pytest.approx((0.3 + 0.5) / 2)
    assert summary["optimality_gap"]["value"] == pytest.approx(0.6)
    reacher = published.of(REACHER)
    assert reacher.curve is not None
    assert told["published"]["same_steps"]["mean"] == pytest.approx(
        (curve.mean[2] + reacher.curve.mean[2]) / 2000
    )
    assert told["published"]["end"]["mean"] == pytest.approx(
        (935.752 + reacher.scores["dreamerv3"].mean) / 2000
    )
    assert told["excluded"] == [] and told["aggregated"]["left_out"] == {}


def test_results_published_beside_ours_takes_the_same_window(tmp_path):
    """The last 5% of 30,000 steps had 900, the window of the published point half of its episodes."""
    bench = prepare(tmp_path / "a", benchmark_runs.plan("dmc", WALKER))
    low, high = flat(100.0, 25_000), flat(900.0)[25:]
    store(bench.parts[0], low + high)
    ours = report.results([report.read(tmp_path / "a")])["tasks"][WALKER]["variants"]["a"]
    assert ours["mean"] == 900.0 and ours["at_the_same_steps"]["mean"] == 500.0


def test_results_steps_beyond_the_published_curve_have_no_published_value(tmp_path):
    for name, steps in (("short", 5_000), ("long", 600_000)):
        made(tmp_path / name, benchmark_runs.plan("dmc", WALKER, steps=steps), lambda part: 1.0)
        told = report.results([report.read(tmp_path / name)])
        assert told["tasks"][WALKER]["variants"][name]["at_the_same_steps"]["published"] is None
        assert "same_steps" not in told["published"] and "end" in told["published"]


def test_results_missing_failed_and_unfinished_runs_are_named_and_left_out(tmp_path):
    bench = prepare(tmp_path / "a", benchmark_runs.plan("dmc", WALKER, REACHER, "dmc:dog-run", seeds=2))
    done, failed, missing, unfinished, *_ = bench.parts
    store(done, flat(500.0))
    bench.fail(failed, "loss/total is nan")
    store(unfinished, flat(1000.0, 12_000), 12_000, done=False)
    told = report.results([report.read(tmp_path / "a")])
    states = {(row["task"], row["seed"]): (row["state"], row["why"]) for row in told["excluded"]}
    assert states[(REACHER, 0)] == ("failed", "loss/total is nan")
    assert states[(WALKER, 1)] == ("unfinished", "has taken 12,000 of 30,000 steps")
    assert states[("dmc:dog-run", 0)] == ("missing", "has not begun") and len(states) == 5
    assert told["aggregated"]["tasks"] == [WALKER]
    assert told["aggregated"]["left_out"] == dict.fromkeys((REACHER, "dmc:dog-run"), "a has no finished run")
    assert told["aggregates"]["a"]["mean"] == {"value": 0.5, "interval": None}
    text = "\n".join(report.lines(told))
    assert "a, 1 task: iqm 0.5, median 0.5, mean 0.5, optimality gap 0.5" in text
    assert "excluded: a dmc:reacher-easy seed 0, failed: loss/total is nan" in text


def test_results_variants_are_compared_on_the_tasks_of_all(tmp_path):
    told = benchmark_runs.plan("dmc", WALKER, REACHER, seeds=2)
    made(tmp_path / "low", told, height)
    made(tmp_path / "high", told, lambda part: None if part.cfg.task == REACHER else height(part) + 200)
    results = report.results([report.read(tmp_path / name) for name in ("low", "high")])
    assert results["aggregated"]["tasks"] == [WALKER]
    assert results["aggregated"]["left_out"] == {REACHER: "high has no finished run"}
    (pair,) = results["improvement"]
    assert (pair["first"], pair["second"], pair["probability"]) == ("low", "high", 0.125)  # one tie of four


def test_results_success_and_return_of_different_scales_are_not_mixed(tmp_path):
    bench = prepare(tmp_path / "a", benchmark_runs.plan("minigrid", "minigrid:A", "minigrid:B"))
    store(bench.parts[0], flat(0.5, success=True))
    store(bench.parts[1], flat(7.0))
    told = report.results([report.read(tmp_path / "a")])
    assert told["aggregated"]["tasks"] == ["minigrid:A"]
    assert [row["task"] for row in told["excluded"]] == ["minigrid:B"]


def test_results_other_suites_or_equal_names_are_refused(tmp_path):
    for folder, suite in (("a", "dmc"), ("b", "grid"), ("more/a", "dmc")):
        made(tmp_path / folder, benchmark_runs.plan(suite, f"{suite}:x"), lambda part: 1.0)
    read = lambda *names: [report.read(tmp_path / name) for name in names]
    with pytest.raises(ConfigError, match="only benchmarks of one suite can be compared"):
        report.results(read("a", "b"))
    with pytest.raises(ConfigError, match="two are called a"):
        report.results(read("a", "more/a"))


def test_table_has_a_line_for_every_run(tmp_path):
    made(
        tmp_path / "a",
        benchmark_runs.plan("atari100k", "atari100k:Pong", seeds=2),
        lambda p: 14.6 - p.cfg.seed,
    )
    rows = list(csv.DictReader(report.table([report.read(tmp_path / "a")]).splitlines()))
    assert [float(row["score"]) for row in rows] == [14.6, 13.6]
    assert float(rows[0]["human_normalized"]) == 1.0 and rows[0]["sampled_return_mean"] == "4.0"
    assert [row["state"] for row in rows] == ["done", "done"]


def test_write_page_is_self_contained_and_names_everything(tmp_path):
    told = benchmark_runs.plan("dmc", WALKER, REACHER, "dmc:dog-run", seeds=3)
    made(tmp_path / "low", told, lambda p: None if p.cfg.task == "dmc:dog-run" else height(p))
    made(tmp_path / "high", told, lambda p: None if p.cfg.task == "dmc:dog-run" else height(p) + 150)
    page.write([report.read(tmp_path / name) for name in ("low", "high")], tmp_path / "out")
    html = (tmp_path / "out" / "benchmark.html").read_text()
    for word in (
        "low",
        "high",
        "dmc:dog-run",
        "Probability of improvement",
        "d4pg",
        "has not begun",
        "jax 0.10.2",
    ):
        assert word in html
    assert html.count("<svg") == 2 + 1  # two curves and a profile
    assert "http" not in html.replace("http://www.w3.org", "")
    numbers = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert numbers["aggregates"].keys() == {"low", "high"}
    assert len((tmp_path / "out" / "benchmark.csv").read_text().splitlines()) == 1 + 2 * 9


def test_write_page_of_a_single_run_without_published_figures(tmp_path):
    made(tmp_path / "a", benchmark_runs.plan("other", "other:task"), lambda part: 3.0)
    told = page.write([report.read(tmp_path / "a")], tmp_path / "a")
    assert (
        told["aggregates"] == {}
        and "There is nothing to aggregate" in (tmp_path / "a" / page.PAGE).read_text()
    )
    assert page.methods(told) == []


@pytest.mark.parametrize(
    ("suite", "task", "names"),
    [("procgen", "coinrun", ("lowest", "highest")), ("atari100k", "Pong", ("random", "human"))],
)
def test_write_bounds_of_scores_have_the_names_that_their_suite_gives_them(tmp_path, suite, task, names):
    made(tmp_path / "a", benchmark_runs.plan(suite, f"{suite}:{task}"), lambda part: 7.5)
    page.write([report.read(tmp_path / "a")], tmp_path / "a")
    html = (tmp_path / "a" / page.PAGE).read_text()
    assert [name for name in ("random", "human", "lowest", "highest") if f">{name}</th>" in html] == [*names]


def test_write_crafter_shows_the_score_over_all_episodes(tmp_path):
    bench = prepare(tmp_path / "a", benchmark_runs.plan("crafter", "crafter:reward"))
    unlocked = [{"achievements": [1] * 22}, {"achievements": [0] * 22}] * 15
    store(bench.parts[0], [row | {"log": log} for row, log in zip(flat(3.0), unlocked, strict=True)])
    told = page.write([report.read(tmp_path / "a")], tmp_path / "a")
    ours = told["tasks"]["crafter:reward"]["variants"]["a"]
    assert ours["mean"] == pytest.approx(50) and ours["at_the_same_steps"]["published"] is None
    assert told["tasks"]["crafter:reward"]["human"] == 50.5
    assert told["published"]["end"]["mean"] == pytest.approx(0.145)


def test_write_before_any_episode_is_refused(tmp_path):
    prepare(tmp_path / "a", benchmark_runs.plan("dmc", WALKER))
    with pytest.raises(ConfigError, match="no episode of .* has ended yet"):
        page.write([report.read(tmp_path / "a")], tmp_path / "a")
