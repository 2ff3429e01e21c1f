"""Learning behaviour from dreams alone: the world model stays as it is, actor and critics learn on.

Dreams start where recorded experience has been, as in training, and nothing new is collected. What is wanted
there may be another thing than in training: a cost (`World.with_cost`) changes what a dream is worth, so that
an agent learns another behaviour from what it knows of the world.

Reference: Hafner et al. (2025), Critic and Actor learning; Sekar et al. (2020), Planning to explore, for a
new task that is learned in a world model already there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
from jax import Array

from dreamer.agent import CRITICS, Agent, TrainState, total_loss
from dreamer.numbers import Numbers
from dreamer.ops import optim, running
from dreamer.records import Batch, Params
from dreamer.world import World

LEARNING = ("policy", *CRITICS)
"""Modules that learn in dreams."""

Wish = Callable[[World], World]
"""The world as actor and critics shall see it."""


def start(agent: Agent, params: Params) -> TrainState:
    """Parameters before the first `step`, with an optimiser of actor and critics alone."""
    return agent.start(params)._replace(opt=optim.laprop_init(_learning(params)))


def step(
    agent: Agent, wish: Wish, state: TrainState, batch: Batch, numbers: Numbers, *, key: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update of actor and critics from dreams of recorded situations.

    Args:
      wish: such as `World.with_cost`.
      state: as `start` made it.
      batch: says where dreams start, from its last K steps as in training; its rewards are not read.

    Returns:
      The new state and scalar metrics.
    """
    follow_key, imagine_key = jax.random.split(key)
    latent, prev_action = agent.context(batch)
    world = agent.world(state.params, numbers)
    seen = world.observe(latent, batch.obs, prev_action, batch.is_first, key=follow_key)
    starts = agent.dream_starts(seen.latent)

    def loss(learning: Params) -> tuple[Array, tuple[running.Percentiles, dict[str, Array]]]:
        world = wish(agent.world({**state.params, **learning}, numbers))
        dreamt = agent.behavior_loss(world, state.slow, state.stats["returns"], starts, key=imagine_key)
        total, means = total_loss(dreamt.losses, numbers)
        return total, (dreamt.returns, dreamt.metrics | means)

    learning = _learning(state.params)
    (total, (returns, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(learning)
    learning, opt, norms = optim.update(grads, state.opt, learning, numbers)
    params = {**state.params, **learning}
    slow = {**state.slow, **agent.follow_critics(state, params, numbers)}
    state = TrainState(params, slow, {"returns": returns}, opt, state.updates + 1)
    return state, metrics | norms | {"loss": total}


def compiled(agent: Agent, wish: Wish):
    """`step` as one program of (state, batch, numbers, key); an interrupted call leaves the state whole."""
    return jax.jit(partial(_step, agent, wish))


def _step(agent: Agent, wish: Wish, state: TrainState, batch: Batch, numbers: Numbers, key: Array):
    return step(agent, wish, state, batch, numbers, key=jax.random.fold_in(key, state.updates))


def _learning(params: Params) -> Params:
    return {name: params[name] for name in LEARNING if name in params}
