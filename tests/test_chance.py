"""Many seeds say together what one cannot."""

import jax
import numpy as np
import tiny

from dreamer.agent import Agent
from experiments import chance


def test_a_disturbance_is_one_bit_of_every_parameter():
    params = tiny.agent().init(jax.random.key(0)).params
    moved = chance.disturbed(params)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(moved), strict=True):
        bits = np.asarray(a).view(np.uint32) ^ np.asarray(b).view(np.uint32)
        assert (bits == 1).all()
        assert np.abs(np.asarray(a) - np.asarray(b)).max() < 1e-6


def test_agents_start_disturbed_only_within_it():
    plain = jax.tree.leaves(tiny.agent().init(jax.random.key(0)).params)
    with chance.disturbance():
        state = Agent(tiny.OBS, tiny.ACT, tiny.CFG).init(jax.random.key(0))
    again = jax.tree.leaves(tiny.agent().init(jax.random.key(0)).params)
    assert all(np.array_equal(a, b) for a, b in zip(plain, again, strict=True))
    moved = jax.tree.leaves(state.params)
    assert any(not np.array_equal(a, b) for a, b in zip(plain, moved, strict=True))
    critics = zip(jax.tree.leaves(state.params["value"]), jax.tree.leaves(state.slow_value), strict=True)
    assert all(np.array_equal(a, b) for a, b in critics), "the slow critic starts as a copy"


def test_the_summary_counts_those_that_reach_it_and_names_the_slowest():
    run = lambda rate, steps, **more: {
        "success_rate": rate, "sampled": {"success_rate": 1.0},
        "env_steps": steps, "updates": steps // 10, "seconds": 9.0, **more,
    }  # fmt: skip
    solved = run(0.95, 900, solved_at={"env_steps": 300, "updates": 30, "seconds": 3.0})
    text = chance.summary([run(1.0, 100), solved, run(0.94, 500)])
    assert text.startswith("2 of 3 reach 95% (sampled 3)")
    assert "median 300 steps, slowest 500" in text and "median 9 s, slowest 9" in text, text
