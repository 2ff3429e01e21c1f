"""From features back to observations: a prediction for every key that the encoder read."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import DecoderConfig
from dreamer.nets import conv
from dreamer.nets.heads import as_logits, discrete_out
from dreamer.nets.layers import MLP, BlockLinear, Initializer, Layer, Linear, NormedSiLU
from dreamer.records import Latent
from dreamer.schema import ConfigError
from envs.api import Spaces


class Decoder(nnx.Module):
    """Predicts every observation key from the latent.

    Vectors are predicted in symlog space, categories as logits, images in [0, 1].
    """

    def __init__(self, obs_space: Spaces, deter: int, stoch: int, cfg: DecoderConfig, *, init: Initializer):
        self.vectors = tuple((k, s) for k, s in obs_space.items() if not s.is_image)
        self.images = tuple((k, s) for k, s in obs_space.items() if s.is_image)
        if self.vectors:
            self.mlp = MLP(stoch + deter, cfg.units, cfg.layers, init=init)
            outs = {}
            for name, space in self.vectors:
                if space.is_discrete:
                    outs[name] = discrete_out(self.mlp.width, space, init=init)
                else:
                    outs[name] = Linear(self.mlp.width, space.size, init=init)
            self.out = nnx.Dict(outs)
        if self.images:
            stages = len(cfg.mults)
            size = conv.padded_size(self.images, stages)
            channels = sum(s.shape[-1] for _, s in self.images)
            depths = [cfg.depth * m for m in cfg.mults]
            if deter % cfg.blocks or depths[-1] % cfg.blocks:
                raise ConfigError(
                    f"agent.decoder.blocks must divide agent.rssm.deter ({deter}) and the channels of the "
                    f"smallest image, depth times the last of mults ({depths[-1]}), but it is {cfg.blocks}"
                )
            self.small = (size[0] // 2**stages, size[1] // 2**stages, depths[-1])
            self.blocks = cfg.blocks
            width = math.prod(self.small)
            self.from_deter = BlockLinear(deter, width, cfg.blocks, init=init)
            self.from_stoch = Layer(stoch, 2 * cfg.units, init=init)
            self.from_stoch_out = Linear(2 * cfg.units, width, init=init)
            self.norm = NormedSiLU(depths[-1])
            ins, outs = depths[::-1], depths[-2::-1]
            self.convs = nnx.List(
                [conv.Conv(i, o, cfg.kernel, init=init) for i, o in zip(ins, outs, strict=False)]
            )
            self.norms = nnx.List([NormedSiLU(d) for d in outs])
            self.image_out = conv.Conv(depths[0], channels, cfg.kernel, init=init)

    def __call__(self, latent: Latent) -> dict[str, Array]:
        """[*batch, ...] latent -> {key: [*batch, ...]} predictions, float32."""
        batch = latent.deter.shape[:-1]
        deter = latent.deter.reshape(-1, latent.deter.shape[-1])
        stoch = latent.stoch.astype(deter.dtype).reshape(deter.shape[0], -1)
        preds = {}
        if self.vectors:
            x = self.mlp(jnp.concatenate([stoch, deter], -1))
            for name, space in self.vectors:
                y = self.out[name](x)
                y = as_logits(y, space) if space.is_discrete else y.astype(jnp.float32)
                shape = (*space.shape, space.classes) if space.classes else space.shape
                preds[name] = y.reshape(*batch, *shape)
        if self.images:
            stack = self._image(deter, stoch)
            start = 0
            for name, space in self.images:
                h, w, channels = space.shape
                part = stack[:, :h, :w, start : start + channels]
                preds[name] = part.reshape(*batch, *space.shape)
                start += channels
        return preds

    def _image(self, deter: Array, stoch: Array) -> Array:
        h, w, channels = self.small
        blocks = self.from_deter(deter).reshape(-1, self.blocks, h, w, channels // self.blocks)
        x = jnp.moveaxis(blocks, 1, 3).reshape(-1, h, w, channels)
        x = x + self.from_stoch_out(self.from_stoch(stoch)).reshape(-1, h, w, channels)
        return conv.in_parts(self._draw, x)

    def _draw(self, x: Array) -> Array:
        x = self.norm(x)
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = norm(layer.upsampled(x))
        return jax.nn.sigmoid(self.image_out.upsampled(x).astype(jnp.float32))
