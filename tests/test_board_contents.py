"""Damaged content is refused with the name of its file, and odd values do not look like numbers."""

import json

import pytest

from experiments.board import contents
from experiments.board.contents import Damaged
from experiments.board.files import Files


@pytest.fixture
def folder(tmp_path):
    with Files(tmp_path).folder("") as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "result.json is damaged"),
        ("[1]", r"result.json is damaged \(it holds something else\)"),
        ("[" * 100_000, r"result.json is damaged \(it is nested too deep\)"),
        ("\udcff", "result.json is damaged"),
    ],
)
def test_json_of_damaged_file_raises_with_its_name(folder, tmp_path, text, why):
    (tmp_path / "result.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Damaged, match=why):
        contents.json_of(folder, "result.json", dict)


def test_json_of_missing_file_is_empty_and_toml_of_raises(folder):
    assert contents.json_of(folder, "none", dict) == {} and contents.json_of(folder, "none", list) == []
    with pytest.raises(Damaged, match="none is missing"):
        contents.toml_of(folder, "none")


def test_json_of_symbolic_link_raises_without_its_content(folder, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "result.json").symlink_to(tmp_path / "secret")
    with pytest.raises(Damaged, match="^result.json cannot be read") as error:
        contents.json_of(folder, "result.json", dict)
    assert "secret" not in str(error.value)


def test_rows_of_leaves_out_what_is_no_row():
    rows = [b'{"env_steps": 1}', b'{"env_steps": "2"}', b"[]", b'{"env_st', b'{"env_steps": NaN}', b""]
    assert contents.rows_of(rows) == [{"env_steps": 1}]


@pytest.mark.parametrize("value", [None, "1", [], float("nan"), float("inf"), 10**400, json.loads("-1e999")])
def test_number_of_anything_else_is_none(value):
    assert contents.number(value) is None and contents.whole(value) is None


def test_number_of_numbers_and_truth_values_is_a_number():
    assert contents.number(1.5) == 1.5 and contents.number(True) == 1.0 and contents.whole(2.9) == 2
    assert contents.mean([1.0, None, 0.0]) == 0.5 and contents.mean([None]) is None
