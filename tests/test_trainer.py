"""Training goes from turn to turn, saves before anything is lost, and heeds a signal in every phase."""

import contextlib
import os
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest

from dreamer.config import Config
from dreamer.logger import LoggerError
from envs.watchdog import Interrupted
from experiments import signals
from experiments.training import trainer
from experiments.training.folder import TrainingStopped
from experiments.training.hooks import Hook
from experiments.training.trainer import Trainer


class Recorder:
    """In the place of agents and folder: what is asked of them is told in order.

    Args:
      where: who gets a signal while it is asked.
    """

    loggers, is_solved, failure, meta, done = (), False, "", {}, False

    def __init__(self, where: str = "nowhere", path: Any = "run"):
        self.told: list[str] = []
        self.where, self.path, self.cfg = where, path, Config("probe:chosen", 100)
        self.loop = SimpleNamespace(progress=SimpleNamespace(env_steps=0, updates=0))

    def reach(self, place: str) -> None:
        self.told.append(place)
        if place == self.where:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    def outputs(self):
        self.loop.progress.env_steps = 10
        yield "turn"
        self.loop.progress.env_steps = 100
        yield "last turn"

    def collect(self, turn: str) -> None:
        self.reach(turn)

    def look(self) -> None:
        self.reach("look")

    def flush(self) -> None:
        self.reach("end")

    def finish(self) -> dict[str, Any]:
        self.reach("finish")
        return {}

    def save(self, loop, meta, *, wait):
        self.reach("save and wait" if wait else "save")

    def log(self) -> None: ...

    def wait(self) -> None: ...


def trainer_of(own: Recorder, *, is_resumed: bool = True) -> Trainer:
    look = Hook("env_steps", 10, own.look, is_aside=True)
    return Trainer(own, own, None, [look], own.finish, save_every=1000, is_resumed=is_resumed)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("turn", ["turn", "end"]),
        ("look", ["turn", "save", "look", "end"]),
        ("last turn", ["turn", "save", "look", "last turn", "end"]),
        ("end", ["turn", "save", "look", "last turn", "end"]),
        ("finish", ["turn", "save", "look", "last turn", "end", "finish"]),
        ("nowhere", ["turn", "save", "look", "last turn", "end", "finish"]),
    ],
)
def test_train_signal_in_any_phase_saves_the_progress(where, told):
    own, result = Recorder(where), None
    with signals.gentle_signals(signals.stop_at_once()) as stop, contextlib.suppress(Interrupted):
        result = trainer_of(own).train(stop)
    told.insert(told.index("end") + 1, "save and wait")
    assert own.told == told and bool(stop) == (where != "nowhere")
    assert result == (None if stop else {})


def test_between_saves_first_only_after_a_slow_look():
    own = Recorder()
    of_own = trainer_of(own)
    for steps in (10, 20):
        own.loop.progress.env_steps = steps
        of_own.between()
    assert own.told == ["save", "look", "look"] and of_own._aside_seconds < trainer.LONG


def test_take_before_the_first_logged_update_saves_a_checkpoint():
    """What a kill at any moment leaves can be told from a run whose checkpoints are gone."""
    for is_resumed, told in ((False, ["turn", "save and wait", "turn", "turn"]), (True, ["turn"] * 3)):
        own = Recorder()
        of_own = trainer_of(own, is_resumed=is_resumed)
        for updates in (0, 1, 2):
            own.loop.progress.updates = updates
            of_own.collect("turn")
        assert own.told == told


def test_take_every_member_failed_saves_and_stops():
    own = Recorder()
    own.failure = "every member diverged"
    with pytest.raises(TrainingStopped, match="every member diverged"):
        trainer_of(own).collect("turn")
    assert own.told == ["turn", "save and wait"]


def test_guarded_unwritable_log_ends_the_run_naming_the_file(tmp_path):
    own = Recorder(path=tmp_path)
    sentence = r"metrics.jsonl cannot be written .*saved at 0 steps in .*rerun the same command to resume"
    with pytest.raises(TrainingStopped, match=sentence), trainer_of(own).guarded():
        raise LoggerError("metrics.jsonl cannot be written (No space left on device)")
    assert own.told == ["save and wait"]
