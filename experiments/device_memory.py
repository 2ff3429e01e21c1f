"""Memory of each device of a mesh, from shapes alone: before anything is compiled, on a machine without them.

Counted are parameters, slow copies, optimiser, gradients, the replay (of the fused loop) and, of all
activations, only the features of recorded and imagined steps in bfloat16. That is a lower bound: what is
refused cannot fit, and what passes may still not. Parameters that are gathered for an update come on top; how
many of them live at once is the compiler's choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamer.config import Config
from dreamer.schema import ConfigError
from envs.api import Spaces
from experiments import memory
from experiments.presets.sizes import SIZES

if TYPE_CHECKING:
    from dreamer.agent import Agent, TrainState
    from dreamer.placement import Sharding

GIB = 2**30
FEATURES = "features of a batch and its dreams, at least"
MOST = 1024
"""Devices of the largest mesh that is proposed."""


class Split(NamedTuple):
    """A parameter that is split."""

    path: str
    shape: tuple[int, ...]
    spec: str
    """The axis of the mesh along each of its axes, as -,fsdp."""
    nbytes: int
    """On one device."""


class Need(NamedTuple):
    """What a configuration needs of each device."""

    parts: dict[str, int]
    """{what: bytes}, a lower bound."""
    gathered: int
    """Bytes of split parameters and slow copies that an update gathers, if all of them live at once."""
    parameters: int
    """Numbers, of the whole agent."""
    split: list[Split]
    whole: int
    """Parameters (arrays) that every device has."""

    @property
    def nbytes(self) -> int:
        """Of all parts."""
        return sum(self.parts.values())


class Task(NamedTuple):
    """What of a task decides how much memory its agent needs."""

    obs: Spaces
    act: Spaces
    on_device: bool
    """Whether it is a JAX environment, whose replay is on the devices."""


def measure(cfg: Config, task: Task) -> Need:
    """What each device of `loop.mesh` needs (without a mesh: the one device that there is).

    Raises:
      ConfigError: the devices cannot share the environments or the batch equally.
    """
    import jax

    from dreamer.agent import Agent, size
    from dreamer.placement import Sharding

    agent, sharding = Agent(task.obs, task.act, cfg.agent), Sharding.abstract(cfg.loop.mesh_shape)
    state = jax.eval_shape(agent.init, jax.random.key(0))
    if task.on_device and cfg.loop.num_envs % sharding.size:
        raise ConfigError(
            f"loop.mesh has {sharding.size} devices, which cannot share {cfg.loop.num_envs} environments "
            f"(loop.num_envs) equally: {cfg.loop.mesh}"
        )
    parts = _learner(state, sharding) | {FEATURES: _features(cfg) // sharding.size}
    if task.on_device:
        parts["replay"] = _replay(cfg, task, agent) // sharding.size
    split = list(_splits(state, sharding))
    whole = len(jax.tree.leaves(state.params)) - len(split)
    return Need(parts, _gathered(state, sharding), size(state.params), split, whole)


def _learner(state: TrainState, sharding: Sharding) -> dict[str, int]:
    from dreamer.placement import nbytes

    of = lambda tree: nbytes(tree, sharding.of_learner(tree))
    return {
        "parameters": of(state.params),
        "slow copies": of(state.slow),
        "optimiser": of(state.opt),
        "gradients": of(state.params),
    }


def _gathered(state: TrainState, sharding: Sharding) -> int:
    """Bytes that split arrays take whole, beyond those of their parts."""
    import jax

    from dreamer.placement import nbytes

    used = state.params, state.slow
    whole = nbytes(used, jax.tree.map(lambda _: sharding.whole, used))
    return whole - nbytes(used, sharding.of_learner(used))


def _features(cfg: Config) -> int:
    """Bytes at least of the features of recorded and imagined steps that are in memory at once."""
    lower = memory.learner(cfg.agent, cfg.loop.batch_size // cfg.loop.accumulate, cfg.loop.batch_length)
    return sum(count for name, count in lower.items() if not name.startswith("agent."))


def _replay(cfg: Config, task: Task, agent: Agent) -> int:
    """Bytes of the whole replay when it is full."""
    from dreamer.replay.layout import bytes_needed

    return bytes_needed(cfg.replay.capacity, cfg.loop.num_envs, task.obs, task.act, agent.entries)


def _splits(state: TrainState, sharding: Sharding) -> Iterator[Split]:
    import jax

    from dreamer.ops.optim import keystr

    for path, x in jax.tree_util.tree_flatten_with_path(state.params)[0]:
        if any(spec := sharding.spec(x.shape)):
            axes = [*spec, *[None] * (len(x.shape) - len(spec))]
            shown = ",".join(axis or "-" for axis in axes)
            yield Split(keystr(path).rstrip("."), x.shape, shown, x.size * 4 // sharding.mesh.shape["fsdp"])


def available(cfg: Config) -> int | None:
    """Bytes of one device here, None where that is unknown; the devices of a CPU share its memory."""
    import jax

    from dreamer.replay.device import available_memory

    free = available_memory()
    shared = max(math.prod(cfg.loop.mesh_shape.values()), 1) if jax.default_backend() == "cpu" else 1
    return None if free is None else free // shared


def check(cfg: Config, task: Task, size: str, limit: int | None) -> Need:
    """What each device needs.

    Args:
      size: name of the agent's size, if it has one.
      limit: bytes of a device; None if that is unknown.

    Raises:
      ConfigError: that is more than it has; says what would fit.
    """
    need = measure(cfg, task)
    if limit is None or need.nbytes <= limit:
        return need
    largest = max(need.parts, key=lambda name: need.parts[name])
    mesh = f" on {cfg.loop.mesh}" if cfg.loop.mesh else ""
    way = next(_fitting(cfg, task, size, limit, need), "a device with more memory")
    raise ConfigError(
        f"{size or 'this agent'}{mesh} needs at least {_gib(need.nbytes)} on each device, most of it for "
        f"{largest} ({_gib(need.parts[largest])}), but {_gib(limit)} are available; what would fit: {way}"
    )


def _fitting(cfg: Config, task: Task, size: str, limit: int, need: Need) -> Iterator[str]:
    """What would fit, the smallest change first."""
    rest = need.nbytes - need.parts.get("replay", 0)
    capacity = int(0.9 * (limit - rest) / max(need.parts.get("replay", 0), 1) * cfg.replay.capacity)
    if task.on_device and capacity >= cfg.loop.num_envs * (cfg.loop.batch_length + 1):
        yield f"--replay.capacity {capacity}"
    for mesh in _meshes(math.prod(cfg.loop.mesh_shape.values())):
        loop = replace(cfg.loop, mesh="", devices=0)
        try:
            other = replace(cfg, loop=replace(loop, mesh=mesh))
            if (needed := measure(other, task).nbytes) <= limit:
                yield f"--loop.mesh {mesh} ({_gib(needed)})"
        except ConfigError:  # they cannot share the batch
            continue
    for smaller in reversed(list(SIZES)[: list(SIZES).index(size)] if size else ()):
        other = replace(cfg, agent=SIZES[smaller](cfg.agent))
        if (needed := measure(other, task).nbytes) <= limit:
            yield f"--size {smaller} ({_gib(needed)})"


def _meshes(size: int) -> Iterator[str]:
    """As many devices with more of them in `fsdp`, then more devices."""
    fsdp = [n for n in range(2, size + 1) if size % n == 0]
    yield from (f"data={size // n},fsdp={n}" for n in fsdp)
    more = max(size, 1)
    while (more := 2 * more) <= MOST:
        yield f"data=1,fsdp={more}"


def report(need: Need, cfg: Config, limit: int | None) -> dict[str, Any]:
    """For `dreamer doctor`, as one JSON object."""
    return {
        "mesh": cfg.loop.mesh or "one device",
        "parameters": need.parameters,
        "per_device": need.parts,
        "per_device_bytes": need.nbytes,
        "gathered_bytes": need.gathered,
        "available_bytes": limit,
        "split": [row._asdict() for row in need.split],
        "whole": need.whole,
    }


def lines(placed: dict[str, Any]) -> list[tuple[str, str]]:
    """The same as rows of text."""
    limit = placed["available_bytes"]
    there = "" if limit is None else f" of {_gib(limit)}"
    rows = [
        ("mesh", f"{placed['mesh']}: {placed['parameters']:,} parameters"),
        ("memory", f"at least {_gib(placed['per_device_bytes'])}{there} on each device"),
        *(("", f"{_gib(nbytes):>12}  {name}") for name, nbytes in placed["per_device"].items()),
        ("gathered", f"up to {_gib(placed['gathered_bytes'])} more during an update"),
        ("split", f"{len(placed['split'])} parameters; {placed['whole']} are whole on every device"),
    ]
    for row in placed["split"]:
        shape = "x".join(map(str, row["shape"]))
        rows.append(("", f"{_gib(row['nbytes']):>12}  {row['path']} {shape} along {row['spec']}"))
    return rows


def _gib(nbytes: int) -> str:
    return f"{nbytes / GIB:,.2f} GiB" if nbytes >= GIB / 100 else f"{nbytes / 2**20:,.2f} MiB"
