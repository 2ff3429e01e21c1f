"""The processes of one run: who is who, agreement, and the end of one of them."""

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import part_of_run
import pytest

from dreamer import processes
from dreamer.checkpoint import CheckpointStore
from dreamer.loops.loop import ReplayFiles
from dreamer.processes import ALONE, Elsewhere, Processes, meet
from dreamer.schema import ConfigError

HERE = Path(__file__).parent


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Ends:
    """What each process ended with: {index: (code, sentence)}."""

    def __init__(self):
        self.ends, self._changed = {}, threading.Condition()

    def of(self, index):
        def leave(code, sentence):
            with self._changed:
                self.ends.setdefault(index, (code, sentence))
                self._changed.notify_all()

        return leave

    def wait(self, index, seconds=10):
        with self._changed:
            assert self._changed.wait_for(lambda: index in self.ends, seconds)
            return self.ends[index]


@pytest.fixture
def ends():
    return Ends()


@pytest.fixture
def met(ends):
    """Makes processes of this one, connected over the loopback."""
    opened = []

    def make(count):
        port = free_port()
        one = lambda i: meet(i, count, "127.0.0.1", port, ends.of(i), {"number": i}, limit=10)
        with ThreadPoolExecutor(count) as pool:
            results = list(pool.map(one, range(count)))
        assert all(about == [{"number": i} for i in range(count)] for _, about in results)
        opened.extend(us for us, _ in results)
        return [us for us, _ in results]

    yield make
    for us in opened:
        us.line._closed.set()
        for connection in us.line._sockets.values():
            connection.close()


def all_of(functions):
    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(10) for future in [pool.submit(function) for function in functions]]


def test_alone_gathers_its_message_and_nothing_else():
    assert ALONE.gather("x") == ["x"] and ALONE.first(3) == 3 and ALONE.is_first
    assert ALONE.share(5, "n") == 5 and list(ALONE.part(3)) == [0, 1, 2]
    ALONE.fail("nothing listens")


def test_share_is_refused_where_it_is_not_equal():
    assert Processes(1, 3).share(6, "n") == 2
    with pytest.raises(ConfigError, match="3 processes cannot share n 7 equally"):
        Processes(1, 3).share(7, "n")


def test_join_is_the_inverse_of_part():
    parts = [[f"copy {i}" for i in Processes(index, 3).part(6)] for index in range(3)]
    assert Processes(0, 3).join(parts) == [f"copy {i}" for i in range(6)]


def test_gather_gives_all_messages_in_order_again_and_again(met):
    group = met(3)
    for turn in range(3):
        answers = all_of([lambda us=us, turn=turn: us.gather([us.index, turn]) for us in group])
        assert answers == [[[0, turn], [1, turn], [2, turn]]] * 3
    assert all_of([lambda us=us: us.first(us.index * 10) for us in group]) == [0, 0, 0]


def test_gather_takes_numbers_of_numpy(met):
    message = {"n": np.int64(3), "x": np.float32(0.5), "list": np.arange(2)}
    answers = all_of([lambda us=us: us.gather(message) for us in met(2)])
    assert answers[0] == answers[1] == [{"n": 3, "x": 0.5, "list": [0, 1]}] * 2


@pytest.mark.parametrize(("failing", "sentence"), [(0, "it fails"), (1, r"process 1 \(.+\): it fails")])
def test_fail_raises_in_all_others_which_can_gather_again(met, failing, sentence):
    def act(us):
        if us.index == failing:
            us.fail("it fails")
        else:
            with pytest.raises(Elsewhere, match=f"^{sentence}$"):
                us.gather("x")
        return us.gather(us.index)

    assert all_of([lambda us=us: act(us) for us in met(3)]) == [[0, 1, 2]] * 3


@pytest.mark.parametrize("lost", [0, 1])
def test_lost_process_ends_all_others_with_one_sentence(met, ends, lost):
    group = met(3)
    group[lost].line._closed.set()  # it says nothing more, as one that was killed
    for connection in group[lost].line._sockets.values():
        connection.shutdown(socket.SHUT_RDWR)
    first = 0 if lost else 1
    code, sentence = ends.wait(first)
    assert code == 1
    assert sentence.startswith(f"process {lost} (") and "has ended; rerun the same command" in sentence
    code, sentence = ends.wait(2)
    assert code == 1 and bool(sentence) == (lost == 0)  # process 0 speaks for the others while it lives


def test_silent_process_is_given_up(met, ends, monkeypatch):
    monkeypatch.setattr(processes, "SILENCE", 0.5)
    monkeypatch.setattr(processes, "BEAT", 60.0)
    met(2)
    assert "no sign of life" in ends.wait(0)[1]


def test_signs_of_life_keep_waiting_processes(met, ends, monkeypatch):
    monkeypatch.setattr(processes, "SILENCE", 1.0)
    monkeypatch.setattr(processes, "BEAT", 0.1)
    met(2)
    time.sleep(2.0)
    assert not ends.ends


def test_close_of_all_is_quiet(met, ends):
    group = met(3)
    all_of([us.line.close for us in group])
    time.sleep(0.5)
    assert not ends.ends


def test_close_with_an_error_is_said_by_process_0_and_ends_the_others(met, ends, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    group = met(3)
    group[1].line.close(2, "a package is missing")
    code, sentence = ends.wait(0)
    assert code == 2 and sentence.startswith("process 1 (") and sentence.endswith("): a package is missing")
    assert ends.wait(2) == (2, "")


def test_close_with_an_error_of_process_0_ends_the_others_silently(met, ends):
    group = met(2)
    threading.Thread(target=group[0].line.close, args=(2, "no such field"), daemon=True).start()
    assert ends.wait(1) == (2, "")


@pytest.mark.parametrize("asked", [0, 1])
def test_signal_of_one_process_reaches_all_once(met, asked):
    group = met(3)
    heard = {us.index: [] for us in group}
    for us in group:
        us.line.asked = heard[us.index].append
    group[asked].line.signal = lambda: 15
    deadline = time.monotonic() + 5
    while sum(map(len, heard.values())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    assert heard == {i: [] if i == asked else [15] for i in range(3)}


def test_meet_process_that_does_not_start_is_named():
    with pytest.raises(ConfigError, match="of 3 processes these did not start within 0 s: 1, 2"):
        meet(0, 3, "127.0.0.1", free_port(), print, limit=0.2)


def test_meet_without_process_0_says_where_it_was_expected():
    port = free_port()
    with pytest.raises(ConfigError, match=f"process 1 does not reach process 0 at 127.0.0.1:{port} within"):
        meet(1, 2, "127.0.0.1", port, print, limit=0.2)


@pytest.mark.parametrize(
    ("index", "count", "why"),
    [(1, 4, "it expects 4 processes, process 0 expects 3"), (5, 3, "the numbers are 0 to 2")],
)
def test_meet_process_that_does_not_fit_is_refused_on_both_sides(index, count, why):
    port = free_port()

    def meeting(index, count):
        with pytest.raises(ConfigError, match=why):
            meet(index, count, "127.0.0.1", port, print, limit=5)

    all_of([lambda: meeting(0, 3), lambda: meeting(index, count)])


def test_meet_ignores_what_is_no_process():
    port = free_port()

    def intrude():
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(b"GET / HTTP/1.0\n")
                    return connection.recv(1)
            except ConnectionRefusedError:
                time.sleep(0.01)

    def second():
        assert intrude() == b""
        return meet(1, 2, "127.0.0.1", port, print, limit=5)[0]

    first, second = all_of([lambda: meet(0, 2, "127.0.0.1", port, print, limit=5)[0], second])
    all_of([first.line.close, second.line.close])


# Real processes.


def train(count, folder, mesh="", split_from=2**18, parts=1):
    """What `part_of_run` writes in so many processes."""
    port = free_port()
    words = [sys.executable, str(HERE / "part_of_run.py")]
    command = lambda i: [*words, *map(str, (i, count, port, folder, mesh, split_from, parts))]
    started = [
        subprocess.Popen(command(i), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for i in range(count)
    ]
    try:
        for process in started:
            output, _ = process.communicate(timeout=200)
            assert process.returncode == 0, output.decode()[-3000:]
    finally:
        for process in started:
            process.kill()
    with np.load(folder / f"{count}.npz") as file:
        return dict(file)


@pytest.mark.parametrize(
    ("count", "mesh", "split_from"),
    [
        (2, "fsdp=2", 64),
        pytest.param(2, "data=2", 64, marks=pytest.mark.slow),
        pytest.param(4, "data=2,fsdp=2", 64, marks=pytest.mark.slow),
    ],
)
def test_processes_learn_as_one_with_the_replay_in_parts(
    count, mesh, split_from, tmp_path, compilation_cache
):
    """The host loop, acting included, 20 updates in float32: losses and parameters to 1e-5."""
    ours, theirs = train(count, tmp_path, mesh, split_from), train(1, tmp_path, parts=count)
    a, b = ours["params"], theirs["params"]
    part_of_run.assert_same((ours["losses"], a), (theirs["losses"], b))
    assert np.linalg.norm(b - theirs["before"]) > 1e-3 * np.linalg.norm(b)  # it learned

    # One process continues from their checkpoint: the same learner, and all of the replay.
    store = CheckpointStore(tmp_path / str(count))
    loop = part_of_run.build(ALONE)
    step, arrays, meta = store.load(loop.template)
    files = ReplayFiles(store.replay_folder, store.replay_files(step), store.replay_parts(step))
    assert len(files.parts) == count
    loop.restore(arrays, meta, files)
    np.testing.assert_array_equal(part_of_run.flat(loop.state.params), a)
    with np.load(tmp_path / "rows.npz") as rows:
        for i in range(count):
            for name in ("action/action", "reward", "is_first"):
                stored, expected = loop.replay._ring[name][i::count], rows[f"{name} {i}"]
                np.testing.assert_array_equal(stored[:, : expected.shape[1]], expected)
    assert loop.replay.inserted == expected.shape[1] == meta["replay"]["inserted"]
