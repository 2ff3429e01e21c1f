"""Worlds with known answers in the place of a learned one: a state, how it moves and what it earns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.ops import dists
from dreamer.records import Imagined, Latent


def latent(state):
    """Of states [N, D], which are all of it."""
    state = jnp.asarray(state, jnp.float32)
    return Latent(state, jnp.zeros((*state.shape[:-1], 1, 1)))


@dataclass(frozen=True)
class FakeWorld:
    """What planners ask of a world; all functions are of states [..., D]."""

    move: Callable[[Array, Mapping[str, Array]], Array]
    reward_of: Callable[[Array], Array] = lambda state: jnp.zeros(state.shape[:-1])
    survival_of: Callable[[Array], Array] = lambda state: jnp.ones(state.shape[:-1])
    values_of: Callable[[Array], Array] = lambda state: jnp.zeros((1, *state.shape[:-1]))
    policy_of: Callable[[Array], dict[str, Any]] = lambda state: {}
    gamma: float = 1.0
    sampler: dists.Sampler = dists.RANDOM

    def with_equal_luck(self):
        return replace(self, sampler=dists.equal_rows(self.sampler))

    def rollout(self, start, plans, *, key):
        def step(state, action):
            state = self.move(state, action)
            return state, state

        moved = {name: jnp.moveaxis(x, 1, 0) for name, x in plans.items()}
        return latent(jnp.moveaxis(jax.lax.scan(step, start.deter, moved)[1], 0, 1))

    def step(self, start, action, *, key):
        return latent(self.move(start.deter, action))

    def imagine(self, start, policy, horizon, *, key):
        state, feats, actions = start.deter, [start.feat], []
        for index in range(horizon):
            actions.append(policy(feats[-1], jax.random.fold_in(key, index)))
            state = self.move(state, actions[-1])
            feats.append(latent(state).feat)
        return Imagined(jnp.stack(feats), jax.tree.map(lambda *x: jnp.stack(x), *actions))

    def policy(self, feat):
        return self.policy_of(feat[..., :-1])

    def choose(self, feat, key, sampler=None):
        heads = self.policy(feat)
        keys = dict(zip(heads, jax.random.split(key, len(heads)), strict=True))
        return {name: head.sample(keys[name], sampler or self.sampler) for name, head in heads.items()}

    def reward(self, feat):
        return self.reward_of(feat[..., :-1])

    def survival(self, feat):
        return self.survival_of(feat[..., :-1])

    def discount(self, feat):
        return self.gamma * self.survival(feat)

    def values(self, feat):
        return self.values_of(feat[..., :-1])
