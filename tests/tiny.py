"""An agent and a batch so small that compiling is most of the work, shared by the tests of one process."""

from functools import cache
from pathlib import Path

import golden
import jax
import jax.numpy as jnp
import numpy as np

import envs
from dreamer import schema
from dreamer.agent import Agent, TrainState
from dreamer.checkpoint import CheckpointStore
from dreamer.config import (
    ActorCriticConfig,
    AgentConfig,
    CheckpointConfig,
    Config,
    DecoderConfig,
    EncoderConfig,
    EvalConfig,
    HeadConfig,
    LogConfig,
    LoopConfig,
    OptimConfig,
    PolicyConfig,
    ReplayConfig,
    ReportConfig,
    RSSMConfig,
    TwoHotConfig,
)
from dreamer.nets import layers
from dreamer.numbers import trace
from dreamer.ops.dists import Sampler
from dreamer.records import Batch
from envs.api import Space, spaces_to

B, T, H = 2, 4, 3
DETERMINISTIC = golden.DETERMINISTIC
"""Argmax for categories and a fixed half deviation for numbers: chance as a constant."""

OBS = {"vector": Space((3,), "float32"), "token": Space((2,), "int32", 5)}
ACT = {"move": Space((), "int32", 3), "steer": Space((2,), "float32")}

CFG = AgentConfig(
    encoder=EncoderConfig(layers=1, units=8, depth=2, mults=(2, 2), kernel=3),
    rssm=RSSMConfig(deter=16, hidden=8, stoch=4, classes=4, blocks=2, prior_layers=1),
    decoder=DecoderConfig(layers=1, units=8, depth=2, mults=(2, 2), kernel=3, blocks=2),
    reward=TwoHotConfig(layers=1, units=8, bins=15),
    cont=HeadConfig(layers=1, units=8),
    policy=PolicyConfig(layers=1, units=8),
    value=TwoHotConfig(layers=1, units=8, bins=15),
    behavior=ActorCriticConfig(imag_length=H),
    optim=OptimConfig(lr=1e-2, warmup=0),
    dtype="float32",
)
NUMBERS = trace(CFG)
RUN = Config(
    task="probe:chosen",
    steps=160,
    agent=CFG,
    loop=LoopConfig(num_envs=4, batch_size=4, batch_length=4, prefill=40, train_ratio=4),
    replay=ReplayConfig(capacity=2000),
    eval=EvalConfig(during=4, episodes=8),
    report=ReportConfig(episodes=0),
    log=LogConfig(every=0.01, tensorboard=False),
    checkpoint=CheckpointConfig(every=60),
)
"""A run of two seconds."""


def config(**changes) -> AgentConfig:
    """The configuration with some fields changed, dots written as two underscores."""
    return change(CFG, **changes)


def change(cfg: AgentConfig, **changes) -> AgentConfig:
    """Any configuration with some fields changed."""
    return schema.replace_paths(cfg, {k.replace("__", "."): v for k, v in changes.items()})


def initializer(seed: int = 0) -> layers.Initializer:
    """Noise for any module of these tests."""
    return layers.Initializer(_noise(seed))


@cache
def _noise(seed: int) -> jax.Array:
    with jax.ensure_compile_time_eval():  # or a first call while tracing would cache a tracer
        return layers.noise(jax.random.key(seed), 200_000)


@cache
def agent(sampler: Sampler = DETERMINISTIC, cfg: AgentConfig = CFG) -> Agent:
    return Agent(OBS, ACT, cfg, sampler)


@cache
def state(seed: int = 0) -> TrainState:
    """A state without zero kernels, so that nothing is 0 only because a layer starts there."""
    fresh = agent().init(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    shake = lambda p: p + jnp.asarray(rng.normal(0, 0.3, p.shape), p.dtype)
    params = jax.tree.map(shake, fresh.params)
    return fresh._replace(params=params, slow={**fresh.slow, "value": jax.tree.map(shake, params["value"])})


def observation(rng: np.random.Generator, *batch: int) -> dict[str, np.ndarray]:
    return {
        "vector": rng.normal(0, 2, (*batch, 3)).astype(np.float32),
        "token": rng.integers(0, 5, (*batch, 2)).astype(np.int32),
    }


def batch(seed: int = 0) -> Batch:
    """Random records; the first sequence starts an episode at index 2, the second goes on throughout."""
    rng = np.random.default_rng(seed)
    action = lambda *shape: {
        "move": rng.integers(0, 3, shape).astype(np.int32),
        "steer": rng.uniform(-1, 1, (*shape, 2)).astype(np.float32),
    }
    flags = np.zeros((3, B, T), bool)
    flags[0, 0, 2] = flags[1, 0, 1] = flags[2, 0, 1] = True
    return Batch(
        obs=observation(rng, B, T),
        action=action(B, T),
        reward=rng.normal(0, 1, (B, T)).astype(np.float32),
        is_first=flags[0],
        is_last=flags[1],
        is_terminal=flags[2],
        context_latent={
            "deter": jnp.asarray(rng.uniform(-1, 1, (B, 16)), jnp.bfloat16),
            "stoch": rng.integers(0, 4, (B, 4)).astype(np.uint8),
        },
        context_action=action(B),
    )


def store(folder: Path, state: TrainState, agent: Agent, env_steps: int = 160, **changes) -> Path:
    """A run folder with a checkpoint of `state`, as training leaves it behind, without the training."""
    cfg = Config(task="probe:chosen", steps=1000, agent=agent.cfg)
    cfg = schema.replace_paths(cfg, {k.replace("__", "."): v for k, v in changes.items()})
    meta = {
        "config": schema.to_dict(cfg),
        "obs_space": spaces_to(agent.obs_space),
        "act_space": spaces_to(agent.act_space),
        "progress": {"env_steps": env_steps, "updates": env_steps // 4},
    }
    checkpoints = CheckpointStore(folder / "checkpoints", keep=9)
    checkpoints.save(env_steps, state, meta)
    checkpoints.wait()
    (folder / "config.toml").write_text(schema.dump_toml(cfg))
    return folder


def untrained(folder: Path, task: str = "probe:chosen") -> Path:
    """A run folder with an agent of a task before its first update."""
    env = envs.make(task, 1)
    agent = Agent(env.obs_space, env.act_space, CFG)
    env.close()
    return store(folder, jax.jit(agent.init)(jax.random.key(0)), agent, task=task)
