"""The cross-entropy method: continuous plans, refitted to the best ones, which all count the same."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.actors import planning
from dreamer.actors.planning import Plan, Search, SearchConfig, Searched
from dreamer.config import Positive, Share
from dreamer.records import Latent
from dreamer.world import World


@dataclass(frozen=True)
class CEMConfig(SearchConfig):
    """The planner cem."""

    momentum: Share = 0.1
    """How much of mean and deviation an iteration keeps."""
    min_std: Positive = 0.05
    """Least standard deviation of an action, of which the range is [-1, 1]."""
    first_std: Positive = 1.0
    """The one that the search starts with."""

    @property
    def kept(self) -> int:
        """The mean."""
        return 1

    @property
    def judged_last(self) -> int:
        """The mean, of which the first action is taken."""
        return 1


@dataclass(frozen=True)
class CEM(Search[CEMConfig, Plan]):
    """Samples plans around a mean, and moves mean and deviation towards the moments of the best ones.

        a ~ clip(N(mean, std), -1, 1);  mean, std <- (1 - m) moments(elites) + m (mean, std)

    The first action of the last mean is taken; the mean, one step later, is where the next search starts.

    Reference: Rubinstein (1999), The cross-entropy method for combinatorial and continuous optimization.
    """

    name: ClassVar = "cem"
    discrete: ClassVar = False

    def start(self, batch: int) -> Plan:
        """The mean of a plan, {key: [batch, H, ...]}: zero."""
        return {k: jnp.zeros((batch, self.cfg.horizon, *s.shape)) for k, s in self.act_space.items()}

    def search(
        self, world: World, latent: Latent, memory: Plan, is_first: Array, *, key: Array
    ) -> Searched[Plan]:
        cfg = self.cfg
        nothing = jax.tree.map(jnp.zeros_like, memory)
        mean = planning.where(is_first, nothing, planning.later(memory, nothing))
        policy_key, luck, key = jax.random.split(key, 3)
        keys = jax.random.split(key, cfg.iterations)
        proposed = planning.proposals(world, latent, mean, cfg.proposals, key=policy_key)

        def iterate(carry: tuple[Plan, Plan, Array], key: Array) -> tuple[tuple[Plan, Plan, Array], None]:
            mean, std, _ = carry
            noise = planning.white(world.sampler, mean, cfg.drawn, key=key)
            drawn = planning.around(mean, std, noise)
            plans = planning.join(planning.alone(mean), proposed, drawn)
            score = planning.returns(world, latent, plans, cfg, key=luck)
            elites, weights = planning.best(plans, score, cfg.elites)
            new = planning.moments(elites, weights)
            mean, std = planning.mix((mean, std), new, cfg.momentum)
            std = jax.tree.map(lambda x: jnp.maximum(x, cfg.min_std), std)
            return (mean, std, jnp.isfinite(score).any()), None

        std = jax.tree.map(lambda x: jnp.full_like(x, cfg.first_std), mean)
        (mean, _, worked), _ = jax.lax.scan(iterate, (mean, std, jnp.array(True)), keys)
        action = {name: a[0] for name, a in mean.items()}
        (expected,) = planning.returns(world, latent, planning.alone(mean), cfg, key=luck)
        return Searched(action, planning.where(worked, mean, nothing), expected, worked)
