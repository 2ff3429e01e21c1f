"""The layers everything is made of: linear and block-linear maps, RMS norm, MLP.

Modules only declare parameters and use them; parameters are float32 and are cast to the dtype of the
activation they meet. Source of the initialisation and the norm: Hafner et al. (2025) and its code.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.ops.activations import normed_silu
from dreamer.ops.cpu import product
from dreamer.ops.transforms import lead


class Initializer:
    """Hands out initial kernels from one long draw of noise: start-up compiles one draw and not fifty.

    Without noise it hands out zeros and counts (`used`) how much noise the modules will need.
    """

    def __init__(self, noise: Array | None = None):
        self.noise = noise
        self.used = 0

    def kernel(self, shape: tuple[int, ...], scale: float = 1.0) -> Array:
        """Normal cut off at two deviations, with variance ``scale^2 / fan_in``.

        The fan-in is the product of all axes but the last. For a block kernel `[g, in/g, out/g]` that is
        the total input width, so a block starts sqrt(g) smaller than its own fan-in would give.
        """
        start, self.used = self.used, self.used + math.prod(shape)
        if self.noise is None or scale == 0:
            return jnp.zeros(shape)
        std = 1.1368 * scale / math.sqrt(math.prod(shape[:-1]))
        return std * self.noise[start : self.used].reshape(shape)


def noise(key: Array, size: int) -> Array:
    """[size] standard normal numbers, none beyond two deviations."""
    return jax.random.truncated_normal(key, -2.0, 2.0, (size,))


class Linear(nnx.Module):
    """``x @ kernel + bias`` on the last axis."""

    def __init__(self, width: int, units: int, *, init: Initializer, scale: float = 1.0):
        self.kernel = nnx.Param(init.kernel((width, units), scale))
        self.bias = nnx.Param(jnp.zeros(units))

    def __call__(self, x: Array) -> Array:
        y = product(x, self.kernel[...])
        return y + lead(self.bias[...].astype(x.dtype), y)


class BlockLinear(nnx.Module):
    """A linear map in g independent blocks: block b of the output sees only block b of the input."""

    def __init__(self, width: int, units: int, blocks: int, *, init: Initializer):
        shape = (blocks, width // blocks, units // blocks)
        self.kernel = nnx.Param(init.kernel(shape))
        self.bias = nnx.Param(jnp.zeros(units))

    def __call__(self, x: Array) -> Array:
        """[N, width] -> [N, units]."""
        blocks = x.reshape(x.shape[0], self.kernel.shape[0], -1).swapaxes(0, 1)
        y = product(blocks, self.kernel[...]).swapaxes(0, 1)
        y = y.reshape(x.shape[0], -1)
        return y + lead(self.bias[...].astype(x.dtype), y)


class NormedSiLU(nnx.Module):
    """RMS norm over the last axis, then SiLU."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))

    def __call__(self, x: Array) -> Array:
        return normed_silu(x, lead(self.scale[...], x))


class Layer(nnx.Module):
    """The unit of every network: linear, RMS norm, SiLU."""

    def __init__(self, width: int, units: int, *, init: Initializer):
        self.linear = Linear(width, units, init=init)
        self.norm = NormedSiLU(units)

    def __call__(self, x: Array) -> Array:
        return self.norm(self.linear(x))


class MLP(nnx.Module):
    """Layers one after the other, all of the same width."""

    def __init__(self, width: int, units: int, layers: int, *, init: Initializer):
        widths = [width] + [units] * layers
        self.layers = nnx.List([Layer(w, units, init=init) for w in widths[:-1]])
        self.width = widths[-1]

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer(x)
        return x
