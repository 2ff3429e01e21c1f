"""The decoder answers every key that the encoder reads, in its shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.agent import Agent
from dreamer.config import DecoderConfig
from dreamer.nets.decoder import Decoder
from dreamer.records import Latent
from dreamer.schema import ConfigError
from envs.api import Space

CFG = DecoderConfig(layers=1, units=8, depth=2, mults=(1, 2), kernel=3, blocks=2)
MIXED = {
    "right": Space((6, 8, 1), "uint8"),
    "vector": Space((2, 3), "float32"),
    "cells": Space((3, 3), "uint8", 5),
    "token": Space((), "int32", 4),
    "left": Space((6, 8, 3), "uint8"),
}


def latent(*batch):
    rng = np.random.default_rng(0)
    index = rng.integers(0, 4, (*batch, 4))
    return Latent(jnp.asarray(rng.normal(0, 1, (*batch, 16)), jnp.float32), jax.nn.one_hot(index, 4))


def decoder(spaces):
    return Decoder(spaces, 16, 16, CFG, init=tiny.initializer())


@pytest.fixture(scope="module")
def predict():
    return jax.jit(decoder(MIXED))


def test_decoder_every_key_has_its_shape_in_float32(predict):
    preds = predict(latent(2, 3))
    assert {k: v.shape for k, v in preds.items()} == {
        "right": (2, 3, 6, 8, 1),
        "vector": (2, 3, 2, 3),
        "cells": (2, 3, 3, 3, 5),
        "token": (2, 3, 4),
        "left": (2, 3, 6, 8, 3),
    }
    assert {v.dtype for v in preds.values()} == {jnp.dtype("float32")}


def test_decoder_image_pixels_lie_between_0_and_1(predict):
    pixels = predict(latent(2, 3))["left"]
    assert 0 < pixels.min() < pixels.max() < 1


def test_decoder_every_key_depends_on_deter_and_stoch(predict):
    one = latent(2, 3)
    before = predict(one)
    for other in (one._replace(deter=-one.deter), one._replace(stoch=jnp.roll(one.stoch, 1, -1))):
        after = predict(other)
        assert all(jnp.abs(after[k] - before[k]).max() > 1e-4 for k in MIXED)


def test_decoder_batched_steps_are_independent(predict):
    many, first = latent(2, 3), jax.tree.map(lambda x: x[:1, :1], latent(2, 3))
    ours, theirs = predict(many), predict(first)
    for k in MIXED:
        np.testing.assert_allclose(ours[k][:1, :1], theirs[k], rtol=1e-4, atol=1e-5)


def test_decoder_images_share_one_stack_in_key_order(predict):
    """One image of all channels, cut: the crop of the padding and the channels are the keys' own."""
    stack = decoder({k: s for k, s in MIXED.items() if not s.is_image} | {"all": Space((8, 8, 4), "uint8")})
    image = jax.jit(stack)(latent(2, 3))["all"][:, :, :6]
    preds = predict(latent(2, 3))
    np.testing.assert_allclose(preds["right"], image[..., :1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(preds["left"], image[..., 1:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("blocks", [3, 16])
def test_decoder_blocks_not_dividing_width_raises_config_error(blocks):
    cfg = tiny.config(decoder__blocks=blocks)
    with pytest.raises(
        ConfigError, match=rf"^agent.decoder.blocks must divide .* \(16\) .* \(4\), but it is {blocks}"
    ):
        Agent({"image": Space((8, 8, 3), "uint8")}, tiny.ACT, cfg)
