"""Latents: what heads read, and what a replay keeps of them."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.records import Latent, PackedLatent


def latent(classes=4):
    rng = np.random.default_rng(0)
    index = rng.integers(0, classes, (2, 3, 5))
    index[0, 0, 0] = classes - 1
    return Latent(jnp.asarray(rng.normal(0, 1, (2, 3, 8)), jnp.float32), jax.nn.one_hot(index, classes))


def test_features_are_h_then_z():
    x = latent()
    assert x.feat.shape == (2, 3, 8 + 5 * 4)
    np.testing.assert_array_equal(x.feat[..., :8], x.deter)
    np.testing.assert_array_equal(x.feat[1, 2, 8:], x.stoch[1, 2].ravel())
    assert x._replace(deter=x.deter.astype(jnp.bfloat16)).feat.dtype == jnp.bfloat16


def test_packing_keeps_the_sample_exactly_and_h_to_three_digits():
    for classes in (4, 256):
        x = latent(classes)
        back = x.pack().unpack(classes)
        np.testing.assert_array_equal(back.stoch, x.stoch)
        np.testing.assert_allclose(back.deter, x.deter, rtol=2**-8)
        assert back.deter.dtype == back.stoch.dtype == jnp.float32


def test_packing_again_changes_nothing():
    once = latent().pack()
    again = once.unpack(4).pack()
    jax.tree.map(np.testing.assert_array_equal, again, once)


def test_a_packed_latent_is_two_bytes_a_unit_and_one_a_group():
    packed = latent().pack()
    assert packed.deter.nbytes + packed.stoch.nbytes == 2 * 3 * (2 * 8 + 5)


def test_unpacking_in_the_compute_dtype():
    zeros = PackedLatent(np.zeros((1, 8), jnp.bfloat16), np.zeros((1, 5), np.uint8))
    x = Latent(*zeros.unpack(4, jnp.bfloat16))
    assert x.deter.dtype == x.stoch.dtype == jnp.bfloat16
