"""The processes of one run as the tasks of one job: `dreamer launch --launcher submitit`, without SLURM."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from test_launch import RUN, saved, updates

from dreamer import schema
from dreamer.schema import ConfigError
from experiments import job
from experiments.machine import command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="submitit's local executor")


@pytest.mark.parametrize(
    ("processes", "given", "layout"),
    [
        (2, {}, {"nodes": 1, "tasks_per_node": 2}),
        (4, {"nodes": 2}, {"nodes": 2, "tasks_per_node": 2}),
        (4, {"nodes": 4, "tasks_per_node": 1}, {"nodes": 4, "tasks_per_node": 1}),
    ],
)
def test_tasks_are_divided_over_nodes(processes, given, layout):
    assert job.tasks(processes, given) == layout


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"nodes": 3}, "4 processes cannot be divided equally over nodes=3"),
        ({"nodes": "two"}, "over nodes=two"),
        ({"nodes": 2, "tasks_per_node": 4}, "4 processes on 2 nodes are 2 on each, but tasks_per_node is 4"),
    ],
)
def test_tasks_that_do_not_give_the_processes_are_refused(given, why):
    with pytest.raises(ConfigError, match=why):
        job.tasks(4, given)


@pytest.mark.parametrize(
    ("words", "parameters", "why"),
    [
        (["eval", "runs/a"], (), "dreamer launch starts several processes of dreamer train"),
        (["train"], ("nodes",), "entries like timeout_min=240, but one is 'nodes'"),
        (["train"], ("nodes=2",), "can use only one node"),
        (["train"], ("hours=3",), "slurm: .*hours"),
    ],
)
def test_submit_wrong_request_is_one_sentence(tmp_path, words, parameters, why):
    with pytest.raises(ConfigError, match=why):
        job.submit(words, 2, parameters, tmp_path / "jobs")
    assert not (tmp_path / "jobs").exists()


def submitted(tmp_path, *words):
    launching = ("launch", "--processes", "2", "--launcher", "submitit", "--slurm", "timeout_min=10")
    return subprocess.Popen(
        command(
            "experiments.cli", *launching, "--", "train", "--config", "tiny.toml", "--run", "run", *words
        ),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def test_submitted_job_passes_on_why_its_processes_refuse(tmp_path):
    (tmp_path / "tiny.toml").write_text(schema.dump_toml(RUN))
    wrong = submitted(tmp_path, "--loop.batch-size", "5")
    _, words = wrong.communicate(timeout=120)
    assert wrong.returncode == 2
    assert "2 processes cannot share a batch of 5 sequences" in words and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_submitted_job_trains_with_its_tasks_stops_and_resumes(tmp_path, compilation_cache):
    (tmp_path / "tiny.toml").write_text(schema.dump_toml(RUN))
    run, first = tmp_path / "run", submitted(tmp_path)
    deadline = time.monotonic() + 120
    while not (run / "episodes.jsonl").exists() or updates(run) < 5:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    _, words = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM
    assert "2 processes, whose output is in" in words and "Stopped and saved" in words
    at = saved(run)[-1]

    again = submitted(tmp_path, "--steps", str(at + 40))
    _, words = again.communicate(timeout=120)
    assert again.returncode == 0, words
    assert f"resuming run at {at:,} environment steps" in words
    assert json.loads((run / "result.json").read_text())["env_steps"] >= at + 40
