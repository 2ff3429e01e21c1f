"""What planners share: candidate plans, what the world model expects of them, and what is kept of them.

A plan is a sequence of H actions, {key: [H, ...]}; a search compares M of them, {key: [M, H, ...]}. The
return of a plan is what the heads expect along one dream of it:

    G = sum_{t=1..H} w_{t-1} r_t + w_H V(s_H),    w_t = d_1 ... d_t,

with rewards r and discounts d at the states that are reached. Where the model believes that an episode is
over (survival below a half) all that follows counts nothing. All plans are dreamt with the same luck, so that
a search compares actions and never picks the noise it likes. V doubts itself where there are several critics.

A search plans for one environment and is mapped over several, which share its noise: the choice of one
depends neither on the others nor on their order.

Reference: Hansen et al. (2024), TD-MPC2; Hafner et al. (2019), Learning latent dynamics for planning.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dreamer.config import Count, Natural
from dreamer.ops import dists
from dreamer.records import Latent
from dreamer.schema import ConfigError, Range, Section
from dreamer.world import World
from envs.api import Spaces

Plan = dict[str, Array]
"""{key: [H, ...]} actions from now on; of M candidates [M, H, ...]."""
MODULES = ("rssm", "reward", "cont", "value", "policy")
"""Of a planner: what it dreams and judges with, and the policy, which proposes plans."""
OVER = 0.5
"""An episode is taken to be over where the probability that it continues is below."""


@dataclass(frozen=True)
class Doubt(Section):
    """How far a planner distrusts the values at the ends of its plans."""

    end_value: Literal["min", "mean"] = "min"
    """Of several critics (agent.value_ensemble) the least value counts, or their mean."""
    spread: Annotated[float, Range(0)] = 0.0
    """With the mean, so many standard deviations of the critics are taken off it."""

    def value(self, values: Array) -> Array:
        """[K, ...] of K critics -> [...]."""
        if self.end_value == "min":
            return values.min(0)
        return values.mean(0) - self.spread * values.std(0)


@dataclass(frozen=True)
class SearchConfig(Doubt):
    """What searches over plans have in common."""

    horizon: Count = 5
    """Steps of a plan."""
    samples: Count = 64
    """Plans that are compared in every iteration."""
    proposals: Natural = 8
    """Of these, how many the policy proposes in the model; the first of them is its most likely one."""
    iterations: Count = 3
    """Times that the plans are fitted to the best ones."""
    elites: Count = 8
    """Best plans that they are fitted to."""

    @property
    def kept(self) -> int:
        """Plans of a search that are neither proposed nor drawn."""
        return 0

    @property
    def judged_last(self) -> int:
        """Plans that are dreamt after the last iteration, only to know what they are expected to earn."""
        return 0

    @property
    def drawn(self) -> int:
        """Plans that are drawn in every iteration."""
        return self.samples - self.proposals - self.kept

    def __post_init__(self) -> None:
        super().__post_init__()
        taken = {"elites": self.elites, "proposals": self.proposals + self.kept}
        for name, part in taken.items():
            if part > self.samples:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}, more than samples ({self.samples}) allow"
                )


ConfigT = TypeVar("ConfigT", bound=SearchConfig)
MemoryT = TypeVar("MemoryT")


class Planned(NamedTuple, Generic[MemoryT]):
    """Memory of a planner."""

    search: MemoryT
    """[N, ...] where the next search starts; `()` where it starts from nothing."""
    expected: Array
    """[N] return of the plan whose first action was taken last; NaN where no plan had a number."""


class Searched(NamedTuple, Generic[MemoryT]):
    """Outcome of a search for one environment."""

    action: dict[str, Array]
    memory: MemoryT
    """Where the next search starts."""
    expected: Array
    """[] return of the plan whose first action that is."""
    worked: Array
    """[] whether any plan had a return that is a number."""


@dataclass(frozen=True)
class Search(ABC, Generic[ConfigT, MemoryT]):
    """An actor that compares plans; one that is complete says how it draws them and fits them to the best.

    Raises:
      ConfigError: it cannot choose such actions; the message says which planners can.
    """

    name: ClassVar[str]
    """In `ACTORS`."""
    discrete: ClassVar[bool]
    """Whether its actions are choices; else they are numbers."""
    act_space: Spaces
    cfg: ConfigT

    def __post_init__(self) -> None:
        kinds, planners = ("continuous", "discrete"), ("mppi, cem, icem", "categorical_cem")
        for name, space in self.act_space.items():
            if space.is_discrete != self.discrete:
                raise ConfigError(
                    f"the actor {self.name} plans {kinds[self.discrete]} actions, but '{name}' is "
                    f"{kinds[space.is_discrete]}: for those there are {planners[space.is_discrete]} "
                    "and gumbel"
                )

    @property
    def modules(self) -> tuple[str, ...]:
        """Dynamics, reward, endings, values, and the policy, which proposes plans."""
        return MODULES

    @property
    def model_steps(self) -> int:
        """Steps of the model for a decision: of all plans of all iterations, and the proposals."""
        cfg = self.cfg
        return cfg.horizon * (cfg.samples * cfg.iterations + cfg.proposals + cfg.judged_last)

    def init(self, batch: int) -> Planned[MemoryT]:
        """The memory before the first search, [batch, ...]."""
        return Planned(self.start(batch), jnp.full(batch, jnp.nan))

    @abstractmethod
    def start(self, batch: int) -> MemoryT:
        """Where the first search starts, [batch, ...]."""

    @abstractmethod
    def search(
        self, world: World, latent: Latent, memory: MemoryT, is_first: Array, *, key: Array
    ) -> Searched[MemoryT]:
        """Plan for one environment.

        Args:
          latent, memory: without an axis of a batch.
          is_first: [] whether an episode starts here, so that the memory is void.
        """

    def act(
        self, world: World, latent: Latent, memory: Planned[MemoryT], is_first: Array, *, key: Array
    ) -> tuple[dict[str, Array], Planned[MemoryT]]:
        """Search for each of N environments; where no plan has a number the policy acts, and a line says so.

        Args:
          latent, memory, is_first: [N, ...].
        """
        chex.assert_rank(is_first, 1)
        chex.assert_tree_shape_prefix((latent, memory), is_first.shape)
        search_key, policy_key = jax.random.split(key)
        one = lambda latent, memory, first: self.search(world, latent, memory, first, key=search_key)
        action, search, expected, worked = jax.vmap(one)(latent, memory.search, is_first)
        planned = Planned(search, known(expected, worked))
        return or_policy(world, latent, action, worked, key=policy_key), planned


def known(expected: Array, worked: Array) -> Array:
    """[N] returns of the plans that were taken; NaN where there was none or it has no number."""
    return jnp.where(worked & jnp.isfinite(expected), expected, jnp.nan)


def returns(world: World, latent: Latent, plans: Plan, doubt: Doubt, *, key: Array) -> Array:
    """What M plans are expected to earn.

    Args:
      latent: of one environment, without an axis of a batch.
      plans: {key: [M, H, ...]}.
      doubt: about the values at their ends.
      key: of the luck of the dreams; it may be used again.

    Returns:
      [M] float32 returns; -inf where a head gave no number.
    """
    M = len(next(iter(plans.values())))
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (M, *x.shape)), latent)
    luck = jax.random.clone(key)  # on purpose: plans of every iteration are compared under the same
    feat = world.with_equal_luck().rollout(start, plans, key=luck).feat
    reward, discount, alive = world.reward(feat), world.discount(feat), world.survival(feat) >= OVER
    weight = jnp.cumprod(discount * alive, 1)
    earned = reward[:, 0] + (weight[:, :-1] * reward[:, 1:]).sum(1)
    # Nothing follows an end, so a critic that gives no number there does no harm.
    value = jnp.where(weight[:, -1] > 0, doubt.value(world.values(feat[:, -1])), 0.0)
    total = (earned + weight[:, -1] * value).astype(jnp.float32)
    return jnp.where(jnp.isfinite(total), total, -jnp.inf)


def proposals(world: World, latent: Latent, like: Plan, count: int, *, key: Array) -> Plan:
    """Plans of the policy as long as `like`, {key: [count, H, ...]}, in [-1, 1]; the first has no chance."""
    if not count:
        return {name: x[None][:0] for name, x in like.items()}
    horizon = len(next(iter(like.values())))
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), latent)

    def choose(feat: Array, key: Array) -> dict[str, Array]:
        best = world.choose(feat[:1], jax.random.clone(key), dists.GREEDY)
        drawn = world.choose(feat, key)
        return join(best, take(drawn, slice(1, None)))

    dreamt = world.with_equal_luck().imagine(start, choose, horizon, key=key)
    plans = {name: jnp.moveaxis(action, 0, 1) for name, action in dreamt.action.items()}
    is_number = lambda x: jnp.issubdtype(x.dtype, jnp.floating)
    return {name: jnp.clip(x, -1, 1) if is_number(x) else x for name, x in plans.items()}


def later(plan: Plan, rest: Plan) -> Plan:
    """A plan one step later: its first action has been taken, and its last one is that of `rest`."""
    return jax.tree.map(lambda x, rest: jnp.concatenate([x[1:], rest[-1:]]), plan, rest)


def where(condition: Array, first: Any, second: Any) -> Any:
    """`first` where the condition [] holds, else `second`, for trees of equal shapes."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), first, second)


def or_policy(
    world: World, latent: Latent, action: dict[str, Array], worked: Array, *, key: Array
) -> dict[str, Array]:
    """The action where the search worked [N], else the policy's most likely one; then a line is printed."""
    policy = world.choose(latent.feat, key, dists.GREEDY)
    rows = lambda x: worked.reshape(-1, *[1] * (x.ndim - 1))
    # Members of a population in one batch take both branches, so what is printed depends on the value too.
    jax.lax.cond(worked.all(), lambda: None, lambda: jax.debug.callback(_notice, worked.all()))
    return {
        name: jnp.where(rows(a), a.astype(policy[name].dtype), policy[name]) for name, a in action.items()
    }


def _notice(worked: Array) -> None:
    if not worked:
        _say_once()


@cache
def _say_once() -> None:
    print(
        "the planner got no numbers from the world model, so the policy chose instead (this is reported "
        "once): a head of this agent gives NaN; dreamer doctor --run RUN looks for the reason",
        file=sys.stderr,
        flush=True,
    )


def white(sampler: dists.Sampler, like: Plan, count: int, *, key: Array) -> Plan:
    """Standard normal noise for `count` continuous plans, {key: [count, H, ...]}."""
    keys = jax.random.split(key, len(like))
    return {
        name: sampler.normal(k, (count, *x.shape)) for k, (name, x) in zip(keys, like.items(), strict=True)
    }


def around(mean: Plan, std: Plan, noise: Plan) -> Plan:
    """``clip(mean + std noise, -1, 1)`` with noise {key: [M, H, ...]}: within the range of actions."""
    return {name: jnp.clip(mean[name][None] + std[name][None] * eps, -1, 1) for name, eps in noise.items()}


def best(plans: Plan, score: Array, count: int) -> tuple[Plan, Array]:
    """The plans of the highest returns, best first, and weights: equal, but 0 for what has no number.

    Args:
      plans: {key: [M, H, ...]}.
      score: [M] returns, -inf where there is none.

    Returns:
      {key: [count, H, ...]} and [count] weights of sum 1.
    """
    highest, index = jax.lax.top_k(score, count)
    real = jnp.isfinite(highest).astype(jnp.float32)
    return take(plans, index), real / jnp.maximum(real.sum(), 1.0)


def moments(plans: Plan, weights: Array) -> tuple[Plan, Plan]:
    """Weighted mean and standard deviation of continuous plans {key: [E, H, ...]}, weights [E] of sum 1."""
    over = lambda x: jnp.tensordot(weights, x, 1)
    mean = {name: over(x) for name, x in plans.items()}
    return mean, {name: jnp.sqrt(over(jnp.square(x - mean[name][None]))) for name, x in plans.items()}


def mix(old: Any, new: Any, keep: float) -> Any:
    """``keep old + (1 - keep) new``, for trees of equal shapes."""
    return jax.tree.map(lambda x, y: keep * x + (1 - keep) * y, old, new)


def alone(plan: Plan) -> Plan:
    """A plan as the only candidate: {key: [H, ...]} -> {key: [1, H, ...]}."""
    return {name: x[None] for name, x in plan.items()}


def take(plans: Mapping[str, Array], index: Array | slice) -> Plan:
    """The plans of these indices: {key: [M, ...]} -> {key: [E, ...]}."""
    return {name: x[index] for name, x in plans.items()}


def join(*plans: Mapping[str, Array]) -> Plan:
    """All candidates one after the other."""
    first, *_ = plans
    return {name: jnp.concatenate([each[name] for each in plans]) for name in first}
