"""Predict the tokens, and keep them distributed as a normal distribution (SIGReg, as in LeWorldModel).

    loss_t = |g(h_t) - P e_t|^2 / W + w * S(P e_t)
    S = mean over directions u of  int |phi(s) - exp(-s^2/2)|^2 exp(-s^2/2) ds

phi is the empirical characteristic function of <u, y> over the B rows of one time step. Over rows of
different times it would punish whatever changes slowly, which is the state of the world. The source
multiplies S by the number of rows; here that is left out, so that w means the same for every batch. S sees
shadows in one dimension only. Of normal y, S is 1.05 / B; of constant y = 0, 0.40.

Source: Balestriero and LeCun (2025), LeJEPA; LeWorldModel (galilai-group/stable-worldmodel addbab4, MIT).
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dreamer.config import AgentConfig
from dreamer.nets.layers import Initializer
from dreamer.objectives.decoder_free import DecoderFree
from dreamer.objectives.joint import JointPrediction, constant
from dreamer.objectives.tokens import diagnostics
from dreamer.ops.transforms import lead
from dreamer.records import Batch, ObjectiveLosses, Observed, Params
from dreamer.world import World
from envs.api import Spaces

KNOTS, INTERVAL = 17, (0.0, 3.0)
"""Of the trapezoid rule; the negative half is equal."""


class SIGReg(DecoderFree):
    """The prediction and its regulariser."""

    def __init__(
        self, obs_space: Spaces, act_space: Spaces, tokens: int, cfg: AgentConfig, *, init: Initializer
    ):
        self.prediction = JointPrediction(cfg.rssm.deter, tokens, cfg.sigreg.width, init=init)
        self.slices = cfg.sigreg.slices

    def loss(self, world: World, batch: Batch, seen: Observed, slow: Params, key: Array) -> ObjectiveLosses:
        """{sigreg: [B, T]}, of which the second part is the same for all sequences."""
        error, projected = self.prediction(seen, batch.is_first)
        distance = normality(projected, directions(key, projected.shape[-1], self.slices))
        weight = world.numbers.sigreg.weight
        metrics = {
            "sigreg/prediction": error.mean(),
            "sigreg/constant": constant(projected),
            "sigreg/normality": distance.mean(),
            "sigreg/floor": jnp.asarray(weight * least(projected.shape[1])),
        }
        losses = error + weight * distance[None]
        return ObjectiveLosses({"sigreg": losses}, metrics | diagnostics(seen.tokens))


def directions(key: Array, width: int, count: int) -> Array:
    """[width, count] random columns of length 1."""
    columns = jax.random.normal(key, (width, count))
    return columns / jnp.linalg.norm(columns, axis=0, keepdims=True)


def normality(
    rows: Array, directions: Array, knots: int = KNOTS, interval: tuple[float, float] = INTERVAL
) -> Array:
    """[T, B, W] and [W, M] -> [T] how far the rows of each step are from normal ones, in float32.

    Args:
      knots, interval: of the trapezoid rule for one half of the symmetric integral.
    """
    chex.assert_rank([rows, directions], [3, 2])
    chex.assert_equal(rows.shape[-1], directions.shape[0])
    at, weights = (jnp.asarray(x, jnp.float32) for x in _knots(knots, interval))
    shadows = rows.astype(jnp.float32) @ directions.astype(jnp.float32)
    angles = shadows[..., None] * lead(at, shadows[..., None])  # [T, B, M, knots]
    real, imaginary = jnp.cos(angles).mean(1), jnp.sin(angles).mean(1)
    square = jnp.square(real - lead(jnp.exp(-(at**2) / 2), real)) + jnp.square(imaginary)
    return (square @ weights).mean(-1)


def _knots(knots: int, interval: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Where the integrand is evaluated, and what each value weighs: both halves, the window included."""
    at = np.linspace(*interval, knots)
    weights = np.full(knots, 2 * (at[1] - at[0]))
    weights[[0, -1]] /= 2
    return at, weights * np.exp(-(at**2) / 2)


def least(rows: int) -> float:
    """Mean of `normality` of so many normal rows: ``int (1 - exp(-s^2)) exp(-s^2/2) ds / B``."""
    at, weights = _knots(KNOTS, INTERVAL)
    return float((1 - np.exp(-(at**2))) @ weights) / rows
