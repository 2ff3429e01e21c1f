"""`dreamer benchmark`: every run once, resumable, and one sentence for every mistake."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import benchmark_runs
import pytest
import tiny
from benchmark_runs import instant

import dreamer
from dreamer import schema
from dreamer.schema import ConfigError
from envs import trust
from experiments.benchmark import benchmark
from experiments.benchmark.options import BenchmarkOptions, BenchmarkReportOptions
from experiments.benchmark.runs import Benchmark
from experiments.cli import main
from experiments.sweep.executor import RunDied
from experiments.sweep.runset import DONE
from experiments.training.run import TrainingStopped


def run(out: Path, *, trainer=instant, **options) -> int:
    asked = {"tasks": ("Empty-5x5", "DoorKey-5x5"), "preset": "empty", "steps": 20_000, "seeds": 2, **options}
    return benchmark.benchmark("minigrid", BenchmarkOptions(out=str(out), **asked), trainer=trainer)


def test_benchmark_trains_every_task_and_seed_and_writes_page_and_tables(tmp_path, capsys):
    assert run(tmp_path / "x", json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["excluded"] == [] and len(told["tasks"]) == 2
    assert {p.name for p in (tmp_path / "x").iterdir()} >= {
        "benchmark.html",
        "benchmark.csv",
        "benchmark.json",
    }
    assert told["aggregates"]["x"]["iqm"] == {"value": 1.0, "interval": [1.0, 1.0]}


def test_benchmark_plan_applies_size_file_and_set_over_the_preset(tmp_path):
    (tmp_path / "more.toml").write_text("[loop]\ntrain_ratio = 4\nnum_envs = 2\n")
    asked = BenchmarkOptions(
        tasks=("Empty-5x5",),
        preset="dreamerv3",
        size="1m",
        config=str(tmp_path / "more.toml"),
        set=("loop.train-ratio=8",),
        steps=9000,
    )
    cfg = benchmark.plan("minigrid", asked).config
    assert (cfg.loop.train_ratio, cfg.loop.num_envs, cfg.agent.rssm.deter, cfg.steps) == (8.0, 2, 512, 9000)
    assert (cfg.until, cfg.report.episodes, cfg.preset) == ("", 0, "dreamerv3")


def test_benchmark_plan_of_bsuite_plays_every_setting_to_its_end_unless_steps_are_asked_for(tmp_path):
    pytest.importorskip("bsuite")
    asked = BenchmarkOptions(tasks=("catch/0", "deep_sea/0"))
    assert benchmark.plan("bsuite", asked).steps == (90_000, 100_000)
    (tmp_path / "more.toml").write_text("steps = 7000\n")
    for other in ({"steps": 5000}, {"preset": "bsuite-small"}, {"config": str(tmp_path / "more.toml")}):
        assert benchmark.plan("bsuite", dataclasses.replace(asked, **other)).steps == ()


def test_benchmark_again_trains_only_what_is_left(tmp_path, capsys):
    trained = []
    note = lambda part, ended, lock: (trained.append(part.cfg.seed), instant(part, ended, lock))
    assert run(tmp_path / "x", trainer=note) == 0
    assert run(tmp_path / "x", trainer=note, seeds=3) == 0
    assert trained == [0, 0, 1, 1, 2, 2]
    assert "with seeds 0 to 2; 4 of 6 runs done" in capsys.readouterr().err


def test_benchmark_failed_run_is_named_excluded_and_tried_again(tmp_path, capsys):
    options = {"set": ("seed=6",), "tasks": ("Empty-5x5",)}
    assert run(tmp_path / "x", **options) == benchmark.FAILURES
    shown = capsys.readouterr().err
    assert (
        "seed 7 failed: loss/total is nan" in shown
        and "excluded: x minigrid:MiniGrid-Empty-5x5-v0 seed 7" in shown
    )
    mended = lambda part, ended, lock: benchmark_runs.store(
        part, benchmark_runs.flat(1.0, 20_000, success=True)
    )
    assert run(tmp_path / "x", trainer=mended, **options) == 0


def test_benchmark_without_a_finished_run_stops_with_the_reason(tmp_path):
    with pytest.raises(TrainingStopped, match="the first one says: loss/total is nan"):
        run(tmp_path / "x", seeds=1, set=("seed=7",))


def test_work_killed_run_is_tried_three_times(tmp_path):
    killed = []

    def dies(part, ended, lock):
        killed.append(part.folder)
        raise RunDied("it was killed")

    with pytest.raises(TrainingStopped, match="killed 3 times; is there enough memory"):
        run(tmp_path / "x", trainer=dies, tasks=("Empty-5x5",), seeds=1)
    assert len(killed) == 3


def test_benchmark_signal_ends_the_run_and_a_rerun_continues(tmp_path, capsys):
    def waits(part, ended, lock):
        os.kill(os.getpid(), signal.SIGINT)
        while not ended():
            time.sleep(0.01)

    assert run(tmp_path / "x", trainer=waits) == 128 + signal.SIGINT
    assert "rerun the same command to resume" in capsys.readouterr().err
    assert run(tmp_path / "x") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("benchmark", "dreamer benchmark needs a suite of tasks, as in dreamer benchmark minigrid"),
        ("benchmark minigird", "there is no suite 'minigird'; did you mean minigrid"),
        ("benchmark minigrid --tasks Emty-5x5", "did you mean"),
        (
            "benchmark minigrid --tasks Empty-5x5 --seeds 0",
            "seeds must be a whole number of at least 1, but it is 0",
        ),
        (
            "benchmark minigrid --tasks Empty-5x5 --preset emty",
            "there is no preset 'emty'; did you mean empty?",
        ),
        ("benchmark minigrid --tasks Empty-5x5 --size 2m", "there is no size '2m'"),
        ("benchmark minigrid --tasks Empty-5x5 --set loop.train_ratoi=3", "did you mean loop.train_ratio"),
        ("benchmark minigrid --tasks Empty-5x5 --set steps=3", "steps is an option of its own"),
        ("benchmark minigrid --tasks Empty-5x5 --set steps", "needs entries like loop.train_ratio=32"),
        ("benchmark minigrid --tasks Empty-5x5 --slurm a=1", "slurm is for --launcher submitit"),
        ("benchmark report", "needs the folder of a benchmark"),
        ("benchmark report nowhere", "nowhere holds no benchmark"),
        ("benchmark worker", "needs the folder of the benchmark: --out DIR"),
    ],
)
def test_main_mistake_is_one_sentence(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_report_of_several_folders_compares_them(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        assert run(tmp_path / name) == 0
    assert benchmark.show([Path("a"), Path("b")], BenchmarkReportOptions(json=True)) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["probability"] for row in told["improvement"]] == [0.5]
    assert (tmp_path / "benchmark.html").is_file()


def test_trust_folder_of_a_benchmark_is_guarded(tmp_path):
    run(tmp_path / "x")
    assert trust.opened(["benchmark", "worker", "--out", str(tmp_path / "x")]) == [str(tmp_path / "x")]


def test_main_run_trains_for_real_and_writes_a_score(tmp_path, capsys):
    """From the command line to the page."""
    config = tmp_path / "tiny.toml"
    config.write_text(schema.dump_toml(tiny.RUN))
    words = f"benchmark minigrid --tasks Empty-5x5 --config {config} --steps 160 --set eval.episodes=0 --json"
    assert main([*words.split(), "--set", "env.max_episode_steps=20", "--out", str(tmp_path / "x")]) == 0
    told = json.loads(capsys.readouterr().out)
    ours = told["tasks"]["minigrid:MiniGrid-Empty-5x5-v0"]["variants"]["x"]
    assert ours["seeds"] == [0] and 0 <= ours["mean"] <= 1
    (part,) = Benchmark(tmp_path / "x").parts
    result = json.loads((part.folder / "result.json").read_text())
    assert set(result["score"]) == {"success_rate", "return"}
    assert "score of" not in part.folder.with_suffix(".log").read_text(), "success is in the evaluation, too"


WORKER = """
from pathlib import Path
from benchmark_runs import instant
from experiments.benchmark import benchmark, options
benchmark.worker(options.BenchmarkWorkerOptions(out={out!r}), trainer=instant)
"""


def test_benchmark_several_workers_share_the_runs(tmp_path, monkeypatch):
    out = tmp_path / "x"
    roots = [Path(dreamer.__file__).parents[1], Path(__file__).parent]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, roots)))
    command = lambda folder: [sys.executable, "-c", WORKER.format(out=str(folder))]
    asked = BenchmarkOptions(out=str(out), tasks=("Empty-5x5",), preset="empty", seeds=3, workers=2)
    assert benchmark.benchmark("minigrid", asked, command=command) == 0
    assert [Benchmark(out).state(part) for part in Benchmark(out).parts] == [DONE] * 3
    assert (out / "workers" / "0.log").is_file()


def test_command_starts_a_worker_that_ends_where_nothing_is_left(tmp_path):
    run(tmp_path / "x")
    words = benchmark.command(tmp_path / "x")
    source = {"PYTHONPATH": str(Path(dreamer.__file__).parents[1])}
    assert words[0] == sys.executable
    assert subprocess.run(words, env={**source, "PATH": ""}, capture_output=True).returncode == 0


def test_field_without_equals_sign_is_refused():
    with pytest.raises(ConfigError, match="one is 'loop'"):
        benchmark.plan("minigrid", BenchmarkOptions(tasks=("Empty-5x5",), set=("loop",)))
