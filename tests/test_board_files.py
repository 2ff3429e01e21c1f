"""Only regular files below the folder are read, however someone else has arranged them."""

import os

import pytest

from experiments.board.files import Files

SECRET = b"secret"


@pytest.fixture
def root(tmp_path):
    """A folder with a file, and beside it one that must not be read."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.toml").write_bytes(SECRET)
    (tmp_path / "root" / "run").mkdir(parents=True)
    (tmp_path / "root" / "run" / "config.toml").write_bytes(b"a = 1\n")
    return tmp_path / "root"


def test_read_file_below_the_root_returns_its_content(root):
    assert Files(root).read("run/config.toml", 100) == b"a = 1\n"


@pytest.mark.parametrize(
    "path",
    [
        "../outside/config.toml",
        "run/../../outside/config.toml",
        "run/./config.toml",
        "/etc/hostname",
        "run//config.toml",
        "run/config.toml/",
        "",
        "run",
        "run/config.toml\0",
        "none/config.toml",
    ],
)
def test_read_path_that_leads_elsewhere_raises(root, path):
    with pytest.raises(OSError):
        Files(root).read(path, 100)


def test_read_symbolic_link_to_a_file_raises(root):
    (root / "run" / "result.json").symlink_to(root.parent / "outside" / "config.toml")
    (root / "run" / "inner.json").symlink_to("config.toml")
    for name in ("result.json", "inner.json"):
        with pytest.raises(OSError):
            Files(root).read(f"run/{name}", 100)


def test_read_symbolic_link_to_a_folder_raises(root):
    (root / "linked").symlink_to(root.parent / "outside")
    with pytest.raises(OSError):
        Files(root).read("linked/config.toml", 100)


def test_root_that_is_a_symbolic_link_is_followed(root):
    (root.parent / "link").symlink_to(root)
    assert Files(root.parent / "link").read("run/config.toml", 100) == b"a = 1\n"


def test_listing_has_no_symbolic_links_and_no_pipes(root):
    (root / "linked").symlink_to(root.parent / "outside")
    (root / "file").symlink_to(root / "run" / "config.toml")
    os.mkfifo(root / "pipe")
    with Files(root).folder("") as folder:
        assert folder.listing() == (frozenset(), ("run",))


def test_read_pipe_raises_at_once(root):
    os.mkfifo(root / "run" / "metrics.jsonl")
    with pytest.raises(OSError, match="no regular file"):
        Files(root).read("run/metrics.jsonl", 100)
    with Files(root).folder("run") as folder:
        assert folder.tail("metrics.jsonl", 100) == [] and folder.head("metrics.jsonl", 100) == b""


def test_read_file_larger_than_the_limit_raises(root):
    with pytest.raises(OSError, match="more than 5 bytes"):
        Files(root).read("run/config.toml", 5)
    assert Files(root).read("run/config.toml", 6) == b"a = 1\n"


def test_tail_leaves_out_the_line_that_is_cut(root):
    (root / "log").write_bytes(b"one\ntwo\nthree\n")
    with Files(root).folder("") as folder:
        assert folder.tail("log", 100) == [b"one", b"two", b"three"]
        assert folder.tail("log", 7) == [b"three"]
        assert folder.tail("none", 7) == []


def appended(root, before=None, start=0):
    """The lines since a place, and the last stamp and place."""
    with Files(root).folder("") as folder:
        parts = list(folder.since("log", before, start))
    stamp, at, last = parts[-1]
    return b"".join(lines for _, _, lines in parts), stamp, at + len(last)


def test_since_returns_only_whole_lines_that_were_appended(root):
    (root / "log").write_bytes(b"one\ntw")
    lines, stamp, at = appended(root)
    assert (lines, at) == (b"one\n", 4)
    with (root / "log").open("ab") as file:
        file.write(b"o\nthree\n")
    assert appended(root, stamp, at)[0] == b"two\nthree\n"


@pytest.mark.parametrize("content", [b"new\n", b"one\ntwo\nthree\nfour\n"])
def test_since_replaced_file_is_read_from_its_beginning(root, content):
    (root / "log").write_bytes(b"one\ntwo\nthree\n")
    _, stamp, at = appended(root)
    (root / "other").write_bytes(content)
    (root / "other").rename(root / "log")
    assert appended(root, stamp, at)[0] == content


def test_since_large_file_comes_in_parts_of_whole_lines(root, monkeypatch):
    monkeypatch.setattr("experiments.board.files.CHUNK", 10)
    (root / "log").write_bytes(b"0123\n" * 7)
    with Files(root).folder("") as folder:
        parts = [lines for _, _, lines in folder.since("log", None, 0) if lines]
    assert len(parts) > 2 and all(lines.endswith(b"\n") for lines in parts)
    assert b"".join(parts) == b"0123\n" * 7
