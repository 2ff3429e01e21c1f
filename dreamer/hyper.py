"""The agent's configuration, split into what fixes shapes and the numbers that do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from dreamer.behavior.actor_critic import ActorCriticConfig
from dreamer.nets.decoder import DecoderConfig
from dreamer.nets.encoder import EncoderConfig
from dreamer.nets.heads import HeadConfig, TwoHotConfig
from dreamer.ops.optim import OptimConfig
from dreamer.rssm import RSSMConfig


@dataclass(frozen=True)
class LossConfig:
    """What each loss weighs in the total."""

    rec: float = 1.0
    """Every reconstructed observation key."""
    reward: float = 1.0
    """Reward prediction."""
    cont: float = 1.0
    """Prediction of whether the episode goes on."""
    dyn: float = 1.0
    """The prior towards the posterior."""
    rep: float = 0.1
    """The posterior towards the prior."""
    policy: float = 1.0
    """The actor."""
    value: float = 1.0
    """The critic, in imagination."""
    replay_value: float = 0.3
    """The critic, on replayed steps."""
    free_nats: float = 1.0
    """KL below which dyn and rep do not pull any more."""
    unimix: float = 0.01
    """Share of the uniform distribution in priors and posteriors."""
    reward_grad: bool = True
    """Whether reward prediction shapes the representation."""


@dataclass(frozen=True)
class AgentConfig:
    """Everything about the agent, nothing about the world or the loop."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    reward: TwoHotConfig = field(default_factory=lambda: TwoHotConfig(layers=1))
    cont: HeadConfig = field(default_factory=lambda: HeadConfig(layers=1))
    policy: HeadConfig = field(default_factory=lambda: HeadConfig(layers=3))
    value: TwoHotConfig = field(default_factory=lambda: TwoHotConfig(layers=3))
    behavior: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations; auto is float32 on a CPU and bfloat16 elsewhere. Parameters and losses are float32."""

    def hyper(self) -> Hyper:
        """The traced numbers, as float32 scalars."""
        optim, loss, behavior = self.optim, self.loss, self.behavior
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
            return_limit=behavior.return_limit,
        )
        return Hyper(**{k: jnp.asarray(v, jnp.float32) for k, v in values.items()})


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
    return_limit: Any

    def scale(self, loss: str) -> Any:
        """What a loss weighs in the total; all reconstructions `rec/<key>` share one scale."""
        return getattr(self, f"{loss.split('/')[0]}_scale")
