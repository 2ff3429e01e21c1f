"""Numbers and categories as one flat vector: what the first layers of encoder and dynamics read."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from envs.api import Space, Spaces


def width(spaces: Spaces) -> int:
    """Length of what `flatten` returns."""
    return sum(space.size * (space.classes or 1) for space in spaces.values())


def flatten(
    values: Mapping[str, Array],
    spaces: Spaces,
    ndim: int,
    dtype: DTypeLike,
    squash: Callable[[Array], Array],
) -> Array:
    """Concatenate the keys, sorted by name: `{key: [*batch, *shape]}` -> [*batch, width].

    Numbers pass through `squash`, categories become one-hot. A key in which any number is -inf, or any
    category of a signed dtype -1, is missing: all its entries become zero.

    Args:
      ndim: number of batch axes.
    """
    parts = [_entries(values[k], spaces[k], ndim, dtype, squash) for k in sorted(spaces)]
    return jnp.concatenate(parts, -1)


def _entries(x: Array, space: Space, ndim: int, dtype, squash) -> Array:
    axes = tuple(range(ndim, x.ndim))
    present = None
    if space.is_discrete:
        if jnp.issubdtype(x.dtype, jnp.signedinteger):
            present = x != -1
        y = jax.nn.one_hot(x.astype(jnp.int32), space.num_classes, dtype=dtype)
    else:
        present = x != -jnp.inf
        y = squash(jnp.where(present, x, 0).astype(jnp.float32)).astype(dtype)
    if present is not None:
        present = present.all(axes)
        y = jnp.where(present.reshape(present.shape + (1,) * (y.ndim - ndim)), y, 0)
    return y.reshape(*x.shape[:ndim], -1)
