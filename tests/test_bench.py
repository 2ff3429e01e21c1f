"""The benchmark measures what training runs, one process a row."""

import json

import pytest
from rich.console import Console

from experiments.bench import bench, flops

PROMISED = (
    *("size", "obs", "dtype", "batch", "length", "params"),
    *(
        "compile_s",
        "update_ms",
        "cpu_s",
        "gflop",
        "gflops",
        "of_product_rate",
        "updates_per_s",
        "steps_per_s",
    ),
    *("gflop/observe", "gflop/predict", "gflop/objective", "gflop/imagine", "gflop/behavior"),
    *("policy1_ms", "policy16_ms", "peak_mb"),
)


def test_bench_run_json_row_has_promised_columns_with_measured_values(capsys):
    assert bench.run(["tiny"], ["vector"], 2, 3, dtype="float32", json=True) == 0
    out = json.loads(capsys.readouterr().out.splitlines()[-1])
    (row,) = out["rows"]
    assert out["jax"] and out["device"]
    assert set(PROMISED) <= row.keys() <= bench.COLUMNS.keys() | {"batch", "length"}
    numbers = [v for v in row.values() if not isinstance(v, str)]
    assert len(numbers) == len(PROMISED) - 3 + 2 and sorted(numbers)[2] > 0
    parts = [row[f"gflop/{part}"] for part in (*flops.PARTS, flops.OTHER)]
    assert sum(parts) == pytest.approx(row["gflop"], abs=0.01) and row["gflop/encoder"] < row["gflop/imagine"]
    assert (row["size"], row["obs"], row["dtype"], row["batch"], row["length"]) == (
        *("tiny", "vector", "float32"),
        *(2, 3),
    )


def test_bench_run_unmeasurable_row_is_reported_and_skipped(capsys):
    assert bench.run(["tiny"], ["sound"], 2, 3, json=True) == 1
    captured = capsys.readouterr()
    assert "tiny sound could not be measured" in captured.err
    assert json.loads(captured.out.splitlines()[-1])["rows"] == []


def test_repeat_one_slow_call_does_not_shift_median():
    calls = iter([0.05, 0, 0, 0, 0])
    wall, cpu = bench.repeat(lambda: __import__("time").sleep(next(calls)), 0.0, 5, 5)
    assert wall < 0.04 and cpu < 0.04


def test_table_two_rows_fits_80_columns():
    numbers = dict.fromkeys(bench.COLUMNS, 123456.7)
    rows = [
        numbers | {"size": size, "obs": obs, "dtype": "float32"}
        for size, obs in (("1m", "vector"), ("1m", "image"))
    ]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(bench.table(rows, bench.COLUMNS, "16 x 64 steps a batch on 2 x cpu"))
    for name in bench.COLUMNS.values():
        assert name in captured.get()
    assert captured.get().count("123,456.7") == 2 * (len(bench.COLUMNS) - 3)
