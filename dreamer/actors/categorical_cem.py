"""The cross-entropy method for discrete plans: how often each choice is among the best ones."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.actors import planning
from dreamer.actors.planning import Plan, Search, SearchConfig, Searched
from dreamer.config import Share
from dreamer.records import Latent
from dreamer.world import World


@dataclass(frozen=True)
class CategoricalCEMConfig(SearchConfig):
    """The planner categorical_cem."""

    momentum: Share = 0.1
    """How much of the probabilities an iteration keeps."""
    smoothing: Share = 0.05
    """Share of uniform choices in every step, so that none dies out."""

    @property
    def kept(self) -> int:
        """The most likely plan."""
        return 1


@dataclass(frozen=True)
class CategoricalCEM(Search[CategoricalCEMConfig, Plan]):
    """Samples plans choice by choice, and moves the probabilities towards how often the best ones choose so.

        a_t ~ p_t;  p_t <- (1 - m) frequency of a_t among the elites + m p_t, mixed with the uniform ones

    The first choice of the best plan of the last iteration is taken: choices have no mean. The
    probabilities, one step later, are where the next search starts.

    Reference: Rubinstein (1999), The cross-entropy method for combinatorial and continuous optimization.
    """

    name: ClassVar = "categorical_cem"
    discrete: ClassVar = True

    def start(self, batch: int) -> Plan:
        """Probabilities, {key: [batch, H, ..., C]}: uniform."""
        return {
            k: jnp.full((batch, self.cfg.horizon, *s.shape, s.num_classes), 1 / s.num_classes)
            for k, s in self.act_space.items()
        }

    def search(
        self, world: World, latent: Latent, memory: Plan, is_first: Array, *, key: Array
    ) -> Searched[Plan]:
        cfg = self.cfg
        uniform = {name: jnp.full_like(p, 1 / p.shape[-1]) for name, p in memory.items()}
        probs = planning.where(is_first, uniform, planning.later(memory, uniform))
        probs = planning.mix(probs, uniform, 1 - cfg.smoothing)
        policy_key, luck, key = jax.random.split(key, 3)
        keys = jax.random.split(key, cfg.iterations)
        likely = self._most_likely(probs)
        proposed = planning.proposals(world, latent, likely, cfg.proposals, key=policy_key)

        def iterate(carry: tuple[Plan, Plan, Array], key: Array) -> tuple[tuple[Plan, Plan, Array], None]:
            probs, _, _ = carry
            drawn = self._draw(world, probs, cfg.drawn, key)
            plans = planning.join(planning.alone(self._most_likely(probs)), proposed, drawn)
            score = planning.returns(world, latent, plans, cfg, key=luck)
            elites, weights = planning.best(plans, score, cfg.elites)
            often = {
                name: jnp.tensordot(weights, jax.nn.one_hot(x, probs[name].shape[-1]), 1)
                for name, x in elites.items()
            }
            probs = planning.mix(probs, often, cfg.momentum)
            probs = planning.mix(probs, uniform, 1 - cfg.smoothing)
            return (probs, {name: x[0] for name, x in elites.items()}, score.max()), None

        (probs, first, highest), _ = jax.lax.scan(iterate, (probs, likely, jnp.zeros(())), keys)
        action, worked = {name: a[0] for name, a in first.items()}, jnp.isfinite(highest)
        return Searched(action, planning.where(worked, probs, uniform), highest, worked)

    def _most_likely(self, probs: Plan) -> Plan:
        return {k: jnp.argmax(probs[k], -1).astype(s.dtype) for k, s in self.act_space.items()}

    def _draw(self, world: World, probs: Plan, count: int, key: Array) -> Plan:
        keys = jax.random.split(key, len(probs))
        plans = {}
        for k, (name, space) in zip(keys, self.act_space.items(), strict=True):
            first = jnp.moveaxis(probs[name], -1, 0)[:, None]
            noise = world.sampler.uniform(k, (count, *probs[name].shape[:-1]))
            plans[name] = world.sampler.categorical(noise, first).astype(space.dtype)
        return plans
