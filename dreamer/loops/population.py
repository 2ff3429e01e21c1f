"""How the members of a population, or the environments of one agent, share devices.

Both give the result that one device gives, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Spread = Callable[[Callable[..., Any]], Callable[..., Any]]
"""From ``f(shared, *of one member)`` to ``f(shared, *of all members)``, arrays stacked along axis 0."""

MEMBERS, DATA = "members", "data"


def fitting(devices: Sequence[Any], count: int) -> list[Any]:
    """As many of the devices as can take equal shares of `count`."""
    most = max(n for n in range(1, len(devices) + 1) if count % n == 0)
    return list(devices[:most])


def over_members(devices: Sequence[Any], *, together: bool) -> Spread:
    """Members over devices; on each of them in turns, or `together` as one batch.

    A GPU is faster together; a CPU is busy with one member, and batching its matrix products costs more
    than it brings.
    """
    mesh = Mesh(np.asarray(devices), (MEMBERS,))
    each, all_ = PartitionSpec(MEMBERS), PartitionSpec()

    def spread(function: Callable[..., Any]) -> Callable[..., Any]:
        def here(shared: Any, *of_members: Any) -> Any:
            if together:
                return jax.vmap(lambda *own: function(shared, *own))(*of_members)
            return jax.lax.map(lambda own: function(shared, *own), of_members)

        def everywhere(shared: Any, *of_members: Any) -> Any:
            specs = (all_, *[each] * len(of_members))
            return jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=each, check_vma=False)(
                shared, *of_members
            )

        return here if len(devices) == 1 else everywhere

    return spread


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
