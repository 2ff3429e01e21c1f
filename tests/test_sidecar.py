"""What lies beside a run is read if it can be, and never stops anything."""

import pytest

from experiments import sidecar

DAMAGED = [b"", b'{"run": ', b"\xff\xfe\x00", b"[1]", b"[" * 100_000]


def test_what_is_whole_is_read(tmp_path, capsys):
    path = tmp_path / "result.json"
    assert sidecar.read(path) == {}
    path.write_bytes(b'\xef\xbb\xbf{"updates": 3}')
    assert sidecar.read(path) == {"updates": 3}
    sidecar.keep_damaged(path)
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"] and not capsys.readouterr().err


@pytest.mark.parametrize("content", DAMAGED)
def test_what_is_damaged_is_said_and_left_to_readers(tmp_path, content, capsys):
    path = tmp_path / "result.json"
    path.write_bytes(content)
    assert sidecar.read(path) == {}
    assert "result.json is damaged" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_whoever_writes_keeps_every_damaged_one(tmp_path, capsys):
    path = tmp_path / "result.json"
    for content in DAMAGED[:3]:
        path.write_bytes(content)
        sidecar.keep_damaged(path)
        assert not path.exists() and "keeps it" in capsys.readouterr().err
    names = [f"result.json.damaged{number}" for number in ("", "-2", "-3")]
    assert [(tmp_path / name).read_bytes() for name in names] == DAMAGED[:3]
