"""What `dreamer benchmark` says while it trains, for runs of hand-made logs."""

import json
import os
import sys
import threading
from pathlib import Path

import benchmark_runs
import pytest
from benchmark_runs import REACHER, WALKER, flat, store

import dreamer
from experiments.benchmark import benchmark, progress
from experiments.benchmark.options import BenchmarkOptions
from experiments.benchmark.runs import Benchmark, prepare
from experiments.sweep import lock
from experiments.sweep.trial import beside


def test_introduction_names_tasks_seeds_folder_and_what_ended(tmp_path):
    bench = prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER, REACHER, seeds=2, seed=3))
    store(bench.parts[0], flat(1.0))
    bench.fail(bench.parts[1], "loss/total is nan")
    assert progress.introduction(bench, bench.plan.tasks) == (
        f"{tmp_path}/x: dmc:walker-walk, dmc:reacher-easy with seeds 3 to 4; 1 of 4 runs done, 1 failed and "
        f"will be tried again. Output of every run: {tmp_path}/x/runs/*.log"
    )


def test_introduction_of_many_tasks_counts_the_rest(tmp_path):
    bench = prepare(tmp_path / "x", benchmark_runs.plan("dmc", *(f"dmc:{i}" for i in range(57))))
    assert "dmc:7, and 49 more with seed 0; 0 of 57 runs done." in progress.introduction(
        bench, bench.plan.tasks
    )


def test_line_shows_held_runs_with_their_last_ten_episodes(tmp_path):
    bench = prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER, REACHER, "dmc:dog-run", seeds=2))
    walker, reacher, dog, *others = bench.parts
    store(
        walker,
        flat(100.0, 5_000) + [row | {"env_steps": 12_300} for row in flat(312.0, 10_000)],
        12_000,
        done=False,
    )
    store(others[0], flat(1.0, 7_000), 7_000, done=False)  # stopped earlier, held by no worker
    store(reacher, flat(1.0))
    bench.fail(others[1], "why")
    held = [lock.take(beside(part, "lock")) for part in (walker, dog)]
    assert all(held)
    assert progress.line(bench) == (
        "1 of 6 runs done, 1 failed; dmc-walker-walk-seed0 12,300 of 30,000 steps, return 312; "
        "dmc-dog-run-seed0 has just begun"
    )


def test_standing_before_the_first_episode_has_steps_alone(tmp_path):
    (part,) = prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER)).parts
    store(part, [], 400, done=False)
    assert progress.standing(part) == "dmc-walker-walk-seed0 400 of 30,000 steps"


def test_standing_is_a_success_rate_where_the_task_reports_success_and_skips_evaluations(tmp_path):
    (part,) = prepare(tmp_path / "x", benchmark_runs.plan("minigrid", "minigrid:A")).parts
    rows = [row | {"success": i % 2 == 0} for i, row in enumerate(flat(0.3, 10_000))]
    store(
        part,
        [*rows, {"env_steps": 10_000, "return": 9.0, "success": True, "kind": "eval"}],
        10_000,
        done=False,
    )
    assert progress.standing(part) == "minigrid-A-seed0 10,000 of 30,000 steps, success 0.5"


def test_standing_of_split_games_is_the_score_of_whole_ones(tmp_path):
    (part,) = prepare(tmp_path / "x", benchmark_runs.plan("atari100k", "atari100k:Pong")).parts
    rows = [
        row | {"log": {"score": score}} for row, score in zip(flat(-4.0, 2_000), [None, -20.0], strict=True)
    ]
    store(part, rows, 2_000, done=False)
    assert progress.standing(part).endswith("score -20")


def test_standing_reads_only_the_end_of_a_long_log(tmp_path, monkeypatch):
    (part,) = prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER)).parts
    store(part, flat(5.0, 30_000), 30_000, done=False)
    with (part.folder / "episodes.jsonl").open("r+b") as file:
        file.truncate(10**10)  # a hole of zeros, which takes no room
        file.seek(0, 2)
        file.write(b"\n" + json.dumps({"env_steps": 20_000, "return": 7.0}).encode() + b"\n")
    assert progress.standing(part).endswith("return 7")


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.02)


def test_benchmark_of_one_worker_shows_its_run_while_it_trains(tmp_path, capsys, often):
    seen = threading.Event()
    monitored = progress.line

    def noted(bench):
        text = monitored(bench)
        if "12,000 of 20,000 steps, success 1" in text:
            seen.set()
        return text

    def slow(part, ended, lock):
        store(part, flat(1.0, 12_000, success=True), 12_000, done=False)
        assert seen.wait(30)
        benchmark_runs.instant(part, ended, lock)

    asked = BenchmarkOptions(out=str(tmp_path / "x"), tasks=("Empty-5x5",), preset="empty", steps=20_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "line", noted)
        assert benchmark.benchmark("minigrid", asked, trainer=slow) == 0
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert lines[0].startswith(f"{tmp_path}/x: minigrid:MiniGrid-Empty-5x5-v0 with seed 0; 0 of 1 run done.")
    running = "0 of 1 run done; minigrid-MiniGrid-Empty-5x5-v0-seed0 12,000 of 20,000 steps, success 1"
    assert running in lines and not shown.out


WORKER = """
import time
from pathlib import Path
from benchmark_runs import flat, instant, store
from experiments.benchmark import benchmark, options
def slow(part, ended, lock):
    store(part, flat(0.5, 9_000), 9_000, done=False)
    until = time.monotonic() + 60
    while not Path({go!r}).exists() and time.monotonic() < until:
        time.sleep(0.05)
    instant(part, ended, lock)
benchmark.worker(options.BenchmarkWorkerOptions(out={out!r}), trainer=slow)
"""


def test_benchmark_of_two_workers_shows_the_runs_of_both(tmp_path, monkeypatch, capsys, often):
    roots = [Path(dreamer.__file__).parents[1], Path(__file__).parent]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, roots)))
    go, line = tmp_path / "go", progress.line

    def noted(bench):
        text = line(bench)
        if text.count("9,000 of 20,000 steps") == 2:
            go.touch()
        return text

    monkeypatch.setattr(progress, "line", noted)
    command = lambda folder: [sys.executable, "-c", WORKER.format(out=str(folder), go=str(go))]
    asked = BenchmarkOptions(
        out=str(tmp_path / "x"), tasks=("Empty-5x5",), preset="empty", seeds=2, workers=2, steps=20_000
    )
    assert benchmark.benchmark("minigrid", asked, command=command) == 0
    assert go.exists()
    name = "minigrid-MiniGrid-Empty-5x5-v0-seed"
    shown = f"0 of 2 runs done; {name}0 9,000 of 20,000 steps, return 0.5; {name}1 9,000 of 20,000 steps"
    assert shown in capsys.readouterr().err


def test_going_lists_what_another_worker_holds(tmp_path):
    bench = prepare(tmp_path / "x", benchmark_runs.plan("dmc", WALKER, REACHER))
    assert bench.going() == []
    claim = Benchmark(tmp_path / "x").claim()
    assert claim is not None and bench.going() == [claim.part]
    claim.lock.release()
    assert bench.going() == []
