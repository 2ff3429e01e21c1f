"""The dynamics: one step is the equation of the paper, many are its repetition, an episode is its own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_gru
import tiny
from flax import nnx

from dreamer.config import RSSMConfig
from dreamer.ops import dists
from dreamer.records import Latent
from dreamer.rssm import RSSM, entries, flat, initial, merge, pack, unpack

B, T, E = 3, 4, 6
CFG = RSSMConfig(
    deter=8, hidden=6, stoch=3, classes=4, blocks=2, core_layers=2, prior_layers=1, post_layers=2
)
CLOSE = dict(rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def rssm():
    module = RSSM(E, tiny.ACT, CFG, init=tiny.initializer())
    rng = np.random.default_rng(0)
    test_gru.shake(module.core, rng)
    for layer in (module.post_out, module.prior_out):
        layer.bias[...] = jnp.asarray(rng.normal(0, 0.5, layer.bias.shape), jnp.float32)
    return module


@pytest.fixture(scope="module")
def observe(rssm):
    """With no chance in it: every sample is the most likely class."""
    chance = dict(unimix=0.01, sampler=dists.GREEDY)
    return jax.jit(lambda *args: rssm.observe(*args, **chance, key=jax.random.key(0)))


def latent(seed=0, batch=B):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 4, (batch, 3))
    return Latent(jnp.asarray(rng.uniform(-1, 1, (batch, 8)), jnp.float32), jax.nn.one_hot(index, 4))


def actions(*batch, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "move": jnp.asarray(rng.integers(0, 3, batch), jnp.int32),
        "steer": jnp.asarray(rng.normal(0, 1, (*batch, 2)), jnp.float32),
    }


def recorded(first=(), seed=0):
    """(tokens, previous actions, is_first) of T steps; `first` are the indices where episodes start."""
    rng = np.random.default_rng(seed)
    is_first = np.zeros((B, T), bool)
    is_first[:, list(first)] = True
    tokens = jnp.asarray(rng.normal(0, 1, (B, T, E)), jnp.float32)
    return tokens, actions(B, T, seed=seed), jnp.asarray(is_first)


def cut(tree, start, stop):
    return jax.tree.map(lambda x: x[:, start:stop], tree)


def assert_close(ours, theirs):
    jax.tree.map(partial(np.testing.assert_allclose, **CLOSE), ours, theirs)


def by_hand(rssm, prev, tokens, action):
    """One posterior step with float64 numpy."""
    array = lambda p: np.asarray(p[...], np.float64)
    linear = lambda layer, x: x @ array(layer.kernel) + array(layer.bias)[None]
    rms = lambda norm, x: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-4) * array(norm.scale)[None]
    silu = lambda x: x / (1 + np.exp(-x))
    a = np.concatenate([np.eye(3)[action["move"]], action["steer"]], -1)
    a = a / np.maximum(1, np.abs(a))
    h = test_gru.by_hand(rssm.core, prev.deter, prev.stoch.reshape(B, -1), a)
    x = np.concatenate([h, tokens], -1)
    for m in rssm.post.layers:
        x = silu(rms(m.norm, linear(m.linear, x)))
    return h, linear(rssm.post_out, x).reshape(B, 3, 4)


def test_observe_one_step_equals_the_equation_of_the_paper(rssm, observe):
    tokens, action, is_first = recorded()
    latents, logits = observe(latent(), tokens, action, is_first)
    deter, expected = by_hand(rssm, latent(), tokens[:, 0], jax.tree.map(lambda x: x[:, 0], action))
    np.testing.assert_allclose(latents.deter[:, 0], deter, **CLOSE)
    np.testing.assert_allclose(logits[:, 0], expected, **CLOSE)
    np.testing.assert_array_equal(latents.stoch, jax.nn.one_hot(logits.argmax(-1), 4))


def test_observe_sequence_equals_single_steps(observe):
    tokens, action, is_first = recorded(first=[2])
    whole, logits = observe(latent(), tokens, action, is_first)
    now = latent()
    for t in range(T):
        step, step_logits = observe(now, *cut((tokens, action, is_first), t, t + 1))
        assert_close((step, step_logits), cut((whole, logits), t, t + 1))
        now = jax.tree.map(lambda x: x[:, 0], step)


def test_observe_reset_starts_an_independent_sequence(observe):
    """What follows `is_first` is what a fresh model makes of the rest, whatever was before."""
    tokens, action, is_first = recorded(first=[2])
    whole = observe(latent(), tokens, action, is_first)
    zeros = jax.tree.map(jnp.zeros_like, latent())
    rest = jax.tree.map(lambda x: jnp.roll(x, -2, 1), (tokens, action))
    rest[1]["move"], rest[1]["steer"] = (rest[1][k].at[:, 0].set(0) for k in ("move", "steer"))
    alone = observe(zeros, *rest, recorded(first=[0])[2])
    assert_close(cut(whole, 2, 4), cut(alone, 0, 2))
    before = observe(latent(), tokens, action, recorded()[2])
    assert_close(cut(whole, 0, 2), cut(before, 0, 2))
    assert np.abs(whole[0].deter[:, 2:] - before[0].deter[:, 2:]).max() > 1e-3


def test_observe_at_a_reset_ignores_state_and_previous_action(observe):
    tokens, action, is_first = recorded(first=[0])
    ours = observe(latent(), tokens, action, is_first)
    other = {k: v.at[:, 0].set(actions(B, T, seed=9)[k][:, 0] + 0) for k, v in action.items()}
    for theirs in (
        observe(latent(seed=1), tokens, action, is_first),
        observe(latent(), tokens, other, is_first),
    ):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_observe_outputs_are_causal_and_batch_rows_independent(observe):
    tokens, action, is_first = recorded()
    before = observe(latent(), tokens, action, is_first)
    after = observe(latent(), tokens.at[1, 2].add(1.0), action, is_first)
    changed = np.abs(after[1] - before[1]).max((2, 3)) > 0
    assert changed[1, 2]
    assert not changed[0].any() and not changed[2].any() and not changed[1, :2].any()


def test_observe_changed_action_affects_its_step_and_later(observe):
    tokens, action, is_first = recorded()
    before, _ = observe(latent(), tokens, action, is_first)
    other = action | {"steer": action["steer"].at[0, 2].set(0.0)}
    after, _ = observe(latent(), tokens, other, is_first)
    changed = np.abs(after.deter - before.deter).max(-1) > 0
    assert changed[0].tolist() == [False, False, True, True] and not changed[1:].any()


@pytest.mark.parametrize(("x", "expected"), [(0.5, 0.5), (-1.0, -1.0), (7.0, 1.0), (-3.0, -1.0)])
def test_embed_continuous_action_beyond_the_bounds_is_scaled_back(rssm, x, expected):
    action = {"move": jnp.array([2]), "steer": jnp.array([[x, 0.0]])}
    np.testing.assert_allclose(rssm.embed(action, 1, jnp.float32), [[0, 0, 1, expected, 0]])
    grad = jax.grad(lambda s: rssm.embed(action | {"steer": s}, 1, jnp.float32).sum())(action["steer"])
    np.testing.assert_allclose(grad, [[1 / max(1, abs(x)), 1]])


@pytest.fixture(scope="module")
def dream(rssm):
    """(start, H) -> the dream [H, N, ...], the latents of its replay, the policy's choice at the start."""

    def policy(feat, key):
        return {"move": (jnp.abs(feat).sum(-1) * 10).astype(jnp.int32) % 3, "steer": jnp.sin(7 * feat[:, :2])}

    chance = dict(unimix=0.01, sampler=dists.GREEDY)

    @partial(jax.jit, static_argnums=1)
    def imagine(start, horizon):
        out = rssm.imagine(start, policy, horizon, **chance, key=jax.random.key(0))
        action = {k: jnp.moveaxis(v, 0, 1) for k, v in out.action.items()}
        again = rssm.replay_actions(start, action, **chance, key=jax.random.key(1))
        return out, again, policy(start.feat, None)

    return imagine


def test_replay_actions_of_a_dream_reproduces_it(dream):
    imagined, again, _ = dream(latent(), 3)
    assert imagined.feat.shape == (4, B, 8 + 12) and imagined.action["steer"].shape == (3, B, 2)
    np.testing.assert_array_equal(imagined.feat[0], latent().feat)
    np.testing.assert_allclose(imagined.feat[1:], np.moveaxis(again.feat, 1, 0), **CLOSE)


def test_imagine_sequence_equals_single_steps(dream):
    whole, _, _ = dream(latent(), 3)
    now = latent()
    for t in range(3):
        step, after, chosen = dream(now, 1)
        assert_close(step.feat, whole.feat[t : t + 2])
        assert_close({k: v[0] for k, v in step.action.items()}, chosen)
        assert_close({k: v[t] for k, v in whole.action.items()}, chosen)
        now = jax.tree.map(lambda x: x[:, 0], after)


def test_imagine_and_observe_share_the_deterministic_state(rssm, observe, dream):
    """The deterministic state does not depend on where the sample comes from."""
    _, dreamt, action = dream(latent(), 1)
    tokens, _, is_first = cut(recorded(), 0, 1)
    seen, _ = observe(latent(), tokens, {k: v[:, None] for k, v in action.items()}, is_first)
    assert_close(seen.deter, dreamt.deter)
    expected = jax.nn.one_hot(rssm.prior(dreamt.deter).argmax(-1), 4)
    np.testing.assert_array_equal(dreamt.stoch, expected)


def test_initial_latent_is_zero_in_the_requested_dtype(rssm):
    start = initial(rssm.cfg, 2, jnp.bfloat16)
    assert start.deter.dtype == start.stoch.dtype == jnp.bfloat16
    assert start.feat.shape == (2, 8 + 12) and not start.feat.any()


@pytest.mark.parametrize("classes", [4, 256])
def test_pack_and_unpack_keep_stoch_exactly_and_deter_to_three_digits(classes):
    cfg = RSSMConfig(deter=8, stoch=5, classes=classes)
    rng = np.random.default_rng(0)
    index = rng.integers(0, classes, (2, 3, 5))
    index[0, 0, 0] = classes - 1
    x = Latent(jnp.asarray(rng.normal(0, 1, (2, 3, 8)), jnp.float32), jax.nn.one_hot(index, classes))
    packed = pack(cfg, x)
    back = unpack(cfg, packed)
    np.testing.assert_array_equal(back.stoch, x.stoch)
    np.testing.assert_allclose(back.deter, x.deter, rtol=2**-8)
    assert back.deter.dtype == back.stoch.dtype == jnp.float32
    jax.tree.map(np.testing.assert_array_equal, pack(cfg, back), packed)


def test_pack_latent_has_the_declared_entries_and_bytes():
    packed = pack(CFG, latent())
    assert {k: (v.shape[1:], str(v.dtype)) for k, v in packed.items()} == {
        k: (space.shape, space.dtype) for k, space in entries(CFG).items()
    }
    assert sum(v.nbytes for v in packed.values()) == B * (2 * 8 + 3)


def test_unpack_compute_dtype_is_used():
    x = unpack(CFG, pack(CFG, latent()), jnp.bfloat16)
    assert x.deter.dtype == x.stoch.dtype == jnp.bfloat16


def test_rssm_parameters_of_the_core_are_not_nested_and_merge_again(rssm):
    params = flat(nnx.to_pure_dict(nnx.state(rssm)))
    assert {"gates", "embed_deter", "post", "prior_out"} <= params.keys() and "cell" not in params
    again = merge(nnx.graphdef(rssm), params)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(rssm))


def wrong_observe(rssm, **changes):
    tokens, action, is_first = recorded()
    args = dict(latent=latent(), tokens=tokens, action=action, is_first=is_first) | changes
    rssm.observe(*args.values(), unimix=0.01, sampler=dists.GREEDY, key=jax.random.key(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": latent(batch=B + 1)}, r"deter.*\(4, 8\) != \(3, 8\).*the latent"),
        ({"latent": latent()._replace(stoch=jnp.zeros((B, 12)))}, "stoch"),
        ({"latent": latent()._replace(memory={"x": jnp.zeros(B)})}, "'x'"),
        ({"tokens": jnp.zeros((B, T + 1, E))}, rf"\({B}, {T + 1}, {E}\) but expected \({B}, {T}, None\)"),
        ({"tokens": jnp.zeros((B, T))}, "rank"),
        ({"is_first": jnp.zeros((B, T, 1), bool)}, "rank"),
        ({"action": actions(B, T - 1)}, "action 'move'"),
        ({"action": actions(B, T) | {"steer": jnp.zeros((B, T, 3))}}, "action 'steer'"),
    ],
)
def test_observe_wrong_shape_is_refused(rssm, changes, message):
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        wrong_observe(rssm, **changes)


def test_imagine_wrong_shape_is_refused(rssm):
    chance = dict(unimix=0.01, sampler=dists.GREEDY, key=jax.random.key(0))
    with pytest.raises(AssertionError, match="action 'steer'"):
        rssm.imagine(latent(), lambda feat, key: actions(B) | {"steer": jnp.zeros((B, 1))}, 2, **chance)
    with pytest.raises(AssertionError, match="deter"):
        rssm.imagine(latent()._replace(deter=jnp.zeros((B, 7))), lambda feat, key: actions(B), 2, **chance)


def test_replay_actions_wrong_shape_is_refused(rssm):
    chance = dict(unimix=0.01, sampler=dists.GREEDY, key=jax.random.key(0))
    with pytest.raises(AssertionError, match=r"deter.*\(2, 8\) != \(3, 8\)"):
        rssm.replay_actions(latent(batch=2), actions(B, 2), **chance)
    with pytest.raises(AssertionError, match="action 'steer'"):
        rssm.replay_actions(latent(), actions(B, 2) | {"steer": jnp.zeros((B, 3, 2))}, **chance)


def test_prior_wrong_shape_is_refused(rssm):
    with pytest.raises(AssertionError, match="dimension equal to '8' on axis"):
        rssm.prior(jnp.zeros((B, 7)))
