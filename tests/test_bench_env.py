"""The benchmark of environments alone counts what was really played."""

import pytest

import envs
from experiments import cli
from experiments.bench import env as bench_env


@pytest.mark.parametrize("task", ["grid:Catch", "minigrid:Empty-5x5"])
def test_measure_host_or_device_task_returns_complete_row(task, monkeypatch):
    monkeypatch.setattr(bench_env, "SECONDS", 0.3)
    row = bench_env.measure(envs.canonical(task), 4)
    assert set(row) == {*bench_env.COLUMNS, "options"} and row["options"] == {}
    assert row["steps_per_s"] > 0 and row["steps_per_cpu_s"] > 0 and row["episodes"] >= 0


def test_on_device_catch_counts_exact_number_of_episodes(monkeypatch):
    monkeypatch.setattr(bench_env, "SECONDS", 0.0)
    play = bench_env._on_device("grid:Catch", 8, {})
    slots, ended = play(0)
    steps = envs.make_jax("grid:Catch").obs_space["board"].shape[0]  # a ball falls one row a step
    assert ended == 8 * (slots // steps)


def test_measure_options_are_those_of_the_environment(monkeypatch):
    monkeypatch.setattr(bench_env, "SECONDS", 0.1)
    row = bench_env.measure("probe:remembered", 2, {"levels": 3, "parallel": True})
    assert row["steps_per_cpu_s"] is None and row["options"]["parallel"]


def test_bench_device_task_with_host_option_is_refused(capsys):
    assert cli.main(["bench", "--task", "grid:Catch", "--env.parallel"]) == cli.MISTAKE
    assert "env.parallel is for Gymnasium environments" in capsys.readouterr().err


def test_bench_unknown_task_prints_suggestion(capsys):
    assert cli.main(["bench", "--task", "grid:DorKey-5x5"]) == cli.MISTAKE
    assert "did you mean" in capsys.readouterr().err
