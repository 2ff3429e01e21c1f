"""Prediction in a space that both sides may move: what sigreg and visreg share.

    y_t = P e_t                        a linear projection of the tokens
    error_t = mean_i (g(h_t) - y_t)_i^2

No gradient is stopped: the encoder learns to be predictable. Alone that is solved by a constant, so a
regulariser of the distribution of y belongs to it. The projection is linear because tokens end in a norm and
SiLU, which no encoder can make normal; h_t holds the past and the actions up to t-1.

Source: LeWorldModel and LeJEPA (galilai-group/stable-worldmodel addbab4, MIT); in a Dreamer by analogy.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.nets.layers import Initializer, Linear
from dreamer.nets.predictor import Predictor
from dreamer.records import Observed


class JointPrediction(nnx.Module):
    """Projection and predictor."""

    def __init__(self, deter: int, tokens: int, width: int, *, init: Initializer):
        self.projection = Linear(tokens, width, init=init)
        self.predictor = Predictor(deter, width, init=init)

    def __call__(self, seen: Observed, is_first: Array) -> tuple[Array, Array]:
        """[B, T] squared errors, 0 at the first step of an episode, where h holds nothing; [T, B, W] y."""
        projected = self.projection(seen.tokens.astype(jnp.float32))
        expected = self.predictor(seen.latent.deter.astype(jnp.float32))
        error = jnp.square(expected - projected).mean(-1)
        return jnp.where(is_first, 0.0, error), projected.swapaxes(0, 1)


def constant(projected: Array) -> Array:
    """The error of a prediction that does not depend on h, for y [T, B, W]: its variance."""
    return projected.reshape(-1, projected.shape[-1]).var(0).mean()
