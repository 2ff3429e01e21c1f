"""Agents of any age side by side: when one leaves, another takes its seat, and nothing compiles again."""

from __future__ import annotations

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.loops.fused import Dispatch, FusedLoop
from dreamer.loops.outputs import LoopOutput


def advance(loops: Sequence[FusedLoop], batch: int) -> list[LoopOutput]:
    """One dispatch for each of several single agents that share their programs; what happened to each.

    With a batch of one every agent runs in its turn, as is best on a CPU, and does exactly what it does
    alone. Otherwise those that learn are one batch, always of `batch` agents (the first one fills free seats,
    and nobody counts it); those that still collect their first steps take turns.

    Args:
      loops: of which at most `batch` learn, where that is above 1.
      batch: agents in one call.
    """
    together = [loop for loop in loops if batch > 1 and loop.plan().learn]
    apart = [loop for loop in loops if not any(loop is other for other in together)]
    turns = {id(loop): loop.advance()[0] for loop in apart}
    if together:
        turns |= {id(own): turn for own, turn in zip(together, _advance(together, batch), strict=True)}
    return [turns[id(loop)] for loop in loops]


def _advance(loops: Sequence[FusedLoop], batch: int) -> list[LoopOutput]:
    dispatch = Dispatch(True, min(loop.plan().count for loop in loops))
    free = range(batch - len(loops))
    states = [loop.now for loop in loops] + [jax.tree.map(jnp.copy, loops[0].now) for _ in free]
    numbers = [loop.numbers for loop in loops] + [loops[0].numbers for _ in free]
    began = time.perf_counter()
    now, happened = loops[0].programs.abreast(np.int32(dispatch.count), states, numbers)
    return [loop.collect(dispatch, now[i], happened[i], began)[0] for i, loop in enumerate(loops)]
