"""The recurrent state-space model: one step written once, scanned with data and without.

The latent is a deterministic state h and S categorical samples z. Each step

    h_t = core(h_{t-1}, z_{t-1}, a_{t-1})            one of `dreamer.cores`
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
from jax.typing import DTypeLike

from dreamer.config import RSSMConfig
from dreamer.cores import CORES
from dreamer.nets import inputs
from dreamer.nets.layers import MLP, Initializer, Layer, Linear, NormedSiLU
from dreamer.ops import cpu, dists
from dreamer.ops.cpu import product
from dreamer.ops.transforms import lead
from dreamer.records import Imagined, Latent, PackedLatent
from envs.api import Space, Spaces

sg = jax.lax.stop_gradient
AROUND = ("post", "post_out", "prior_mlp", "prior_out")
"""Parameters of an RSSM beside those of its core."""


def initial(cfg: RSSMConfig, batch: int, dtype: DTypeLike) -> Latent:
    """The latent before anything was seen, [batch, ...]: the core's first state and no sample."""
    deter, memory = CORES[cfg.core].initial(cfg, batch, dtype)
    return Latent(deter, jnp.zeros((batch, cfg.stoch, cfg.classes), dtype), memory)


def entries(cfg: RSSMConfig) -> Spaces:
    """{column: space} of what a replay keeps of a latent: what the core declares, and z as class indices."""
    return {**CORES[cfg.core].entries(cfg), "stoch": Space((cfg.stoch,), "uint8")}


def pack(cfg: RSSMConfig, latent: Latent) -> PackedLatent:
    """The `entries` of latents, [..., *]."""
    stoch = jnp.argmax(latent.stoch, -1).astype(jnp.uint8)
    return {**CORES[cfg.core].pack(latent.state), "stoch": stoch}


def unpack(cfg: RSSMConfig, packed: PackedLatent, dtype: DTypeLike = jnp.float32) -> Latent:
    """Latents from their `entries`, up to the rounding of the core's state."""
    deter, memory = CORES[cfg.core].unpack(packed, dtype)
    return Latent(deter, jax.nn.one_hot(packed["stoch"], cfg.classes, dtype=dtype), memory)


def split(cfg: RSSMConfig, feat: Array) -> Latent:
    """Latents as heads read them, [..., F] -> [..., ...]: without what else the core remembers."""
    deter, stoch = jnp.split(feat, [cfg.deter], -1)
    return Latent(deter, stoch.reshape(*stoch.shape[:-1], cfg.stoch, cfg.classes))


class Posterior(NamedTuple):
    """The layers from h to q(z | h, tokens), the first of which adds the share of the tokens."""

    from_deter: Array
    """[D, hidden]."""
    norm: NormedSiLU
    rest: tuple[Layer, ...]
    out: Linear

    def __call__(self, deter: Array, tokens: Array) -> Array:
        """[N, D] and the tokens' share [N, hidden] -> [N, S*C]."""
        x = self.norm(product(deter, self.from_deter) + tokens)
        for layer in self.rest:
            x = layer(x)
        return self.out(x)


class RSSM(nnx.Module):
    """The dynamics of the latent: core, prior and posterior."""

    def __init__(self, token_width: int, act_space: Spaces, cfg: RSSMConfig, *, init: Initializer):
        self.cfg = cfg
        self.spaces = tuple(act_space.items())
        deter, hidden, logits = cfg.deter, cfg.hidden, cfg.stoch * cfg.classes
        self.core = CORES[cfg.core](inputs.width(act_space), cfg, init=init)
        self.post = MLP(deter + token_width, hidden, cfg.post_layers, init=init)
        self.post_out = Linear(self.post.width, logits, init=init)
        self.prior_mlp = MLP(deter, hidden, cfg.prior_layers, init=init)
        self.prior_out = Linear(self.prior_mlp.width, logits, init=init)

    # The step.

    def prior(self, deter: Array) -> Array:
        """[..., D] -> [..., S, C] float32 logits of what the model expects to see."""
        chex.assert_axis_dimension(deter, -1, self.cfg.deter)
        return self._logits(self.prior_out(self.prior_mlp(deter)))

    def posterior(self, deter: Array, tokens: Array) -> Array:
        """[..., D], [..., E] -> [..., S, C] float32 logits of z after seeing these tokens there."""
        chex.assert_axis_dimension(deter, -1, self.cfg.deter)
        return self._logits(self.post_out(self.post(jnp.concatenate([deter, tokens], -1))))

    def _step(
        self,
        weights: Any,
        carry: Any,
        stoch: Array,
        action: Array,
        believe: Callable[[Array], Array],
        sample: Callable[[Array], Array],
    ) -> tuple[Any, Latent, Array]:
        """One step of N sequences, with data and without.

            h_t = core(h_{t-1}, z_{t-1}, a_{t-1})
            z_t ~ sample(believe(h_t))

        Args:
          weights, carry: of the core.
          stoch: [N, S, C] z_{t-1}.
          action: [N, I] what the core read of a_{t-1}.
          believe: h_t [N, D] -> logits [N, S, C] of the posterior or the prior.
          sample: logits -> z_t [N, S, C].
        """
        carry = self.core.step(weights, carry, stoch.reshape(len(stoch), -1), action)
        deter, memory = self.core.state(carry)
        logits = believe(deter)
        return carry, Latent(deter, sample(logits).astype(deter.dtype), memory), logits

    # The scans.

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
          is_first: [B, T] where an episode starts: state and previous action are reset there.

        Returns:
          [B, T, ...] latents (samples carry straight-through gradients) and [B, T, S, C] posterior
          logits before unimix.
        """
        chex.assert_rank([tokens, is_first], [3, 2])
        B, T = is_first.shape
        chex.assert_shape(tokens, (B, T, None))
        self._check(latent, action, (B, T))
        start = initial(self.cfg, B, tokens.dtype)
        # All that does not depend on the recurrence is computed for all steps at once.
        embedded = jnp.where(is_first[..., None], 0, self.embed(action, 2, tokens.dtype))
        token_in, posterior = self._posterior(tokens)
        time_major = [jnp.moveaxis(x, 1, 0) for x in (token_in, self.core.read(embedded), is_first)]

        def step(weights: Any, latent: Latent, xs: tuple[Array, ...]) -> tuple[Latent, tuple[Latent, Array]]:
            core, posterior = weights
            tokens, action, is_first, noise = xs
            restart = lambda x, first: jnp.where(is_first.reshape(-1, *[1] * (x.ndim - 1)), first, x)
            latent = jax.tree.map(restart, latent, start)
            believe = lambda deter: self._logits(posterior(deter, tokens))
            sample = lambda logits: self._sample(logits, unimix, sampler, noise, straight_through=True)
            carry = self.core.carry(latent.state)
            _, latent, logits = self._step(core, carry, latent.stoch, action, believe, sample)
            return latent, (latent, logits)

        latent = jax.tree.map(lambda x, first: x.astype(first.dtype), latent, start)
        xs = (*time_major, self._noise(sampler, key, T, B))
        weights = self.core.weights(), posterior
        _, out = cpu.scan(step, weights, latent, xs, rows=B, dtype=tokens.dtype)
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
        N = len(latent.stoch)
        self._check(latent, {}, (N,))
        weights, read = self.core.weights(), self._action_reader(latent.deter.dtype)

        def step(carry: tuple[Any, Array, Array, Array], xs: tuple[Array, ...]):
            carry, stoch, feat, feats = carry
            index, policy_key, noise = xs
            action = policy(feat, policy_key)
            self._check_action(action, (N,))
            sample = lambda logits: self._sample(logits, unimix, sampler, noise, straight_through=False)
            carry, latent, _ = self._step(weights, carry, stoch, read(action), self.prior, sample)
            feat = latent.feat
            return (carry, latent.stoch, feat, cpu.write(feats, feat, index)), action

        policy_key, prior_key = jax.random.split(key)
        xs = (
            jnp.arange(1, horizon + 1),
            jax.random.split(policy_key, horizon),
            self._noise(sampler, prior_key, horizon, N),
        )
        feat = latent.feat
        start = self.core.carry(latent.state), latent.stoch, feat, cpu.stack(feat, horizon)
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
        N, horizon = next(iter(action.values())).shape[:2]
        self._check(latent, action, (N, horizon))
        weights, dtype = self.core.weights(), latent.deter.dtype

        def step(carry: tuple[Any, Array], xs: tuple[dict[str, Array], Array]):
            carry, stoch = carry
            action, noise = xs
            action_in = self.core.read(self.embed(action, 1, dtype))
            sample = lambda logits: self._sample(logits, unimix, sampler, noise, straight_through=False)
            carry, latent, _ = self._step(weights, carry, stoch, action_in, self.prior, sample)
            return (carry, latent.stoch), latent

        actions = {k: jnp.moveaxis(a, 1, 0) for k, a in action.items()}
        start = self.core.carry(latent.state), latent.stoch
        _, out = jax.lax.scan(step, start, (actions, self._noise(sampler, key, horizon, N)))
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), out)

    # What goes in.

    def embed(self, action: Mapping[str, Array], ndim: int, dtype: DTypeLike) -> Array:
        """Actions as one vector, {key: [*batch, ...]} -> [*batch, A]; what exceeds 1 is scaled back to it."""
        x = inputs.flatten(action, dict(self.spaces), ndim, dtype, lambda a: a)
        return x / sg(jnp.maximum(1, jnp.abs(x)))

    def _action_reader(self, dtype: DTypeLike) -> Callable[[Mapping[str, Array]], Array]:
        """What the core reads of chosen actions {key: [N, ...]}; of one choice among few it is a table."""
        (name, space), *others = self.spaces
        if others or not space.is_discrete or space.size > 1 or space.num_classes > self.cfg.hidden:
            return lambda action: self.core.read(self.embed(action, 1, dtype))
        table = cpu.lookup(self.core.read, space.num_classes, dtype)
        return lambda action: table(action[name].reshape(-1))

    def _posterior(self, tokens: Array) -> tuple[Array, Posterior]:
        """The tokens' share of the first layer, [B, T, E] -> [B, T, hidden], and what a step adds to it."""
        first, *rest = self.post.layers
        kernel, bias = first.linear.kernel[...], first.linear.bias[...]
        share = product(tokens, kernel[self.cfg.deter :])
        share = share + lead(bias.astype(tokens.dtype), share)
        return share, Posterior(kernel[: self.cfg.deter], first.norm, tuple(rest), self.post_out)

    def _noise(self, sampler: dists.Sampler, key: Array, steps: int, rows: int) -> Array:
        """Noise for many samples, [steps, rows, S]."""
        return sampler.uniform(key, (steps, rows, self.cfg.stoch))

    # What comes out.

    def _logits(self, x: Array) -> Array:
        shape = (*x.shape[:-1], self.cfg.stoch, self.cfg.classes)
        return x.reshape(shape).astype(jnp.float32)

    def _sample(self, logits, unimix, sampler, noise, *, straight_through: bool) -> Array:
        probs = dists.unimix_probs(cpu.classes_first(logits), unimix, 0)
        index = sampler.categorical(noise, sg(probs))
        if straight_through:
            return dists.straight_through(index, probs)
        return jax.nn.one_hot(index, self.cfg.classes)

    # What is refused.

    def _check(self, latent: Latent, action: Mapping[str, Array], lead: tuple[int, ...]) -> None:
        """Refuse latents other than [lead[0], ...] and actions other than {key: [*lead, ...]}."""
        expected = jax.eval_shape(lambda: initial(self.cfg, lead[0], float))
        chex.assert_trees_all_equal_shapes(
            latent, expected, custom_message="the latent, and what is expected"
        )
        self._check_action(action, lead)

    def _check_action(self, action: Mapping[str, Array], lead: tuple[int, ...]) -> None:
        for name, space in self.spaces:
            if name in action:
                chex.assert_shape(action[name], (*lead, *space.shape), custom_message=f"action '{name}'")


def flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an RSSM as `TrainState` and checkpoints have them: the core's beside the others."""
    return {**params["core"], **{name: params[name] for name in AROUND}}


def merge(structure: nnx.GraphDef[RSSM], params: Mapping[str, Any]) -> RSSM:
    """An RSSM with its parameters in place, as `flat` has them."""
    core = {name: value for name, value in params.items() if name not in AROUND}
    return nnx.merge(structure, {"core": core, **{name: params[name] for name in AROUND}})
