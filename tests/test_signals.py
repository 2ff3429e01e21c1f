"""Signals end a process gently, or at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from envs.watchdog import Interrupted, Watchdog
from experiments import signals


def test_gentle_signals_first_signal_sets_stop_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with signals.gentle_signals() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        assert stop and stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_stop_at_once_signal_raises_unless_held():
    with signals.gentle_signals(signals.stop_at_once()) as stop:
        with stop.held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert stop
        with pytest.raises(Interrupted), stop.released():
            pytest.fail("it was asked to stop before")
    with signals.gentle_signals(signals.stop_at_once()), pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)


@pytest.fixture
def left(monkeypatch):
    """Exit codes with which the process would have been ended; signals are followed forty times faster."""
    codes = []
    for name in ("GRACE", "PATIENCE", "TICK"):
        monkeypatch.setattr(signals, name, getattr(signals, name) / 40)
    monkeypatch.setattr(signals.watchdog, "leave", lambda code, text: codes.append(code))
    return codes


def test_stop_at_once_held_too_long_exits_unless_unhurried(left):
    with signals.gentle_signals(signals.stop_at_once()) as stop, stop.held():
        os.kill(os.getpid(), signal.SIGTERM)
        with stop.unhurried():
            time.sleep(2 * signals.GRACE)
            assert not left
        time.sleep(2 * signals.GRACE)
    assert left[0] == 128 + signal.SIGTERM


def test_stop_at_once_signal_during_environment_wait_raises_although_held(left):
    dog = Watchdog("probe:x")
    with signals.gentle_signals(signals.stop_at_once()) as stop, stop.held(), pytest.raises(Interrupted), dog:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    dog.close()
    assert stop and not left


def test_stop_at_once_exception_lost_in_a_callback_is_raised_again(left, capfd):
    """As in a callback of the garbage collector, where an exception ends nothing."""

    class Collected:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.001)

    with signals.gentle_signals(signals.stop_at_once()) as stop, pytest.raises(Interrupted):
        collected = Collected()
        del collected
        assert stop, "it was raised where nobody heard of it"
        time.sleep(5)
    assert "Traceback" not in capfd.readouterr().err and not left


STUBBORN = """
import signal, sys, time
from experiments import signals
with signals.gentle_signals() as stop:
    print("ready", flush=True)
    time.sleep(20)
"""


@pytest.mark.parametrize("numbers", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
def test_gentle_signals_second_signal_ends_the_process_immediately(numbers):
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        for number in numbers:
            process.send_signal(number)
            time.sleep(1.0)
        assert process.wait(60) == 128 + numbers[0]


def test_gentle_signals_request_of_another_process_sets_stop_and_may_be_followed_by_a_signal(left):
    with signals.gentle_signals() as stop:
        stop.ask(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)  # the same request, as when all processes are terminated
        time.sleep(1.0)
        assert not left
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.0)
        assert left


def test_gentle_signals_request_of_another_process_ends_one_that_does_not_stop(left):
    with signals.gentle_signals(signals.stop_at_once()) as stop, stop.held():
        stop.ask(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while not left and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left


def test_stop_asked_outside_of_gentle_signals_is_set():
    stop = signals.Stop()
    stop.ask(signal.SIGINT)
    assert stop.signal == signal.SIGINT
