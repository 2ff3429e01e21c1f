"""Which numbers end a run: losses and norms, in both loops, and nothing that is only logged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_fused
import tiny

import envs
from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent, Gradients
from dreamer.config import LoopConfig
from dreamer.loops.clocks import Progress
from dreamer.loops.collector import Collector
from dreamer.loops.fused import Fused
from dreamer.loops.host import HostLoop, InFlight
from dreamer.loops.outputs import Diverged, diverged, vital
from dreamer.numbers import trace
from dreamer.replay.host import HostReplay

NAN, INF = float("nan"), float("inf")


def test_vital_metric_names_selects_losses_and_norms():
    names = ["loss", "loss/rec/x", "opt/grad_norm", "opt/param_norm", "randomness/a", "return_range", "lossy"]
    assert vital(names) == names[:4]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"loss": 1.0, "randomness/a": NAN, "value": INF}, ""),
        ({"loss": NAN, "loss/reward": INF, "value": NAN}, "update 7 gave .* finite: loss, loss/reward$"),
    ],
)
def test_diverged_non_finite_metrics_names_the_vital_ones(metrics, said):
    import re

    told = diverged(7, metrics)
    assert bool(told) == bool(said) and re.match(said, told)


class Idle(Agent):
    """Learns nothing; one metric is never a number, and after four updates a loss is not finite."""

    def compute_gradients(self, state, batch, numbers, *, key):
        shape, one = batch.reward.shape, jnp.float32(1)
        latent = {k: jnp.zeros((*shape, *space.shape), space.dtype) for k, space in self.entries.items()}
        metrics = {"loss": one, "odd": NAN * one, "loss/x": jnp.where(state.updates < 4, one, INF)}
        return Gradients(state.params, state.stats, metrics), latent

    def apply_gradients(self, state, gradients, numbers):
        return state._replace(updates=state.updates + 1), gradients.metrics


def zeros(function, *arguments):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *arguments))


def test_fused_non_finite_loss_stops_learning_and_other_metrics_do_not():
    whole = test_fused.functions()
    agent = Idle(whole.agent.obs_space, whole.agent.act_space, test_fused.AGENT)
    fused = Fused(agent, whole.env, whole.replay, test_fused.CFG, actor=SAMPLED)
    state, hyper, seed = zeros(fused.init, jnp.int32(0)), trace(agent.cfg), jnp.int32(0)
    update, seen = jax.jit(fused.update), []
    for _ in range(6):
        state, metrics = update(state, hyper, seed)
        seen.append((int(state.acting.failed), int(state.learner.updates)))
    assert np.isnan(metrics["odd"])
    assert seen == [(0, 1), (0, 2), (0, 3), (0, 4), (5, 4), (5, 4)]


def test_host_loop_non_finite_loss_raises_and_other_metrics_do_not():
    env = envs.make("probe:chosen", 2)
    agent = Agent(env.obs_space, env.act_space, tiny.CFG)
    replay = HostReplay(40, 2, env.obs_space, env.act_space, agent.entries)
    state = zeros(agent.init, jax.random.key(0))
    source = Collector(agent, env, replay, tiny.NUMBERS, seed=0, actor=SAMPLED)
    progress = Progress(updates=9)
    loop = HostLoop(agent, source, replay, LoopConfig(), tiny.NUMBERS, state, progress, 0, actor=SAMPLED)
    loop._metric_names = ["loss", "odd"]
    arrives = lambda *metrics: InFlight({}, (), (), np.array(metrics, np.float32))
    loop._in_flight = arrives(1, NAN)
    (row,) = loop.check_finite()
    assert row["loss"] == 1 and np.isnan(row["odd"])
    loop._in_flight = arrives(INF, NAN)
    with pytest.raises(Diverged, match="update 9 gave values that are not finite: loss$"):
        loop.check_finite()
