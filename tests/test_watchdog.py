"""Waiting for an environment ends: with a word, by a time limit, because somebody wants to stop."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import faulty_env
import numpy as np
import pytest

import envs
from envs import watchdog
from envs.api import EnvError
from envs.watchdog import FIRST_WORD, Interrupted, Watchdog

STUCK = "gymnasium:faulty_env:Stuck-v0"


@pytest.fixture
def interrupted(monkeypatch):
    """What would have been raised in the main thread."""
    errors = []
    monkeypatch.setattr(watchdog, "interrupt", errors.append)
    return errors


def test_watchdog_slow_copy_is_reported_at_growing_intervals():
    said = []
    dog = Watchdog("probe:x", say=said.append)
    dog.look(time.monotonic() + 1000)
    with dog:
        dog.next(3)
        now = time.monotonic()
        for seconds in (FIRST_WORD - 1, FIRST_WORD + 1, FIRST_WORD + 2, 2 * FIRST_WORD + 1):
            dog.look(now + seconds)
        dog.next(4)
        dog.look(time.monotonic() + 1)
    dog.close()
    assert [text.split(";")[0] for text in said] == [
        "probe:x, copy 3: no answer for 61 s",
        "probe:x, copy 3: no answer for 121 s",
    ]
    assert "--env.timeout" in said[0]


def test_watchdog_timeout_interrupts_then_leaves_the_process(interrupted, monkeypatch):
    left = []
    monkeypatch.setattr(watchdog, "leave", lambda *words: left.append(words))
    dog = Watchdog("probe:x", timeout=5.0)
    with dog:
        dog.next(1)
        now = time.monotonic()
        dog.look(now + 4)
        assert not interrupted
        dog.look(now + 6)
        assert isinstance(interrupted[0], EnvError) and "no answer for 5 s" in str(interrupted[0])
        assert not left
        dog.look(now + 16)  # native code, which nothing interrupts
    dog.close()
    assert left[0][0] == 1 and "probe:x, copy 1" in left[0][1]


def test_interrupt_raises_only_while_the_main_thread_waits():
    watchdog.listen()
    watchdog.interrupt(Interrupted())
    time.sleep(0.01)  # nobody waits
    dog = Watchdog("probe:x")
    with pytest.raises(Interrupted), dog:
        watchdog.interrupt(Interrupted())
        time.sleep(5)
    dog.close()
    with pytest.raises(Interrupted):
        watchdog.interrupt(Interrupted(), lambda: True)
        time.sleep(5)


def test_host_vector_hanging_copy_raises_naming_it(monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK", 0.05)
    env = envs.make(STUCK, 2, timeout=0.1)
    env.reset([5, 6])
    with pytest.raises(EnvError, match=r"copy 1, step 1 of the episode with seed 6: it gave no answer"):
        env.step({"action": np.array([0, 1])})
    env.close()


def test_host_vector_interrupted_in_a_step_is_not_swallowed(monkeypatch):
    def wait(self):
        raise Interrupted

    monkeypatch.setattr(faulty_env.Stuck, "wait", wait)
    env = envs.make(STUCK)
    env.reset([5])
    with pytest.raises(Interrupted):
        env.step({"action": np.array([1])})
    env.close()


ORPHAN = f"""
import os, threading
import multiprocessing, numpy as np
import envs
from envs import watchdog
if __name__ == "__main__":
    env = envs.make("{STUCK}", 2, parallel=True, timeout=0.1)
    env.reset([5, 6])
    try:
        env.step({{"action": np.array([0, 1])}})
    except envs.EnvError as error:
        print(error)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    os._exit(0)  # as a killed process ends
"""


def test_worker_processes_of_a_killed_parent_end_even_when_hanging(tmp_path):
    (tmp_path / "main.py").write_text(ORPHAN)
    path = os.pathsep.join([os.path.dirname(faulty_env.__file__), *sys.path])
    surroundings = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, str(tmp_path / "main.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings)
    error, pids = done.stdout.splitlines()
    assert "copy 1, step 1 of the episode with seed 6: it gave no answer for 0.1 s" in error
    assert "Traceback" not in done.stderr and len(pids.split()) == 2
    until = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids.split()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [pid for pid in pids.split() if os.path.exists(f"/proc/{pid}")]


def test_leave_kills_children_and_exits(monkeypatch):
    done = []
    child = SimpleNamespace(kill=lambda: done.append("killed"))
    monkeypatch.setattr(watchdog.multiprocessing, "active_children", lambda: [child])
    monkeypatch.setattr(watchdog.os, "_exit", done.append)
    watchdog.leave(128 + signal.SIGTERM, "over")
    assert done == ["killed", 143]
