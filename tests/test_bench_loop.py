"""The benchmark of the loops measures the loops that train, on the same task and sizes."""

import json

import pytest

from experiments.bench import loop as bench_loop

PROMISED = (
    *("loop", "members", "size", "start_s", "env_steps_per_s", "updates_per_s", "cpu_s_per_1000"),
    *("update_ms", "overhead", "peak_mb"),
)


def test_configuration_host_and_fused_loop_have_equal_workload():
    host, fused = (bench_loop.configuration(loop, "tiny", 4, 8) for loop in ("host", "fused"))
    assert host.agent == fused.agent and host.loop == fused.loop
    assert host.task.partition(":")[2] == fused.task.partition(":")[2]


def test_configuration_dtype_given_is_used_by_agent():
    assert bench_loop.configuration("fused", "tiny", 4, 8, "bfloat16").agent.dtype == "bfloat16"


@pytest.mark.slow  # minutes of compiling
@pytest.mark.parametrize(("loop", "members"), [("host", 1), ("fused", 1), ("fused", 2)])
def test_measure_each_loop_returns_row_with_promised_columns(monkeypatch, loop, members):
    monkeypatch.setattr(bench_loop, "SECONDS", 1.0)
    row = bench_loop.measure(loop, members, "tiny", 4, 16)
    assert set(PROMISED) == set(bench_loop.COLUMNS) <= row.keys()
    assert row["env_steps_per_s"] > 0 and row["updates_per_s"] > 0
    assert row["overhead"] < 1 if members == 1 else row["overhead"] is None


def test_bench_loop_run_unmeasurable_row_is_reported(capsys):
    assert bench_loop.run(["huge"], [1], 2, 4, json=True) == 1
    captured = capsys.readouterr()
    assert "huge, host loop, 1 members could not be measured" in captured.err
    assert json.loads(captured.out.splitlines()[-1])["rows"] == []
