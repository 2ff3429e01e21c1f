"""Predict what was observed: the objective of every Dreamer up to the third."""

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets.decoder import Decoder
from dreamer.nets.layers import Initializer
from dreamer.numbers import Numbers
from dreamer.ops import dists
from dreamer.ops.transforms import symexp, symlog
from dreamer.records import Batch, Latent, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Space, Spaces


class Reconstruction(nnx.Module):
    """A decoder and how wrong it is, one loss per observation key."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        self.spaces = tuple(obs_space.items())
        stoch = cfg.rssm.stoch * cfg.rssm.classes
        self.decoder = Decoder(obs_space, cfg.rssm.deter, stoch, cfg.decoder, init=init)

    def slow(self, params: Params) -> Params:
        """No slow part."""
        return {}

    def follow(self, slow: Params, params: Params, numbers: Numbers) -> Params:
        """No slow part."""
        return slow

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """{rec/<key>: [B, T]} negative log-likelihoods, summed over the entries of a key."""
        chex.assert_tree_shape_prefix((seen.latent, batch.obs), batch.is_first.shape)
        preds = self.decoder(seen.latent)
        losses = {f"rec/{k}": step_loss(preds[k], batch.obs[k], space) for k, space in self.spaces}
        return ObjectiveLosses(losses, {})

    def decode(self, latent: Latent) -> dict[str, Array]:
        """What the latents look like as observations: numbers, most likely classes, uint8 images."""
        chex.assert_tree_shape_prefix(latent, latent.deter.shape[:-1])
        preds = self.decoder(latent)
        return {name: as_observation(preds[name], space) for name, space in self.spaces}


def step_loss(pred: Array, target: Array, space: Space) -> Array:
    """The loss of one key at every step: [*batch, *shape(, classes)], [*batch, *shape] -> [*batch].

    Categories: cross-entropy. Images: squared error of values in [0, 1]. Numbers: squared error in symlog
    space. Missing entries (-inf, or -1 in a signed categorical dtype) cost nothing.
    """
    chex.assert_shape(target, (..., *space.shape))
    if space.is_discrete:
        hot = jax.nn.one_hot(target.astype(jnp.int32), space.num_classes)
        loss = dists.cross_entropy(pred, hot)
    elif space.is_image:
        loss = jnp.square(pred - target.astype(jnp.float32) / 255)
    else:
        target = target.astype(jnp.float32)
        present = target != -jnp.inf
        loss = jnp.where(present, jnp.square(pred - symlog(jnp.where(present, target, 0.0))), 0.0)
    return loss.sum(tuple(range(loss.ndim - len(space.shape), loss.ndim)))


def as_observation(pred: Array, space: Space) -> Array:
    """A prediction in the units and the dtype of the observation it stands for."""
    if space.is_discrete:
        return jnp.argmax(pred, -1).astype(space.dtype)
    if space.is_image:
        return jnp.clip(jnp.round(255 * pred), 0, 255).astype(jnp.uint8)
    return symexp(pred)
