"""Behaviour learning by hand: heads whose kernels are zero say the same everywhere, and their biases what."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.behavior.actor_critic import ActorCritic, Critic
from dreamer.config import ActorCriticConfig
from dreamer.nets.heads import PolicyHead, TwoHotHead
from dreamer.nets.layers import Initializer
from dreamer.ops import dists, running
from dreamer.records import Imagined
from envs.api import Space

REWARD, CONT, VALUE = [9, 1, 0, 2.0], [1, 0.997, 0.5, 0.997], [5, 4, 3, 2.0]
WEIGHT = np.array([1, 0.997, 0.4985])
ACT = {"move": Space((), "int32", 3)}
ACTIONS = [0, 2, 1]
CFG = ActorCriticConfig(
    entropy=0.1, replay_slow_reg=0.5, unimix=0.0, return_rate=0.5, return_low=0.0, return_high=100.0
)


def f32(x):
    return jnp.asarray(x, jnp.float32)


def actor_critic(cfg=CFG, **changes):
    zeros = Initializer()
    policy = PolicyHead(6, ACT, tiny.CFG.policy, init=zeros)
    policy.out["move"].bias[...] = jnp.log(f32([0.5, 0.3, 0.2]))
    value, slow = (TwoHotHead(6, tiny.CFG.value, init=zeros) for _ in range(2))
    value.out.bias[...], slow.out.bias[...] = f32(said(0.7)), f32(said(-2.0))
    cfg = dataclasses.replace(cfg, **changes)
    return ActorCritic(policy, Critic(value, slow, cfg), cfg)


def said(number):
    """Logits of 15 bins whose mean is the number, and which are not certain of it."""
    bins = np.asarray(dists.symexp_bins(15), np.float64)
    near = np.exp(-np.abs(np.arange(15) - 7) * 30.0)
    probs = np.zeros(15)
    probs[6:9] = near[6:9] + 0.2
    probs /= probs.sum()
    shift = (number - probs @ bins) / (bins[8] - bins[6])
    probs[8], probs[6] = probs[8] + shift, probs[6] - shift
    assert probs.min() >= 0
    return np.log(np.maximum(probs, 1e-30))


def over_time(x):
    """One dream: [H] numbers as [H, N]."""
    return f32(x)[:, None]


def learn(model, discount=CONT, start=(0.0, 0.0)):
    returns = running.Percentiles(f32(start[0]), f32(start[1]))
    dream = Imagined(jnp.ones((4, 1, 6)), {"move": jnp.array(ACTIONS)[:, None]})
    discount = over_time(discount)
    weight = jnp.cumprod(discount, 0)
    return model.imagined_loss(dream, over_time(REWARD), discount, weight, returns)


def by_hand(value, lam=0.95):
    ret, out = value, []
    for r, c in list(zip(REWARD, CONT, strict=True))[:0:-1]:
        ret = r + c * ((1 - lam) * value + lam * ret)
        out.append(ret)
    return np.array(out[::-1])


def twohot_cost(logits, target):
    weights = dists.twohot(f32(target), dists.symexp_bins(15))
    return dists.cross_entropy(f32(logits).reshape((1,) * np.ndim(target) + (15,)), weights)


def test_constant_heads_built_predict_given_values():
    model = actor_critic()
    np.testing.assert_allclose(
        model.critic.value.mean(model.critic.value(jnp.ones((1, 6)))), [0.7], rtol=1e-4
    )
    np.testing.assert_allclose(
        model.critic.value.mean(model.critic.slow_value(jnp.ones((1, 6)))), [-2.0], rtol=1e-4
    )


@pytest.mark.parametrize("slow_target", [False, True])
def test_critic_loss_known_returns_matches_weighted_cross_entropy(slow_target):
    """Weighted cross-entropy of the return and of what the slow critic says."""
    out = learn(actor_critic(slow_target=slow_target))
    target = by_hand(-2.0 if slow_target else 0.7)
    np.testing.assert_allclose(out.target[0], target[:1], rtol=1e-4)
    cost = twohot_cost(said(0.7), target) + twohot_cost(said(0.7), np.full(3, -2.0))
    np.testing.assert_allclose(out.losses["value"], [(WEIGHT * cost).mean()], rtol=1e-4)


@pytest.mark.parametrize("start", [(0.0, 0.0), (-10.0, 30.0)])
def test_actor_loss_known_returns_matches_scaled_advantage_and_entropy(start):
    """Log-probability times the advantage in units of the range of returns, and the entropy."""
    out = learn(actor_critic(), start=start)
    target = by_hand(0.7)
    low, high = 0.5 * start[0] + 0.5 * target.min(), 0.5 * start[1] + 0.5 * target.max()
    np.testing.assert_allclose(out.returns, (low, high), rtol=1e-4)
    probs = np.array([0.5, 0.3, 0.2])
    entropy = -(probs * np.log(probs)).sum()
    gain = np.log(probs[[0, 2, 1]]) * (target - 0.7) / max(1.0, high - low) + 0.1 * entropy
    np.testing.assert_allclose(out.losses["policy"], [-(WEIGHT * gain).mean()], rtol=1e-3)


def test_actor_critic_loss_finished_rollout_is_zero():
    ended = learn(actor_critic(), discount=[0.0, 1, 1, 1])
    assert (ended.losses["policy"], ended.losses["value"]) == (0, 0)


@pytest.mark.parametrize(
    ("terminal", "expected"), [(True, [1.1993994, 0, 3.993994]), (False, [4.0323080, 2.9909910, 3.993994])]
)
def test_replay_loss_terminal_or_truncated_step_matches_expected_returns(terminal, expected):
    """A terminal step ends the return, a time limit bootstraps, and neither is a target itself."""
    last = jnp.array([[False, False, True, False]])
    batch = tiny.batch()._replace(reward=f32([REWARD]), is_last=last, is_terminal=last & terminal)
    model, discount = actor_critic(), f32(1 - batch.is_terminal) * (1 - 1 / 333)
    loss = model.critic.replay_loss(jnp.ones((1, 4, 6)), batch, discount, f32([VALUE]))
    cost = twohot_cost(said(0.7), expected) + 0.5 * twohot_cost(said(0.7), np.full(3, -2.0))
    np.testing.assert_allclose(loss, [np.array([1, 1, 0]) * cost], rtol=1e-4)
