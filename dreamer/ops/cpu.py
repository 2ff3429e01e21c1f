"""Exact rearrangements that make a CPU fast; the equations are where they are used.

    product, scan    gradients of kernels, computed once and after the steps of a loop
    Blocks           a state in one piece and in blocks, side by side
    shared_kernel    a block layer's product with what all blocks read, as one dense product
    lookup           a function of one choice among few, as a table
    classes_first    logits in the order in which a CPU sums over them
    stack, write     features written where their readers will read them

Every device takes the same program: none of it changes a result beyond rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from dreamer.ops.activations import normed_silu

sg = jax.lax.stop_gradient
_SHARED: ContextVar[bool] = ContextVar("_SHARED", default=False)


@contextlib.contextmanager
def shared_rows() -> Iterator[None]:
    """While a function is traced whose rows are split over devices: steps and rows stay two axes.

    Joined to one, [T, N, n] -> [T * N, n], the rows of a device would no longer lie together, and every
    device would fetch those of all others to compute the gradient of a kernel.
    """
    token = _SHARED.set(True)
    try:
        yield
    finally:
        _SHARED.reset(token)


def rows_are_shared() -> bool:
    """Whether that is so now."""
    return _SHARED.get()


def product(x: Array, kernel: Array | Collected) -> Array:
    """``x @ kernel`` in the dtype of x, with `kernel_gradient` as the kernel's.

    Args:
      x: [..., in], or [g, N, in] for a block kernel.
      kernel: [in, out], or [g, in, out].
    """
    if isinstance(kernel, Collected):
        return kernel.product(x)
    return _product(x, kernel.astype(x.dtype))


@jax.custom_vjp
def _product(x: Array, kernel: Array) -> Array:
    return x @ kernel


def _product_grad(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if rows_are_shared() and kernel.ndim == 2:
        lead = tuple(range(x.ndim - 1))
        return g @ kernel.mT, jnp.tensordot(x, g, (lead, lead))
    rows = lambda a: a.reshape(*kernel.shape[:-2], -1, a.shape[-1])
    return g @ kernel.mT, kernel_gradient(rows(x), rows(g))


_product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_grad)


def kernel_gradient(x: Array, g: Array, dtype: Any = None) -> Array:
    """``x^T g``, [..., N, in] and [..., N, out] -> [..., in, out] (of `dtype`).

    A CPU transposes the factor on the left, so that is the narrower one: of a kernel that narrows the
    gradient is ``(g^T x)^T``. The barrier keeps the compiler from turning that round again (half as fast).
    """
    if x.shape[-1] <= g.shape[-1]:
        return jnp.matmul(x.mT, g, preferred_element_type=dtype)
    return jax.lax.optimization_barrier(jnp.matmul(g.mT, x, preferred_element_type=dtype)).mT


def scan(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    weights: Any,
    carry: Any,
    xs: Any,
    *,
    rows: int,
    dtype: Any,
) -> tuple[Any, Any]:
    """`jax.lax.scan` of ``step(weights, carry, x)`` that computes the gradients of kernels after the loop.

        dW = sum_t x_t^T g_t = [x_1; ...; x_T]^T [g_1; ...; g_T]

    The left side is T products of as few rows as the batch has, each added to a sum as large as the kernel.
    So every step only stores its x_t and g_t, and one product of T times the rows follows.

    Args:
      step: uses every kernel in one `product` (a second one is refused).
      weights: a tree, in which leaves of two or more axes are kernels, [in, out] or [g, in, out].
      rows: N of the inputs [N, in] or [g, N, in] of the products.
      dtype: of those inputs.
    """
    leaves, structure = jax.tree.flatten(weights)
    kernels = {i: w for i, w in enumerate(leaves) if w.ndim > 1}
    length = len(jax.tree.leaves(xs)[0])
    taps = {i: _taps(length, rows, jnp.dtype(dtype), w) for i, w in kernels.items()}
    fixed = {i: sg(w).astype(dtype) for i, w in kernels.items()}
    turned = {i: w.mT for i, w in fixed.items()}

    def collecting(carry: Any, xs: tuple[Any, dict[int, _Taps]]) -> tuple[Any, Any]:
        x, taps = xs
        collected = {i: Collected(fixed[i], turned[i], taps[i]) for i in kernels}
        inside = [collected.get(i, w) for i, w in enumerate(leaves)]
        return step(jax.tree.unflatten(structure, inside), carry, x)

    return jax.lax.scan(collecting, carry, (xs, taps))


class _Taps(NamedTuple):
    """Zeros whose gradients are the two sides of a product's gradient."""

    x: Array
    """[..., N, in]."""
    g: Array
    """[..., N, out]."""


class Collected:
    """A kernel inside `scan`, in place of its array."""

    def __init__(self, kernel: Array, turned: Array, taps: _Taps):
        self.kernel, self.turned, self.taps = kernel, turned, taps
        self.used = False

    def __getitem__(self, index: Any) -> Collected:
        """What a parameter is read with: `kernel[...]`."""
        assert index is ...
        return self

    def product(self, x: Array) -> Array:
        """``x @ kernel``, storing what the kernel's gradient needs."""
        if self.used:
            raise ValueError("a kernel whose gradient is collected over a loop can be used once per step.")
        self.used = True
        return _collect(x, self.kernel, self.turned, self.taps)


@jax.custom_vjp
def _collect(x: Array, kernel: Array, turned: Array, taps: _Taps) -> Array:
    return x @ kernel


def _collect_grad(saved: tuple[Array, Array], g: Array) -> tuple[Array, None, None, _Taps]:
    x, turned = saved
    return g @ turned, None, None, _Taps(x, g)


_collect.defvjp(lambda x, kernel, turned, taps: (x @ kernel, (x, turned)), _collect_grad)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _taps(length: int, rows: int, dtype: Any, kernel: Array) -> _Taps:
    *blocks, width, units = kernel.shape
    return _Taps(*(jnp.zeros((length, *blocks, rows, n), dtype) for n in (width, units)))


def _taps_grad(length: int, rows: int, dtype: Any, like: Array, taps: _Taps) -> tuple[Array]:
    if rows_are_shared():
        summed = "tni,tno->io" if taps.x.ndim == 3 else "tgni,tgno->gio"
        return (jnp.einsum(summed, *taps, preferred_element_type=like.dtype),)
    # [T, (g,) N, n] -> [(g,) T * N, n]
    joined = lambda a: jnp.moveaxis(a, 0, -3).reshape(*a.shape[1:-2], length * rows, a.shape[-1])
    return (kernel_gradient(joined(taps.x), joined(taps.g), like.dtype),)


_taps.defvjp(lambda *args: (_taps(*args), jnp.zeros((), args[-1].dtype)), _taps_grad)


class Blocks(NamedTuple):
    """N rows of a state in one piece and in g blocks.

    A loop that carries only one form computes what follows in the order of the transposed result, which the
    compiler of a CPU joins with the transposition (several times slower); two readers keep the two apart.
    """

    flat: Array
    """[N, D]."""
    blocks: Array
    """[g, N, D/g]."""

    @classmethod
    def cut(cls, flat: Array, g: int) -> Blocks:
        """From one piece, [N, D]."""
        return cls(flat, to_blocks(flat, g))

    @classmethod
    def join(cls, blocks: Array) -> Blocks:
        """From blocks, [g, N, D/g]."""
        return cls(blocks.swapaxes(0, 1).reshape(blocks.shape[1], -1), blocks)


def to_blocks(x: Array, g: int) -> Array:
    """[N, D] -> [g, N, D/g]."""
    return x.reshape(x.shape[0], g, -1).swapaxes(0, 1)


def block_linear(x: Array, kernel: Array | Collected, bias: Array, shared: Array | None = None) -> Array:
    """``x @ kernel + bias`` block by block: [g, N, in], [g, in, out], [g*out] -> [g, N, out].

    Args:
      shared: [N, g*out] the share of what all blocks read.
    """
    y = product(x, kernel)
    if shared is not None:
        y = y + to_blocks(shared, len(x))
    return y + bias.reshape(len(x), 1, -1).astype(x.dtype)


def block_normed_silu(x: Array, scale: Array) -> Array:
    """RMS norm over all blocks of a row, then SiLU: [g, N, n], [g*n] -> [g, N, n]."""
    return normed_silu(x, scale.reshape(len(x), 1, -1), (0, 2))


def shared_kernel(kernel: Array) -> Array:
    """[g, in, out/g] for an input that all blocks read -> [in, out]: one product instead of g."""
    return kernel.swapaxes(0, 1).reshape(kernel.shape[1], -1)


def lookup(function: Callable[[Array], Array], classes: int, dtype: DTypeLike) -> Callable[[Array], Array]:
    """`function` of one-hot vectors [N, classes] as one of indices [N]: computed once for each class."""
    table = function(jnp.eye(classes, dtype=dtype))
    return lambda index: jax.nn.one_hot(index, classes, dtype=dtype) @ table


def classes_first(logits: Array) -> Array:
    """[..., C] -> [C, ...]: four classes in a row are slow to sum over, four long rows are not.

    The barrier keeps the product before from writing its result in the turned order, which is slow too.
    """
    return jax.lax.optimization_barrier(jnp.moveaxis(logits, -1, 0))


def stack(first: Array, steps: int) -> Array:
    """[...] -> [steps + 1, ...] with index 0 written: what a scan returns would be copied to join it."""
    return jax.lax.empty((steps + 1, *first.shape), first.dtype).at[0].set(first)


def write(stacked: Array, x: Array, index: Array) -> Array:
    """`stacked` with x at an index of its first axis."""
    return jax.lax.dynamic_update_index_in_dim(stacked, x, index, 0)
