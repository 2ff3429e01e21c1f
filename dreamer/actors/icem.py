"""The improved cross-entropy method: plans with coloured noise, and elites that live on."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dreamer.actors import planning
from dreamer.actors.planning import Plan, Search, SearchConfig, Searched
from dreamer.config import Natural, Positive, Scale, Share
from dreamer.records import Latent
from dreamer.schema import ConfigError
from dreamer.world import World


@dataclass(frozen=True)
class ICEMConfig(SearchConfig):
    """The planner icem."""

    momentum: Share = 0.1
    """How much of mean and deviation an iteration keeps."""
    min_std: Positive = 0.05
    """Least standard deviation of an action, of which the range is [-1, 1]."""
    first_std: Positive = 1.0
    """The one that the search starts with."""
    colour: Scale = 2.0
    """Exponent beta of the noise over the steps of a plan, of which the power is 1 / f^beta; 0 is white."""
    survivors: Natural = 5
    """Elites that the next iteration, and the next search one step later, compare again."""

    @property
    def kept(self) -> int:
        """The mean and the survivors."""
        return 1 + self.survivors

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.survivors > self.elites:
            raise ConfigError(f"survivors is {self.survivors}, more than elites ({self.elites})")


class Kept(NamedTuple):
    """What is remembered between two searches."""

    mean: Plan
    """{key: [H, ...]}."""
    elites: Plan
    """{key: [survivors, H, ...]}."""


@dataclass(frozen=True)
class ICEM(Search[ICEMConfig, Kept]):
    """The cross-entropy method with noise that is alike from step to step, and elites that are not forgotten.

    Slow noise reaches further than white noise in as many steps. The best plan of the last iteration is
    taken, as the source does; the mean and its neighbours, one step later, are where the next search starts.

    Reference: Pinneri et al. (2020), Sample-efficient cross-entropy method for real-time planning. Unlike
    there every iteration has as many samples, because a compiled program has fixed shapes.
    """

    name: ClassVar = "icem"
    discrete: ClassVar = False

    def start(self, batch: int) -> Kept:
        """Plans that do nothing."""
        zeros = lambda *lead: {
            k: jnp.zeros((batch, *lead, self.cfg.horizon, *s.shape)) for k, s in self.act_space.items()
        }
        return Kept(zeros(), zeros(self.cfg.survivors))

    def search(
        self, world: World, latent: Latent, memory: Kept, is_first: Array, *, key: Array
    ) -> Searched[Kept]:
        cfg = self.cfg
        nothing = jax.tree.map(jnp.zeros_like, memory)
        move_on = lambda plan: planning.later(plan, jax.tree.map(jnp.zeros_like, plan))
        moved = Kept(move_on(memory.mean), jax.vmap(move_on)(memory.elites))
        mean, kept = planning.where(is_first, nothing, moved)
        policy_key, luck, key = jax.random.split(key, 3)
        keys = jax.random.split(key, cfg.iterations)
        proposed = planning.proposals(world, latent, mean, cfg.proposals, key=policy_key)
        filters = jnp.asarray(coloured(cfg.horizon, cfg.colour), jnp.float32)
        still = jax.tree.map(jnp.zeros_like, mean)
        unit = jax.tree.map(jnp.ones_like, mean)

        def iterate(carry: tuple[Plan, Plan, Plan, Plan, Array], key: Array):
            mean, std, kept, _, _ = carry
            white = planning.white(world.sampler, mean, cfg.drawn, key=key)
            noise = {name: jnp.einsum("gh,mh...->mg...", filters, eps) for name, eps in white.items()}
            drawn = planning.around(mean, std, noise)
            plans = planning.join(planning.alone(mean), proposed, kept, drawn)
            score = planning.returns(world, latent, plans, cfg, key=luck)
            elites, weights = planning.best(plans, score, cfg.elites)
            new = planning.moments(elites, weights)
            mean, std = planning.mix((mean, std), new, cfg.momentum)
            std = jax.tree.map(lambda x: jnp.maximum(x, cfg.min_std), std)
            first = {name: x[0] for name, x in elites.items()}
            return (
                mean,
                std,
                planning.take(elites, slice(cfg.survivors)),
                first,
                score.max(),
            ), None

        std = jax.tree.map(lambda x: cfg.first_std * x, unit)
        start = (mean, std, kept, still, jnp.zeros(()))
        (mean, _, kept, first, highest), _ = jax.lax.scan(iterate, start, keys)
        action, worked = {name: a[0] for name, a in first.items()}, jnp.isfinite(highest)
        return Searched(action, planning.where(worked, Kept(mean, kept), nothing), highest, worked)


def coloured(horizon: int, beta: float) -> np.ndarray:
    """[H, H] the filter that gives white noise over H steps a power of 1 / f^beta and a variance of 1.

    The power of a constant is that of the slowest wave, as in the source.
    """
    wave = np.fft.rfftfreq(horizon)
    wave[0] = 1 / horizon
    spectrum = np.fft.rfft(np.eye(horizon), axis=0) * wave[:, None] ** (-beta / 2)
    filters = np.fft.irfft(spectrum, n=horizon, axis=0)
    return filters / np.sqrt(np.square(filters).sum(1, keepdims=True))
