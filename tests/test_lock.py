"""A folder has one holder, and one that died is none."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreamer.schema import ConfigError
from experiments import lock

ROOT = Path(__file__).parents[1]
HOLDER = (
    "import sys, time; from pathlib import Path; from experiments import lock\n"
    "with lock.held(Path(sys.argv[1]), 'comparison'): print('has it', flush=True); time.sleep(60)"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in (("BEAT", 0.02), ("STALE", 0.3), ("WATCH", 0.15), ("SETTLE", 0.05)):
        monkeypatch.setattr(lock, name, seconds)


@pytest.fixture
def other(tmp_path):
    """A process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def left(folder, **changes):
    """A lock as a process that does not beat any more left it."""
    path = folder / lock.NAME
    path.write_text(json.dumps(lock._identity("comparison") | changes))
    return path


def test_held_by_another_process_is_refused_naming_the_holder(tmp_path, other):
    began = time.monotonic()
    with pytest.raises(ConfigError) as refused, lock.held(tmp_path, "comparison", "another --out"):
        pass
    assert time.monotonic() - began < 5
    holder = json.loads((tmp_path / lock.NAME).read_text())
    for part in (
        f"process {other.pid}",
        holder["host"],
        holder["since"],
        "a comparison runs",
        "another --out",
    ):
        assert part in str(refused.value)
    assert other.poll() is None and os.listdir(tmp_path) == [lock.NAME]


@pytest.mark.parametrize("reaped", [False, True])
def test_held_after_the_holder_was_killed_is_acquired_immediately(tmp_path, other, reaped, monkeypatch):
    monkeypatch.setattr(lock, "STALE", 1e9)  # no clock has a part in it
    other.send_signal(signal.SIGKILL)
    if reaped:
        other.wait()
    else:
        time.sleep(0.2)  # it is a zombie, which still has its number
    with lock.held(tmp_path, "comparison"):
        pass
    assert not list(tmp_path.iterdir())


def test_held_after_process_id_reuse_is_acquired(tmp_path):
    left(tmp_path, began="1")  # our own number, but of a process that began otherwise
    with lock.held(tmp_path, "comparison"):
        pass


def test_held_twice_by_one_process_is_refused(tmp_path):
    with (
        lock.held(tmp_path, "comparison"),
        pytest.raises(ConfigError, match="in use"),
        lock.held(tmp_path, "x"),
    ):
        pass
    with lock.held(tmp_path, "comparison"):
        pass


def test_held_by_a_silent_remote_machine_is_acquired_after_the_timeout(tmp_path):
    path = left(tmp_path, machine="elsewhere", host="node7", pid=os.getpid())
    with pytest.raises(ConfigError, match="node7"), lock.held(tmp_path, "comparison"):
        pass  # it may live
    os.utime(path, (time.time() - 100,) * 2)
    with lock.held(tmp_path, "comparison"):
        pass


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
def test_held_by_an_active_remote_machine_with_clock_skew_is_refused(tmp_path, skew):
    path = left(tmp_path, machine="elsewhere", host="node7", pid=2**22 + 1)
    over = threading.Event()

    def beat():
        count = 0
        while not over.wait(0.02):
            count += 1
            os.utime(path, (time.time() + skew + count,) * 2)

    os.utime(path, (time.time() + skew,) * 2)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(ConfigError, match="node7, process 4194305"), lock.held(tmp_path, "comparison"):
            pass
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
def test_held_by_a_dead_remote_machine_with_clock_skew_is_acquired(tmp_path, skew):
    path = left(tmp_path, machine="elsewhere")
    os.utime(path, (time.time() + skew,) * 2)
    with lock.held(tmp_path, "comparison"):
        pass


def test_held_lock_file_is_touched_periodically(tmp_path):
    with lock.held(tmp_path, "comparison"):
        os.utime(tmp_path / lock.NAME, (1.0, 1.0))
        until = time.monotonic() + 10
        while (tmp_path / lock.NAME).stat().st_mtime == 1.0 and time.monotonic() < until:
            time.sleep(0.01)
        assert (tmp_path / lock.NAME).stat().st_mtime > 1.0


def test_held_stale_lock_and_many_waiters_is_acquired_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SETTLE", 0.5)
    left(tmp_path, pid=2**22 + 1)
    got, refused, start, end = [], [], threading.Barrier(8), threading.Event()

    def go_on():
        start.wait()
        try:
            with lock.held(tmp_path, "comparison"):
                got.append(1)
                end.wait()
        except ConfigError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=go_on) for _ in range(8)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while len(got) + len(refused) < 8 and time.monotonic() < until:
        time.sleep(0.02)
    end.set()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


@pytest.mark.parametrize("junk", ["", "{", "[]", '"x"', '{"pid": 1}', "\x00\x01"])
def test_held_unreadable_lock_file_is_refused_until_it_is_stale(tmp_path, junk):
    (tmp_path / lock.NAME).write_text(junk)
    with pytest.raises(ConfigError, match="cannot be read"), lock.held(tmp_path, "comparison"):
        pass
    os.utime(tmp_path / lock.NAME, (1.0, 1.0))
    with lock.held(tmp_path, "comparison"):
        pass


def test_held_lock_taken_over_reports_lost_and_leaves_the_new_file(tmp_path):
    with lock.held(tmp_path, "comparison") as mine:
        assert not mine.lost
        left(tmp_path, machine="elsewhere", host="node7")
        assert mine.lost
    assert json.loads((tmp_path / lock.NAME).read_text())["host"] == "node7"


def test_held_file_system_without_links_still_excludes_others(tmp_path, monkeypatch):
    def none(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    with (
        lock.held(tmp_path, "comparison"),
        pytest.raises(ConfigError, match="in use"),
        lock.held(tmp_path, "x"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_take_unwritable_folder_raises_config_error(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="cannot be written .*choose another --out"):
            lock.take(folder, "comparison", "another --out")


def test_held_error_inside_the_block_releases_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.held(tmp_path, "comparison"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_is_alive_looks_at_the_process_on_this_machine_and_at_the_time_elsewhere(tmp_path, other):
    path = tmp_path / lock.NAME
    content = path.read_bytes()
    assert lock.is_alive(content, age=1e6)
    elsewhere = json.dumps(json.loads(content) | {"machine": "another"}).encode()
    assert lock.is_alive(elsewhere, age=0.1) and not lock.is_alive(elsewhere, age=0.5)
    other.kill()
    other.wait()
    assert not lock.is_alive(content, age=0.0)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{}", b"[" * 100_000])
def test_is_alive_lock_that_cannot_be_read_goes_by_its_time(content):
    assert lock.is_alive(content, age=0.1) and not lock.is_alive(content, age=0.5)
