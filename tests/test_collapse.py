"""A collapse is reported once, and never of a world that showed little from the start."""

import json
from types import SimpleNamespace

import pytest

from experiments.training import collapse
from experiments.training.agents import OneAgent
from experiments.training.collapse import CollapseWatch
from experiments.training.population import Member, Population


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


@pytest.mark.parametrize("is_population", [False, True])
def test_log_of_agents_whose_tokens_collapse_gives_a_notice(tmp_path, is_population):
    notices, logger = [], SimpleNamespace(metrics=lambda row: None, tick=lambda *_: None)
    folder = SimpleNamespace(path=tmp_path, logger=logger, notice=notices.append, cpu_seconds=1.0)
    loop = SimpleNamespace(
        progress=SimpleNamespace(env_steps=1, updates=1), rest=lambda solved: None, failures={}
    )
    evaluator = SimpleNamespace(until=SimpleNamespace(solved={}))
    agents = OneAgent(folder, None, loop, evaluator)
    if is_population:
        agents = Population([Member(None, tmp_path, logger)], folder, None, loop, evaluator)
    for row in rows((20, 1), (1, 1), (1, 1)):
        output = SimpleNamespace(running_since=0.0, episodes=[], metrics=[row])
        agents.collect([output] if is_population else output)
        agents.log()
    assert len(notices) == 1 and "the representation has collapsed" in notices[0]
    assert notices[0].startswith("member 000: " if is_population else "the rep")
