"""Predict the tokens, and keep their centre, scale and shape those of a normal distribution (VISReg).

    loss_t = (1 - w) * |g(h_t) - P e_t|^2 / W  +  w * (centre + scale + shape)
    centre = mean_i mean(y_i)^2          scale = mean_i (std(y_i) - 1)^2
    shape  = mean over directions u and ranks b of  (sorted <u, (y - mean) / sg(std)>_b - q_b)^2

over the B rows of one time step. The quantiles q_b = Phi^-1(b / (B+1)) are divided by their deviation, unlike
in the source: of 16 rows it is 0.85, so that the shape, whose gradient grows as 1 / std, would ask for
smaller rows until they are constant. The gradient of the scale is largest at a collapse, where that of SIGReg
vanishes.

Source: VISReg (arXiv 2606.02572; HaiyuWu/visreg 074fb51: losses and the weight 0.9 of its training script).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer
from dreamer.objectives.decoder_free import DecoderFree
from dreamer.objectives.joint import JointPrediction, constant
from dreamer.objectives.sigreg import directions
from dreamer.objectives.tokens import diagnostics
from dreamer.records import Batch, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Spaces

sg = jax.lax.stop_gradient
EPS = 1e-6
"""Added to every deviation."""


class VISReg(DecoderFree):
    """The prediction and its regulariser."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        self.prediction = JointPrediction(cfg.rssm.deter, tokens, cfg.visreg.width, init=init)
        self.slices = cfg.visreg.slices

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """{visreg: [B, T]}, of which the second part is the same for all sequences."""
        error, projected = self.prediction(seen, batch.is_first)
        parts = deviations(projected, directions(key, projected.shape[-1], self.slices))
        share = world.numbers.visreg.share
        metrics = {
            "visreg/prediction": error.mean(),
            "visreg/constant": constant(projected),
            "visreg/floor": jnp.zeros(()),
        }
        metrics |= {f"visreg/{name}": part.mean() for name, part in parts._asdict().items()}
        losses = (1 - share) * error + share * jnp.stack(parts).sum(0)[None]
        return ObjectiveLosses({"visreg": losses}, metrics | diagnostics(seen.tokens))


class Deviations(NamedTuple):
    """How the rows of each step [T] differ from normal ones."""

    centre: Array
    scale: Array
    shape: Array


def deviations(rows: Array, directions: Array) -> Deviations:
    """[T, B, W] and [W, M] -> [T] each, in float32."""
    chex.assert_rank([rows, directions], [3, 2])
    chex.assert_equal(rows.shape[-1], directions.shape[0])
    rows, directions = rows.astype(jnp.float32), directions.astype(jnp.float32)
    mean = rows.mean(1, keepdims=True)
    variance = jnp.square(rows - mean).mean(1, keepdims=True)
    std = jnp.sqrt(jnp.maximum(variance, EPS**2)) + EPS
    ranked = jnp.sort((rows - mean) / sg(std) @ directions, axis=1)
    B = rows.shape[1]
    quantiles = jax.scipy.stats.norm.ppf(jnp.arange(1, B + 1) / (B + 1))
    quantiles = (quantiles / quantiles.std())[None, :, None]
    return Deviations(
        jnp.square(mean).mean((1, 2)),
        jnp.square(std - 1).mean((1, 2)),
        jnp.square(ranked - quantiles).mean((1, 2)),
    )
