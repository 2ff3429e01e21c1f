"""The numbers of an agent that fix no shapes, gathered from its configuration."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import jax.numpy as jnp

from dreamer.config import HYPER, AgentConfig


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
        return cls(**{k: jnp.asarray(operator.attrgetter(f)(cfg), jnp.float32) for k, f in HYPER.items()})

    def scale(self, loss: str) -> Any:
        """What a loss weighs in the total; all reconstructions `rec/<key>` share one scale."""
        return getattr(self, f"{loss.split('/')[0]}_scale")
