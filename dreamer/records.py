"""The data that flows through Dreamer: the records, the axis letters and the alignment of time.

Letters, the same in code, docstrings and asserts:

    B sequences    T steps    N = B*K imagination starts (K per sequence)    H imagined steps
    D deterministic width    S latent groups    C classes per group    F = D + S*C features    E tokens

Recorded data is `[B, T, ...]`, imagined data `[H, N, ...]`: every dreamt step is one contiguous block, as the
scan writes it and the heads read it. A record at index t is the observation at t, the
reward received on arriving at t, the flags of t, and the action chosen after seeing t (`envs.api` has the
table). The model's step t therefore consumes action t-1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

Params = dict[str, Any]
"""Nested dictionaries of arrays; of a whole agent {module: its parameters}."""


class State(NamedTuple):
    """What a core carries from one step to the next."""

    deter: Array
    """[..., D] deterministic state h, which the heads, prior and posterior read."""
    memory: dict[str, Array] = {}
    """{name: [..., *]} what else the core needs for its next step."""


class Latent(NamedTuple):
    """The state of the world model: what it remembers and what it believes."""

    deter: Array
    """[..., D] deterministic recurrent state h."""
    stoch: Array
    """[..., S, C] one-hot sample z of every latent group; zero before anything was seen."""
    memory: dict[str, Array] = {}
    """{name: [..., *]} what else the core carries; nothing in a GRU."""

    @property
    def feat(self) -> Array:
        """[..., F] what every head reads: h, then z flattened."""
        flat = self.stoch.reshape(*self.stoch.shape[:-2], -1)
        return jnp.concatenate([self.deter, flat.astype(self.deter.dtype)], -1)

    @property
    def state(self) -> State:
        """The core's part of it."""
        return State(self.deter, self.memory)


PackedLatent = dict[str, Any]
"""{column: [..., *]} a latent in the compact form that a replay stores (`dreamer.rssm.pack`)."""


class Batch(NamedTuple):
    """B sequences of T recorded steps and what came just before them."""

    obs: dict[str, Any]
    """{key: [B, T, ...]}."""
    action: dict[str, Any]
    """{key: [B, T, ...]} chosen after seeing the observation of the same index."""
    reward: Any
    """[B, T] float32, received on arriving at each step."""
    is_first: Any
    is_last: Any
    is_terminal: Any
    """[B, T] bool."""
    context_latent: PackedLatent
    """[B, ...] stored posterior of the step before index 0: where the recurrence starts (replay context)."""
    context_action: dict[str, Any]
    """{key: [B, ...]} the action chosen at the step before index 0."""


class Observed(NamedTuple):
    """Output of the world model for recorded steps."""

    tokens: Array
    """[B, T, E] the encoded observations."""
    latent: Latent
    """[B, T, ...] posterior states."""
    logits: Array
    """[B, T, S, C] of the posterior, before unimix."""


class ObjectiveLosses(NamedTuple):
    """Output of an objective for recorded steps."""

    losses: dict[str, Array]
    """{name: [B, T] or []}, unweighted."""
    metrics: dict[str, Array]
    """{name: []} its diagnostics."""


class Imagined(NamedTuple):
    """N rollouts of the world model under the policy; index 0 is the replayed state they start from."""

    feat: Array
    """[H+1, N, F]."""
    action: dict[str, Array]
    """{key: [H, N, ...]} taken *from* the feature of the same index."""
