"""What the script for accelerators measures, writes and leaves out; measurements have tests of their own."""

import json
import sys

import pytest

from experiments.bench import against, bench, gpu
from experiments.bench.gpu import Job


class Clock:
    """Seconds that pass only where a job takes them."""

    now = 0.0

    def __call__(self):
        return self.now


def test_run_writes_each_result_at_once_and_names_what_it_had_no_time_for(tmp_path, capsys):
    clock, out = Clock(), tmp_path / "gpu.json"

    def takes(seconds, row):
        def measure(left):
            if out.exists():
                assert len(json.loads(out.read_text())["rows"]) > 0
            clock.now += seconds
            return dict(row, left=left) if isinstance(row, dict) else row

        return measure

    wanted = [
        Job("one", takes(30, {"update_ms": 5, "surroundings": {"device": "1 x gpu"}})),
        Job("two", takes(20, "out of memory")),
        Job("three", takes(20, {"update_ms": 7})),
        Job("four", takes(1, {})),
    ]
    assert gpu.run(wanted, out, 60, clock) == 1
    result = json.loads(out.read_text())
    assert result["device"] == "1 x gpu" and result["failed"] == {"two": "out of memory"}
    assert [(row["name"], row["seconds"], row["left"]) for row in result["rows"]] == [
        ("one", 30, 60),
        ("three", 20, 10),
    ]
    assert result["left_out"] == ["four"] and "four: no time was left" in capsys.readouterr().out


def test_jobs_begin_with_the_smallest_size_and_compare_only_where_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(
        bench, "within_own_process", lambda module, job, seconds: asked.append((module, job)) or {}
    )
    names = [job.name for job in gpu.jobs(gpu.SIZES, "", "")]
    assert names[0] == "update 1m vector" and not [name for name in names if "against" in name]
    assert {"fused loop, 16 members", "update 200m vector", "worlds x 65,536"} < set(names)
    assert [job.measure(9) for job in gpu.jobs(gpu.SIZES, "", "")] == [{}] * len(names) == [{}] * len(asked)
    compared = [job for job in gpu.jobs(gpu.SIZES, "python", "dreamerv3") if "against" in job.name]
    assert [job.name for job in compared] == ["against 1m vector", "against 12m image"]

    def fails(*words, **options):
        raise RuntimeError("no jax there")

    monkeypatch.setattr(against, "measure", fails)
    assert compared[0].measure(9) == "no jax there"


def test_within_own_process_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(
        bench.machine, "command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    assert bench.within_own_process("any", {}, 0.5) == "not done after 0.5 s"


@pytest.mark.parametrize("words", [["--sizes", "huge"], ["--minutes", "long"]])
def test_main_mistake_is_one_line(words, capsys):
    with pytest.raises(SystemExit):
        gpu.main(words)
    assert words[1] in capsys.readouterr().err.splitlines()[-1]
