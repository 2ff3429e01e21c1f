"""Runs in one process: they come and go by messages, and what goes wrong in one stays with it."""

import os
import socket
import tempfile
import threading
import time
from types import SimpleNamespace

import pytest

from dreamer import schema
from dreamer.config import Config
from dreamer.placement import SINGLE
from dreamer.schema import ConfigError
from experiments.sweep import executor, slots
from experiments.sweep.trial import Part, TrialFailed

SHARED = object()
"""The programs of every run."""


class Counting:
    """In the place of a `Slot`: a run of three turns, or of as many as its learning rate says."""

    made: list["Counting"] = []

    def __init__(self, cfg, folder, shared, lock, stop):
        self.folder, self.lock, self.turns, self.cpu_seconds = folder, lock, 0, 0.0
        self.most = cfg.seed or 3
        self.saved = self.is_closed = False
        loop = SimpleNamespace(compiled=SHARED, progress=SimpleNamespace(slots=0))
        self.loop = loop
        self.run = SimpleNamespace(
            loop=loop, program=shared, done=False, end=self.end, fork_from=self.fork_from, folder=folder
        )
        self.led: list[tuple[str, int, int]] = []
        self.made.append(self)

    def end(self):
        self.saved = True

    def fork_from(self, leader, cfg):
        self.led.append((leader.folder.name, leader.loop.progress.slots, cfg.seed))
        self.most = cfg.seed

    def take(self, turn):
        self.turns += 1
        self.run.loop.progress.slots += 1
        if self.folder.name == "mad":
            raise ConfigError("loss/total is\nnan")
        if self.folder.name == "wrong":
            raise ZeroDivisionError("division by zero")
        time.sleep(0.01)
        return self.turns == self.most

    def close(self):
        os.close(self.lock)
        self.is_closed = True


@pytest.fixture
def worker(monkeypatch, tmp_path):
    """An executor whose other end works in a thread of this process."""
    monkeypatch.setattr(Counting, "made", [])
    monkeypatch.setattr(slots, "Slot", Counting)
    monkeypatch.setattr(slots.members, "advance", lambda loops, placement: [None] * len(loops))
    monkeypatch.setattr(slots.SlotWorker, "_workspace", lambda self, cfg: object())
    ours, theirs = socket.socketpair()
    stop: list[int] = []
    thread = threading.Thread(
        target=lambda: (slots.SlotWorker(theirs, 2, SINGLE).go_on(stop), theirs.close())
    )
    thread.start()
    found = executor.BatchedExecutor(0, 2)
    found._socket, found._slots = ours, 2
    found._said = tempfile.TemporaryFile()  # noqa: SIM115  # the executor closes it
    found._process = SimpleNamespace(wait=lambda: thread.join(10) or 0)
    yield SimpleNamespace(executor=found, thread=thread, stop=stop, ours=ours)
    found.close()
    assert not thread.is_alive() and all(slot.is_closed for slot in Counting.made)


def begin(worker, folder, seed=0) -> Part:
    part = Part(Config("grid:Catch", 100, seed=seed), folder)
    folder.parent.mkdir(exist_ok=True)
    lock = os.open(folder.parent / "lock", os.O_RDWR | os.O_CREAT)
    worker.executor.start(part, lock)
    os.close(lock)
    return part


def ended(worker, count) -> dict[str, Exception | None]:
    found = {}
    for _ in range(200):
        found |= {end.part.folder.name: end.error for end in worker.executor.wait(0.05)}
        if len(found) >= count:
            return found
    raise AssertionError(f"only {found}")


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def test_slot_worker_several_runs_proceed_until_each_is_done(worker, tmp_path):
    for name, turns in (("long", 6), ("short", 2)):
        begin(worker, tmp_path / name, turns)
    assert ended(worker, 1) == {"short": None}
    begin(worker, tmp_path / "next", 1)
    assert ended(worker, 2) == {"next": None, "long": None}
    assert {slot.folder.name: slot.turns for slot in Counting.made} == {"long": 6, "short": 2, "next": 1}


def test_slot_worker_failing_run_does_not_affect_the_others(worker, tmp_path):
    for name in ("mad", "wrong", "well"):
        begin(worker, tmp_path / name)
    told = ended(worker, 3)
    assert told["well"] is None
    assert isinstance(told["mad"], TrialFailed) and str(told["mad"]) == "loss/total is nan"
    assert str(told["wrong"]) == "ZeroDivisionError: division by zero"
    assert (
        "in take" in (tmp_path / executor.LOG).read_text()
    )  # the trace of a fault of the program, for its mender


def test_slot_worker_missing_trial_folder_is_created(worker, tmp_path):
    """The best trials are trained anew in folders that nobody has made."""
    with (tmp_path / "lock").open("w") as lock:
        worker.executor.start(
            Part(Config("grid:Catch", 100), tmp_path / "fresh" / "0001" / "well"), lock.fileno()
        )
    assert ended(worker, 1) == {"well": None}
    assert (tmp_path / "fresh" / "0001" / "well.toml").is_file()


def test_slot_worker_end_saves_and_closes_the_run(worker, tmp_path):
    part = begin(worker, tmp_path / "endless", 10**6)
    worker.executor.end(part)
    worker.executor.end(part)
    assert ended(worker, 1) == {"endless": None}
    (slot,) = Counting.made
    assert slot.saved and slot.is_closed


def test_slot_worker_copy_forks_from_the_leader_at_equal_progress(worker, tmp_path):
    follower = begin(worker, tmp_path / "follower", 10**6)
    wait_for(lambda: Counting.made and Counting.made[0].turns >= 5)
    leader = begin(worker, tmp_path / "leader", 60)
    worker.executor.copy(Part(schema.replace_paths(follower.cfg, {"seed": 50}), follower.folder), leader)
    assert ended(worker, 2) == {"leader": None, "follower": None}
    one = Counting.made[0]
    ((name, slots, seed),) = one.led
    assert (name, seed) == ("leader", 50) and 5 <= slots <= one.turns == 50


def test_slot_worker_stop_saves_every_run(worker, tmp_path):
    begin(worker, tmp_path / "a", 10**6)
    begin(worker, tmp_path / "b", 10**6)
    wait_for(lambda: len(Counting.made) == 2)
    worker.stop.append(15)
    worker.thread.join(10)
    assert all(slot.saved for slot in Counting.made)
    assert ended(worker, 2) == {"a": None, "b": None}


def test_slot_worker_gone_process_reports_run_died(worker, tmp_path):
    worker.stop.append(9)
    begin(worker, tmp_path / "first", 10**6)
    worker.thread.join(10)
    begin(worker, tmp_path / "second", 10**6)
    told = ended(worker, 2)
    assert isinstance(told["second"], executor.RunDied) and "is gone" in str(told["second"])


def test_slot_worker_invalid_config_fails_and_releases_its_lock(worker, tmp_path, monkeypatch):
    def impossible(self, cfg):
        raise ConfigError("the replay does not fit")

    monkeypatch.setattr(slots.SlotWorker, "_workspace", impossible)
    begin(worker, tmp_path / "big")
    assert str(ended(worker, 1)["big"]) == "the replay does not fit"
    held = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
    assert str(tmp_path / "lock") not in held
