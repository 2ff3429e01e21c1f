"""The world model's losses by hand: without noise every prediction is uniform and every cost a logarithm."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from dreamer import numbers, rssm, schema
from dreamer.nets.encoder import Encoder
from dreamer.nets.heads import BinaryHead, PolicyHead, TwoHotHead
from dreamer.nets.layers import Initializer
from dreamer.objectives.reconstruction import Reconstruction
from dreamer.ops import dists
from dreamer.records import Latent
from dreamer.rssm import RSSM
from dreamer.world import Modules, Observed, World

B, T, CFG = tiny.B, tiny.T, tiny.CFG
SPACES = {"vector": tiny.OBS["vector"]}
FREE = 1.0


@pytest.fixture(scope="module")
def silent():
    """Modules without noise, and their parameters."""
    zeros = Initializer()
    encoder = Encoder(SPACES, CFG.encoder, init=zeros)
    modules = Modules(
        encoder,
        RSSM(encoder.width, tiny.ACT, CFG.rssm, init=zeros),
        Reconstruction(SPACES, tiny.ACT, encoder.width, CFG, init=zeros),
        TwoHotHead(32, CFG.reward, init=zeros),
        BinaryHead(32, CFG.cont, init=zeros),
        PolicyHead(32, tiny.ACT, CFG.policy, init=zeros),
        TwoHotHead(32, CFG.value, init=zeros),
    )
    params = {name: nnx.to_pure_dict(nnx.state(module)) for name, module in modules._asdict().items()}
    params["rssm"] = rssm.flat(params["rssm"])
    return Modules(*map(nnx.graphdef, modules)), params


@pytest.fixture
def world(silent):
    """Without noise and chance, in float32."""
    modules, params = silent
    return World(modules, params, hyper(), CFG, dists.GREEDY, jnp.float32)


def seen():
    """Posteriors of growing certainty: one group certain at step 0, two at step 1 and so on."""
    logits = np.zeros((B, T, 4, 4), np.float32)
    for t in range(T):
        logits[:, t, : t + 1, 1] = 100
    latent = Latent(jnp.ones((B, T, 16)), jax.nn.one_hot(jnp.ones((B, T, 4), int), 4))
    return Observed(jnp.zeros((B, T, 8)), latent, jnp.asarray(logits))


def hyper(free=FREE, unimix=0.0, horizon=10.0):
    changes = {"loss.free_nats": free, "loss.unimix": unimix, "behavior.horizon": horizon}
    return numbers.replace(tiny.NUMBERS, {path: jnp.float32(value) for path, value in changes.items()})


def losses(world, **changes):
    world = dataclasses.replace(world, numbers=hyper(**changes))
    return world.loss(tiny.batch(), seen(), {}, key=jax.random.key(0))[0]


def test_loss_every_term_has_one_entry_per_step(world):
    out = losses(world)
    assert {k: v.shape for k, v in out.items()} == dict.fromkeys(
        ("dyn", "rep", "rec/vector", "reward", "cont"), (B, T)
    )


@pytest.mark.parametrize("free", [0.0, 1.0, 3.0])
def test_loss_kl_is_summed_over_groups_then_clipped(world, free):
    """A certain group is ln 4 = 1.39 away from a uniform prior: none of them is clipped alone."""
    out = losses(world, free=free)
    expected = np.maximum(free, np.arange(1, T + 1) * np.log(4))
    for name in ("dyn", "rep"):
        np.testing.assert_allclose(out[name], np.broadcast_to(expected, (B, T)), rtol=1e-4)


def test_loss_unimix_limits_the_kl(world):
    p = np.array([0.9925, 0.0025, 0.0025, 0.0025])
    kl = np.log(4) + (p * np.log(p)).sum()
    out = losses(world, free=0.0, unimix=0.01)
    np.testing.assert_allclose(out["dyn"][0], kl * np.arange(1, T + 1), rtol=1e-4)


def test_loss_uniform_reward_head_is_the_logarithm_of_its_bins(world):
    np.testing.assert_allclose(losses(world)["reward"], np.log(CFG.reward.bins), rtol=1e-5)


def test_loss_reconstruction_is_that_of_the_objective(world):
    out, batch = losses(world), tiny.batch()
    vector = batch.obs["vector"]
    np.testing.assert_allclose(out["rec/vector"], (np.log1p(np.abs(vector)) ** 2).sum(-1), rtol=1e-5)


def sure(world, inside, logit=2.0):
    """The same with a continue head that always says this."""
    params = copy.deepcopy(world.params)
    params["cont"]["out"]["bias"] = jnp.full(1, logit)
    cfg = schema.replace_path(CFG, "behavior.discount_in_cont", inside)
    return dataclasses.replace(world, params=params, cfg=cfg)


@pytest.mark.parametrize(("inside", "target"), [(True, 0.9), (False, 1.0)])
def test_loss_continue_target_may_include_the_discount(world, inside, target):
    out = losses(sure(world, inside))["cont"]
    p = 1 / (1 + np.exp(-2.0))
    cost = lambda target: -(target * np.log(p) + (1 - target) * np.log(1 - p))
    terminal = tiny.batch().is_terminal
    assert terminal.any() and not terminal.all()
    np.testing.assert_allclose(out, np.where(terminal, cost(0), cost(target)), rtol=1e-5)


@pytest.mark.parametrize("inside", [True, False])
def test_discount_includes_gamma_once_in_either_place(world, inside):
    feat, p, gamma = jnp.ones((4, 2, 32)), 1 / (1 + np.exp(-2.0)), 0.9
    asked = sure(world, inside)
    discount = p if inside else gamma * p
    np.testing.assert_allclose(asked.discount(feat), np.full((4, 2), discount), rtol=1e-5)
    np.testing.assert_allclose(
        asked.survival(feat), np.full((4, 2), min(p / gamma, 1) if inside else p), rtol=1e-5
    )
    first = p  # the first step of a dream is not discounted
    expected = first * discount ** np.arange(4.0)
    np.testing.assert_allclose(asked.weights(asked.discount(feat))[:, 0], expected, rtol=1e-5)
    assert sure(world, True, 9.0).survival(feat).max() == 1, "no probability above 1"


def test_real_discount_is_gamma_or_zero_at_termination(world):
    np.testing.assert_allclose(world.real_discount(np.array([False, True])), [0.9, 0], rtol=1e-6)


def test_observe_batch_has_expected_shapes_and_dtypes(world):
    batch = tiny.batch()
    start = rssm.unpack(CFG.rssm, batch.context_latent)
    world = dataclasses.replace(world, dtype=jnp.bfloat16)
    is_first = jnp.asarray(batch.is_first)
    observe = lambda: world.observe(start, batch.obs, batch.action, is_first, key=jax.random.key(0))
    out = jax.eval_shape(observe)
    assert (out.tokens.shape, out.tokens.dtype) == ((B, T, 8), jnp.bfloat16)
    assert (out.logits.shape, out.logits.dtype) == ((B, T, 4, 4), jnp.float32)
    assert (out.latent.deter.shape, out.latent.deter.dtype) == ((B, T, 16), jnp.bfloat16)


@pytest.fixture(scope="module")
def trained():
    """A world whose modules say something, without chance."""
    return tiny.agent().world(tiny.state().params, tiny.NUMBERS)


def latents(world):
    rng = np.random.default_rng(0)
    deter = jnp.asarray(rng.uniform(-1, 1, (B, 16)), jnp.float32)
    return Latent(deter, jax.nn.one_hot(rng.integers(0, 4, (B, 4)), 4))


def test_rollout_equals_single_steps(trained):
    action = {k: jnp.asarray(v) for k, v in tiny.batch().action.items()}
    start, key = latents(trained), jax.random.key(0)
    reached = jax.jit(lambda latent: trained.rollout(latent, action, key=key))(start)
    step = jax.jit(lambda latent, action: trained.step(latent, action, key=key))
    for t in range(T):
        start = step(start, {k: a[:, t] for k, a in action.items()})
        for one, many in zip(*map(jax.tree.leaves, (start, reached)), strict=True):
            np.testing.assert_allclose(one, many[:, t], rtol=1e-5, atol=1e-6)


def test_imagine_under_a_policy_equals_the_rollout_of_its_actions(trained):
    policy = lambda feat, key: {"move": jnp.argmax(feat[:, :3], -1), "steer": jnp.tanh(feat[:, :2])}
    start, key = latents(trained), jax.random.key(0)
    dream = jax.jit(lambda latent: trained.imagine(latent, policy, 3, key=key))(start)
    action = {k: jnp.moveaxis(a, 0, 1) for k, a in dream.action.items()}
    reached = jax.jit(lambda latent: trained.rollout(latent, action, key=key))(start)
    np.testing.assert_allclose(dream.feat[1:], jnp.moveaxis(reached.feat, 0, 1), rtol=1e-4, atol=1e-5)


def test_frozen_parameters_have_no_gradient(trained):
    def value(params, freeze):
        world = dataclasses.replace(trained, params=params)
        world = world.frozen() if freeze else world
        return world.discount(feat).sum() + world.reward(feat).sum()

    feat, gradient = latents(trained).feat, jax.jit(jax.grad(value), static_argnums=1)
    total = lambda tree: sum(np.abs(x).sum() for x in jax.tree.leaves(jax.device_get(tree)))
    assert total(gradient(trained.params, True)) == 0 < total(gradient(trained.params, False))


def test_world_with_part_of_the_parameters_computes_only_their_heads(trained):
    few = dataclasses.replace(trained, params={"reward": trained.params["reward"]})
    assert few.reward(latents(few).feat).shape == (B,)
    with pytest.raises(KeyError, match="cont"):
        few.discount(latents(few).feat)


@pytest.mark.parametrize("ask", ["reward", "value", "discount", "survival"])
def test_heads_features_of_wrong_width_are_refused(world, ask):
    with pytest.raises(AssertionError, match="31"):
        getattr(world, ask)(jnp.zeros((2, 31)))


def test_observe_actions_of_wrong_length_are_refused(world):
    batch = tiny.batch()
    shorter = {k: v[:, 1:] for k, v in batch.action.items()}
    with pytest.raises(AssertionError, match="shape"):
        world.observe(world.initial(B), batch.obs, shorter, batch.is_first, key=jax.random.key(0))


def test_step_actions_of_wrong_batch_size_are_refused(world):
    action = {"move": jnp.zeros(3, jnp.int32), "steer": jnp.zeros((3, 2))}
    with pytest.raises(AssertionError, match="shape"):
        world.step(world.initial(2), action, key=jax.random.key(0))


def test_loss_batch_of_wrong_length_is_refused(world):
    batch = tiny.batch()
    with pytest.raises(AssertionError, match="shape"):
        world.loss(batch._replace(reward=batch.reward[:, 1:]), seen(), {}, key=jax.random.key(0))
