"""Which numbers end a run: losses and norms, in both loops, and nothing that is only logged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_fused
import tiny

import envs
from dreamer.agent import Agent, Gradient
from dreamer.hyper import Hyper
from dreamer.loops.clocks import Progress
from dreamer.loops.fused import Fused, FusedLoop, Programs
from dreamer.loops.host import HostLoop
from dreamer.loops.turn import Diverged, diverged, vital
from dreamer.records import PackedLatent
from dreamer.replay.host import HostReplay

NAN, INF = float("nan"), float("inf")
CFG = test_fused.CFG


def test_losses_and_norms_are_vital():
    names = ["loss", "loss/rec/x", "opt/grad_norm", "opt/param_norm", "randomness/a", "return_range", "lossy"]
    assert vital(names) == names[:4]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"loss": 1.0, "randomness/a": NAN, "value": INF}, ""),
        ({"loss": NAN, "loss/reward": INF, "value": NAN}, "update 7 gave .* finite: loss, loss/reward$"),
    ],
)
def test_what_is_said_of_an_update(metrics, said):
    import re

    told = diverged(7, metrics)
    assert bool(told) == bool(said) and re.match(said, told)


class Idle(Agent):
    """Learns nothing, and gives the metrics it is told to."""

    metrics: dict[str, float]

    def gradient(self, state, batch, hyper, *, key):
        B, T = batch.reward.shape
        rssm = self.cfg.rssm
        latent = PackedLatent(
            jnp.zeros((B, T, rssm.deter), jnp.bfloat16), jnp.zeros((B, T, rssm.stoch), jnp.uint8)
        )
        return Gradient({}, state.returns, {}), latent

    def descend(self, state, gradient, hyper):
        metrics = {k: jnp.float32(v) for k, v in self.metrics.items()}
        return state._replace(updates=state.updates + 1), metrics


def idle(obs_space, act_space, metrics):
    agent = Idle(obs_space, act_space, test_fused.AGENT)
    agent.metrics = metrics
    return agent


def on_device(metrics):
    functions = test_fused.functions()
    agent = idle(functions.agent.obs_space, functions.agent.act_space, metrics)
    fused = Fused(agent, functions.env, functions.replay, CFG)
    return FusedLoop(Programs(fused, jit=tiny.jit), Hyper.of(agent.cfg), 0, 80, Progress())


def on_host(metrics):
    env = envs.make("probe:chosen", CFG.num_envs)
    agent = idle(env.obs_space, env.act_space, metrics)
    latent = (agent.cfg.rssm.deter, agent.cfg.rssm.stoch)
    replay = HostReplay(400, CFG.num_envs, env.obs_space, env.act_space, latent)
    state = tiny.jit(agent.init)(jax.random.key(0))
    return HostLoop(agent, env, replay, CFG, Hyper.of(agent.cfg), state, Progress(), 0)


def learned(loop, updates=3):
    """Metrics of a few updates."""
    found = []
    for turn in loop.turns():
        found += turn.metrics
        if loop.progress.updates >= updates:
            return found + loop.settle()
    return found


@pytest.mark.parametrize("make", [on_device, on_host])
def test_a_metric_that_no_loss_uses_ends_no_run(make):
    rows = learned(make({"loss": 1.0, "opt/lr": 1.0, "odd": NAN}))
    assert rows and all(np.isnan(row["odd"]) and row["loss"] == 1 for row in rows)


@pytest.mark.parametrize("make", [on_device, on_host])
def test_a_loss_that_is_not_finite_does(make):
    with pytest.raises(Diverged, match=r"update 1 gave values that are not finite: loss/x$"):
        learned(make({"loss": 1.0, "loss/x": INF, "odd": NAN}))
