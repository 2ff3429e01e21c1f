"""Predict what was observed: the objective of every Dreamer up to the third."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import DecoderConfig
from dreamer.nets.decoder import Decoder
from dreamer.nets.layers import Initializer
from dreamer.ops import dists
from dreamer.ops.transforms import symexp, symlog
from dreamer.records import Latent
from envs.api import Space, Spaces


class Reconstruction(nnx.Module):
    """A decoder and how wrong it is, one loss per observation key."""

    def __init__(self, obs_space: Spaces, deter: int, stoch: int, cfg: DecoderConfig, *, init: Initializer):
        self.spaces = tuple(obs_space.items())
        self.decoder = Decoder(obs_space, deter, stoch, cfg, init=init)

    def loss(self, obs: Mapping[str, Array], latent: Latent) -> dict[str, Array]:
        """{rec/<key>: [B, T]} negative log-likelihoods, summed over the entries of a key."""
        preds = self.decoder(latent)
        return {f"rec/{k}": step_loss(preds[k], obs[k], space) for k, space in self.spaces}

    def decode(self, latent: Latent) -> dict[str, Array]:
        """What the latents look like as observations: numbers, most likely classes, uint8 images."""
        preds = self.decoder(latent)
        return {name: as_observation(preds[name], space) for name, space in self.spaces}


def step_loss(pred: Array, target: Array, space: Space) -> Array:
    """The loss of one key at every step: [*batch, *shape(, classes)], [*batch, *shape] -> [*batch].

    Categories: cross-entropy. Images: squared error of values in [0, 1]. Numbers: squared error in symlog
    space. Missing entries (-inf, or -1 in a signed categorical dtype) cost nothing.
    """
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
