"""What is read off the features, and what it is before anything was learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.config import HeadConfig, PolicyConfig, TwoHotConfig
from dreamer.nets.heads import BinaryHead, PolicyHead, TwoHotHead
from dreamer.ops import dists
from envs.api import Space

ACT = {"move": Space((), "int32", 3), "cells": Space((2,), "int32", 5), "steer": Space((2, 2), "float32")}


@pytest.fixture(scope="module")
def feat():
    return jnp.asarray(np.random.default_rng(0).normal(0, 3, (4, 6, 10)), jnp.float32)


@pytest.fixture(scope="module")
def policy():
    return PolicyHead(10, ACT, PolicyConfig(layers=2, units=8), init=tiny.initializer())


@pytest.mark.parametrize("bins", [15, 40, 255])
def test_twohot_head_freshly_initialized_predicts_exactly_zero(feat, bins):
    head = TwoHotHead(10, TwoHotConfig(layers=2, units=8, bins=bins), init=tiny.initializer())
    np.testing.assert_array_equal(jax.jit(head.mean)(head(feat)), 0.0)  # fused as in training


def test_twohot_head_loss_is_linear_in_weighted_targets(feat):
    head = TwoHotHead(10, TwoHotConfig(layers=1, units=8, bins=15), init=tiny.initializer())
    logits = feat[..., :1] * jnp.linspace(-1, 1, 15).reshape(1, 1, 15)
    a, b = feat[..., 1] * 10, feat[..., 2]
    one = lambda target: dists.cross_entropy(logits, dists.twohot(target, head.bins))
    ours = head.loss(logits, (a, 1.0), (b, jnp.float32(0.5)))
    np.testing.assert_allclose(ours, one(a) + 0.5 * one(b), rtol=1e-5)


def test_binary_head_returns_one_float32_logit_per_step(feat):
    head = BinaryHead(10, HeadConfig(layers=1, units=8), init=tiny.initializer())
    logit = head(feat.astype(jnp.bfloat16))
    assert (logit.shape, logit.dtype) == ((4, 6), jnp.float32)
    assert jnp.abs(logit).max() > 0.1


def test_policy_head_samples_have_shapes_of_action_spaces(feat, policy, key):
    @jax.jit
    def play(feat, key):
        heads, keys = policy(feat, 0.01), jax.random.split(key, 3)
        actions = {n: heads[n].sample(k, dists.RANDOM) for k, n in zip(keys, ACT, strict=True)}
        return actions, {n: (heads[n].log_prob(a), heads[n].entropy()) for n, a in actions.items()}

    actions, summed = play(feat, key)
    assert {k: v.shape for k, v in actions.items()} == {
        "move": (4, 6),
        "cells": (4, 6, 2),
        "steer": (4, 6, 2, 2),
    }
    assert all(action.dtype == ACT[name].dtype for name, action in actions.items())
    assert {x.shape for x in jax.tree.leaves(summed)} == {(4, 6)}


def test_policy_head_freshly_initialized_is_near_uniform(feat, policy):
    heads = policy(feat, 0.0)
    for name, head in heads.items():
        assert head.randomness().shape == (4, 6)
        if ACT[name].is_discrete:
            np.testing.assert_allclose(jnp.exp(head.logp), 1 / ACT[name].classes, rtol=0.1)
            np.testing.assert_allclose(head.randomness(), 1, atol=1e-3)
        else:
            np.testing.assert_allclose(head.std, 0.8927, atol=0.01)
            np.testing.assert_allclose(head.mean, 0, atol=0.1)


def test_policy_head_unimix_sets_minimum_probability(feat):
    policy = PolicyHead(10, ACT, PolicyConfig(layers=1, units=8), init=tiny.initializer())
    policy.out["move"].kernel[...] *= 1e5
    certain, mixed = (jnp.exp(policy(feat, jnp.float32(u))["move"].logp).min() for u in (0.0, 0.03))
    assert certain < 1e-6
    np.testing.assert_allclose(mixed, 0.01, rtol=1e-4)


def test_policy_head_std_stays_within_configured_range(feat):
    cfg = PolicyConfig(layers=1, units=8, min_std=0.2, max_std=0.4)
    head = PolicyHead(10, ACT, cfg, init=tiny.initializer())
    head.out["steer"].std.kernel[...] *= 1e5
    std = head(feat, 0.0)["steer"].std
    np.testing.assert_allclose([std.min(), std.max()], [0.2, 0.4], rtol=1e-4)
