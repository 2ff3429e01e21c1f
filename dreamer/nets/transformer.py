"""A causal transformer over short sequences: attention and MLP, each after a norm and beside a residual."""

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.nets.layers import Initializer, Linear
from dreamer.ops.transforms import lead

EXPANSION = 4
"""Width of the hidden layer of an MLP, relative to the transformer's."""


class LayerNorm(nnx.Module):
    """Mean 0 and deviation 1 over the last axis, then a scale and a shift for every entry."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: Array) -> Array:
        x = jax.nn.standardize(x, epsilon=1e-5)
        return x * lead(self.scale[...], x) + lead(self.bias[...], x)


class Block(nnx.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))`` with GELU."""

    def __init__(self, width: int, heads: int, *, init: Initializer):
        self.heads = heads
        self.norm = LayerNorm(width)
        self.inputs = Linear(width, 3 * width, init=init)
        self.output = Linear(width, width, init=init)
        self.mlp_norm = LayerNorm(width)
        self.mlp_in = Linear(width, EXPANSION * width, init=init)
        self.mlp_out = Linear(EXPANSION * width, width, init=init)

    def __call__(self, x: Array, mask: Array) -> Array:
        """[B, T, W], [B, T, T] whether the step of the second axis sees that of the third -> [B, T, W]."""
        B, T, _ = x.shape
        parts = self.inputs(self.norm(x)).reshape(B, T, 3, self.heads, -1)
        query, key, value = (parts[:, :, i] for i in range(3))
        attended = jax.nn.dot_product_attention(query, key, value, mask=mask[:, None])
        x = x + self.output(attended.reshape(B, T, -1))
        return x + self.mlp_out(jax.nn.gelu(self.mlp_in(self.mlp_norm(x))))


class Transformer(nnx.Module):
    """Learned positions, then blocks; every step sees itself and earlier steps of its segment."""

    def __init__(self, width: int, layers: int, heads: int, length: int, *, init: Initializer):
        self.positions = nnx.Param(init.kernel((length, width), scale=0.02 * length**0.5))  # deviation 0.02
        self.blocks = nnx.List([Block(width, heads, init=init) for _ in range(layers)])

    def __call__(self, x: Array, segment: Array) -> Array:
        """[B, T, W] with at most `length` steps, [B, T] the segment of each -> [B, T, W]."""
        chex.assert_tree_shape_prefix((x, segment), segment.shape)
        steps = jnp.arange(x.shape[1])
        mask = (segment[:, :, None] == segment[:, None]) & (steps[:, None] >= steps[None])[None]
        x = x + self.positions[: x.shape[1]][None]
        for block in self.blocks:
            x = block(x, mask)
        return x
