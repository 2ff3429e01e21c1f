"""One update of an agent, compiled as in training, on a batch of noise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.bench import flops

if TYPE_CHECKING:
    import numpy as np

    from dreamer.agent import Agent
    from dreamer.records import Batch
    from envs.api import Space

KEYS = 128
"""Random keys that are made before anything is timed; they are used in turns."""


class Update:
    """A fresh agent and a batch; every call is one update, awaited.

    Args:
      batch, length: sequences in a batch, steps of each.
    """

    def __init__(self, agent: Agent, batch: int, length: int):
        import jax

        from dreamer.numbers import trace

        self.agent = agent
        self._numbers, self._data = trace(agent.cfg), noise(agent, batch, length)
        self._state = jax.jit(agent.init)(jax.random.key(0))
        self._keys, self._calls = list(jax.random.split(jax.random.key(1), KEYS)), 0
        like, start = (self._state, self._data, self._numbers), time.perf_counter()
        self.gradients = jax.jit(agent.compute_gradients).lower(*like, key=self._keys[0]).compile()
        gradients, _ = self.gradients.out_info
        apply = jax.jit(agent.apply_gradients, donate_argnums=0)
        self.apply = apply.lower(self._state, gradients, self._numbers).compile()
        self.compile_s = time.perf_counter() - start
        """Seconds from Python functions to programs, tracing included."""

    @property
    def about(self) -> dict[str, Any]:
        """How long it took to compile, and the type of its activations."""
        return {"compile_s": self.compile_s, "dtype": str(self.agent.dtype)}

    @property
    def operations(self) -> Mapping[str, int]:
        """{part: operations of its products and convolutions} in one update."""
        like = self._state, self._data, self._numbers
        return flops.count(self.agent.compute_gradients, *like, key=self._keys[0])

    @property
    def params(self) -> dict[str, Any]:
        """{module: its parameters}."""
        return self._state.params

    def __call__(self) -> None:
        import jax

        key = self._keys[self._calls % KEYS]
        gradients, _ = self.gradients(self._state, self._data, self._numbers, key=key)
        self._state, metrics = self.apply(self._state, gradients, self._numbers)
        self._calls += 1
        jax.block_until_ready((self._state, metrics))


def noise(agent: Agent, batch: int, length: int) -> Batch:
    """Noise in the shape of replayed steps [B, T, ...] of the agent's task, without episode borders."""
    import numpy as np

    from dreamer import rssm
    from dreamer.records import Batch

    rng, shape = np.random.default_rng(0), (batch, length)
    draw = lambda spaces: {k: sample(rng, space, shape) for k, space in spaces.items()}
    flags, action = np.zeros(shape, bool), draw(agent.act_space)
    cfg = agent.cfg.rssm
    return Batch(
        obs=draw(agent.obs_space),
        action=action,
        reward=rng.normal(size=shape).astype(np.float32),
        is_first=flags,
        is_last=flags,
        is_terminal=flags,
        context_latent=rssm.pack(cfg, rssm.initial(cfg, batch, "float32")),
        context_action={k: np.zeros_like(v[:, 0]) for k, v in action.items()},
    )


def sample(rng: np.random.Generator, space: Space, shape: tuple[int, ...]) -> np.ndarray:
    """[*shape, *space.shape] categories and pixels drawn uniformly, numbers from a normal distribution."""
    shape = (*shape, *space.shape)
    if space.classes is not None:
        return rng.integers(0, space.classes, shape).astype(space.dtype)
    if space.is_image:
        return rng.integers(0, 256, shape).astype(space.dtype)
    return rng.normal(size=shape).astype(space.dtype)
