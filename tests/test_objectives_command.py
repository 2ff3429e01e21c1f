"""`dreamer objectives`: every run once, resumable, and one sentence for every mistake."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import objective_runs
import pytest
import tiny
from objective_runs import instant

import dreamer
from dreamer import schema
from dreamer.objectives import OBJECTIVES
from dreamer.schema import ConfigError
from envs import trust
from experiments.cli import main
from experiments.objectives import objectives
from experiments.objectives.options import ObjectivesOptions
from experiments.objectives.runs import Comparison
from experiments.sweep.runset import DONE
from experiments.training.run import TrainingStopped


def options(out: Path | str = "", **changes) -> ObjectivesOptions:
    asked = {"task": "probe:chosen", "objectives": ("reconstruction", "none"), "steps": 1000, "bench": False}
    return ObjectivesOptions(out=str(out), **{**asked, **changes})


def compare(out: Path, *, trainer=instant, **changes) -> int:
    return objectives.compare(options(out, **changes), trainer=trainer)


def test_compare_trains_every_objective_and_seed_and_writes_its_files(tmp_path, capsys):
    assert compare(tmp_path / "x", seeds=2, json=True) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert [told["objectives"][name]["seeds"] for name in ("reconstruction", "none")] == [[0, 1], [0, 1]]
    assert "x: reconstruction, none with seeds 0 to 1; 0 of 4 runs done" in shown.err
    files = {"objectives.html", "objectives.csv", "objectives.json", "objectives.png", "objectives.toml"}
    assert files <= {p.name for p in (tmp_path / "x").iterdir()}


def test_plan_without_names_has_every_objective_of_the_table():
    assert objectives.plan(options(objectives=())).objectives == tuple(OBJECTIVES)


def test_plan_takes_classes_of_a_module_and_each_name_once():
    plan = objectives.plan(options(objectives=("my_objective:SlowTokens", "none", "none")))
    assert plan.objectives == ("my_objective:SlowTokens", "none")
    assert plan.config.agent.objective == "my_objective:SlowTokens"


def test_plan_applies_size_file_and_set_over_the_preset(tmp_path):
    (tmp_path / "more.toml").write_text("[loop]\ntrain_ratio = 4\nnum_envs = 2\n")
    changes = {"config": str(tmp_path / "more.toml"), "set": ("loop.train-ratio=8",), "size": "1m"}
    cfg = objectives.plan(options(**changes)).config
    assert (cfg.loop.train_ratio, cfg.loop.num_envs, cfg.agent.rssm.deter, cfg.steps) == (8.0, 2, 512, 1000)
    assert (cfg.until, cfg.preset, cfg.task) == ("", "small", "probe:chosen")


def test_plan_population_of_a_file_is_refused(tmp_path):
    (tmp_path / "more.toml").write_text("[population]\nseeds = 2\n")
    with pytest.raises(ConfigError, match="population: an objective is compared by runs of one agent"):
        objectives.plan(options(config=str(tmp_path / "more.toml")))


def test_compare_again_trains_only_what_is_left(tmp_path):
    trained = []
    note = lambda part, ended, lock: (trained.append(part.folder.name), instant(part, ended, lock))
    assert compare(tmp_path / "x", trainer=note, objectives=("none",)) == 0
    assert compare(tmp_path / "x", trainer=note) == 0
    assert trained == ["none-seed0", "reconstruction-seed0"]


def test_compare_failed_run_is_named_left_out_and_tried_again(tmp_path, capsys):
    assert compare(tmp_path / "x", set=("seed=7",)) == objectives.FAILURES
    shown = capsys.readouterr().err
    assert "none seed 7 failed: loss/total is nan" in shown
    assert "excluded: none seed 7, failed: loss/total is nan" in shown
    mended = lambda part, ended, lock: objective_runs.store(part)
    assert compare(tmp_path / "x", trainer=mended, set=("seed=7",)) == 0


def test_compare_without_a_finished_run_stops_with_the_reason(tmp_path):
    with pytest.raises(TrainingStopped, match="the first one says: loss/total is nan"):
        compare(tmp_path / "x", objectives=("none",), set=("seed=7",))


def test_compare_signal_ends_the_run_and_a_rerun_continues(tmp_path, capsys):
    def waits(part, ended, lock):
        os.kill(os.getpid(), signal.SIGINT)
        while not ended():
            time.sleep(0.01)

    assert compare(tmp_path / "x", trainer=waits) == 128 + signal.SIGINT
    assert "rerun the same command to resume" in capsys.readouterr().err
    assert compare(tmp_path / "x") == 0


TASK = "objectives --task probe:chosen"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("objectives", "dreamer objectives needs a task, as in dreamer objectives --task grid:DoorKey-5x5"),
        ("objectives --task grid:DoorKye-5x5", "did you mean"),
        (f"{TASK} --objectives recontruction", "there is no objective 'recontruction'; did you mean recon"),
        (f"{TASK} --objectives xyz", "there is no objective 'xyz'; there are reconstruction, none"),
        (f"{TASK} --objectives reconstruction+nne", "there is no objective 'nne'; did you mean none?"),
        (f"{TASK} --objectives nowhere_at_all:Mine", "there is no module 'nowhere_at_all'"),
        (f"{TASK} --objectives none --seeds 0", "seeds must be a whole number of at least 1, but it is 0"),
        (f"{TASK} --preset smal", "there is no preset 'smal'; did you mean small?"),
        (f"{TASK} --set agent.objective=none", "name objectives with --objectives"),
        (f"{TASK} --set loop.train_ratoi=3", "did you mean loop.train_ratio"),
        (f"{TASK} --slurm a=1", "slurm is for --launcher submitit"),
        ("objectives worker", "needs the folder of the comparison: --out DIR"),
        ("objectives worker --out nowhere", "nowhere holds no comparison of objectives"),
    ],
)
def test_main_mistake_is_one_sentence_and_starts_nothing(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_main_other_settings_in_the_same_folder_are_refused(tmp_path, capsys):
    assert compare(tmp_path / "x") == 0
    capsys.readouterr()
    words = f"{TASK} --objectives reconstruction none --steps 1000 --set loop.train_ratio=1"
    assert main([*words.split(), "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "loop.train_ratio was 64.0, now 1.0" in error and error.count("\n") == 1


def test_trust_folder_of_a_comparison_is_guarded(tmp_path):
    compare(tmp_path / "x")
    assert trust.opened(["objectives", "worker", "--out", str(tmp_path / "x")]) == [str(tmp_path / "x")]


def test_main_runs_train_for_real_and_log_their_cpu_time(tmp_path, capsys):
    """From the command line to the page."""
    config = tmp_path / "tiny.toml"
    config.write_text(schema.dump_toml(tiny.RUN))
    words = f"{TASK} --objectives reconstruction none --config {config} --steps 160 --no-bench --json"
    assert main([*words.split(), "--out", str(tmp_path / "x")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cpu_budget"] > 0 and told["excluded"] == [] and told["resumed"] == []
    for reached in told["objectives"].values():
        assert 0 <= reached["greedy"]["mean"] <= 1 and reached["peak_mb"] > 0
        assert reached["cpu_seconds_per_1000_steps"] > 0 and reached["cost"] is None


WORKER = """
from pathlib import Path
from objective_runs import instant
from experiments.objectives import objectives, options
objectives.worker(options.ObjectivesWorkerOptions(out={out!r}), trainer=instant)
"""


def test_compare_several_workers_share_the_runs(tmp_path, monkeypatch):
    out = tmp_path / "x"
    roots = [Path(dreamer.__file__).parents[1], Path(__file__).parent]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, roots)))
    command = lambda folder: [sys.executable, "-c", WORKER.format(out=str(folder))]
    assert objectives.compare(options(out, workers=2), command=command) == 0
    assert [Comparison(out).state(part) for part in Comparison(out).parts] == [DONE] * 2


def test_command_starts_a_worker_that_ends_where_nothing_is_left(tmp_path):
    compare(tmp_path / "x")
    words = objectives.command(tmp_path / "x")
    source = {"PYTHONPATH": str(Path(dreamer.__file__).parents[1])}
    assert subprocess.run(words, env={**source, "PATH": ""}, capture_output=True).returncode == 0
