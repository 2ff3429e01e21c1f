"""How the members of a population, or the environments of one agent, share devices.

Both give the result that one device gives, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

MEMBERS, DATA = "members", "data"


def fitting(devices: Sequence[Any], count: int) -> list[Any]:
    """As many of the devices as can take equal shares of `count`."""
    most = max(n for n in range(1, len(devices) + 1) if count % n == 0)
    return list(devices[:most])


class Spread(Protocol):
    """How a function of one agent is run for all of them; it alone knows how their arrays are kept."""

    def split(self, tree: Any) -> Any:
        """Arrays of all agents stacked along axis 0 -> the same as this keeps them."""
        ...

    def gather(self, kept: Any, part: Callable[[Any], Any] = lambda own: own) -> Any:
        """What `part` takes of every agent's arrays, as `split` was given them."""
        ...

    def rows(self, kept: Any) -> Any:
        """The same as numpy arrays, with an axis of agents also where there is only one."""
        ...

    def counts(self, count: int, resting: Container[int]) -> Any:
        """What `run` takes as `shared` to run so many rounds, as few as it can for agents that rest."""
        ...

    def run(
        self, function: Callable[..., Any], jit: Callable[..., Any], **options: Any
    ) -> Callable[..., Any]:
        """From ``f(shared, *of one agent)`` to ``f(shared, *of all agents)``, each as this keeps them."""
        ...


class Alone:
    """One agent, whose arrays have no axis of agents."""

    def split(self, tree: Any) -> Any:
        return tree

    def gather(self, kept: Any, part: Callable[[Any], Any] = lambda own: own) -> Any:
        return part(kept)

    def rows(self, kept: Any) -> Any:
        return jax.tree.map(lambda x: np.asarray(x)[None], jax.device_get(kept))

    def counts(self, count: int, resting: Container[int]) -> Any:
        return np.int32(count)

    def run(
        self, function: Callable[..., Any], jit: Callable[..., Any], **options: Any
    ) -> Callable[..., Any]:
        return jit(function, **options)


class Together:
    """All members in one call, as one batch on every device: what a GPU does best."""

    def __init__(self, devices: Sequence[Any]):
        self._devices = devices

    def split(self, tree: Any) -> Any:
        return tree

    def gather(self, kept: Any, part: Callable[[Any], Any] = lambda own: own) -> Any:
        return part(kept)

    def rows(self, kept: Any) -> Any:
        return jax.tree.map(np.asarray, jax.device_get(kept))

    def counts(self, count: int, resting: Container[int]) -> Any:
        return np.int32(count)  # members that stop at their own time would have every round select all arrays

    def run(
        self, function: Callable[..., Any], jit: Callable[..., Any], **options: Any
    ) -> Callable[..., Any]:
        def here(shared: Any, *of_members: Any) -> Any:
            return jax.vmap(lambda *own: function(shared, *own))(*of_members)

        mesh = Mesh(np.asarray(self._devices), (MEMBERS,))
        return jit(here if mesh.size == 1 else _on_every_device(here, mesh), **options)


class PerTurn(tuple):
    """What is shared by the members of one turn only, for every turn."""


class InTurns:
    """One compiled program, called for one member on every device, then for the next ones.

    What a CPU does best, with a device for every core: one member hardly keeps more than one core busy,
    and a batch of members costs it more than it brings. Every member has arrays of its own. On one device
    it does exactly what the single run does, on several up to rounding: XLA compiles a program for several
    devices a little differently.

    Args:
      devices: their number must divide that of the members.
    """

    def __init__(self, devices: Sequence[Any]):
        self._mesh = Mesh(np.asarray(devices), (MEMBERS,))
        self._members = 0

    def split(self, tree: Any) -> list[Any]:
        count, at_once = len(jax.tree.leaves(tree)[0]), self._mesh.size
        self._members = count
        place = NamedSharding(self._mesh, PartitionSpec(MEMBERS))
        turn = lambda i: jax.tree.map(lambda x: x[i : i + at_once], tree)
        return [jax.device_put(turn(i), place) for i in range(0, count, at_once)]

    def gather(self, kept: list[Any], part: Callable[[Any], Any] = lambda own: own) -> Any:
        return jax.tree.map(lambda *x: np.concatenate(x), *(jax.device_get(part(own)) for own in kept))

    def rows(self, kept: list[Any]) -> Any:
        return self.gather(kept)

    def counts(self, count: int, resting: Container[int]) -> PerTurn:
        size = self._mesh.size
        going = [any(i not in resting for i in range(t, t + size)) for t in range(0, self._members, size)]
        return PerTurn(np.int32(count if goes else 0) for goes in going)

    def run(
        self, function: Callable[..., Any], jit: Callable[..., Any], **options: Any
    ) -> Callable[..., Any]:
        def here(shared: Any, *stacked: Any) -> Any:
            own = jax.tree.map(lambda x: x[0], stacked)  # the one of this device
            return jax.tree.map(lambda x: x[None], function(shared, *own))

        program = jit(_on_every_device(here, self._mesh), **options)

        def turns(shared: Any, *of_members: list[Any]) -> Any:
            each = shared if isinstance(shared, PerTurn) else [shared] * len(of_members[0])
            results = [program(*own) for own in zip(each, *of_members, strict=True)]
            is_pair = type(results[0]) is tuple
            return tuple(map(list, zip(*results, strict=True))) if is_pair else results

        return turns


def _on_every_device(here: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """``f(shared, *of_members)`` that gives every device of the mesh its share of the members."""
    each, all_ = PartitionSpec(MEMBERS), PartitionSpec()

    def everywhere(shared: Any, *of_members: Any) -> Any:
        specs = (all_, *[each] * len(of_members))
        return jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=each, check_vma=False)(
            shared, *of_members
        )

    return everywhere


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
