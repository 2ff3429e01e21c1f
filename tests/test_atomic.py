"""A file is written whole or not at all."""

import errno
import os

import pytest

from dreamer import atomic


def test_write_existing_file_replaces_it_without_temporary_files(tmp_path):
    atomic.write(tmp_path / "a.json", "1")
    atomic.write(tmp_path / "a.json", "\u00fc")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"\xc3\xbc"


def test_write_on_full_disk_names_file_and_keeps_old_content(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    atomic.write(tmp_path / "a.json", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as failed:
        atomic.write(tmp_path / "a.json", "new")
    assert failed.value.filename == str(tmp_path / "a.json")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_opened_body_raises_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic.opened(tmp_path / "a") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_publish_draft_folder_renames_it(tmp_path):
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / "a").write_text("1")
    atomic.publish(tmp_path / "draft", tmp_path / "folder")
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "a"]


def test_clean_folder_removes_only_temporary_files_of_killed_writer(tmp_path):
    (tmp_path / "a.json.4711.tmp").write_text("half")
    (tmp_path / "mine.tmp").write_text("mine")
    atomic.clean(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.tmp"]
