"""Latents: what heads read."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.records import Latent, State


def latent():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 4, (2, 3, 5))
    return Latent(jnp.asarray(rng.normal(0, 1, (2, 3, 8)), jnp.float32), jax.nn.one_hot(index, 4))


def test_latent_feat_is_deter_followed_by_stoch():
    x = latent()
    assert x.feat.shape == (2, 3, 8 + 5 * 4)
    np.testing.assert_array_equal(x.feat[..., :8], x.deter)
    np.testing.assert_array_equal(x.feat[1, 2, 8:], x.stoch[1, 2].ravel())
    assert x._replace(deter=x.deter.astype(jnp.bfloat16)).feat.dtype == jnp.bfloat16


def test_latent_state_holds_deter_and_memory():
    x = latent()._replace(memory={"more": jnp.ones((2, 3, 7))})
    assert isinstance(x.state, State) and jax.tree.leaves(x.state) == [x.deter, x.memory["more"]]
    np.testing.assert_array_equal(x.feat, latent().feat)
