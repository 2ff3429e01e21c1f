"""The world model's losses by hand: without noise every prediction is uniform and every cost a logarithm."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.nets.encoder import Encoder
from dreamer.nets.heads import BinaryHead, TwoHotHead
from dreamer.nets.layers import Initializer
from dreamer.objectives.reconstruction import Reconstruction
from dreamer.ops import dists
from dreamer.records import Latent
from dreamer.rssm import RSSM
from dreamer.world_model import Observed, WorldModel

B, T, CFG = tiny.B, tiny.T, tiny.CFG
SPACES = {"vector": tiny.OBS["vector"]}
FREE = 1.0


@pytest.fixture(scope="module")
def world():
    zeros = Initializer()
    encoder = Encoder(SPACES, CFG.encoder, init=zeros)
    return WorldModel(
        encoder,
        RSSM(encoder.width, tiny.ACT, CFG.rssm, init=zeros),
        Reconstruction(SPACES, 16, 16, CFG.decoder, init=zeros),
        TwoHotHead(32, CFG.reward, init=zeros),
        BinaryHead(32, CFG.cont, init=zeros),
    )


def seen():
    """Posteriors of growing certainty: one group certain at step 0, two at step 1 and so on."""
    logits = np.zeros((B, T, 4, 4), np.float32)
    for t in range(T):
        logits[:, t, : t + 1, 1] = 100
    latent = Latent(jnp.ones((B, T, 16)), jax.nn.one_hot(jnp.ones((B, T, 4), int), 4))
    return Observed(jnp.zeros((B, T, 8)), latent, jnp.asarray(logits))


def hyper(free=FREE, unimix=0.0, horizon=10.0):
    return SimpleNamespace(free_nats=jnp.float32(free), unimix=unimix, horizon=jnp.float32(horizon))


def losses(world, hyper, **choices):
    choices = dict(discount_in_cont=True, reward_grad=True) | choices
    return world.loss(tiny.batch(), seen(), hyper, **choices)[0]


def test_every_loss_has_one_entry_per_step(world):
    out = losses(world, hyper())
    assert {k: v.shape for k, v in out.items()} == dict.fromkeys(
        ("dyn", "rep", "rec/vector", "reward", "cont"), (B, T)
    )


@pytest.mark.parametrize("free", [0.0, 1.0, 3.0])
def test_kl_is_summed_over_the_groups_and_then_clipped(world, free):
    """A certain group is ln 4 = 1.39 away from a uniform prior: none of them is clipped alone."""
    out = losses(world, hyper(free))
    expected = np.maximum(free, np.arange(1, T + 1) * np.log(4))
    for name in ("dyn", "rep"):
        np.testing.assert_allclose(out[name], np.broadcast_to(expected, (B, T)), rtol=1e-4)


def test_unimix_bounds_the_kl(world):
    p = np.array([0.9925, 0.0025, 0.0025, 0.0025])
    kl = np.log(4) + (p * np.log(p)).sum()
    out = losses(world, hyper(0.0, unimix=0.01))
    np.testing.assert_allclose(out["dyn"][0], kl * np.arange(1, T + 1), rtol=1e-4)


def test_an_ignorant_reward_head_costs_the_logarithm_of_its_bins(world):
    np.testing.assert_allclose(losses(world, hyper())["reward"], np.log(CFG.reward.bins), rtol=1e-5)


def test_reconstruction_is_the_objectives_own(world):
    out, batch = losses(world, hyper()), tiny.batch()
    vector = batch.obs["vector"]
    np.testing.assert_allclose(out["rec/vector"], (np.log1p(np.abs(vector)) ** 2).sum(-1), rtol=1e-5)


@pytest.mark.parametrize(("inside", "target"), [(True, 0.9), (False, 1.0)])
def test_the_discount_may_live_in_the_continue_head(world, inside, target):
    world.cont.out.bias[...] = jnp.full(1, 2.0)
    out = losses(world, hyper(), discount_in_cont=inside)["cont"]
    world.cont.out.bias[...] = jnp.zeros(1)
    p = 1 / (1 + np.exp(-2.0))
    cost = lambda target: -(target * np.log(p) + (1 - target) * np.log(1 - p))
    terminal = tiny.batch().is_terminal
    assert terminal.any() and not terminal.all()
    np.testing.assert_allclose(out, np.where(terminal, cost(0), cost(target)), rtol=1e-5)


def test_observe_encodes_and_follows(world):
    batch = tiny.batch()
    start = batch.context_latent.unpack(4)
    chance = dict(unimix=0.01, sampler=dists.GREEDY, key=jax.random.key(0))
    out = jax.eval_shape(
        lambda: world.observe(
            batch.obs, start, batch.action, jnp.asarray(batch.is_first), dtype=jnp.bfloat16, **chance
        )
    )
    assert (out.tokens.shape, out.tokens.dtype) == ((B, T, 8), jnp.bfloat16)
    assert (out.logits.shape, out.logits.dtype) == ((B, T, 4, 4), jnp.float32)
    assert (out.latent.deter.shape, out.latent.deter.dtype) == ((B, T, 16), jnp.bfloat16)
