"""What one representation expects of another."""

from flax import nnx
from jax import Array

from dreamer.nets.layers import Initializer, Layer, Linear


class Predictor(nnx.Module):
    """Linear, RMS norm, SiLU, linear: both layers as wide as what is predicted."""

    def __init__(self, width: int, units: int, *, init: Initializer):
        self.layer = Layer(width, units, init=init)
        self.out = Linear(units, units, init=init)

    def __call__(self, x: Array) -> Array:
        """[..., width] -> [..., units]."""
        return self.out(self.layer(x))
