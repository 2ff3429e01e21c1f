"""Which device runs which agent, and how the environments and batches of one agent share devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

MEMBERS, DATA = "members", "data"


def fitting(devices: Sequence[Any], count: int) -> list[Any]:
    """As many of the devices as can take equal shares of `count`."""
    most = max(n for n in range(1, len(devices) + 1) if count % n == 0)
    return list(devices[:most])


@dataclass(frozen=True)
class Placement:
    """How many agents one call of a program takes: `rows` of them on each device.

    With one row the agents run sequentially, as many at a time as there are devices. That suits a CPU with a
    device per core: one agent keeps little more than one core busy, and a batch of agents costs more than it
    brings. With more rows those of a device are one batch (`jax.vmap`), which suits a GPU.

    One agent in a call (`size` 1) is bitwise the single run. Several give the same up to rounding, because
    XLA compiles a program for several devices, or for a batch, slightly differently.
    """

    devices: tuple[Any, ...] = ()
    """Those that share the agents of a call equally; none for the default device."""
    rows: int = 1
    """Agents on each device."""

    @classmethod
    def sequential(cls, devices: Sequence[Any]) -> Placement:
        """One agent at a time on each device."""
        return cls(tuple(devices))

    @classmethod
    def vmapped(cls, devices: Sequence[Any], agents: int) -> Placement:
        """All agents in one call; the number of devices must divide their number."""
        return cls(tuple(devices), agents // len(devices))

    @property
    def size(self) -> int:
        """Agents in one call."""
        return max(len(self.devices), 1) * self.rows

    def compile(
        self, function: Callable[..., Any], jit: Callable[..., Any], **options: Any
    ) -> Callable[..., Any]:
        """From ``f(shared, *of_one_agent)`` to ``f(shared, *of_all)``, stacked along axis 0 if `size` > 1."""
        if self.size == 1:
            return jit(function, **options)

        def here(shared: Any, *stacked: Any) -> Any:
            if self.rows > 1:
                return jax.vmap(lambda *member: function(shared, *member))(*stacked)
            member = jax.tree.map(lambda x: x[0], stacked)  # no axis of agents: exactly the single program
            return jax.tree.map(lambda x: x[None], function(shared, *member))

        return jit(here if len(self.devices) < 2 else self._on_every_device(here), **options)

    def _on_every_device(self, here: Callable[..., Any]) -> Callable[..., Any]:
        each, all_ = PartitionSpec(MEMBERS), PartitionSpec()

        def everywhere(shared: Any, *stacked: Any) -> Any:
            specs = (all_, *[each] * len(stacked))
            mapped = jax.shard_map(here, mesh=self._mesh, in_specs=specs, out_specs=each, check_vma=False)
            return mapped(shared, *stacked)

        return everywhere

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.asarray(self.devices), (MEMBERS,))

    def put(self, stacked: Any) -> Any:
        """Give every device its share of arrays that are stacked along axis 0."""
        if len(self.devices) < 2:
            return jax.tree.map(jax.numpy.asarray, stacked)
        return jax.device_put(stacked, NamedSharding(self._mesh, PartitionSpec(MEMBERS)))

    def stack(self, trees: Sequence[Any]) -> Any:
        """Stack the arrays of `size` agents along axis 0, each on its device."""
        library = jax.numpy if len(self.devices) < 2 else np  # rows on several devices meet on the host
        return self.put(jax.tree.map(lambda *x: library.stack(x), *trees))

    def row(self, stacked: Any, index: int) -> Any:
        """The arrays of one agent, copied."""
        return jax.tree.map(lambda x: _row(x, index), stacked)


def _row(x: jax.Array, index: int) -> Any:
    if len(x.sharding.device_set) == 1:
        return x[index]
    first = lambda shard: shard.index[0].start or 0
    shard = next(s for s in x.addressable_shards if first(s) <= index < first(s) + len(s.data))
    return np.array(shard.data[index - first(shard)])


SINGLE = Placement()
"""One agent in a call, without an axis of agents."""


class Data:
    """The environments and the batches of one agent over devices; the learner on every one of them.

    Args:
      devices: their number must divide environments and batch.
    """

    def __init__(self, devices: Sequence[Any]):
        self._mesh = Mesh(np.asarray(devices), (DATA,))

    def split(self, tree: Any, size: int) -> Any:
        """Constrain, in a compiled function, every array of `size` leading entries to be split along them."""

        def place(x: Any) -> Any:
            spec = PartitionSpec(DATA) if x.ndim and x.shape[0] == size else PartitionSpec()
            return jax.lax.with_sharding_constraint(x, NamedSharding(self._mesh, spec))

        return jax.tree.map(place, tree)

    def everywhere(self, tree: Any) -> Any:
        """Constrain every array to be whole on every device."""
        sharding = NamedSharding(self._mesh, PartitionSpec())
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)
