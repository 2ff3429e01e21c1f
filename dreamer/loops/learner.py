"""The update of an agent as loops run it: at once or in parts of a batch, on one device or over a mesh.

Accumulated over A parts of a batch, the update is that of the whole batch up to rounding:

    1. range of returns <- percentiles of the dreams of all parts       (forwards only)
    2. g = 1/A sum_a grad L(part a; that range)                          one part after the other

All losses are means over sequences, and the parts are equally large, so the mean of their gradients is the
gradient of the whole. What is not a mean over sequences is the range that divides advantages, so it is
measured first, from the same dreams: the parts draw the rows of the noise that the whole batch would draw.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.agent import Agent, Gradients, TrainState
from dreamer.config import LoopConfig
from dreamer.numbers import Numbers, replace
from dreamer.ops import cpu, dists, running
from dreamer.placement import Sharding
from dreamer.records import Batch, PackedLatent
from dreamer.schema import ConfigError


class Learner:
    """The pure functions of an update; the object only holds structure.

    Args:
      agent: what learns.
      cfg: says in how many parts a batch is learned.
      sharding: of the learner and the batch; None for one device.

    Raises:
      ConfigError: batches are learned in parts, but an action has more than one axis.
    """

    def __init__(self, agent: Agent, cfg: LoopConfig, sharding: Sharding | None = None):
        self.agent, self.sharding, self._parts = agent, sharding, cfg.accumulate
        if self._parts > 1 and any(len(space.shape) > 1 for space in agent.act_space.values()):
            raise ConfigError(
                "loop.accumulate is for actions that are numbers or vectors, but one of this task has more "
                "axes: leave it at 1"
            )

    def train_step(
        self, state: TrainState, batch: Batch, numbers: Numbers, *, key: Array
    ) -> tuple[TrainState, PackedLatent, dict[str, Array]]:
        """One update: the new state, the posteriors [B, T, ...] and scalar metrics."""
        gradients, latent = self.compute_gradients(state, batch, numbers, key=key)
        state, metrics = self.apply_gradients(state, gradients, numbers)
        return state, latent, metrics

    def compute_gradients(
        self, state: TrainState, batch: Batch, numbers: Numbers, *, key: Array
    ) -> tuple[Gradients, PackedLatent]:
        """The first half: gradients of a replayed batch, and its new posteriors."""
        compute, sharding = self._compute, self.sharding
        if sharding is None or not sharding.keeps_rows:
            return compute(state, batch, numbers, key=key)
        whole = state._replace(params=sharding.gathered(state.params), slow=sharding.gathered(state.slow))
        with cpu.shared_rows():
            gradients, latent = compute(whole, batch, numbers, key=key)
        # Whole first, so that the compiler sums over the batch and then splits, and never splits activations.
        return gradients._replace(params=sharding.learner(sharding.gathered(gradients.params))), latent

    def apply_gradients(
        self, state: TrainState, gradients: Gradients, numbers: Numbers
    ) -> tuple[TrainState, dict[str, Array]]:
        """The second half: one step of the optimiser; every device has its part of the result."""
        state, metrics = self.agent.apply_gradients(state, gradients, numbers)
        if self.sharding is None or not self.sharding.keeps_rows:
            return state, metrics
        return self.sharding.learner(state), metrics

    def _compute(
        self, state: TrainState, batch: Batch, numbers: Numbers, *, key: Array
    ) -> tuple[Gradients, PackedLatent]:
        if self._parts == 1:
            return self.agent.compute_gradients(state, batch, numbers, key=key)
        parts, index = self._divided(batch), jnp.arange(self._parts)

        def dream(_: None, part: tuple[Batch, Array]) -> tuple[None, Array]:
            agent = self._agent(batch, part[1])
            return None, agent.imagined_returns(state, part[0], numbers, key=jax.random.clone(key))

        _, returns = jax.lax.scan(dream, None, (parts, index))
        cfg = numbers.behavior
        rate, low, high = cfg.return_rate, cfg.return_low, cfg.return_high
        measured = running.update(state.stats["returns"], returns, rate=rate, low=low, high=high)
        within = state._replace(stats={"returns": measured})
        still = replace(numbers, {"behavior.return_rate": 0.0})  # the range stays as it was measured

        def learn(total: Any, part: tuple[Batch, Array]) -> tuple[Any, tuple[dict[str, Array], PackedLatent]]:
            agent = self._agent(batch, part[1])
            gradients, latent = agent.compute_gradients(within, part[0], still, key=jax.random.clone(key))
            return jax.tree.map(jnp.add, total, gradients.params), (gradients.metrics, latent)

        total, (metrics, latent) = jax.lax.scan(
            learn, jax.tree.map(jnp.zeros_like, state.params), (parts, index)
        )
        mean = jax.tree.map(lambda x: x / self._parts, total)
        joined = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), latent)
        return Gradients(mean, within.stats, _of_whole(metrics)), joined

    def _divided(self, batch: Batch) -> Batch:
        """[B, ...] -> [A, B/A, ...]: every A-th sequence, so that devices keep those that they have."""

        def divide(x: Any) -> Array:
            x = jnp.asarray(x)
            x = x.reshape(-1, self._parts, *x.shape[1:]).swapaxes(0, 1)
            return x if self.sharding is None else self.sharding.parts(x)

        return jax.tree.map(divide, batch)

    def _agent(self, batch: Batch, part: Array) -> Agent:
        """The agent, drawing the rows of this part of a batch."""
        sequences = len(batch.reward) // self._parts
        return self.agent.with_sampler(dists.part(self.agent.sampler, sequences, self._parts, part))


def _of_whole(metrics: dict[str, Array]) -> dict[str, Array]:
    """{name: [A]} metrics of equal parts -> {name: []} of the whole: means, and NAME_std of all together."""
    means = {name: x.mean() for name, x in metrics.items()}

    def joined(name: str) -> Array:
        """The variance within the parts and that of their means."""
        base = name.removesuffix("_std")
        if base == name or base not in metrics:
            return means[name]
        return jnp.sqrt(jnp.square(metrics[name]).mean() + metrics[base].var())

    return {name: joined(name) for name in metrics}
