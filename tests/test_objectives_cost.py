"""What an update costs: medians in turns, and what counts as a parameter."""

import time

import jax
import numpy as np
import objective_runs
import tiny

from envs.api import Space
from experiments.bench import update
from experiments.objectives import cost
from experiments.objectives.runs import prepare
from experiments.training import workspace


def test_in_turns_calls_alternate_after_one_that_is_not_timed():
    order = []
    calls = [lambda: order.append("a"), lambda: (order.append("b"), time.sleep(0.01))]
    (a, _), (b, cpu) = cost.in_turns(calls, 0.0, 3, 9)
    assert order == ["a", "b"] * 4
    assert a < 0.01 <= b and cpu < b


def test_in_turns_ends_after_the_most_updates_however_fast():
    calls = []
    cost.in_turns([lambda: calls.append(1)], 60.0, 1, 4)
    assert len(calls) == 5


def test_memory_of_programs_is_that_of_the_larger_one():
    class Program:
        def __init__(self, temporary):
            self.account = temporary

        def memory_analysis(self):
            return self

        argument_size_in_bytes = output_size_in_bytes = 2**20
        alias_size_in_bytes = 2**20

        @property
        def temp_size_in_bytes(self):
            return self.account * 2**20

    class Silent:
        def memory_analysis(self):
            return None

    assert cost.memory_mb(Program(1), Program(3), Silent()) == 4.0
    assert cost.memory_mb(Silent()) is None


def test_measured_is_measured_once_and_again_for_a_new_objective(tmp_path, monkeypatch):
    asked = []

    def measure(module, job):
        asked.append(job["objectives"])
        return {"objectives": {name: {"params": 1} for name in job["objectives"]}, "surroundings": {}}

    monkeypatch.setattr(cost.bench, "within_own_process", measure)
    for names in (["none"], ["none"], ["none", "reconstruction"]):
        cost.measured(tmp_path, names, lambda text: None)
    assert asked == [["none"], ["none", "reconstruction"]]


def test_measured_failure_is_reported_and_not_kept(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(cost.bench, "within_own_process", lambda module, job: "no memory")
    assert cost.measured(tmp_path, ["none"], said.append) == {"objectives": {}, "why": "no memory"}
    assert "updates could not be measured: no memory" in said and not list(tmp_path.iterdir())


def test_sample_of_a_space_has_its_shape_dtype_and_range():
    rng = np.random.default_rng(0)
    token = update.sample(rng, Space((2,), "int32", 5), (3, 4))
    assert token.shape == (3, 4, 2) and token.dtype == np.int32 and token.min() >= 0 and token.max() == 4
    image = update.sample(rng, Space((8, 8, 3), "uint8"), (3,))
    assert image.dtype == np.uint8 and image.max() > 200
    assert update.sample(rng, Space((3,), "float32"), (2,)).dtype == np.float32


def test_noise_has_the_shape_of_a_replayed_batch():
    made, real = update.noise(tiny.agent(), tiny.B, tiny.T), tiny.batch()
    shapes = lambda batch: jax.tree.map(lambda x: (x.shape, str(x.dtype)), batch)
    assert shapes(made) == shapes(real)


def test_main_measures_an_update_of_the_agent_that_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "SECONDS", 0.0)
    comparison = prepare(tmp_path / "x", objective_runs.plan("reconstruction", "none"))
    costs = cost.main({"folder": str(comparison.folder), "objectives": ["none"]})
    cfg = comparison.plan.config_of("none", 0)
    with workspace.opened(cfg) as opened:
        state = jax.eval_shape(opened.agent.init, jax.random.key(0))
    (measured,) = costs["objectives"].values()
    assert measured["params"] == sum(x.size for x in jax.tree.leaves(state.params))
    assert measured["update_mb"] > 4 * 4 * measured["params"] / 2**20, "parameters, gradient, two moments"
    assert measured["update_ms"] > 0 and costs["surroundings"]["jax"]
