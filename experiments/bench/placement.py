"""What every size of the agent costs on a mesh: bytes, collectives and an estimate, without such a machine.

    python -m experiments.bench.placement                     bytes of a device, work and traffic of an update
    python -m experiments.bench.placement --lower             also lowers every update for eight devices
    python -m experiments.bench.placement --compile tiny      also counts collectives of a compiled update

Bytes are those of `jax.eval_shape`. Operations are counted by `flops.count`, collectives in the text that XLA
compiles for eight simulated CPU devices. Traffic is what an update must move: gradients that are summed over
n devices, and parameters that are gathered,

    data    2 (n-1)/n bytes(gradients)
    fsdp    (n-1)/n (bytes(split gradients) + bytes(split parameters, slow copies)) + 2 (n-1)/n bytes(others)

The estimate divides work and traffic by stated rates and adds the times, as if nothing overlapped.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dreamer.config import AgentConfig, LoopConfig
from experiments.bench import flops
from experiments.bench.bench import ACT, OBS
from experiments.presets.sizes import SIZES

if TYPE_CHECKING:
    from dreamer.agent import Agent, TrainState
    from dreamer.placement import Sharding

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
UTILISATION = 0.4
"""Share of the peak that products reach; the loops of a Dreamer reach less, which hides traffic better."""


@dataclass(frozen=True)
class Machine:
    """Devices and how they are connected."""

    name: str
    devices: int
    batch: int
    """B, sequences of a batch."""
    peak: float
    """Operations per second of a device, in bfloat16."""
    link: float
    """Bytes per second that a device sends while all of them reduce or gather."""


MACHINES = (
    Machine("8 H100, NVLink", 8, 16, 989e12, 360e9),
    Machine("64 TPU v5p, torus", 64, 64, 459e12, 200e9),
)
"""Assumed: 80% of the 450 GB/s that an H100 sends over NVLink, a third of the 600 GB/s of a v5p."""


def main(words: Sequence[str]) -> int:
    """Print a table; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.placement")
    parser.add_argument("--lower", action="store_true", help="lower the update of every size")
    parser.add_argument("--compile", nargs="*", default=[], choices=SIZES, help="sizes to compile")
    options = parser.parse_args(words)
    import jax

    jax.config.update("jax_num_cpu_devices", 8)
    print("\n".join(table()), flush=True)
    for size in SIZES if options.lower else options.compile:
        for shape in ({"data": 8}, {"fsdp": 8}, {"data": 2, "fsdp": 4}):
            print(program(size, shape, compiled=size in options.compile), flush=True)
    return 0


# What lives where, and what moves.


def table() -> Iterator[str]:
    """Rows of every size, for each machine on a mesh of all data and of all fsdp."""
    yield (
        "| size | parameters | TFLOP | learner, data | learner, fsdp=8 | fsdp=64 | "
        + " | ".join(f"{m.name}: {axis} GB, efficiency" for m in MACHINES for axis in ("data", "fsdp"))
        + " |"
    )
    yield "| --- " * (6 + 2 * len(MACHINES)) + "|"
    for size in SIZES:
        agent, state = built(size)
        from dreamer.agent import size as parameters

        work = {m.batch: operations(agent, state, m.batch) for m in MACHINES}
        cells = [size, f"{parameters(state.params):,}", f"{work[16] / 1e12:,.2f}"]
        cells += [f"{kept(state, n) / 1e9:,.3f} GB" for n in (1, 8, 64)]
        for machine in MACHINES:
            for axis in ("data", "fsdp"):
                moved = traffic(state, machine.devices, axis)
                share = efficiency(work[machine.batch], moved, machine)
                cells.append(f"{moved / 1e9:,.3f}, {share:.0%}")
        yield "| " + " | ".join(cells) + " |"


def built(size: str) -> tuple[Agent, TrainState]:
    """An agent of images in bfloat16 and the shapes of its learner."""
    import jax

    from dreamer.agent import Agent

    cfg = SIZES[size](AgentConfig(dtype="bfloat16"))
    agent = Agent({"image": OBS["image"]}, ACT, cfg)
    return agent, jax.eval_shape(agent.init, jax.random.key(0))


def kept(state: TrainState, fsdp: int) -> int:
    """Bytes of the learner (parameters, slow copies, optimiser) on one device."""
    from dreamer.placement import Sharding, nbytes

    sharding = Sharding.abstract({"fsdp": fsdp})
    return nbytes(state, sharding.of_learner(state))


def traffic(state: TrainState, devices: int, axis: str) -> float:
    """Bytes that a device sends in an update on a mesh of one axis."""
    import jax

    from dreamer.placement import Sharding, nbytes

    sharding, share = Sharding.abstract({axis: devices}), (devices - 1) / devices
    whole = lambda tree: nbytes(tree, jax.tree.map(lambda _: sharding.whole, tree))
    split = lambda tree: sum(4 * x.size for x in jax.tree.leaves(tree) if any(sharding.spec(x.shape)))
    gathered = split(state.params) + split(state.slow)
    return share * (2 * (whole(state.params) - split(state.params)) + split(state.params) + gathered)


def efficiency(work: float, moved: float, machine: Machine) -> float:
    """Of the time of an update, the share in which a device computes, if nothing overlaps."""
    computing = work / machine.devices / (UTILISATION * machine.peak)
    return computing / (computing + moved / machine.link)


def operations(agent: Agent, state: TrainState, batch: int) -> float:
    """Multiplications and additions of one update's products and convolutions."""
    update, arguments = _update(agent, state, None, batch)
    return flops.count(update, *arguments).total()


# The program.


def program(size: str, shape: dict[str, int], *, compiled: bool) -> str:
    """Lower an update for simulated devices, and count its collectives if it is compiled."""
    import jax

    from dreamer.placement import Sharding

    agent, state = built(size)
    sharding = Sharding.over(shape, jax.local_devices())
    update, arguments = _update(agent, state, sharding, 16)
    placed = sharding.of_learner(state)
    inside, outside = (placed, sharding.batch, sharding.whole, sharding.whole), (placed, sharding.batch, None)
    began = time.perf_counter()
    jitted = jax.jit(update, in_shardings=inside, out_shardings=outside, donate_argnums=0)
    lowered = jitted.lower(*arguments)
    text = f"{size} on {shape}: lowered in {time.perf_counter() - began:.0f} s"
    if not compiled:
        return text
    began = time.perf_counter()
    options: Any = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    counted = collectives(lowered.compile(compiler_options=options).as_text() or "")
    rows = [f"{n} {kind} ({loops} in loops), {size / 1e6:,.1f} MB" for kind, (n, loops, size) in counted]
    return f"{text}, compiled in {time.perf_counter() - began:.0f} s: {'; '.join(rows) or 'no collectives'}"


def _update(agent: Agent, state: TrainState, sharding: Sharding | None, batch: int) -> tuple[Any, Any]:
    """The function and the shapes of its arguments."""
    import jax

    from dreamer.loops.learner import Learner
    from dreamer.numbers import trace
    from experiments.bench.update import noise

    learner = Learner(agent, LoopConfig(batch_size=batch, batch_length=64), sharding)

    def update(state: TrainState, batch: Any, numbers: Any, key: Any) -> Any:
        return learner.train_step(state, batch, numbers, key=key)

    shapes = jax.eval_shape(lambda: noise(agent, 1, 64))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), shapes)
    return update, (state, shapes, trace(agent.cfg), jax.random.key(0))


def collectives(text: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Kinds in a compiled program: how many, how many of them in loops, and bytes of their results."""
    bodies, where = set(re.findall(r"body=%?([\w.-]+)", text)), ""
    rows: dict[str, list[tuple[bool, int]]] = {}
    for line in text.splitlines():
        if opened := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            where = opened[1]
        match = re.search(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(", line)
        if match:
            rows.setdefault(match[2], []).append((where in bodies, _nbytes(match[1])))
    for kind, each in rows.items():
        yield kind, (len(each), sum(inside for inside, _ in each), sum(nbytes for _, nbytes in each))


def _nbytes(kind: str) -> int:
    """Bytes of a type of XLA, as f32[8,16]{1,0} or a tuple of those."""
    width = lambda name: 1 if name == "pred" else int(re.sub(r"\D", "", name) or 8) // 8
    shapes = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", kind)
    return sum(width(name) * math.prod(int(n) for n in shape.split(",") if n) for name, shape in shapes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
