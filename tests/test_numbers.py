"""Every number of the configuration is either traced, under its own name, or fixes structure."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer import numbers, schema
from dreamer.config import TRACED, AgentConfig
from dreamer.numbers import trace
from dreamer.schema import ConfigError

STRUCTURE = {
    *("behavior.imag_length", "behavior.imag_last", "behavior.discount_in_cont", "behavior.slow_target"),
    *("behavior.replay_value", "behavior.replay_value_grad", "loss.reward_grad", "optim.schedule"),
    "optim.factors",
}
LEARNING = [
    *(path for path in schema.paths(AgentConfig) if path.startswith(("behavior.", "loss.", "optim."))),
    *("barlow.redundancy", "sigreg.weight", "visreg.share", "value_equivalent.rate"),
]
OTHER = {"behavior.horizon": 2.5, "behavior.slow_every": 2, "optim.warmup": 7, "optim.anneal": 7}


def flat(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True): leaf for path, leaf in leaves}


def test_traced_all_learning_fields_are_traced_or_structure():
    assert set(TRACED.values()) == set(LEARNING) - STRUCTURE


@pytest.mark.parametrize("path", TRACED.values())
def test_trace_changed_field_changes_its_leaf_only(path):
    other = schema.replace_path(AgentConfig(), path, OTHER.get(path, 0.625))
    before, after = flat(trace(AgentConfig())), flat(trace(other))
    assert [name for name in before if before[name] != after[name]] == [path]
    section, name = path.split(".")
    assert after[path] == np.float32(getattr(getattr(other, section), name))


def test_trace_different_structure_has_a_different_treedef():
    longer = schema.replace_path(AgentConfig(), "behavior.imag_length", 3)
    assert jax.tree.structure(trace(AgentConfig())) != jax.tree.structure(trace(longer))


def test_trace_different_numbers_does_not_recompile():
    rate = jax.jit(lambda numbers: numbers.optim.lr * numbers.behavior.imag_length)
    other = schema.replace_path(AgentConfig(), "optim.lr", 0.5)
    assert (rate(trace(AgentConfig())), rate(trace(other))) == (np.float32(4e-5) * 15, 7.5)
    assert rate._cache_size() == 1


def test_trace_stacked_members_can_be_vmapped():
    members = [trace(schema.replace_path(AgentConfig(), "optim.lr", rate)) for rate in (0.25, 0.5)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
    np.testing.assert_array_equal(jax.vmap(lambda one: 2 * one.optim.lr)(stacked), [0.5, 1.0])


def test_trace_config_is_left_unchanged():
    cfg = AgentConfig()
    trace(cfg)
    assert (cfg, hash(cfg)) == (AgentConfig(), hash(AgentConfig()))
    assert dataclasses.replace(cfg, objective="none").objective == "none"


def test_replace_one_number_leaves_the_others_unchanged():
    before = trace(AgentConfig())
    after = numbers.replace(before, {"optim.lr": jnp.float32(2), "loss.rec": jnp.float32(3)})
    assert (after.optim.lr, after.loss.rec, before.optim.lr) == (2, 3, np.float32(4e-5))
    assert flat(after) == {**flat(before), "optim.lr": 2, "loss.rec": 3}


def test_replace_unknown_number_is_refused():
    with pytest.raises(ConfigError, match="optim.lrr is not a traced number; did you mean optim.lr"):
        numbers.replace(trace(AgentConfig()), {"optim.lrr": 1.0})


def test_weight_all_reconstruction_losses_share_one_weight():
    weights = trace(schema.replace_path(AgentConfig(), "loss.rec", 0.5)).loss
    assert weights.weight("rec/image") == weights.weight("rec/vector") == 0.5
    assert weights.weight("replay_value") == np.float32(0.3)
