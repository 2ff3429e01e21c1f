"""The numbers of an agent that fix no shapes, gathered from its configuration."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from dreamer.config import AgentConfig


class Hyper(NamedTuple):
    """Numbers that the train step takes as an argument: changing them never recompiles."""

    lr: Any
    warmup: Any
    anneal: Any
    agc: Any
    beta1: Any
    beta2: Any
    eps: Any
    weight_decay: Any
    rec_scale: Any
    reward_scale: Any
    cont_scale: Any
    dyn_scale: Any
    rep_scale: Any
    policy_scale: Any
    value_scale: Any
    replay_value_scale: Any
    free_nats: Any
    unimix: Any
    policy_unimix: Any
    horizon: Any
    lam: Any
    replay_lam: Any
    entropy: Any
    slow_rate: Any
    slow_every: Any
    slow_reg: Any
    replay_slow_reg: Any
    return_rate: Any
    return_low: Any
    return_high: Any
    return_limit: Any

    @classmethod
    def of(cls, cfg: AgentConfig) -> Hyper:
        """The numbers of a configuration, as float32 scalars."""
        optim, loss, behavior = cfg.optim, cfg.loss, cfg.behavior
        values = dict(
            lr=optim.lr,
            warmup=optim.warmup,
            anneal=optim.anneal,
            agc=optim.agc,
            beta1=optim.beta1,
            beta2=optim.beta2,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            rec_scale=loss.rec,
            reward_scale=loss.reward,
            cont_scale=loss.cont,
            dyn_scale=loss.dyn,
            rep_scale=loss.rep,
            policy_scale=loss.policy,
            value_scale=loss.value,
            replay_value_scale=loss.replay_value,
            free_nats=loss.free_nats,
            unimix=loss.unimix,
            policy_unimix=behavior.unimix,
            horizon=behavior.horizon,
            lam=behavior.lam,
            replay_lam=behavior.replay_lam,
            entropy=behavior.entropy,
            slow_rate=behavior.slow_rate,
            slow_every=behavior.slow_every,
            slow_reg=behavior.slow_reg,
            replay_slow_reg=behavior.replay_slow_reg,
            return_rate=behavior.return_rate,
            return_low=behavior.return_low,
            return_high=behavior.return_high,
            return_limit=behavior.return_limit,
        )
        return cls(**{k: jnp.asarray(v, jnp.float32) for k, v in values.items()})

    def scale(self, loss: str) -> Any:
        """What a loss weighs in the total; all reconstructions `rec/<key>` share one scale."""
        return getattr(self, f"{loss.split('/')[0]}_scale")
