"""A followed run has a page of its newest checkpoint, and the browser loads it by itself."""

import http.client
import socket
import threading
from types import SimpleNamespace

import pytest

from dreamer.checkpoint import CheckpointError
from dreamer.schema import ConfigError
from experiments.report import watch
from experiments.report.watch import Watch


class Followed:
    """A run that saves when told to, and a page that says of what it was made."""

    def __init__(self, folder):
        self.saved, self.made, self.said = [], [], []
        self.page = folder / "report.html"
        self.fails: BaseException | None = None
        store = SimpleNamespace(steps=lambda: list(self.saved))
        self.told = store, self.make, self.said.append

    def make(self):
        if self.fails is not None:
            raise self.fails
        self.made.append(self.saved[-1])
        self.page.write_text(f"<html><body>step {self.made[-1]}</body></html>")
        return self.page


@pytest.fixture
def run(tmp_path):
    return Followed(tmp_path)


def shown(found: Watch) -> str:
    return found.page().body.decode()


def test_watch_new_checkpoints_are_each_rendered_once(run):
    found = Watch(*run.told)
    assert not found.look() and run.made == []
    run.saved += [10]
    assert found.look() and not found.look()
    run.saved += [20, 30]
    assert found.look() and not found.look()
    assert run.made == [10, 30] and "step 30" in shown(found)


def test_watch_new_page_increments_the_version(run):
    found, versions = Watch(*run.told), []
    for step in (10, 20):
        versions.append(found.version().body)
        run.saved.append(step)
        found.look()
        found.look()
    assert [*versions, found.version().body] == [b"0", b"1", b"2"]


def test_watch_before_the_first_checkpoint_shows_a_waiting_page(run):
    assert "Waiting for the first report" in shown(Watch(*run.told))


def test_watch_every_page_polls_the_version(run):
    found = Watch(*run.told)
    assert shown(found).count('fetch("/version"') == 1
    run.saved.append(10)
    found.look()
    assert shown(found).count('fetch("/version"') == 1
    assert shown(found).endswith("</body></html>") and "fetch" not in run.page.read_text()


def test_watch_page_knows_its_own_version_whenever_it_first_asks(run):
    """A page that took the first answer for its own version would never reload if that were already newer."""
    found = Watch(*run.told)
    for i in range(3):
        assert f'shown = "{found.version().body.decode()}"' in shown(found) and f'"{i}"' in shown(found)
        run.saved.append(i)
        found.look()


def test_watch_vanished_checkpoint_is_reported_once_and_retried(run):
    found = Watch(*run.told)
    run.saved.append(10)
    found.look()
    run.saved.append(20)
    run.fails = CheckpointError("checkpoint 20 is gone")
    assert not found.look() and not found.look()
    assert run.said == ["checkpoint 20 is gone"]
    assert "step 10" in shown(found) and found.version().body == b"1"
    run.fails = None
    assert found.look() and "step 20" in shown(found)


def test_watch_port_in_use_raises_before_rendering(run):
    run.saved.append(10)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="choose another --port"):
            watch.watch(run.told[0], run.told[1], taken.getsockname()[1], run.said.append)
    assert run.made == []


def test_watch_server_follows_until_interrupted(run, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.01)
    ends, serving = [], threading.Event()

    def say(text):
        run.said.append(text)
        serving.set()

    store, make, _ = run.told
    thread = threading.Thread(target=lambda: ends.append(watch.watch(store, make, 0, say)))
    thread.start()
    assert serving.wait(30)
    assert "shows the run and follows it; Ctrl-C ends" in run.said[0]
    port = int(run.said[0].split("/")[2].split(":")[1])

    def ask(path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    def follow(version):
        while thread.is_alive() and ask("/version") != version:
            pass
        return ask("/")

    assert "Waiting" in follow("0")
    run.saved.append(10)
    assert "step 10" in follow("1")
    run.saved.append(20)
    assert "step 20" in follow("2")
    run.fails = KeyboardInterrupt()
    run.saved.append(30)
    thread.join(30)
    assert ends == [0]
    with pytest.raises(ConnectionRefusedError):
        ask("/")
