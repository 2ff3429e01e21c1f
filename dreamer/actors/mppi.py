"""Model-predictive path integral control: continuous plans, refitted to the best ones by their returns."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.actors import planning
from dreamer.actors.planning import Plan, Search, SearchConfig, Searched
from dreamer.config import Positive, Scale
from dreamer.records import Latent
from dreamer.schema import ConfigError
from dreamer.world import World


@dataclass(frozen=True)
class MPPIConfig(SearchConfig):
    """The planner mppi."""

    inverse_temperature: Scale = 2.0
    """How much more better plans weigh among the elites: exp(this * (G - max G) / std(G))."""
    min_std: Positive = 0.05
    """Least standard deviation of an action, of which the range is [-1, 1]."""
    max_std: Positive = 2.0
    """The first one, and the largest."""

    @property
    def judged_last(self) -> int:
        """The mean, of which the first action is taken."""
        return 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_std > self.max_std:
            raise ConfigError(f"min_std is {self.min_std:g}, more than max_std ({self.max_std:g})")


@dataclass(frozen=True)
class MPPI(Search[MPPIConfig, Plan]):
    """Samples plans around a mean, and moves mean and deviation to the best ones.

        a ~ clip(N(mean, std), -1, 1)
        weight = exp(b (G - max G) / std(G)) of the elites; mean, std = weighted moments; and again

    The first action of the last mean is taken; the mean, one step later, is where the next search starts.

    Reference: Hansen et al. (2024), TD-MPC2; Williams et al. (2015), Model predictive path integral control.
    Unlike there the temperature has no unit of reward, the last mean is taken instead of a drawn elite, so
    that a choice repeats, and predicted endings count.
    """

    name: ClassVar = "mppi"
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
            plans = planning.join(proposed, drawn)
            score = planning.returns(world, latent, plans, cfg, key=luck)
            best, index = jax.lax.top_k(score, cfg.elites)
            weights = sharpness(best, cfg.inverse_temperature)
            mean, std = planning.moments(planning.take(plans, index), weights)
            std = jax.tree.map(lambda x: jnp.clip(x, cfg.min_std, cfg.max_std), std)
            return (mean, std, jnp.isfinite(best[0])), None

        std = jax.tree.map(lambda x: jnp.full_like(x, cfg.max_std), mean)
        (mean, _, worked), _ = jax.lax.scan(iterate, (mean, std, jnp.array(True)), keys)
        action = {name: a[0] for name, a in mean.items()}
        (expected,) = planning.returns(world, latent, planning.alone(mean), cfg, key=luck)
        return Searched(action, planning.where(worked, mean, nothing), expected, worked)


def sharpness(best: Array, inverse_temperature: float) -> Array:
    """[E] falling returns -> [E] weights of sum 1, ``exp(b (G - max G) / std(G))``; 0 without a number."""
    real = jnp.isfinite(best)
    known = jnp.where(real, best, 0.0)
    mean = known.sum() / jnp.maximum(real.sum(), 1)
    spread = jnp.sqrt(jnp.where(real, jnp.square(known - mean), 0.0).sum() / jnp.maximum(real.sum(), 1))
    weights = jnp.where(
        real, jnp.exp(inverse_temperature * (known - known[0]) / jnp.maximum(spread, 1e-8)), 0.0
    )
    return weights / jnp.maximum(weights.sum(), 1e-8)
