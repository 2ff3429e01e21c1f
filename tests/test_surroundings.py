"""environment.json says what a world was made with, and somebody is told when that has changed."""

import json

import pytest

import envs
from dreamer.config import Config, EnvConfig
from experiments import surroundings

CFG = Config("minigrid:DoorKey-5x5", 100)


@pytest.fixture
def here(monkeypatch):
    """What the task is made of, to be changed."""
    found = {"minigrid": "3.2.0", "gymnasium": "1.4.0"}
    monkeypatch.setattr(envs, "made_of", lambda task, kwargs: dict(found))
    return found


def test_record_session_contains_the_package_versions(tmp_path, here):
    here["brax backend"] = "spring"
    surroundings.record(tmp_path, CFG)
    surroundings.record(tmp_path, CFG)
    sessions = surroundings.sessions(tmp_path)
    assert len(sessions) == 2 and sessions[-1]["versions"].items() >= here.items()
    assert {"jax", "numpy"} <= sessions[-1]["versions"].keys()


def test_world_versions_task_arguments_are_passed_on(monkeypatch):
    monkeypatch.setattr(envs, "made_of", lambda task, kwargs: {"backend": kwargs["backend"]})
    cfg = Config("brax:ant", 100, env=EnvConfig(kwargs='{"backend": "spring"}'))
    assert surroundings.world_versions(cfg) == {"backend": "spring"}


def test_world_versions_missing_task_is_empty():
    assert surroundings.world_versions(Config("gymnasium:absent:My-v0", 100)) == {}


@pytest.mark.parametrize("place", ["", "members/003", "checkpoints/step-000000000100", "agent.safetensors"])
def test_notice_changed_package_versions_print_one_sentence(tmp_path, here, capsys, place):
    surroundings.record(tmp_path, CFG)
    surroundings.notice(tmp_path / place, CFG)
    assert capsys.readouterr().err == ""
    here |= {"minigrid": "4.0.0", "new": "1.0"}
    surroundings.notice(tmp_path / place, CFG)
    assert capsys.readouterr().err == (
        f"{tmp_path} was trained with minigrid 3.2.0 (here 4.0.0): the same actions may lead elsewhere in "
        "minigrid:DoorKey-5x5\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"{",
            b"\xff\xfe\x00",
            b"[]",
            b"7",
            b'{"sessions": []}',
            b'{"sessions": 3}',
            b'{"sessions": [3]}',
        ),
        *(b'{"sessions": [{}]}', b'{"sessions": [{"versions": 3}]}', b'{"sessions": [{"versions": [1]}]}'),
    ],
)
def test_changed_damaged_record_is_ignored(tmp_path, here, content):
    path = tmp_path / surroundings.FILE
    path.write_bytes(content)
    assert surroundings.changed(tmp_path, CFG) == ""
    surroundings.record(tmp_path, CFG)
    assert json.loads(path.read_text())["sessions"][-1]["versions"]["minigrid"] == "3.2.0"


def test_changed_missing_record_is_ignored(tmp_path, here):
    assert surroundings.changed(tmp_path / "nowhere", CFG) == ""


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]"])
def test_record_damaged_file_is_kept_aside_and_started_again(tmp_path, content, capsys):
    (tmp_path / "environment.json").write_bytes(content)
    surroundings.record(tmp_path, CFG)
    assert len(json.loads((tmp_path / "environment.json").read_text())["sessions"]) == 1
    assert (tmp_path / "environment.json.damaged").read_bytes() == content
    assert "environment.json was damaged" in capsys.readouterr().err
