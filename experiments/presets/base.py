"""Configurations that presets share: the paper's, a laptop's, and those of classic control."""

from __future__ import annotations

from dataclasses import replace

from dreamer.config import (
    ActorCriticConfig,
    AgentConfig,
    CDPConfig,
    Config,
    EvalConfig,
    LoopConfig,
    LossConfig,
    OptimConfig,
    ReplayConfig,
)
from experiments.presets.sizes import SIZES


def dreamerv3() -> Config:
    """The settings of the paper at its smallest size; give it a task, and more `--size` where it needs it.

    Command: dreamer train dreamerv3 --task SUITE:TASK --size 12m
    """
    return Config(task="minigrid:MiniGrid-DoorKey-5x5-v0", steps=1_000_000, agent=SIZES["1m"](AgentConfig()))


def laptop() -> Config:
    """What the presets for a laptop share: a tiny agent that learns fast from short dreams.

    Objectives without a decoder weigh more than in their sources, whose agents have more tokens and make more
    updates. Of cdp the encoder is as much slower than the dynamics as there, whose rates these are not.
    """
    agent = AgentConfig(
        behavior=ActorCriticConfig(imag_length=10, imag_last=8, return_limit=0.1, entropy=3e-3),
        loss=LossConfig(
            replay_value=1.0,
            barlow=10.0,
            next_embedding=10.0,
            sigreg=100.0,
            visreg=100.0,
            value_equivalent=200.0,
        ),
        optim=OptimConfig(lr=2.5e-3, warmup=100),
        cdp=CDPConfig(factors=("encoder=0.015",)),
    )
    return Config(
        task="minigrid:MiniGrid-DoorKey-5x5-v0",
        steps=34_000,
        agent=SIZES["tiny"](agent),
        loop=LoopConfig(num_envs=16, train_ratio=32, batch_size=16, batch_length=32, prefill=10_000),
        replay=ReplayConfig(capacity=100_000),
    )


def control() -> Config:
    """What the classic control tasks share: small vectors, dense rewards, a learning rate that falls.

    The larger reconstruction loss is for small observations: a squared error of a hundredth is half the
    largest angle of the pole.
    """
    base = laptop()
    agent = replace(
        base.agent,
        behavior=ActorCriticConfig(imag_last=8, horizon=100, entropy=3e-3),
        loss=replace(base.agent.loss, rec=10.0),
        optim=OptimConfig(lr=1e-3, warmup=100, schedule="linear", anneal=3_000),
    )
    return replace(
        base,
        task="gymnasium:CartPole-v1",
        steps=50_000,
        agent=agent,
        loop=replace(base.loop, prefill=2_000),
        eval=EvalConfig(every=10_000),
    )
