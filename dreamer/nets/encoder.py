"""From observations to tokens: vectors and categories through an MLP, images through a CNN."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.nets import conv, inputs
from dreamer.nets.layers import MLP, Initializer, RMSNorm
from dreamer.ops.transforms import symlog
from envs.api import Spaces


@dataclass(frozen=True)
class EncoderConfig:
    """Size of the encoder."""

    layers: int = 3
    """Layers of the MLP for vectors and categories."""
    units: int = 64
    """Width of each."""
    depth: int = 4
    """Channels of the CNN, times the multiplier of the stage."""
    mults: tuple[int, ...] = (2, 3, 4, 4)
    """Channel multiplier of each stage; every stage halves the image."""
    kernel: int = 5
    """Side of the convolution kernels (odd)."""


class Encoder(nnx.Module):
    """Turns the observation of one step into one flat vector of tokens, without memory."""

    def __init__(self, obs_space: Spaces, cfg: EncoderConfig, *, init: Initializer):
        self.vectors = tuple((k, s) for k, s in obs_space.items() if not s.is_image)
        self.images = tuple(sorted((k, s) for k, s in obs_space.items() if s.is_image))
        self.width = 0
        if self.vectors:
            self.mlp = MLP(inputs.width(dict(self.vectors)), cfg.units, cfg.layers, init=init)
            self.width += self.mlp.width
        if self.images:
            self.size = conv.padded_size(self.images, len(cfg.mults))
            channels = sum(s.shape[-1] for _, s in self.images)
            depths = [channels] + [cfg.depth * m for m in cfg.mults]
            self.convs = nnx.List(
                [conv.Conv(i, o, cfg.kernel, init=init) for i, o in zip(depths, depths[1:], strict=False)]
            )
            self.norms = nnx.List([RMSNorm(d) for d in depths[1:]])
            h, w = (n // 2 ** len(cfg.mults) for n in self.size)
            self.width += h * w * depths[-1]

    def __call__(self, obs: Mapping[str, Array], ndim: int, dtype) -> Array:
        """{key: [*batch, ...]} with `ndim` batch axes -> [*batch, E] tokens."""
        outs = []
        if self.vectors:
            outs.append(self.mlp(inputs.flatten(obs, dict(self.vectors), ndim, dtype, symlog)))
        if self.images:
            x = jnp.concatenate([obs[k] for k, _ in self.images], -1)
            batch = x.shape[:ndim]
            x = conv.pad(x.reshape(-1, *x.shape[ndim:]), self.size)
            x = x.astype(dtype) / 255 - 0.5
            for layer, norm in zip(self.convs, self.norms, strict=True):
                x = jax.nn.silu(norm(layer.pooled(x)))
            outs.append(x.reshape(*batch, -1))
        return jnp.concatenate(outs, -1)
