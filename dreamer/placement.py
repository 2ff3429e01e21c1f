"""Which array lives on which device, and which devices run which of many agents.

One agent over a mesh of devices (`loop.mesh`), with the axes `data` and `fsdp`:

    environments, replay, batches                 split over both axes together
    large parameters, and whatever has their      split over `fsdp` along their largest axis that it divides
    shape: moments, slow copies, gradients
    everything else: small parameters,            whole on every device
    counters, statistics, keys, numbers, logs

A parameter is gathered where it is used, once for an update, so every device computes with whole parameters
and its share of the batch; the gradients are summed over all devices, and each keeps its share of them and of
the optimiser (Rajbhandari et al., 2020, ZeRO). Only the order of sums differs from one device: the numbers
are equal up to rounding, and on the same mesh bit for bit.

Loops and replays ask this module; no other one names a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from dreamer.config import MESH_AXES
from dreamer.schema import ConfigError

MEMBERS = "members"
DATA, FSDP = MESH_AXES
SPLIT_FROM = 2**18
"""Numbers (1 MB in float32) from which on a parameter is split: of smaller ones, gathering costs more time
than it saves memory."""


def acting_device() -> Any:
    """Where the host loop acts and draws keys: the last device, because the learner has the first.

    A device runs its programs one after the other, so acting has a device where there are two.
    """
    return jax.local_devices()[-1]


def choosing_device() -> Any:
    """Where a host replay draws indices: a CPU device, if JAX has one beside the accelerators."""
    try:
        return jax.local_devices(backend="cpu")[-1]
    except RuntimeError:  # JAX_PLATFORMS names an accelerator only
        return jax.local_devices()[-1]


def on_one(tree: Any) -> Any:
    """The same arrays, whole on one device: those that lie on several are gathered."""
    leaves = jax.tree.leaves(tree)
    if not any(isinstance(x, jax.Array) and len(x.sharding.device_set) > 1 for x in leaves):
        return tree
    return jax.device_put(tree, jax.local_devices()[0])


def nbytes(tree: Any, shardings: Any) -> int:
    """Bytes on one device of arrays, or of their shapes, under these shardings."""

    def one(x: Any, sharding: NamedSharding) -> int:
        return math.prod(sharding.shard_shape(x.shape)) * np.dtype(x.dtype).itemsize

    return sum(jax.tree.leaves(jax.tree.map(one, tree, shardings)))


# One agent over several devices.


@dataclass(frozen=True)
class Sharding:
    """Where the arrays of one agent live on a mesh.

    Args:
      mesh: its axes are among `MESH_AXES`.
      split_from: numbers from which on a parameter is split over `fsdp`.
    """

    mesh: Mesh | AbstractMesh
    split_from: int = SPLIT_FROM

    @classmethod
    def data(cls, devices: Sequence[Any]) -> Sharding:
        """The learner whole on every device; their number must divide environments and batch."""
        return cls(Mesh(np.asarray(devices), (DATA,)))

    @classmethod
    def over(cls, shape: Mapping[str, int], devices: Sequence[Any], split_from: int = SPLIT_FROM) -> Sharding:
        """The mesh of this shape over the first of the devices.

        Args:
          shape: {axis: devices along it}; axes that it lacks have length 1.

        Raises:
          ConfigError: there are too few devices.
        """
        lengths = tuple(shape.get(axis, 1) for axis in MESH_AXES)
        size = math.prod(lengths)
        if size > len(devices):
            named = ",".join(f"{axis}={length}" for axis, length in zip(MESH_AXES, lengths, strict=True))
            there = f"there is {len(devices)}" if len(devices) == 1 else f"there are {len(devices)}"
            raise ConfigError(f"loop.mesh {named} needs {size} devices, but {there}: make it smaller")
        automatic = (AxisType.Auto,) * len(MESH_AXES)
        mesh = jax.make_mesh(lengths, MESH_AXES, automatic, devices=list(devices[:size]))
        return cls(mesh, split_from)

    @classmethod
    def abstract(cls, shape: Mapping[str, int], split_from: int = SPLIT_FROM) -> Sharding:
        """The mesh of this shape without devices, to ask what would live where."""
        lengths = tuple(shape.get(axis, 1) for axis in MESH_AXES)
        return cls(AbstractMesh(lengths, MESH_AXES, (AxisType.Auto,) * len(MESH_AXES)), split_from)

    @property
    def size(self) -> int:
        """Number of devices."""
        return self.mesh.size

    @property
    def gathers(self) -> bool:
        """Whether parameters may be split, and must then be gathered where they are used."""
        return self.mesh.shape.get(FSDP, 1) > 1

    @property
    def keeps_rows(self) -> bool:
        """Whether the update is written for rows that lie on several devices, as for every `loop.mesh`.

        Without one it is the update of a single device, which the compiler divides as well as it can.
        """
        return FSDP in self.mesh.axis_names

    @property
    def spans(self) -> bool:
        """Whether its devices are of several processes, each of which has only its part of an array."""
        return isinstance(self.mesh, Mesh) and self.mesh.is_multi_process

    @property
    def whole(self) -> NamedSharding:
        """Of an array that every device has."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """Of an array [B, ...] or [E, ...] that is split along its first axis over all devices."""
        axes = self.mesh.axis_names
        return NamedSharding(self.mesh, PartitionSpec(axes[0] if len(axes) == 1 else axes))

    def spec(self, shape: Sequence[int]) -> PartitionSpec:
        """How a parameter of this shape, or anything that has its shape, is split.

        Over `fsdp` along its largest axis that `fsdp` divides (the first of equal ones); not at all if it is
        small, or no axis can be divided.
        """
        parts = self.mesh.shape.get(FSDP, 1)
        axes = [i for i, length in enumerate(shape) if length % parts == 0]
        if parts == 1 or math.prod(shape) < self.split_from or not axes:
            return PartitionSpec()
        largest = max(axes, key=lambda i: shape[i])
        return PartitionSpec(*[None] * largest, FSDP)

    def of_learner(self, tree: Any) -> Any:
        """The sharding of every array of a learner, or of a part of one: [...] by its shape alone.

        Moments, slow copies and gradients have the shapes of their parameters, so they lie beside them.
        """
        return jax.tree.map(lambda x: NamedSharding(self.mesh, self.spec(x.shape)), tree)

    def of_leading(self, tree: Any, size: int) -> Any:
        """The sharding of every array: split along its first axis if that has `size` entries, else whole."""
        is_split = lambda x: x.ndim and x.shape[0] == size
        return jax.tree.map(lambda x: self.batch if is_split(x) else self.whole, tree)

    # In a compiled function.

    def learner(self, tree: Any) -> Any:
        """Constrain a learner, or a part of one, to lie as `of_learner` says."""
        return jax.tree.map(jax.lax.with_sharding_constraint, tree, self.of_learner(tree))

    def split(self, tree: Any, size: int) -> Any:
        """Constrain every array of `size` leading entries to be split along them, others to be whole."""
        return jax.tree.map(jax.lax.with_sharding_constraint, tree, self.of_leading(tree, size))

    def parts(self, tree: Any) -> Any:
        """Constrain arrays [A, B, ...] of parts that follow each other in time to be split along B."""
        sharding = NamedSharding(self.mesh, PartitionSpec(None, *self.batch.spec))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)

    def gathered(self, tree: Any) -> Any:
        """Constrain every array to be whole on every device."""
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, self.whole), tree)

    # Outside.

    def put(self, tree: Any, shardings: Any) -> Any:
        """Give every device its part of arrays; `shardings` as this class gives them, or one for all.

        Where there are several processes all of them call it, with equal arrays.
        """
        if not self.spans:
            return jax.device_put(tree, shardings)
        if isinstance(shardings, NamedSharding):
            shardings = jax.tree.map(lambda _: shardings, tree)
        return jax.tree.map(spread, tree, shardings)

    def rows(self, batch: Any) -> Any:
        """A batch [B, ...] over all devices from the rows that this process has: all, or its share."""
        if not self.spans:
            return jax.device_put(batch, self.batch)
        place = lambda x: jax.make_array_from_process_local_data(self.batch, np.asarray(x))
        return jax.tree.map(place, batch)

    def own_rows(self, batch: Any) -> Any:
        """The inverse of `rows`: what this process has of arrays [B, ...]."""
        return jax.tree.map(_rows_here, batch) if self.spans else batch

    def local(self, tree: Any) -> Any:
        """The same arrays, whole on the first device of this process; all processes call it."""
        if not self.spans:
            return on_one(tree)
        if not all(x.is_fully_replicated for x in jax.tree.leaves(tree)):
            tree = jax.jit(lambda tree: tree, out_shardings=self.whole)(tree)
        return jax.tree.map(lambda x: x.addressable_data(0), tree)

    def described(self, tree: Any, shardings: Any) -> Any:
        """The same shapes and dtypes (`jax.ShapeDtypeStruct`) with their shardings, for a checkpoint."""
        place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        return jax.tree.map(place, tree, shardings)


def spread(array: Any, sharding: NamedSharding) -> jax.Array:
    """An array over the devices of several processes, each of which has all of it."""
    if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = spread(jax.random.key_data(array), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _rows_here(x: jax.Array) -> np.ndarray:
    """What this process has of an array that is split along its first axis, in order."""
    parts = {shard.index[0].start or 0: shard.data for shard in x.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


# Many agents.


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

    def compile(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """From ``f(shared, *of_one_agent)`` to ``f(shared, *of_all)``, stacked along axis 0 if `size` > 1.

        Args:
          options: of `jax.jit`.
        """
        if self.size == 1:
            return jax.jit(function, **options)

        def here(shared: Any, *stacked: Any) -> Any:
            if self.rows > 1:
                return jax.vmap(lambda *member: function(shared, *member))(*stacked)
            member = jax.tree.map(lambda x: x[0], stacked)  # no axis of agents: exactly the single program
            return jax.tree.map(lambda x: x[None], function(shared, *member))

        return jax.jit(here if len(self.devices) < 2 else self._on_every_device(here), **options)

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
