"""Many seeds say together what one cannot."""

import json

import jax
import numpy as np
import pytest
import tiny

from dreamer.agent import Agent
from experiments import chance, cli


def test_disturbed_params_flips_one_bit_of_every_parameter():
    params = tiny.agent().init(jax.random.key(0)).params
    moved = chance.disturbed(params)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(moved), strict=True):
        bits = np.asarray(a).view(np.uint32) ^ np.asarray(b).view(np.uint32)
        assert (bits == 1).all()
        assert np.abs(np.asarray(a) - np.asarray(b)).max() < 1e-6


def test_disturbance_context_changes_initial_parameters_only_inside():
    plain = jax.tree.leaves(tiny.agent().init(jax.random.key(0)).params)
    with chance.disturbance():
        state = Agent(tiny.OBS, tiny.ACT, tiny.CFG).init(jax.random.key(0))
    again = jax.tree.leaves(tiny.agent().init(jax.random.key(0)).params)
    assert all(np.array_equal(a, b) for a, b in zip(plain, again, strict=True))
    moved = jax.tree.leaves(state.params)
    assert any(not np.array_equal(a, b) for a, b in zip(plain, moved, strict=True))
    critics = zip(jax.tree.leaves(state.params["value"]), jax.tree.leaves(state.slow["value"]), strict=True)
    assert all(np.array_equal(a, b) for a, b in critics), "the slow critic starts as a copy"


def test_summary_several_runs_counts_solved_and_names_slowest():
    run = lambda rate, steps, **more: {
        "success_rate": rate, "sampled": {"success_rate": 1.0},
        "env_steps": steps, "updates": steps // 10, "seconds": 9.0, **more,
    }  # fmt: skip
    solved = run(0.95, 900, solved_at={"env_steps": 300, "updates": 30, "seconds": 3.0})
    text = chance.summary([run(1.0, 100), solved, run(0.94, 500)])
    assert text.startswith("2 of 3 reach 95% (sampled 3)")
    assert "median 300 steps, slowest 500" in text and "median 9 s, slowest 9" in text, text


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], ["train", "quickstart", "--report.episodes", "0", "--seed", "1"]),
        (
            ["cartpole", "--report.episodes", "8"],
            ["train", "cartpole", "--report.episodes", "8", "--seed", "1"],
        ),
        (
            ["--task=grid:X", "--members"],
            ["train", "--task=grid:X", "--report.episodes", "0", "--seeds", "2"],
        ),
    ],
)
def test_chance_main_missing_runs_are_trained_with_requested_preset(
    tmp_path, monkeypatch, capsys, words, asked
):
    seen = []
    monkeypatch.setattr(cli, "main", lambda words: seen.append(words) or 0)
    result = {
        "success_rate": 1.0,
        "sampled": {"success_rate": 1.0},
        "env_steps": 9,
        "updates": 3,
        "seconds": 1,
    }
    (tmp_path / "00").mkdir()
    (tmp_path / "00" / "result.json").write_text(json.dumps(result))
    assert chance.main([str(tmp_path), "--seeds", "2", *words]) == 0
    assert [words[:-2] for words in seen] == [asked]
    assert "1 of 1 reach 95%" in capsys.readouterr().out
