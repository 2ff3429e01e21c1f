"""Several processes of one run on this machine: `dreamer launch`."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import tiny

from dreamer import schema
from dreamer.checkpoint import CheckpointStore
from dreamer.logger import read_rows
from dreamer.schema import ConfigError
from experiments import cluster, launch
from experiments.machine import command

RUN = schema.replace_paths(tiny.RUN, {"steps": 100_000, "log.every": 1.0, "checkpoint.every": 1.0})


class Launched:
    """A `dreamer launch` under way."""

    def __init__(self, count, *words):
        self.process = subprocess.Popen(
            command("experiments.cli", "launch", "--processes", str(count), "--", "train", *map(str, words)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )

    @property
    def processes(self):
        """{index: pid} of the processes that it has started."""
        started = {}
        for entry in Path("/proc").iterdir():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if parent == str(self.process.pid):
                named = dict(variable.split(b"=", 1) for variable in variables if b"=" in variable)
                if cluster.INDEX.encode() in named:
                    started[int(named[cluster.INDEX.encode()])] = int(entry.name)
        return started

    def until(self, condition, seconds=100):
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.words()[-4000:]
            assert time.monotonic() < deadline, "it takes too long"
            time.sleep(0.1)

    def words(self):
        """What it has printed, without lines of progress, once it has ended."""
        return "\n".join(x for x in self.process.communicate()[1].splitlines() if " steps (" not in x)

    def end(self, seconds=30):
        """Its exit code, standard output and sentences, once it has ended within this time."""
        output, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, output, [x for x in errors.splitlines() if "dreamer: " in x]

    def close(self):
        for pid in [*self.processes.values(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def start(tmp_path, compilation_cache):
    started = []
    (tmp_path / "tiny.toml").write_text(schema.dump_toml(RUN))

    def begin(count, *words):
        launched = Launched(count, "--config", tmp_path / "tiny.toml", "--run", tmp_path / "run", *words)
        started.append(launched)
        return launched

    yield begin
    for launched in started:
        launched.close()


def updates(folder):
    return max((row["updates"] for row in read_rows(folder / "episodes.jsonl")), default=0)


def saved(folder):
    return CheckpointStore(folder / "checkpoints").steps()


@pytest.mark.parametrize("words", [[], ["eval", "runs/a"]])
def test_launch_other_commands_are_refused(words):
    with pytest.raises(ConfigError, match="dreamer launch starts several processes of dreamer train"):
        launch.check(words)
    launch.check(["train", "small"])


def test_environment_says_who_a_process_is():
    place = cluster.place(launch.environment(1, 3, "127.0.0.1:5000"))
    assert place == cluster.Place(1, 3, "127.0.0.1", 5000)


def test_gpus_are_shared_where_each_process_gets_one():
    visible = {"CUDA_VISIBLE_DEVICES": "0,3,5"}
    assert [launch.gpus(visible, i, 2) for i in (0, 1)] == [
        {"CUDA_VISIBLE_DEVICES": "0,5"},
        {"CUDA_VISIBLE_DEVICES": "3"},
    ]
    assert launch.gpus(visible, 0, 4) == {}


def test_launch_what_processes_cannot_share_is_one_sentence(start, tmp_path):
    code, _, sentences = start(2, "--loop.batch-size", "5").end(60)
    assert code == 2 and len(sentences) == 1
    assert "2 processes cannot share a batch of 5 sequences over 2 devices equally" in sentences[0]
    assert not (tmp_path / "run").exists()


def test_launch_two_processes_train_stop_and_resume(start, tmp_path):
    run = tmp_path / "run"
    first = start(2)
    first.until(lambda: updates(run) > 5)
    os.kill(first.processes[1], signal.SIGTERM)  # any of them
    code, _, sentences = first.end(30)
    assert code == 128 + signal.SIGTERM and not sentences
    at = saved(run)[-1]
    assert read_rows(run / "episodes.jsonl")[-1]["env_steps"] <= at
    assert not list(run.glob("in-use.lock*"))

    again = start(2, "--steps", str(at + 40), "--json")
    code, output, sentences = again.end(100)
    assert (code, sentences) == (0, [])
    result = json.loads(output)
    assert result["env_steps"] >= at + 40 and saved(run)[-1] == result["env_steps"]
    steps = [row["env_steps"] for row in read_rows(run / "episodes.jsonl")]
    assert steps == sorted(steps)  # of all processes, by one writer


@pytest.mark.parametrize(("lost", "number"), [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)])
@pytest.mark.slow
def test_launch_lost_process_ends_all_with_one_sentence(start, tmp_path, lost, number):
    run = tmp_path / "run"
    launched = start(2)
    launched.until(lambda: updates(run) > 5)
    os.kill(launched.processes[lost], number)
    code, _, sentences = launched.end(32)
    assert code == 1 and len(sentences) == 1
    assert f"process {lost} (" in sentences[0] and "rerun the same command to resume" in sentences[0]
    assert saved(run)


@pytest.mark.slow
def test_launch_ten_kills_lose_nothing_beyond_the_last_save(start, tmp_path):
    run, rng, resumed = tmp_path / "run", random.Random(0), []
    for _ in range(10):
        launched, before = start(2), saved(run)[-1:]
        launched.until(lambda before=before: saved(run)[-1:] != before)
        time.sleep(rng.uniform(0, 2))
        os.kill(launched.processes[rng.choice([0, 1])], signal.SIGKILL)
        assert launched.end(30)[0] == 1
        resumed.append(saved(run)[-1])
    assert resumed == sorted(resumed) and len(set(resumed)) == 10
    code, output, _ = start(2, "--steps", str(resumed[-1] + 100), "--json").end(100)
    assert code == 0 and json.loads(output)["env_steps"] >= resumed[-1] + 100


@pytest.mark.slow
def test_launch_four_then_two_then_one_process_continue_one_run(start, tmp_path):
    run = tmp_path / "run"
    for count, steps in ((4, 120), (2, 200)):
        code, output, _ = start(count, "--steps", str(steps), "--json").end(200)
        assert code == 0 and json.loads(output)["env_steps"] >= steps
        assert len(CheckpointStore(run / "checkpoints").replay_parts()) == count
    words = ["train", "--run", str(run), "--steps", "280", "--json"]
    alone = subprocess.run(command("experiments.cli", *words), capture_output=True, text=True, timeout=100)
    assert "saved by 2 processes, resumed by one process: the learner is the same" in alone.stderr
    assert json.loads(alone.stdout)["env_steps"] >= 280
