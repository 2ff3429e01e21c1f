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

pytestmark = pytest.mark.usefixtures("compilation_cache")
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
    """Learns nothing; one metric is never a number, and after four updates a loss is not finite."""

    def gradient(self, state, batch, hyper, *, key):
        B, T = batch.reward.shape
        rssm = self.cfg.rssm
        latent = PackedLatent(
            jnp.zeros((B, T, rssm.deter), jnp.bfloat16), jnp.zeros((B, T, rssm.stoch), jnp.uint8)
        )
        return Gradient({}, state.returns, {}), latent

    def descend(self, state, gradient, hyper):
        one = jnp.float32(1)
        metrics = {"loss": one, "odd": NAN * one, "loss/x": jnp.where(state.updates < 4, one, INF)}
        return state._replace(updates=state.updates + 1), metrics


def on_device():
    functions = test_fused.functions()
    agent = Idle(functions.agent.obs_space, functions.agent.act_space, test_fused.AGENT)
    fused = Fused(agent, functions.env, functions.replay, CFG)
    return FusedLoop(Programs(fused, jit=tiny.jit), Hyper.of(agent.cfg), 0, 120, Progress())


def on_host():
    env = envs.make("probe:chosen", CFG.num_envs)
    agent = Idle(env.obs_space, env.act_space, test_fused.AGENT)
    latent = (agent.cfg.rssm.deter, agent.cfg.rssm.stoch)
    replay = HostReplay(400, CFG.num_envs, env.obs_space, env.act_space, latent)
    state = tiny.jit(agent.init)(jax.random.key(0))
    return HostLoop(agent, env, replay, CFG, Hyper.of(agent.cfg), state, Progress(), 0)


@pytest.mark.parametrize("make", [on_device, on_host])
def test_a_loss_that_is_not_finite_ends_a_run_and_no_other_metric_does(make):
    rows = []
    with pytest.raises(Diverged, match=r"update 5 gave values that are not finite: loss/x$"):
        for turn in make().turns():
            rows += turn.metrics
    assert rows and all(np.isnan(row["odd"]) and row["loss"] == row["loss/x"] == 1 for row in rows)
