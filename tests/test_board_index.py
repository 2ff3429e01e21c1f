"""The index follows what happens below its folder, reads only what changed, and writes nothing."""

import json
import os
import tarfile
import time
from pathlib import Path

import pytest
from board_runs import config, many, store

from experiments import lock
from experiments.board.board import Board
from experiments.board.files import Folder
from experiments.board.index import Index

FORMATS = Path(__file__).parent / "formats"


def look(index: Index) -> None:
    """A look whose time has come."""
    index._due = 0.0
    assert index.look()


def aged(root: Path, seconds: float = 3600) -> Path:
    """The tree as it was left a while ago."""
    for path in [root, *root.rglob("*")]:
        os.utime(path, (time.time() - seconds,) * 2)
    return root


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read."""
    names = []
    opened = Folder._opened
    monkeypatch.setattr(Folder, "_opened", lambda self, name: names.append(name) or opened(self, name))
    return names


def test_look_second_time_reads_nothing(tmp_path, reads):
    index = Index(aged(many(tmp_path, 8)))
    look(index)
    version, rows = index.version, index.rows()
    assert len(rows) == 10 and reads
    reads.clear()
    look(index)
    assert reads == [] and index.version == version and index.rows(version) == []


def test_look_reads_only_the_run_that_changed(tmp_path, reads):
    for name in ("a", "b"):
        store(tmp_path / name, config(), ended=0.5, result=False)
    index = Index(aged(tmp_path))
    look(index)
    version = index.version
    reads.clear()
    with (tmp_path / "b" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"env_steps": 15_000, "seconds": 99.0}) + "\n")
    look(index)
    assert sorted(reads) == ["config.toml", "episodes.jsonl", "metrics.jsonl", "result.json"]  # once each
    (row,) = index.rows(version)
    assert (row.id, row.ready, row.status) == ("b", 15_000, "training")


def test_look_new_and_deleted_runs_come_and_go(tmp_path):
    index = Index(tmp_path)
    look(index)
    assert index.rows() == [] and index.is_complete
    folder = store(tmp_path / "runs" / "a", config())
    look(index)
    assert [row.id for row in index.rows()] == ["runs/a"]
    version = index.version
    folder.rename(tmp_path / "runs" / "b")
    look(index)
    assert [row.id for row in index.rows(version)] == ["runs/b"] and index.gone(version) == ["runs/a"]


def test_look_soon_after_another_does_nothing(tmp_path):
    index = Index(tmp_path)
    look(index)
    store(tmp_path / "a", config())
    assert index.look() and index.rows() == []


def test_look_with_little_time_continues_where_it_stopped(tmp_path):
    index, looks = Index(many(tmp_path, 8)), 1
    while not index.look(0.0):
        looks += 1
    assert looks > 8 and len(index.rows()) == 10


def test_look_skips_hidden_folders_environments_and_links(tmp_path):
    elsewhere = store(tmp_path / "elsewhere", config())
    root = tmp_path / "root"
    for place in (".hidden/a", "venv/a", "run/checkpoints/a"):
        store(root / place, config())
    (root / "venv" / "pyvenv.cfg").touch()
    (root / "link").symlink_to(elsewhere)
    store(root / "run", config())
    index = Index(root)
    look(index)
    assert [row.id for row in index.rows()] == ["run"]


def test_look_link_to_a_file_elsewhere_is_not_read(tmp_path):
    elsewhere = store(tmp_path / "elsewhere", config(7))
    folder = store(tmp_path / "root" / "a", config())
    (folder / "config.toml").unlink()
    (folder / "config.toml").symlink_to(elsewhere / "config.toml")
    index = Index(tmp_path / "root")
    look(index)
    (row,) = index.rows()
    assert (row.status, row.seed) == ("damaged", None) and index.settings() == {}


def test_locked_run_is_training_until_its_process_ends(tmp_path):
    folder = store(tmp_path / "a", config(), ended=0.5, result=False)
    index = Index(aged(tmp_path))
    with lock.held(folder, "trainer"):
        look(index)
        assert index.row("a").status == "training"
    look(index)
    assert index.row("a").status == "unfinished"


def test_lock_of_a_dead_process_does_not_count(tmp_path):
    folder = store(tmp_path / "a", config(), ended=0.5, result=False)
    identity = {**lock._identity("trainer"), "pid": 2**22 + 1}
    (folder / lock.NAME).write_text(json.dumps(identity))
    index = Index(aged(tmp_path))
    look(index)
    assert index.row("a").status == "unfinished"


def test_members_of_a_locked_population_are_training(tmp_path):
    folder = store(tmp_path / "p", config(), ended=0.5, result=False)
    store(folder / "members" / "000", config(), ended=0.5, result=False)
    index = Index(aged(tmp_path))
    with lock.held(folder, "trainer"):
        look(index)
        assert [(row.kind, row.status) for row in index.rows()] == [
            ("population", "training"),
            ("member", "training"),
        ]
    look(index)
    assert {row.status for row in index.rows()} == {"unfinished"}


def test_folder_changed_within_the_same_tick_is_listed_again(tmp_path):
    index = Index(tmp_path)
    look(index)
    before = os.stat(tmp_path)
    store(tmp_path / "a", config())
    os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    look(index)
    assert [row.id for row in index.rows()] == ["a"]


@pytest.fixture
def formats(tmp_path):
    """The run folders of earlier formats."""
    for file in FORMATS.glob("*.tar.xz"):
        with tarfile.open(file) as archive:
            archive.extractall(tmp_path / "formats", filter="data")
    return tmp_path / "formats"


def test_runs_of_earlier_formats_are_rows(formats):
    index = Index(formats)
    look(index)
    rows = {row.id: row for row in index.rows()}
    assert {id: row.kind for id, row in rows.items()} == {
        "fused": "run",
        "host": "run",
        "population": "population",
        "population/members/000": "member",
        "population/members/001": "member",
    }
    assert {(row.status, row.ready, row.total, row.problem) for row in rows.values()} == {
        ("done", 300, 300, "")
    }
    assert rows["host"].return_mean == 0.5 and rows["population"].success_rate == 0.25


def contents(root: Path) -> dict:
    """Everything in a tree, with its times."""
    paths = sorted([root, *root.rglob("*")])
    return {
        p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else sorted(os.listdir(p))) for p in paths
    }


def test_looking_at_runs_never_changes_them(formats):
    (store(formats / "damaged", config()) / "result.json").write_text("{")
    before = contents(formats)
    board = Board(formats)
    rows = json.loads(board.rows({"since": 0}).body)["rows"]
    ids = [row["id"] for row in rows]
    board.field({"name": "lr"})
    board.curves({"runs": ids, "curves": ["return", "loss"]})
    board.differences({"runs": ids})
    assert len(ids) == 6 and board.table()["rows"]
    assert [board.find(row["page"]) is not None for row in rows if row["page"]] == [True]
    assert contents(formats) == before
