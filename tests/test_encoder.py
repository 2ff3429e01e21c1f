"""The encoder: one vector of tokens per step, whatever the keys and the sizes of the images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer.agent import Agent
from dreamer.config import EncoderConfig
from dreamer.nets.encoder import Encoder
from envs.api import Space, UnsupportedSpace

CFG = EncoderConfig(layers=1, units=8, depth=2, mults=(1, 2), kernel=3)
MIXED = tiny.OBS | {"left": Space((6, 8, 3), "uint8"), "right": Space((6, 8, 1), "uint8")}


def observation(*batch, spaces=MIXED):
    rng = np.random.default_rng(0)
    images = {
        k: rng.integers(0, 256, (*batch, *s.shape)).astype(np.uint8) for k, s in spaces.items() if s.is_image
    }
    return {k: v for k, v in (tiny.observation(rng, *batch) | images).items() if k in spaces}


@pytest.fixture(scope="module")
def encoder():
    return Encoder(MIXED, CFG, init=tiny.initializer())


@pytest.fixture(scope="module")
def tokens(encoder):
    return jax.jit(lambda obs: encoder(obs, 2, jnp.float32))


def test_encoder_width_equals_token_size(encoder, tokens):
    assert encoder.width == 8 + 2 * 2 * 4  # units, then 6x8 padded to 8x8 and halved twice, 2*2 channels
    assert tokens(observation(2, 3)).shape == (2, 3, encoder.width)


def test_encoder_batched_steps_are_independent(tokens):
    obs = observation(2, 3)
    changed = jax.tree.map(np.copy, obs)
    for value in changed.values():
        value[1, 2] = value[0, 0]
    before, after = tokens(obs), tokens(changed)
    same = np.ones((2, 3), bool)
    same[1, 2] = False
    np.testing.assert_array_equal(after[same], before[same])
    np.testing.assert_allclose(after[1, 2], before[0, 0], rtol=1e-5, atol=1e-6)


def test_encoder_every_key_changes_its_part_of_tokens(tokens):
    before, moved = tokens(observation(2, 3)), {}
    for key in MIXED:
        obs = observation(2, 3)
        obs[key] = 4 - obs[key] if key == "token" else 255 - obs[key]
        moved[key] = np.abs(tokens(obs) - before).max((0, 1)) > 1e-6
    for key, space in MIXED.items():
        part = slice(8, None) if space.is_image else slice(0, 8)
        assert moved[key].any() and moved[key][part].sum() == moved[key].sum()


def test_encoder_padded_image_equals_black_border(encoder, tokens):
    """The tokens are those of an image that had the full size and was black below and to the right."""
    spaces = {k: Space((8, 8, s.shape[-1]), "uint8") if s.is_image else s for k, s in MIXED.items()}
    full = Encoder(spaces, CFG, init=tiny.initializer())
    assert (encoder.padding, full.padding) == (
        "images of 6x8 are padded to 8x8, which 2 stages can halve",
        "",
    )
    obs = observation(1, 1)
    larger = {
        k: np.pad(v, ((0, 0), (0, 0), (0, 2), (0, 0), (0, 0))) if v.ndim == 5 else v for k, v in obs.items()
    }
    np.testing.assert_allclose(
        tokens(obs), jax.jit(lambda obs: full(obs, 2, jnp.float32))(larger), rtol=1e-4, atol=1e-5
    )


def test_agent_padded_images_adds_notice():
    cfg = tiny.config(encoder__mults=(2, 2, 2, 2), decoder__mults=(2, 2, 2, 2))
    assert Agent({"image": Space((40, 56, 3), "uint8")}, tiny.ACT, cfg).notices == [
        "images of 40x56 are padded to 48x64, which 4 stages can halve"
    ]
    assert Agent({"image": Space((48, 64, 3), "uint8")}, tiny.ACT, cfg).notices == []
    assert tiny.agent().notices == []


def test_encoder_different_image_sizes_raises_unsupported_space():
    spaces = {"near": Space((8, 8, 3), "uint8"), "far": Space((16, 8, 3), "uint8")}
    with pytest.raises(UnsupportedSpace, match="must share one size"):
        Encoder(spaces, CFG, init=tiny.initializer())
    with pytest.raises(UnsupportedSpace, match="'far' 16x8, 'near' 8x8"):
        Agent(spaces, tiny.ACT, tiny.CFG)


def test_encoder_missing_entries_equal_zeros():
    encoder = Encoder({"vector": Space((3,), "float32")}, CFG, init=tiny.initializer())
    missing = {"vector": jnp.array([[-jnp.inf, 5.0, 5.0]])}
    zeros = {"vector": jnp.zeros((1, 3))}
    np.testing.assert_array_equal(encoder(missing, 1, jnp.float32), encoder(zeros, 1, jnp.float32))


def test_encoder_bfloat16_returns_bfloat16(encoder):
    out = jax.eval_shape(lambda obs: encoder(obs, 1, jnp.bfloat16), observation(1))
    assert out.dtype == jnp.bfloat16
