"""The time of an operation belongs to the part of the algorithm in which it was traced."""

import json
import re

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from dreamer.agent import Agent
from dreamer.config import AgentConfig
from dreamer.numbers import trace
from experiments.bench import bench, flops, profile
from experiments.bench.profile import Operation, Time
from experiments.bench.update import noise
from experiments.presets.sizes import SIZES

TEXT = """
%fused_computation.1 (p.1: f32[4,4], p.2: f32[4,4]) -> f32[4,4] {
  %p.1 = f32[4,4]{1,0} parameter(0)
  %p.2 = f32[4,4]{1,0} parameter(1)
  ROOT %dot.7 = f32[4,4]{1,0} dot(%p.1, %p.2), lhs_contracting_dims={1}
}

%fused_computation.2 (p.3: f32[4,4]) -> f32[4,4] {
  ROOT %sine.1 = f32[4,4]{1,0} sine(%p.3)
}

ENTRY %main (x: f32[4,4]) -> f32[4,4] {
  %ynn.3 = f32[4,4]{1,0} fusion(%x), calls=%fused_computation.1, IN(transpose(jvp(observe))/encoder/dot)
  %sine_fusion = f32[4,4]{1,0} fusion(%x), kind=kLoop, calls=%fused_computation.2, IN(jvp(observe)/sin)
  %while.2 = (s32[], f32[4,4]{1,0}) while(%tuple), condition=%c, body=%b, IN(imagine/while)
  ROOT %copy.9 = f32[4,4]{1,0} copy(%x)
}
"""
TEXT = re.sub(r"IN\((.*)\)", r'metadata={op_name="jit(f)/\1"}', TEXT)


def test_operations_of_a_text_have_part_and_kind():
    found = profile.operations(TEXT)
    assert found["ynn.3"] == Operation("encoder", True, False)
    assert found["sine_fusion"] == Operation("observe", False, False)
    assert found["while.2"] == Operation("imagine", False, True)
    assert found["copy.9"] == Operation(flops.OTHER, False, False)


def test_times_are_summed_by_part_without_containers():
    events = [
        ("ynn.3", 1.0),
        ("ynn.3", 2.0),
        ("sine_fusion", 4.0),
        ("while.2", 100.0),
        ("?", 8.0),
    ]
    assert profile.times(events, profile.operations(TEXT)) == {
        "encoder": Time(3.0, 0.0),
        "observe": Time(0.0, 4.0),
        flops.OTHER: Time(0.0, 8.0),
    }


def test_recorded_program_spends_its_time_where_its_products_are(tmp_path):
    def spend(x):
        with jax.named_scope("imagine"):
            x = jax.lax.scan(lambda x, _: (x @ x / 100, None), x, None, 30)[0]
        with jax.named_scope("behavior"):
            return jnp.sin(x)

    x = jnp.ones((300, 300))
    program = jax.jit(spend).lower(x).compile()
    with jax.profiler.trace(str(tmp_path)):
        jax.block_until_ready(program(x))
    spent = profile.times(profile.recorded(tmp_path, "jit_spend"), profile.operations(program.as_text()))
    assert spent["imagine"].products > 0 and spent["behavior"].products == 0 and spent["behavior"].rest > 0
    assert spent["imagine"].products > sum(sum(time) for time in spent.values()) / 2


def operations_of(size):
    agent = Agent({"vector": bench.OBS["vector"]}, bench.ACT, SIZES[size](AgentConfig()))
    state = jax.eval_shape(agent.init, jax.random.key(0))
    batch = noise(agent, 2, 3)
    return flops.count(agent.compute_gradients, state, batch, trace(agent.cfg), key=jax.random.key(0))


def test_run_prints_every_part_and_its_json_has_the_counted_operations(capsys):
    assert profile.run(["tiny"], ["vector"], 2, 3, json=True) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    parts = row["parts"]
    assert list(parts) == [*flops.PARTS, flops.OTHER] and row["update_ms"] > 0 and row["product_gflops"] > 0
    counted = operations_of("tiny")
    assert {name: part["gflop"] for name, part in parts.items()} == pytest.approx(
        {name: counted.get(name, 0) / 1e9 for name in parts}, abs=1e-3
    )
    assert all(parts[name]["product_ms"] > 0 for name in ("observe", "imagine", "behavior"))
    console = Console(width=80)
    with console.capture() as printed:
        console.print(profile.table(row, "2 x cpu"))
    assert all(name in printed.get() for name in (*flops.PARTS, "together"))


def test_run_that_cannot_be_measured_is_one_sentence(capsys):
    assert profile.run(["tiny"], ["sound"], 2, 3) == 1
    assert "tiny sound could not be measured: KeyError: 'sound'" in capsys.readouterr().err
