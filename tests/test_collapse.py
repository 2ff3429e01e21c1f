"""A collapse is reported once, and never of a world that showed little from the start."""

import json

import pytest

from experiments.training import collapse
from experiments.training.collapse import CollapseWatch


def rows(*values):
    return [{"loss": 1.0, "tokens/rank": rank, "tokens/live": live} for rank, live in values]


def heard(*values):
    watch = CollapseWatch()
    return [bool(watch.hear(row)) for row in rows(*values)]


@pytest.mark.parametrize(
    ("values", "speaks"),
    [
        ([(20, 1), (5.1, 1), (4.9, 1), (1, 1), (20, 1), (1, 1)], [0, 0, 1, 0, 0, 0]),
        ([(20, 1), (20, 0.11), (20, 0.09)], [0, 0, 1]),
        ([(0, 0), (0, 0)], [0, 0]),
        ([(1.2, 0.1), (1, 0.05)], [0, 0]),
    ],
    ids=["rank", "live", "constant world", "small world"],
)
def test_hear_row_below_a_limit_speaks_once(values, speaks):
    assert heard(*values) == [bool(x) for x in speaks]


def test_hear_rows_without_tokens_are_silent():
    watch = CollapseWatch([{"loss": 1.0}, {"tokens/rank": None, "tokens/live": 1.0}])
    assert watch.hear({"loss": 2.0}) == "" and watch.hear(rows((1, 1))[0]) == ""


def test_of_resumed_run_compares_with_its_first_row_and_does_not_repeat(tmp_path):
    log = tmp_path / "metrics.jsonl"
    assert collapse.of(tmp_path).hear(rows((1, 1))[0]) == ""
    log.write_text("".join(json.dumps(row) + "\n" for row in rows((20, 1), (15, 1))))
    said = collapse.of(tmp_path).hear(rows((1, 1))[0])
    assert "effective rank of the tokens 20 at first, 1 now" in said and "dreamer doctor --run" in said
    log.write_text("".join(json.dumps(row) + "\n" for row in rows((20, 1), (1, 1))))
    assert collapse.of(tmp_path).hear(rows((1, 1))[0]) == ""
