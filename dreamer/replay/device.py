"""Recorded experience in device memory: the host ring's meaning as a pytree and pure functions.

Row r of the run lives in slot `r % rows` of every environment. The same key and counters choose the same
sequences as the host ring does (`sampling.choose`), and what comes back is the same `Batch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dreamer.records import Batch, PackedLatent
from dreamer.replay.host import available_memory as host_memory
from dreamer.replay.layout import Layout
from dreamer.replay.sampling import choose
from envs.api import Spaces, Step


class Ring(NamedTuple):
    """The stored rows and their counters."""

    columns: dict[str, Array]
    """{name: [num_envs, rows, ...]}, bfloat16 as the uint16 of its bits: to write one such number
    the compiler of a CPU would convert the whole column to float32 and back."""
    inserted: Array
    """[] int32 rows written since the beginning of the run."""
    online_taken: Array
    """[] int32 entries of the online queue already consumed."""


def available_memory() -> int | None:
    """Bytes free on the first device; None where that is unknown."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return host_memory()
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else limit - stats.get("bytes_in_use", 0)


class DeviceReplay:
    """Pure functions over a `Ring`; the object only holds shapes.

    Args:
      capacity: steps kept, over all environments together.
      num_envs, obs_space, act_space, entries, online: as for `HostReplay`.
      available: bytes that the device has for it, if known.

    Raises:
      ReplayError: if the ring does not fit.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        obs_space: Spaces,
        act_space: Spaces,
        entries: Spaces,
        online: bool = True,
        available: int | None = None,
    ) -> None:
        self.layout = Layout.of(capacity, num_envs, obs_space, act_space, entries, available)
        self.online = online

    def init(self) -> Ring:
        """An empty ring."""
        rows = (self.layout.num_envs, self.layout.capacity_per_env)
        zeros = {name: jnp.zeros((*rows, *c.shape), c.dtype) for name, c in self.layout.columns.items()}
        return Ring(jax.tree.map(_bits, zeros), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def add(self, ring: Ring, step: Step, action: Mapping[str, Array], latent: PackedLatent) -> Ring:
        """Append one row: what the environments said, and what was chosen and believed after it.

        The action of a step that `is_last` is stored as zeros: it was never executed.

        Args:
          step, action, latent: arrays with a leading axis of environments.

        Raises:
          ReplayError: a key is missing or an array has the wrong shape.
        """
        acted = lambda a: jnp.where(step.is_last.reshape(-1, *[1] * (jnp.ndim(a) - 1)), 0, a)
        row = self.layout.row(step, {key: acted(a) for key, a in action.items()}, latent)
        slot = ring.inserted % self.layout.capacity_per_env

        def write(name: str, column: Array) -> Array:
            value = jnp.asarray(row[name]).astype(self.layout.columns[name].dtype)
            return jax.lax.dynamic_update_index_in_dim(column, _bits(value), slot, 1)

        written = {name: write(name, column) for name, column in ring.columns.items()}
        return ring._replace(columns=written, inserted=ring.inserted + 1)

    def sample(
        self, ring: Ring, batch: int, length: int, *, key: Array
    ) -> tuple[Ring, Batch, tuple[Array, Array]]:
        """`batch` sequences of `length` steps, each with the context before it; as `HostReplay.sample`.

        The ring must hold at least `length + 1` rows.

        Returns:
          The ring with its queue advanced, the batch, and where it is from: env [B], first trained row [B].

        Raises:
          ReplayError: the ring is too short to ever hold one sequence.
        """
        self.layout.check_length(length)
        env, start, taken = choose(
            key,
            inserted=ring.inserted,
            online_taken=ring.online_taken,
            capacity_per_env=self.layout.capacity_per_env,
            num_envs=self.layout.num_envs,
            length=length,
            batch=batch,
            online=self.online,
        )
        first = start + 1
        rows = (first[:, None] + jnp.arange(length)[None]) % self.layout.capacity_per_env
        take = lambda name: ring.columns[name][env[:, None], rows]
        before = lambda name: ring.columns[name][env, start % self.layout.capacity_per_env]
        is_first, is_last = take("is_first"), take("is_last")
        sampled = Batch(
            obs={key: take(f"obs/{key}") for key in self.layout.obs_keys},
            action={key: take(f"action/{key}") for key in self.layout.act_keys},
            reward=take("reward"),
            is_first=is_first,
            # Where a stream was interrupted, the row before a first one was the last of its episode.
            is_last=is_last.at[:, :-1].max(is_first[:, 1:]),
            is_terminal=take("is_terminal"),
            context_latent={name: self._value(name, before(name)) for name in self.layout.entries},
            context_action={key: before(f"action/{key}") for key in self.layout.act_keys},
        )
        return ring._replace(online_taken=taken), sampled, (env, first)

    def refresh(self, ring: Ring, where: tuple[Array, Array], latent: PackedLatent) -> Ring:
        """Replace the latents of sampled steps; steps overwritten meanwhile are ignored.

        Args:
          where: as `sample` gave it.
          latent: {column: [B, T, ...]} the new posteriors.

        Raises:
          ReplayError: a column is missing or has the wrong shape.
        """
        env, first = where
        length = self.layout.steps(latent, len(env))
        rows = first[:, None] + jnp.arange(length)[None]
        lives = rows >= ring.inserted - self.layout.capacity_per_env
        beyond = self.layout.capacity_per_env  # where nothing is stored
        slots = jnp.where(lives, rows % self.layout.capacity_per_env, beyond)
        store = lambda column, value: column.at[env[:, None], slots].set(_bits(value), mode="drop")
        stored = {k: store(ring.columns[k], v) for k, v in latent.items()}
        return ring._replace(columns=ring.columns | stored)

    def _value(self, name: str, stored: Array) -> Array:
        """What a column's bits stand for."""
        wide = self.layout.columns[name].dtype
        return jax.lax.bitcast_convert_type(stored, wide) if wide == jnp.bfloat16 else stored


def _bits(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if x.dtype == jnp.bfloat16 else x
