"""The block GRU of DreamerV3: its state is h alone.

    x_b = [h_b, embed(h), embed(z), embed(a)]                      what block b reads
    x_b = silu(norm(W_b x_b + c_b))                                 `core_layers` times
    reset, candidate, update = split(V_b x_b + d_b)
    h'_b = u * tanh(sigmoid(reset) * candidate) + (1 - u) * h_b,    u = sigmoid(update - 1)

Each block sees itself and the embeddings, of which the one of h is what connects the blocks. The norm is over
all blocks together.

Reference: Hafner et al. (2025), World model learning.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from dreamer.config import RSSMConfig
from dreamer.nets.layers import BlockLinear, Initializer, Layer, NormedSiLU
from dreamer.ops import cpu
from dreamer.ops.cpu import Blocks, product
from dreamer.records import PackedLatent, State
from envs.api import Space, Spaces


class Cell(NamedTuple):
    """The layers of a step; the first kernel is split into its parts for h_b, for h and z, and for a."""

    embed_deter: Layer
    embed_stoch: Layer
    recurrent: Array
    """[g, D/g, D/g] from each block of h to itself."""
    shared: Array
    """[2*hidden, D] from the embedded h and z to all blocks at once."""
    bias: Array
    """[D]."""
    norms: tuple[NormedSiLU, ...]
    deeper: tuple[BlockLinear, ...]
    gates: BlockLinear


class GRU(nnx.Module):
    """A GRU in g blocks. `core`, `core_norms`: its block layers."""

    def __init__(self, action_width: int, cfg: RSSMConfig, *, init: Initializer):
        self.cfg = cfg
        deter, hidden = cfg.deter, cfg.hidden
        self.embed_deter = Layer(deter, hidden, init=init)
        self.embed_stoch = Layer(cfg.stoch * cfg.classes, hidden, init=init)
        self.embed_action = Layer(action_width, hidden, init=init)
        widths = [deter + cfg.blocks * 3 * hidden] + [deter] * (cfg.core_layers - 1)
        self.core = nnx.List([BlockLinear(w, deter, cfg.blocks, init=init) for w in widths])
        self.core_norms = nnx.List([NormedSiLU(deter) for _ in widths])
        self.gates = BlockLinear(deter, 3 * deter, cfg.blocks, init=init)

    @staticmethod
    def initial(cfg: RSSMConfig, batch: int, dtype: DTypeLike) -> State:
        """Zeros, [batch, D]."""
        return State(jnp.zeros((batch, cfg.deter), dtype))

    @staticmethod
    def entries(cfg: RSSMConfig) -> Spaces:
        """h in bfloat16."""
        return {"deter": Space((cfg.deter,), "bfloat16")}

    @staticmethod
    def pack(state: State) -> PackedLatent:
        """h rounded to bfloat16."""
        return {"deter": state.deter.astype(jnp.bfloat16)}

    @staticmethod
    def unpack(packed: PackedLatent, dtype: DTypeLike) -> State:
        """h up to that rounding."""
        return State(packed["deter"].astype(dtype))

    def read(self, action: Array) -> Array:
        """The action's share of the first block layer: [..., A] -> [..., D]."""
        x = self.embed_action(action)
        return product(x, cpu.shared_kernel(self.core[0].kernel[:, -self.cfg.hidden :]))

    def weights(self) -> Cell:
        """The layers, what all blocks read being one dense product."""
        width = self.cfg.deter // self.cfg.blocks
        kernel = self.core[0].kernel[...]
        return Cell(
            embed_deter=self.embed_deter,
            embed_stoch=self.embed_stoch,
            recurrent=kernel[:, :width],
            shared=cpu.shared_kernel(kernel[:, width : -self.cfg.hidden]),
            bias=self.core[0].bias[...],
            norms=tuple(self.core_norms),
            deeper=tuple(self.core[1:]),
            gates=self.gates,
        )

    def carry(self, state: State) -> Blocks:
        """h in one piece and in blocks."""
        return Blocks.cut(state.deter, self.cfg.blocks)

    def state(self, carry: Blocks) -> State:
        """h in one piece."""
        return State(carry.flat)

    def step(self, weights: Cell, carry: Blocks, stoch: Array, action: Array) -> Blocks:
        """The equations above, [N, ...] -> [N, ...]."""
        N, D, cell, h = len(stoch), self.cfg.deter, weights, carry.blocks
        chex.assert_shape([carry.flat, action], (N, D))
        chex.assert_shape(stoch, (N, self.cfg.stoch * self.cfg.classes))
        x = jnp.concatenate([cell.embed_deter(carry.flat), cell.embed_stoch(stoch)], -1)
        x = cpu.block_linear(h, cell.recurrent, cell.bias, product(x, cell.shared) + action)
        x = cpu.block_normed_silu(x, cell.norms[0].scale[...])
        for layer, norm in zip(cell.deeper, cell.norms[1:], strict=True):
            x = cpu.block_linear(x, layer.kernel[...], layer.bias[...])
            x = cpu.block_normed_silu(x, norm.scale[...])
        gates = cpu.block_linear(x, cell.gates.kernel[...], cell.gates.bias[...])
        reset, candidate, update = jnp.split(gates, 3, -1)
        u = jax.nn.sigmoid(update - 1)
        return Blocks.join(u * jnp.tanh(jax.nn.sigmoid(reset) * candidate) + (1 - u) * h)
