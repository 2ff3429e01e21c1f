"""The folder of a comparison of objectives."""

import objective_runs
import pytest
from objective_runs import store

from dreamer import schema
from dreamer.schema import ConfigError
from experiments.objectives.runs import Comparison, prepare
from experiments.sweep.runset import DONE, FAILED, MISSING, UNFINISHED


def test_parts_of_a_seed_differ_in_the_objective_alone(tmp_path):
    plan = objective_runs.plan("reconstruction", "none", "my.module:Mine", seeds=2, seed=3)
    parts = prepare(tmp_path / "x", plan).parts
    assert [(p.cfg.agent.objective, p.cfg.seed, p.folder.name) for p in parts[:4]] == [
        ("reconstruction", 3, "reconstruction-seed3"),
        ("none", 3, "none-seed3"),
        ("my.module:Mine", 3, "my-module-Mine-seed3"),
        ("reconstruction", 4, "reconstruction-seed4"),
    ]
    changed = [path for path, _, _ in schema.diff(parts[0].cfg, parts[1].cfg)]
    assert changed == ["agent.objective"] and len(parts) == 6


def test_state_follows_files_of_a_run(tmp_path):
    comparison = prepare(tmp_path / "x", objective_runs.plan("reconstruction", "none", seeds=2))
    a, b, c, d = comparison.parts
    store(a)
    store(b, steps=300)
    comparison.fail(c, "loss/total\nis nan")
    assert [comparison.state(part) for part in (a, b, c, d)] == [DONE, UNFINISHED, FAILED, MISSING]
    assert [comparison.why_not_done(part) for part in (a, b, c, d)] == [
        "",
        "has taken 300 of 1,000 steps",
        "loss/total is nan",
        "has not begun",
    ]
    assert comparison.title(c) == "reconstruction seed 1"


def test_prepare_adds_objectives_seeds_and_steps(tmp_path):
    prepare(tmp_path / "x", objective_runs.plan("none"))
    more = objective_runs.plan("reconstruction", "none", seeds=2, steps=2000, **{"log.every": 3.0})
    assert len(prepare(tmp_path / "x", more).parts) == 4
    assert Comparison(tmp_path / "x").plan == more


@pytest.mark.parametrize(
    ("objectives", "changes", "message"),
    [
        (("none",), {}, "objectives had reconstruction"),
        (("reconstruction", "none"), {"seeds": 1}, "seeds was 2, now 1"),
        (("reconstruction", "none"), {"steps": 500}, "steps was 1000, now 500"),
        (("reconstruction", "none"), {"task": "probe:memory"}, "task was probe:chosen, now probe:memory"),
        (("none", "reconstruction"), {"loop.train_ratio": 8.0}, "loop.train_ratio was 4.0, now 8.0. Choose"),
    ],
)
def test_prepare_with_other_settings_is_refused(objectives, changes, message, tmp_path):
    prepare(tmp_path / "x", objective_runs.plan("reconstruction", "none", seeds=2))
    with pytest.raises(ConfigError, match=message):
        prepare(tmp_path / "x", objective_runs.plan(*objectives, **{"seeds": 2, **changes}))


def test_prepare_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is no comparison of objectives"):
        prepare(tmp_path, objective_runs.plan("none"))
