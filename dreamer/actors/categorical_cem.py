"""The cross-entropy method for discrete plans: how often each choice is among the best ones."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.actors import planning
from dreamer.actors.planning import Doubt, Plan
from dreamer.config import Count, Natural, Positive, Share
from dreamer.records import Latent
from dreamer.world import World
from envs.api import Spaces


@dataclass(frozen=True)
class CategoricalCEMConfig(Doubt):
    """The planner categorical_cem."""

    horizon: Count = 8
    """Steps of a plan."""
    samples: Count = 256
    """Plans that are compared in every iteration, the most likely one and those of the policy among them."""
    proposals: Natural = 24
    """Of these, how many the policy proposes in the model; the first of them is its most likely one."""
    iterations: Count = 6
    """Times that the probabilities of the choices are fitted."""
    elites: Count = 26
    """Best plans that they are fitted to."""
    momentum: Share = 0.1
    """How much of the probabilities an iteration keeps."""
    smoothing: Positive = 0.05
    """Share of uniform choices in every step, so that none dies out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        planning.check_counts(self.samples, self.elites, self.proposals + 1)


@dataclass(frozen=True)
class CategoricalCEM:
    """Samples plans choice by choice, and moves the probabilities towards how often the best ones choose so.

        a_t ~ p_t;  p_t <- (1 - m) frequency of a_t among the elites + m p_t, mixed with the uniform ones

    The first choice of the best plan of the last iteration is taken: choices have no mean. The
    probabilities, one step later, are where the next search starts.

    Reference: Rubinstein (1999), The cross-entropy method for combinatorial and continuous optimization.
    """

    act_space: Spaces
    cfg: CategoricalCEMConfig = CategoricalCEMConfig()

    def __post_init__(self) -> None:
        planning.refuse_unless(self.act_space, discrete=True, actor="categorical_cem")

    @property
    def modules(self) -> tuple[str, ...]:
        """Dynamics, reward, endings, values, and the policy, which proposes plans."""
        return planning.MODULES

    @property
    def model_steps(self) -> int:
        """Steps of the model for a decision: every plan in every iteration, and the proposals."""
        return planning.model_steps(
            self.cfg.horizon, self.cfg.samples, self.cfg.iterations, self.cfg.proposals
        )

    def init(self, batch: int) -> Plan:
        """Probabilities, {key: [batch, H, ..., C]}: uniform."""
        return {
            k: jnp.full((batch, self.cfg.horizon, *s.shape, s.num_classes), 1 / s.num_classes)
            for k, s in self.act_space.items()
        }

    def act(
        self, world: World, latent: Latent, memory: Plan, is_first: Array, *, key: Array
    ) -> tuple[dict[str, Array], Plan]:
        """The first choice of the best plan that was seen: latents [N, ...] -> {key: [N, ...]}."""
        return planning.act(self._search, world, latent, memory, is_first, key=key)

    def _search(
        self, world: World, latent: Latent, probs: Plan, is_first: Array, key: Array
    ) -> tuple[dict[str, Array], Plan, Array]:
        cfg = self.cfg
        uniform = {name: jnp.full_like(p, 1 / p.shape[-1]) for name, p in probs.items()}
        probs = planning.where(is_first, uniform, planning.later(probs, uniform))
        probs = planning.mix(probs, uniform, 1 - cfg.smoothing)
        policy_key, luck, key = jax.random.split(key, 3)
        keys = jax.random.split(key, cfg.iterations)
        likely = self._most_likely(probs)
        proposed = planning.proposals(world, latent, likely, cfg.proposals, key=policy_key)

        def iterate(carry: tuple[Plan, Plan, Array], key: Array) -> tuple[tuple[Plan, Plan, Array], None]:
            probs, _, _ = carry
            drawn = self._draw(world, probs, cfg.samples - cfg.proposals - 1, key)
            plans = planning.join(planning.alone(self._most_likely(probs)), proposed, drawn)
            score = planning.returns(world, latent, plans, cfg, key=luck)
            elites, weights = planning.best(plans, score, cfg.elites)
            often = {
                name: jnp.tensordot(weights, jax.nn.one_hot(x, probs[name].shape[-1]), 1)
                for name, x in elites.items()
            }
            probs = planning.mix(probs, often, cfg.momentum)
            probs = planning.mix(probs, uniform, 1 - cfg.smoothing)
            return (probs, {name: x[0] for name, x in elites.items()}, jnp.isfinite(score).any()), None

        start = (probs, likely, jnp.array(True))
        (probs, first, worked), _ = jax.lax.scan(iterate, start, keys)
        action = {name: a[0] for name, a in first.items()}
        return action, planning.where(worked, probs, uniform), worked

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
