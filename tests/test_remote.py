"""The processes of one run in a Ray cluster: `dreamer launch --launcher ray`."""

import json
import os
import signal
import subprocess
import time

import pytest
from test_launch import RUN, saved, updates
from test_sweep import ray_nodes

from dreamer import schema
from dreamer.schema import ConfigError
from experiments import remote
from experiments.machine import command


@pytest.mark.parametrize(
    ("there", "gpus"), [({"CPU": 2.0}, 0), ({"CPU": 8.0, "GPU": 2.0}, 1), ({"CPU": 2.0, "GPU": 0.0}, 0)]
)
def test_check_resources_is_a_gpu_for_each_where_there_are_any(there, gpus):
    assert remote.check_resources(there, 2) == gpus


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({"CPU": 1.0}, "2 processes need 2 CPUs, but the Ray cluster has 1"),
        ({"CPU": 8.0, "GPU": 1.0}, "2 processes need 2 GPUs, but the Ray cluster has 1"),
    ],
)
def test_check_resources_too_few_are_refused(there, why):
    with pytest.raises(ConfigError, match=why):
        remote.check_resources(there, 2)


def test_submit_other_commands_are_refused():
    with pytest.raises(ConfigError, match="dreamer launch starts several processes of dreamer train"):
        remote.submit(["eval", "runs/a"], 2)


def test_child_asked_to_stop_before_it_begins_does_not_begin(tmp_path):
    child = remote.Child()
    child.signal(signal.SIGTERM)
    assert child.run(["train"], {}, str(tmp_path), "output") == 128 + signal.SIGTERM
    assert (tmp_path / "output").read_bytes() == b""


@pytest.mark.slow
def test_two_nodes_of_ray_train_one_agent_stop_and_resume(tmp_path, compilation_cache):
    pytest.importorskip("ray")
    (tmp_path / "tiny.toml").write_text(schema.dump_toml(RUN))
    run = tmp_path / "run"

    def begin(*words):
        launching = ("launch", "--processes", "2", "--launcher", "ray", "--", "train")
        return subprocess.Popen(
            command("experiments.cli", *launching, "--config", "tiny.toml", "--run", "run", *words),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "RAY_ADDRESS": address},
        )

    with ray_nodes(2) as address:
        first, deadline = begin(), time.monotonic() + 400
        while not (run / "episodes.jsonl").exists() or updates(run) < 5:
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < deadline, "it takes too long"
            time.sleep(0.1)
        first.send_signal(signal.SIGTERM)
        _, words = first.communicate(timeout=100)
        assert first.returncode == 128 + signal.SIGTERM and "Stopped and saved" in words
        at = saved(run)[-1]

        again = begin("--steps", str(at + 40))
        _, words = again.communicate(timeout=400)
        assert again.returncode == 0, words
        assert f"resuming run at {at:,} environment steps" in words
        assert json.loads((run / "result.json").read_text())["env_steps"] >= at + 40
