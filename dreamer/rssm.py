"""The recurrent state-space model: one step written once, scanned with data and without.

The latent is a deterministic state h and S categorical samples z. Each step

    h_t = core(h_{t-1}, z_{t-1}, a_{t-1})            a block-diagonal GRU
    prior     p(z_t | h_t)                           what the model expects
    posterior q(z_t | h_t, tokens_t)                 what it believes after looking

`observe` follows recorded data with the posterior, `imagine` dreams on with the prior.

Reference: Hafner et al. (2025), World model learning; Hafner et al. (2019) for the RSSM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dreamer.config import RSSMConfig
from dreamer.nets import inputs
from dreamer.nets.layers import MLP, BlockLinear, Initializer, Layer, Linear, NormedSiLU
from dreamer.ops import dists, products
from dreamer.ops.activations import normed_silu
from dreamer.ops.products import product
from dreamer.ops.transforms import lead
from dreamer.records import Imagined, Latent
from envs.api import Spaces

sg = jax.lax.stop_gradient


class Cell(NamedTuple):
    """The recurrence's layers, with the first kernel cut so that a step does as little as possible."""

    embed_deter: Layer
    embed_stoch: Layer
    own: Array
    """[g, D/g, D/g] from each block of h to itself."""
    shared: Array
    """[2*hidden, D] from the embedded h and z, which all blocks see, to all of them at once."""
    bias: Array
    """[D]."""
    norms: tuple[NormedSiLU, ...]
    """Each over all blocks."""
    deeper: tuple[BlockLinear, ...]
    gates: BlockLinear


def initial(cfg: RSSMConfig, batch: int, dtype: Any) -> Latent:
    """The latent before anything was seen: zeros, [batch, ...]."""
    return Latent(jnp.zeros((batch, cfg.deter), dtype), jnp.zeros((batch, cfg.stoch, cfg.classes), dtype))


class RSSM(nnx.Module):
    """The dynamics of the latent: core, prior and posterior."""

    def __init__(self, token_width: int, act_space: Spaces, cfg: RSSMConfig, *, init: Initializer):
        self.cfg = cfg
        self.spaces = tuple(act_space.items())
        deter, hidden, logits = cfg.deter, cfg.hidden, cfg.stoch * cfg.classes
        self.embed_deter = Layer(deter, hidden, init=init)
        self.embed_stoch = Layer(logits, hidden, init=init)
        self.embed_action = Layer(inputs.width(act_space), hidden, init=init)
        widths = [deter + cfg.blocks * 3 * hidden] + [deter] * (cfg.core_layers - 1)
        self.core = nnx.List([BlockLinear(w, deter, cfg.blocks, init=init) for w in widths])
        self.core_norms = nnx.List([NormedSiLU(deter) for _ in widths])
        self.gates = BlockLinear(deter, 3 * deter, cfg.blocks, init=init)
        self.post = MLP(deter + token_width, hidden, cfg.post_layers, init=init)
        self.post_out = Linear(self.post.width, logits, init=init)
        self.prior_mlp = MLP(deter, hidden, cfg.prior_layers, init=init)
        self.prior_out = Linear(self.prior_mlp.width, logits, init=init)

    def embed(self, action: Mapping[str, Array], ndim: int, dtype: Any) -> Array:
        """Actions as one vector, {key: [*batch, ...]} -> [*batch, A]; what exceeds 1 is scaled back to it."""
        x = inputs.flatten(action, dict(self.spaces), ndim, dtype, lambda a: a)
        return x / sg(jnp.maximum(1, jnp.abs(x)))

    def observe(
        self,
        latent: Latent,
        tokens: Array,
        action: Mapping[str, Array],
        is_first: Array,
        *,
        unimix: Array | float,
        sampler: dists.Sampler,
        key: Array,
    ) -> tuple[Latent, Array]:
        """Follow recorded steps with the posterior.

        Args:
          latent: [B, ...] the state before index 0.
          tokens: [B, T, E].
          action: {key: [B, T, ...]} the *previous* action of every step.
          is_first: [B, T] where an episode starts: state and previous action are zeroed there.

        Returns:
          [B, T, ...] latents (samples carry straight-through gradients) and [B, T, S, C] posterior
          logits before unimix.
        """
        B, T = is_first.shape
        chex.assert_shape(tokens, (B, T, None))
        # All that does not depend on the recurrence is done for all steps at once.
        embedded = jnp.where(is_first[..., None], 0, self.embed(action, 2, tokens.dtype))
        action_in = self._action_in(embedded)
        first, rest = self.post.layers[0].linear, self.post.layers[1:]
        kernel = first.kernel[...]
        token_in = product(tokens, kernel[self.cfg.deter :])
        token_in = token_in + lead(first.bias[...].astype(tokens.dtype), token_in)
        weights = self._cell(), kernel[: self.cfg.deter], rest, self.post_out

        def step(weights: Any, latent: Latent, xs: tuple[Array, ...]) -> tuple[Latent, tuple[Latent, Array]]:
            cell, from_deter, rest, post_out = weights
            token_in, action_in, is_first, noise = xs
            keep = ~is_first
            latent = Latent(latent.deter * keep[:, None], latent.stoch * keep[:, None, None])
            deter = _to_flat(self._step(cell, latent, self._blocks(latent), action_in))
            x = self.post.layers[0].norm(product(deter, from_deter) + token_in)
            for layer in rest:
                x = layer(x)
            logits = self._logits(post_out(x))
            stoch = self._sample(logits, unimix, sampler, noise, straight_through=True)
            latent = Latent(deter, stoch.astype(deter.dtype))
            return latent, (latent, logits)

        time_major = [jnp.moveaxis(x, 1, 0) for x in (token_in, action_in, is_first)]
        latent = jax.tree.map(lambda x: x.astype(tokens.dtype), latent)
        xs = (*time_major, self._noise(sampler, key, T, B))
        _, out = products.scan(step, weights, latent, xs, rows=B, dtype=tokens.dtype)
        latents, logits = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), out)
        return latents, logits

    def imagine(
        self,
        latent: Latent,
        policy: Callable[[Array, Array], Mapping[str, Array]],
        horizon: int,
        *,
        unimix: Array | float,
        sampler: dists.Sampler,
        key: Array,
    ) -> Imagined:
        """Dream on with the prior, choosing actions with `policy`.

        Args:
          latent: [N, ...] where the dream starts.
          policy: (feat [N, F], key) -> {key: [N, ...]} actions.
          horizon: H.
        """
        cell, action_in = self._cell(), self._action_reader(latent.deter.dtype)

        def step(carry, xs):
            latent, blocks, feat, feats = carry
            index, policy_key, noise = xs
            action = policy(feat, policy_key)
            latent, blocks = self._dream(cell, latent, blocks, action_in(action), unimix, sampler, noise)
            feat = latent.feat
            feats = jax.lax.dynamic_update_index_in_dim(feats, feat, index, 0)
            return (latent, blocks, feat, feats), action

        # The features are written where the heads will read them: stacking and joining would copy them twice.
        policy_key, prior_key = jax.random.split(key)
        noise = self._noise(sampler, prior_key, horizon, len(latent.deter))
        feats = jax.lax.empty((horizon + 1, *latent.feat.shape), latent.feat.dtype).at[0].set(latent.feat)
        xs = (jnp.arange(1, horizon + 1), jax.random.split(policy_key, horizon), noise)
        start = latent, self._blocks(latent), latent.feat, feats
        (*_, feats), actions = jax.lax.scan(step, start, xs)
        return Imagined(feats, dict(actions))

    def replay_actions(
        self,
        latent: Latent,
        action: Mapping[str, Array],
        *,
        unimix: Array | float,
        sampler: dists.Sampler,
        key: Array,
    ) -> Latent:
        """Dream on with the prior under given actions: open-loop prediction.

        Args:
          latent: [N, ...] where the dream starts.
          action: {key: [N, H, ...]} taken from index 0 on.

        Returns:
          [N, H, ...] latents reached.
        """
        cell, dtype = self._cell(), latent.deter.dtype
        horizon = next(iter(action.values())).shape[1]

        def step(carry: tuple[Latent, Array], xs):
            latent, blocks = carry
            action, noise = xs
            action_in = self._action_in(self.embed(action, 1, dtype))
            latent, blocks = self._dream(cell, latent, blocks, action_in, unimix, sampler, noise)
            return (latent, blocks), latent

        actions = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), dict(action))
        start = latent, self._blocks(latent)
        noise = self._noise(sampler, key, horizon, len(latent.deter))
        _, out = jax.lax.scan(step, start, (actions, noise))
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), out)

    def prior(self, deter: Array) -> Array:
        """[..., D] -> [..., S, C] float32 logits of what the model expects to see."""
        return self._logits(self.prior_out(self.prior_mlp(deter)))

    def _dream(self, cell, latent, blocks, action_in, unimix, sampler, noise) -> tuple[Latent, Array]:
        blocks = self._step(cell, latent, blocks, action_in)
        deter = _to_flat(blocks)
        stoch = self._sample(self.prior(deter), unimix, sampler, noise, straight_through=False)
        return Latent(deter, stoch.astype(deter.dtype)), blocks

    def _blocks(self, latent: Latent) -> Array:
        return _to_blocks(latent.deter, self.cfg.blocks)

    def _logits(self, x: Array) -> Array:
        shape = (*x.shape[:-1], self.cfg.stoch, self.cfg.classes)
        return x.reshape(shape).astype(jnp.float32)

    def _noise(self, sampler: dists.Sampler, key: Array, steps: int, rows: int) -> Array:
        """The chance of many samples, [steps, rows, S]."""
        return sampler.uniform(key, (steps, rows, self.cfg.stoch))

    def _sample(self, logits, unimix, sampler, noise, *, straight_through: bool) -> Array:
        # The barrier keeps the product before from writing its result in the turned order (slow on a CPU).
        classes = jax.lax.optimization_barrier(jnp.moveaxis(logits, -1, 0))
        probs = dists.unimix_probs(classes, unimix, 0)
        index = sampler.categorical(noise, sg(probs))
        if straight_through:
            return dists.straight_through(index, probs)
        return jax.nn.one_hot(index, self.cfg.classes)

    def _action_in(self, embedded: Array) -> Array:
        """The action's share of the first block layer: [..., A] -> [..., D]."""
        x = self.embed_action(embedded)
        return product(x, _dense(self.core[0].kernel[:, -self.cfg.hidden :]))

    def _action_reader(self, dtype: Any) -> Callable[[Mapping[str, Array]], Array]:
        """`_action_in` of chosen actions {key: [N, ...]}; of one choice among few it is a table."""
        (name, space), *others = self.spaces
        if others or not space.is_discrete or space.size > 1 or space.num_classes > self.cfg.hidden:
            return lambda action: self._action_in(self.embed(action, 1, dtype))
        table = self._action_in(jnp.eye(space.num_classes, dtype=dtype))
        return lambda action: jax.nn.one_hot(action[name].reshape(-1), space.num_classes, dtype=dtype) @ table

    def _cell(self) -> Cell:
        width = self.cfg.deter // self.cfg.blocks
        kernel = self.core[0].kernel[...]
        return Cell(
            embed_deter=self.embed_deter,
            embed_stoch=self.embed_stoch,
            own=kernel[:, :width],
            shared=_dense(kernel[:, width : -self.cfg.hidden]),
            bias=self.core[0].bias[...],
            norms=tuple(self.core_norms),
            deeper=tuple(self.core[1:]),
            gates=self.gates,
        )

    def _step(self, cell: Cell, latent: Latent, blocks: Array, action_in: Array) -> Array:
        """One step of the recurrence on h in blocks, [g, N, D/g] -> [g, N, D/g].

        Block layer b reads (h_b, embedded h, embedded z, embedded a). The last three are the same for
        all blocks, so their products are one dense matrix product instead of g copies.

            reset, candidate, update = split(BlockLinear(x))
            h' = u * tanh(sigmoid(reset) * candidate) + (1 - u) * h,  u = sigmoid(update - 1)
        """
        g = self.cfg.blocks
        blocked = lambda v: v.reshape(g, 1, -1).astype(blocks.dtype)
        normed = lambda x, norm: normed_silu(x, norm.scale[...].reshape(g, 1, -1), (0, 2))
        h = latent.deter
        z = latent.stoch.reshape(len(h), -1).astype(h.dtype)
        x = jnp.concatenate([cell.embed_deter(h), cell.embed_stoch(z)], -1)
        shared = product(x, cell.shared) + action_in
        x = product(blocks, cell.own) + _to_blocks(shared, g) + blocked(cell.bias)
        x = normed(x, cell.norms[0])
        for layer, norm in zip(cell.deeper, cell.norms[1:], strict=True):
            x = product(x, layer.kernel[...]) + blocked(layer.bias[...])
            x = normed(x, norm)
        gates = product(x, cell.gates.kernel[...]) + blocked(cell.gates.bias[...])
        reset, candidate, update = jnp.split(gates, 3, -1)
        u = jax.nn.sigmoid(update - 1)
        return u * jnp.tanh(jax.nn.sigmoid(reset) * candidate) + (1 - u) * blocks


def _dense(kernel: Array) -> Array:
    """[g, in, out/g] for an input that all blocks share -> [in, out]."""
    return kernel.swapaxes(0, 1).reshape(kernel.shape[1], -1)


def _to_blocks(x: Array, g: int) -> Array:
    """[N, D] -> [g, N, D/g]."""
    return x.reshape(x.shape[0], g, -1).swapaxes(0, 1)


def _to_flat(x: Array) -> Array:
    """[g, N, D/g] -> [N, D]."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)
