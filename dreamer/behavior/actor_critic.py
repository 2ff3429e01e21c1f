"""An actor and a critic that learn from imagined rollouts only (the critic also from replayed returns)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dreamer.config import ActorCriticConfig
from dreamer.nets.heads import PolicyHead, TwoHotHead, per_step
from dreamer.ops import running
from dreamer.ops.returns import lambda_return
from dreamer.records import Batch, Imagined

sg = jax.lax.stop_gradient


class ImaginedLosses(NamedTuple):
    """Output of behaviour learning."""

    losses: dict[str, Array]
    """{policy, value: [N]} mean over the imagined steps."""
    target: Array
    """[H, N] lambda-returns; the first is that of the state where each rollout started."""
    returns: running.Percentiles
    """Updated range of the returns."""
    metrics: dict[str, Array]


class Judged(NamedTuple):
    """A critic's view of imagined rollouts."""

    target: Array
    """[H, N] lambda-returns."""
    value: Array
    """[H+1, N] what the critic, or its slow copy, expects."""
    slow: Array
    """[H+1, N] what the slow copy expects."""
    loss: Array
    """[H, N] weighted."""


@dataclass(frozen=True)
class Critic:
    """One critic with its parameters in place, its slow copy, and the numbers of their configuration."""

    value: TwoHotHead
    slow_value: TwoHotHead
    cfg: ActorCriticConfig

    def imagined_loss(self, feat: Array, reward: Array, discount: Array, weight: Array) -> Judged:
        """The critic's loss of imagined rollouts.

            R_t = r_{t+1} + d_{t+1} ((1-lam) v_{t+1} + lam R_{t+1})
            w_t (CE(v_t, sg(R_t)) + slow_reg * CE(v_t, sg(slow_t)))

        Args:
          feat: [H+1, N, F].
          reward, discount, weight: [H+1, N] as of `ActorCritic.imagined_loss`.

        Reference: Hafner et al. (2025), Critic learning.
        """
        cfg = self.cfg
        logits = self.value(feat)
        slow = sg(per_step(self.slow_value.expected, feat))
        value = slow if cfg.slow_target else sg(self.value.mean(logits))
        lam = jnp.broadcast_to(cfg.lam, reward.T.shape)
        target = sg(lambda_return(reward.T, discount.T, value.T, lam)).T
        # It reads all H+1 features, because the first H of them would be a copy.
        targets = jnp.concatenate([target, value[-1:]])
        loss = weight[:-1] * self.value.loss(logits, (targets, 1.0), (slow, cfg.slow_reg))[:-1]
        return Judged(target, value, slow, loss)

    @jax.named_scope("behavior")
    def replay_loss(self, feat: Array, batch: Batch, discount: Array, bootstrap: Array) -> Array:
        """The critic's loss on replayed steps, with real rewards and imagined returns to bootstrap from.

            R_t = r_{t+1} + d_{t+1} ((1 - l_{t+1}) boot_{t+1} + l_{t+1} R_{t+1})
            d = (1 - terminal) * (1 - 1/horizon),  l = (1 - last) * lam

        A time limit bootstraps fully, a terminal step not at all, and the last step of an episode is no
        target itself.

        Args:
          feat: [B, K, F]; gradients reach the representation.
          batch: B sequences, of which these are the last K steps.
          discount: [B, T] of the recorded steps.
          bootstrap: [B, K] imagined return from each step.

        Returns:
          [B, K-1] losses.
        """
        chex.assert_tree_shape_prefix((batch.reward, batch.is_last), discount.shape)
        chex.assert_equal_shape_prefix([feat, bootstrap], 2)
        cfg, recent = self.cfg, slice(-bootstrap.shape[1], None)
        goes_on = 1.0 - batch.is_last[:, recent].astype(jnp.float32)
        target = lambda_return(
            batch.reward[:, recent], discount[:, recent], bootstrap, goes_on * cfg.replay_lam
        )
        target = jnp.concatenate([target, bootstrap[:, -1:]], 1)
        slow = self.slow_value.expected(sg(feat))
        loss = self.value.loss(self.value(feat), (sg(target), 1.0), (sg(slow), cfg.replay_slow_reg))
        return (goes_on * loss)[:, :-1]


@dataclass(frozen=True)
class ActorCritic:
    """The modules with their parameters in place, and the numbers of their configuration."""

    policy: PolicyHead
    critic: Critic
    cfg: ActorCriticConfig

    def imagined_loss(
        self,
        imagined: Imagined,
        reward: Array,
        discount: Array,
        weight: Array,
        returns: running.Percentiles,
    ) -> ImaginedLosses:
        """Actor and critic losses of imagined rollouts.

            R_t = r_{t+1} + d_{t+1} ((1-lam) v_{t+1} + lam R_{t+1})
            A_t = (R_t - v_t) / max(limit, p95(R) - p5(R))
            policy: -w_t (log pi(a_t) sg(A_t) + entropy * H[pi_t])      (REINFORCE)
            value:   w_t (CE(v_t, sg(R_t)) + slow_reg * CE(v_t, sg(slow_t)))

        Args:
          imagined: [H+1, N, ...]; gradients do not leave it.
          reward: [H+1, N] predicted reward on arriving at each index.
          discount: [H+1, N] predicted probability that the episode continues, times gamma.
          weight: [H+1, N] product of the discounts up to each index: how much it counts.
          returns: range of the returns so far.

        Reference: Hafner et al. (2025), Critic and Actor learning.
        """
        chex.assert_tree_shape_prefix((imagined.feat, discount, weight), reward.shape)
        chex.assert_tree_shape_prefix(imagined.action, (len(reward) - 1, *reward.shape[1:]))
        cfg = self.cfg
        target, value, slow, critic = self.critic.imagined_loss(imagined.feat, reward, discount, weight)
        weight = weight[:-1]

        returns = running.update(
            returns, target, rate=cfg.return_rate, low=cfg.return_low, high=cfg.return_high
        )
        scale = running.scale(returns, limit=cfg.return_limit)
        advantage = (target - value[:-1]) / scale

        head = self.policy(imagined.feat, cfg.unimix)
        head = {name: dist.until(-1) for name, dist in head.items()}
        log_prob = sum(d.log_prob(sg(imagined.action[k])) for k, d in head.items())
        entropy = sum(d.entropy() for d in head.values())
        policy = -weight * (log_prob * advantage + cfg.entropy * entropy)

        metrics = {
            "advantage": advantage.mean(),
            "advantage_std": advantage.std(),
            "imagined_reward": reward.mean(),
            "imagined_return": target.mean(),
            "return_range": scale,
            "value": value.mean(),
            "slow_value": slow.mean(),
            "weight": weight.mean(),
            **{f"entropy/{name}": dist.entropy().mean() for name, dist in head.items()},
            **{f"randomness/{name}": dist.randomness().mean() for name, dist in head.items()},
        }
        losses = {"policy": policy.mean(0), "value": critic.mean(0)}
        return ImaginedLosses(losses, target, returns, metrics)
