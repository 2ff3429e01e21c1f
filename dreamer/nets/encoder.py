"""From observations to tokens: vectors and categories through an MLP, images through a CNN."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import EncoderConfig
from dreamer.nets import conv, inputs
from dreamer.nets.layers import MLP, Initializer, NormedSiLU
from dreamer.ops.transforms import symlog
from envs.api import Spaces


class Encoder(nnx.Module):
    """Turns the observation of one step into one flat vector of tokens, without memory."""

    def __init__(self, obs_space: Spaces, cfg: EncoderConfig, *, init: Initializer):
        self.vectors = tuple((k, s) for k, s in obs_space.items() if not s.is_image)
        self.images = tuple(sorted((k, s) for k, s in obs_space.items() if s.is_image))
        self.width = 0
        self.padding = ""
        if self.vectors:
            self.mlp = MLP(inputs.width(dict(self.vectors)), cfg.units, cfg.layers, init=init)
            self.width += self.mlp.width
        if self.images:
            self.size = conv.padded_size(self.images, len(cfg.mults))
            shape = self.images[0][1].shape[:2]
            if shape != self.size:
                self.padding = (
                    f"images of {shape[0]}x{shape[1]} are padded to {self.size[0]}x{self.size[1]}, "
                    f"which {len(cfg.mults)} stages can halve"
                )
            channels = sum(s.shape[-1] for _, s in self.images)
            depths = [channels] + [cfg.depth * m for m in cfg.mults]
            self.convs = nnx.List(
                [conv.Conv(i, o, cfg.kernel, init=init) for i, o in zip(depths, depths[1:], strict=False)]
            )
            self.norms = nnx.List([NormedSiLU(d) for d in depths[1:]])
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
            x = conv.in_parts(lambda x: self._see(x, dtype), x.reshape(-1, *x.shape[ndim:]))
            outs.append(x.reshape(*batch, -1))
        return jnp.concatenate(outs, -1)

    def _see(self, images: Array, dtype) -> Array:
        x = conv.pad(images, self.size).astype(dtype) / 255 - 0.5
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = norm(layer.pooled(x))
        return x
