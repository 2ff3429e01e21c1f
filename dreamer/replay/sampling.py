"""Which sequences to train on: a pure function of a key and two counters, the same for any replay.

Rows are vector steps: all environments write row r together, so one counter says what exists. A
sequence is `length + 1` consecutive rows of one environment: a context row, then the trained ones.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array


@partial(jax.jit, static_argnames=("batch", "online"))
def choose(
    key: Array,
    *,
    inserted: Array,
    online_taken: Array,
    capacity_per_env: Array | int,
    num_envs: Array | int,
    length: Array | int,
    batch: int,
    online: bool = True,
) -> tuple[Array, Array, Array]:
    """Choose `batch` sequences: fresh ones first, in order, the rest uniformly with replacement.

    The rows ``[max(0, inserted - capacity_per_env), inserted)`` live, and every start whose whole
    sequence lives is equally likely. For the online queue every environment is also cut, from row 0
    on, into sequences that do not overlap; entry q of the queue is sequence ``q // num_envs`` of
    environment ``q % num_envs``. It is fresh from the moment its last row is written until it is
    taken once or its first row is overwritten.

    Args:
      key: a typed key, used once.
      inserted: rows written since the beginning of the run; at least ``length + 1``.
      online_taken: entries of the queue that are gone.
      capacity_per_env: rows that live at once; at least ``length + 1``.
      num_envs: environments.
      length: trained rows of a sequence, T.
      batch: sequences to choose, B.
      online: whether to take from the queue at all.

    Returns:
      env [B], absolute row of the context [B], and the new `online_taken`; int32.
    """
    rows = length + 1
    oldest = jnp.maximum(inserted - capacity_per_env, 0)
    starts = inserted - oldest - length
    flat = jax.random.randint(key, (batch,), 0, starts * num_envs)
    env, start = flat % num_envs, oldest + flat // num_envs
    if not online:
        return env, start, online_taken
    head = jnp.maximum(online_taken, -(-oldest // rows) * num_envs)
    ready = jnp.maximum(inserted // rows * num_envs, head)
    queue = head + jnp.arange(batch)
    fresh = queue < ready
    env = jnp.where(fresh, queue % num_envs, env)
    start = jnp.where(fresh, queue // num_envs * rows, start)
    return env, start, jnp.minimum(head + batch, ready)
