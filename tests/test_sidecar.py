"""What lies beside a run is read if it can be, and never stops anything."""

import pytest

from experiments import sidecar

DAMAGED = [b"", b'{"run": ', b"\xff\xfe\x00", b"[1]", b"[" * 100_000]


def test_read_valid_file_returns_its_content(tmp_path, capsys):
    path = tmp_path / "result.json"
    assert sidecar.read(path) == {}
    path.write_bytes(b'\xef\xbb\xbf{"updates": 3}')
    assert sidecar.read(path) == {"updates": 3}
    sidecar.keep_damaged(path)
    assert sidecar.read(path / "environment.json") == {}  # beside an exported file, which is no folder
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"] and not capsys.readouterr().err


@pytest.mark.parametrize("content", DAMAGED)
def test_read_damaged_file_warns_and_leaves_it(tmp_path, content, capsys):
    path = tmp_path / "result.json"
    path.write_bytes(content)
    assert sidecar.read(path) == {}
    assert "result.json is damaged" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_keep_damaged_several_files_are_all_renamed(tmp_path, capsys):
    path = tmp_path / "result.json"
    for content in DAMAGED[:3]:
        path.write_bytes(content)
        sidecar.keep_damaged(path)
        assert not path.exists() and "keeps it" in capsys.readouterr().err
    names = [f"result.json.damaged{number}" for number in ("", "-2", "-3")]
    assert [(tmp_path / name).read_bytes() for name in names] == DAMAGED[:3]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'[{"trial": 1}]'])
def test_read_rows_damaged_list_returns_the_valid_rows(tmp_path, content, capsys):
    path = tmp_path / "fresh.json"
    assert sidecar.read_rows(path, "trial", "score") == []
    path.write_bytes(content)
    assert sidecar.read_rows(path, "trial", "score") == []
    assert "fresh.json is damaged" in capsys.readouterr().err
    path.write_bytes(b'[{"trial": 1, "score": 2, "reason": "x"}, 7]')
    assert sidecar.read_rows(path, "trial", "score") == [{"trial": 1, "score": 2, "reason": "x"}]
    sidecar.keep_damaged(path, list)
    assert path.exists()
    path.write_bytes(b"{}")
    sidecar.keep_damaged(path, list)
    assert (tmp_path / "fresh.json.damaged").read_bytes() == b"{}"
