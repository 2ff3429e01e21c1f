"""Learning in dreams alone: what moves, what stays, and that a cost is heard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dreamer import dreaming
from dreamer.ops import dists

STAY = ("encoder", "rssm", "objective", "reward", "cont")


def updated(wish=lambda world: world, updates=1, cfg=tiny.CFG, sampler=tiny.DETERMINISTIC):
    agent = tiny.agent(sampler, cfg)
    params = tiny.state().params if cfg is tiny.CFG else agent.init(jax.random.key(0)).params
    start = dreaming.start(agent, params)
    step = jax.jit(lambda state, key: dreaming.step(agent, wish, state, tiny.batch(), tiny.NUMBERS, key=key))
    state = start
    for index in range(updates):
        state, metrics = step(state, jax.random.key(index))
    return start, state, metrics


def moved(before, after):
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
    return {name for name in before if not same(before[name], after[name])}


def test_step_moves_policy_value_and_slow_value_alone():
    start, state, metrics = updated()
    assert moved(start.params, state.params) == {"policy", "value"}
    assert moved(start.slow, state.slow) == {"value"}
    assert int(state.updates) == 1 and np.isfinite(float(metrics["loss"]))
    assert set(state.opt.mu) == {"policy", "value"}


def test_step_moves_critics_beside_the_first():
    start, state, _ = updated(cfg=tiny.config(value_ensemble=3))
    assert moved(start.params, state.params) == {"policy", "value", "critics"}
    assert moved(start.slow, state.slow) == {"value", "critics"}


def test_step_gradients_are_those_of_training_without_replay_value():
    # At these parameters, with replay_value off, policy and value learn in training from dreams alone.
    cfg = tiny.config(behavior__replay_value=False)
    agent, params = tiny.agent(tiny.DETERMINISTIC, cfg), tiny.state().params
    start = dreaming.start(agent, params)
    trained = agent.start(params)
    batch = tiny.batch()
    whole = jax.jit(lambda s: agent.train_step(s, batch, tiny.NUMBERS, key=jax.random.key(3))[0])(trained)
    dreamt = jax.jit(
        lambda s: dreaming.step(agent, lambda w: w, s, batch, tiny.NUMBERS, key=jax.random.key(3))[0]
    )(start)
    for name in ("policy", "value"):
        for a, b in zip(
            jax.tree.leaves(whole.params[name]), jax.tree.leaves(dreamt.params[name]), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_step_with_cost_lowers_what_dreams_cost():
    # The cost is that of the first choice: dreams know it as the state that it leads to.
    probability = lambda agent, params: jnp.exp(
        agent.world(params, tiny.NUMBERS).policy(feat)["move"].log_prob(jnp.zeros(len(feat), jnp.int32))
    ).mean()
    agent = tiny.agent(dists.RANDOM)
    feat = jax.random.normal(jax.random.key(1), (64, tiny.CFG.rssm.features))
    cost = lambda world, latent, decoded: world.reward(latent.feat)  # what was earned is to be avoided
    results = {}
    for name, wish in {"seeks": lambda w: w, "avoids": lambda w: w.with_cost(cost, 0.0)}.items():
        _, state, metrics = updated(wish, updates=60, sampler=dists.RANDOM)
        results[name] = float(metrics["imagined_reward"]), float(probability(agent, state.params))
    _, _, metrics = updated(lambda w: w.with_cost(lambda w, l, d: jnp.full(len(l.deter), 2.0), 0.0))
    assert float(metrics["imagined_reward"]) == pytest.approx(-2)
    assert results["seeks"][0] > -results["avoids"][0]  # the task's reward, which one seeks and one avoids
