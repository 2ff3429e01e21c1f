"""Run folders are reopened only for the same run; signals end it gently, or at once."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from dreamer.config import Config
from dreamer.schema import ConfigError
from envs.watchdog import Interrupted, Watchdog
from experiments import session

CFG = Config(task="probe:chosen", steps=100)


def test_a_new_folder_is_made_and_reopened(tmp_path):
    folder = tmp_path / "a" / "run"
    assert session.open_folder(folder, CFG, ()) is False
    assert session.open_folder(folder, CFG, ()) is True


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"exists but is not a run"):
        session.open_folder(tmp_path, CFG, ())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_the_learner_depends_on_must_not_change_unless_forced(tmp_path):
    session.open_folder(tmp_path, CFG, ())
    other = dataclasses.replace(CFG, seed=1)
    with pytest.raises(ConfigError, match=r"seed was 0, now 1.*--force seed"):
        session.open_folder(tmp_path, other, ())
    assert session.open_folder(tmp_path, other, ("seed",)) is True


def test_steps_evaluation_logs_and_checkpoints_may_change(tmp_path):
    session.open_folder(tmp_path, CFG, ())
    free = dataclasses.replace(
        CFG,
        steps=200,
        eval=dataclasses.replace(CFG.eval, episodes=7),
        log=dataclasses.replace(CFG.log, every=1.0),
        checkpoint=dataclasses.replace(CFG.checkpoint, every=9.0),
    )
    assert session.open_folder(tmp_path, free, ()) is True


def test_atomic_write_leaves_no_litter(tmp_path):
    session.write_atomically(tmp_path / "a.json", "1")
    session.write_atomically(tmp_path / "a.json", "2")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "2"


def test_a_file_that_cannot_be_written_is_named_and_the_folder_is_empty(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(session.os, "fsync", full)
    with pytest.raises(OSError) as failed:
        session.open_folder(tmp_path / "run", CFG, ())
    assert failed.value.filename == str(tmp_path / "run" / "config.toml")
    assert not list((tmp_path / "run").iterdir())
    monkeypatch.undo()
    assert session.open_folder(tmp_path / "run", CFG, ()) is False, "the same command goes on"


def test_the_first_signal_only_asks_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with session.gentle_signals() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        assert stop and stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_raises_where_nothing_is_lost_by_it_and_only_asks_elsewhere():
    with session.gentle_signals(session.stop_at_once()) as stop:
        with stop.held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert stop
        with pytest.raises(Interrupted), stop.released():
            pytest.fail("it was asked to stop before")
    with session.gentle_signals(session.stop_at_once()), pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)


@pytest.fixture
def left(monkeypatch):
    """Exit codes with which the process would have been ended; signals are followed forty times faster."""
    codes = []
    for name in ("GRACE", "PATIENCE", "TICK"):
        monkeypatch.setattr(session, name, getattr(session, name) / 40)
    monkeypatch.setattr(session.watchdog, "leave", lambda code, text: codes.append(code))
    return codes


def test_who_does_not_stop_is_ended_unless_it_saves(left):
    with session.gentle_signals(session.stop_at_once()) as stop, stop.held():
        os.kill(os.getpid(), signal.SIGTERM)
        with stop.unhurried():
            time.sleep(2 * session.GRACE)
            assert not left
        time.sleep(2 * session.GRACE)
    assert left[0] == 128 + signal.SIGTERM


def test_who_waits_for_an_environment_is_interrupted_although_something_is_not_saved(left):
    dog = Watchdog("probe:x")
    with session.gentle_signals(session.stop_at_once()) as stop, stop.held(), pytest.raises(Interrupted), dog:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    dog.close()
    assert stop and not left


STUBBORN = """
import signal, sys, time
from experiments import session
with session.gentle_signals() as stop:
    print("ready", flush=True)
    time.sleep(20)
"""


@pytest.mark.parametrize("signals", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
def test_a_second_signal_ends_the_process_at_once(signals):
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        for number in signals:
            process.send_signal(number)
            time.sleep(1.0)
        assert process.wait(60) == 128 + signals[0]
