"""Training from a Python program."""

import os
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
import tiny

import dreamer
from dreamer import schema
from dreamer.logger import read_rows
from experiments import signals

pytestmark = pytest.mark.usefixtures("compilation_cache")


def change(**fields) -> dreamer.Config:
    return schema.replace_paths(tiny.RUN, {k.replace("__", "."): v for k, v in fields.items()})


def test_preset_with_changes_returns_changed_configuration():
    cfg = dreamer.preset("cartpole", {"seed": 3, "agent.optim.lr": 3e-4})
    assert (cfg.preset, cfg.seed, cfg.agent.optim.lr) == ("cartpole", 3, 3e-4)
    with pytest.raises(dreamer.ConfigError, match="no preset 'cartpol'; did you mean cartpole"):
        dreamer.preset("cartpol")


def test_train_repeated_in_same_folder_resumes_and_returns_result(tmp_path):
    result = dreamer.train(tiny.RUN, str(tmp_path / "run"))
    assert (result["env_steps"], result["updates"], result["episodes"]) == (160, 30, 8)
    assert dreamer.train(change(steps=200), tmp_path / "run")["env_steps"] == 200
    assert dreamer.load(tmp_path / "run").counters["env_steps"] == 200


def test_train_invalid_configuration_raises_one_sentence_without_folder(tmp_path):
    with pytest.raises(dreamer.ConfigError, match=r"loop.prefill must be at most") as refused:
        dreamer.train(change(loop__prefill=161), tmp_path / "run")
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_train_environment_raises_saves_and_raises_training_stopped(tmp_path):
    with pytest.raises(dreamer.TrainingStopped, match=r"Raises-v0.*saved at"):
        dreamer.train(change(task="gymnasium:faulty_env:Raises-v0"), tmp_path / "run")


def test_train_on_ctrl_c_saves_and_raises_keyboard_interrupt(tmp_path):
    folder = tmp_path / "run"

    def press() -> None:
        while not (rows := folder / "metrics.jsonl").is_file() or not rows.stat().st_size:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        dreamer.train(change(steps=100_000), folder)
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    rows = read_rows(folder / "metrics.jsonl")
    assert 0 < rows[-1]["env_steps"] <= dreamer.load(folder).counters["env_steps"] < 100_000


@pytest.mark.parametrize("task", ["probe:chosen", "grid:Catch"])
def test_build_driven_by_hand_trains_and_returns_player(task):
    with dreamer.build(change(task=task)) as training:
        before = training.player()
        turns = list(training.outputs())
        player = training.player()
        assert training.loop.progress.env_steps >= 160 and player.counters["updates"] > 0
        assert sum(len(turn.episodes) for turn in turns) > 0 and any(turn.metrics for turn in turns)
        assert not list(training.outputs()), "it is done"
        old, new = (jax.tree.leaves(own.params) for own in (before, player))
        assert any(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))
        action, _ = player.act(player.init(), {k: v[0] for k, v in observations(training).items()})
        assert action["action"].shape == ()


def observations(training) -> dict[str, np.ndarray]:
    spaces = training.agent.obs_space
    return {key: np.zeros((1, *space.shape), space.dtype) for key, space in spaces.items()}


def test_build_population_configuration_raises_config_error():
    with pytest.raises(dreamer.ConfigError, match="a population with dreamer.train"):
        dreamer.build(change(task="grid:Catch", population__seeds=2))


def test_interrupts_first_ctrl_c_sets_stop_and_second_raises():
    with signals.interrupts() as stop:
        with stop.held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)


AFTER_JAX = """
import jax
jax.numpy.zeros(1) + 1  # the devices are chosen
import dreamer, tiny
with dreamer.build(tiny.RUN) as training:
    print(len(jax.devices()), next(training.outputs()).metrics)
"""


def test_build_after_jax_was_used_works():
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    command = [sys.executable, "-c", AFTER_JAX]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "[]"]
