"""The world model: encoder, dynamics, what it must predict, and its losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.nets.encoder import Encoder
from dreamer.nets.heads import BinaryHead, TwoHotHead
from dreamer.objectives import Objective
from dreamer.ops import dists
from dreamer.records import Batch, Latent
from dreamer.rssm import RSSM

sg = jax.lax.stop_gradient


class Observed(NamedTuple):
    """What the world model made of recorded steps."""

    tokens: Array
    """[B, T, E] the encoded observations."""
    latent: Latent
    """[B, T, ...] posterior states."""
    logits: Array
    """[B, T, S, C] of the posterior, before unimix."""


@dataclass(frozen=True)
class WorldModel:
    """The modules of a world model with their parameters in place."""

    encoder: Encoder
    rssm: RSSM
    objective: Objective
    reward: TwoHotHead
    cont: BinaryHead

    def observe(
        self,
        obs: Mapping[str, Array],
        latent: Latent,
        prev_action: Mapping[str, Array],
        is_first: Array,
        *,
        dtype: Any,
        unimix: Array | float,
        sampler: dists.Sampler,
        key: Array,
    ) -> Observed:
        """Encode recorded steps and follow them with the posterior, [B, T, ...]."""
        tokens = self.encoder(obs, 2, dtype)
        latents, logits = self.rssm.observe(
            latent, tokens, prev_action, is_first, unimix=unimix, sampler=sampler, key=key
        )
        return Observed(tokens, latents, logits)

    def loss(
        self, batch: Batch, seen: Observed, hyper: Any, *, discount_in_cont: bool, reward_grad: bool
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The losses of recorded steps, {name: [B, T]}, and what to log.

            dyn = max(free, KL(sg(posterior) || prior))        the prior learns to expect
            rep = max(free, KL(posterior || sg(prior)))        the posterior learns to be expected
            reward: two-hot cross-entropy of the reward received on arriving
            cont: cross-entropy of (1 - terminal) * (1 - 1/horizon): the discount lives in this head
            and the objective's own (each observation key)

        The KL is summed over the groups first, then clipped, then averaged.

        Reference: Hafner et al. (2025), World model learning.
        """
        post = dists.unimix_logp(seen.logits, hyper.unimix)
        prior = dists.unimix_logp(self.rssm.prior(seen.latent.deter), hyper.unimix)
        kl = lambda p, q: jnp.maximum(hyper.free_nats, dists.categorical_kl(p, q).sum(-1))
        losses = {"dyn": kl(sg(post), prior), "rep": kl(post, sg(prior))}
        losses |= self.objective.loss(batch.obs, seen.latent)

        feat = seen.latent.feat
        logits = self.reward(feat if reward_grad else sg(feat))
        losses["reward"] = self.reward.loss(logits, (batch.reward, 1.0))
        alive = 1.0 - batch.is_terminal.astype(jnp.float32)
        target = alive * (1 - 1 / hyper.horizon) if discount_in_cont else alive
        losses["cont"] = dists.binary_cross_entropy(self.cont(feat), target)

        metrics = {
            "prior_entropy": dists.categorical_entropy(prior).sum(-1).mean(),
            "post_entropy": dists.categorical_entropy(post).sum(-1).mean(),
        }
        return losses, metrics
