"""Convolutions that halve or double an image, arranged so that a CPU does them well.

Three identities, exact up to rounding, save most of the work:

- A convolution after nearest x2 upsampling sees every source pixel in blocks of four. Summing the taps that
  fall on the same source pixel gives one small kernel per output sub-pixel, applied at the low
  resolution; depth-to-space then interleaves the four results.
- A convolution followed by 2x2 max-pooling needs its outputs only in groups of four: with the image
  folded by space-to-depth, one convolution at half the resolution gives the four members of each
  group as channels, and the pooling is a maximum over them.
- The gradient of a kernel is a few matrix products of windows of the image with runs of pixels.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from dreamer.nets.layers import Initializer
from envs.api import Space, UnsupportedSpace

RUN = 4
"""Pixels of a row that the kernel gradient takes together."""
PART = 32
"""Images that go through the network together on a CPU."""
FOLD_CHANNELS = 4
"""Space-to-depth pays only while the input has few channels (measured on a CPU: the first stage)."""


def padded_size(images: Sequence[tuple[str, Space]], stages: int) -> tuple[int, int]:
    """Height and width of the images, rounded up to what the stages can halve.

    Raises:
      UnsupportedSpace: if the images differ in size.
    """
    sizes = {space.shape[:2] for _, space in images}
    if len(sizes) > 1:
        listed = ", ".join(f"'{k}' {s.shape[0]}x{s.shape[1]}" for k, s in images)
        raise UnsupportedSpace(
            f"Images are stacked on their channels and must share one size, but there are {listed}; "
            "resize them in the environment."
        )
    unit = 2**stages
    h, w = sizes.pop()
    return -(-h // unit) * unit, -(-w // unit) * unit


def pad(images: Array, size: tuple[int, int]) -> Array:
    """[N, h, w, c] -> [N, *size, c], zeros below and to the right."""
    _, h, w, _ = images.shape
    if (h, w) == size:
        return images
    return jnp.pad(images, ((0, 0), (0, size[0] - h), (0, size[1] - w), (0, 0)))


def space_to_depth(x: Array) -> Array:
    """[N, h, w, c] -> [N, h/2, w/2, 4c]; channel order (row parity, column parity, c)."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // 2, w // 2, 4 * c)


def depth_to_space(x: Array) -> Array:
    """[N, h, w, 4c] -> [N, 2h, 2w, c], the inverse of `space_to_depth`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c // 4)


def convolve(x: Array, kernel: Array) -> Array:
    """Stride 1, same size, NHWC."""
    return _convolve_by_products(x, kernel) if jax.default_backend() == "cpu" else _convolve(x, kernel)


def _convolve(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def _convolve_by_products(x: Array, kernel: Array) -> Array:
    """`_convolve` with gradients that a CPU computes well; its own are most of an image agent's time."""
    return _convolve(x, kernel)


def _convolve_by_products_grad(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return _convolve(g, kernel[::-1, ::-1].swapaxes(2, 3)), kernel_gradient(x, g, len(kernel))


_convolve_by_products.defvjp(
    lambda x, kernel: (_convolve(x, kernel), (x, kernel)), _convolve_by_products_grad
)


def kernel_gradient(x: Array, g: Array, size: int) -> Array:
    """Gradient [size, size, c, d] of a convolution's kernel, from inputs [N, h, w, c] and g [N, h, w, d].

    The rows of g are cut into runs of a few pixels and those of x into the windows that these see. For every
    vertical tap one matrix product pairs each pixel of a window with each of the run; the kernel
    collects the pairs that lie the same distance apart.
    """
    n, h, w, c = x.shape
    d = g.shape[-1]
    half, run = size // 2, math.gcd(w, RUN)
    window = run + size - 1
    rows = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0))).reshape(n, h + size - 1, -1)
    starts = range(0, w * c, run * c)
    windows = jnp.stack([rows[..., start : start + window * c] for start in starts], 2)
    runs = g.reshape(-1, run * d)
    pairs = [windows[:, tap : tap + h].reshape(-1, window * c).T @ runs for tap in range(size)]
    pairs = jnp.stack(pairs).reshape(size, window, c, run, d)
    return jnp.stack([pairs[:, i : i + size, :, i] for i in range(run)]).sum(0)


def upsampling_taps(kernel: int) -> np.ndarray:
    """[2, kernel', kernel] 0/1 matrix: which taps of the high-resolution kernel meet which source pixel.

    For output parity p, tap d (offset d - kernel//2) reads high-resolution pixel p + offset, which is
    source pixel floor((p + offset) / 2).
    """
    half = kernel // 2
    reach = (half + 1) // 2
    taps = np.zeros((2, 2 * reach + 1, kernel), np.float32)
    for parity in range(2):
        for tap in range(kernel):
            taps[parity, (parity + tap - half) // 2 + reach, tap] = 1
    return taps


def folding_taps(kernel: int) -> np.ndarray:
    """[2, 2, kernel', kernel] 0/1 matrix: output parity, input parity, half-resolution tap, original tap."""
    half = kernel // 2
    reach = (half + 1) // 2
    taps = np.zeros((2, 2, 2 * reach + 1, kernel), np.float32)
    for parity in range(2):
        for tap in range(kernel):
            position = parity + tap - half
            taps[parity, position % 2, position // 2 + reach, tap] = 1
    return taps


def in_parts(apply: Callable[[Array], Array], x: Array) -> Array:
    """`apply` to [N, ...] a few images at a time, keeping nothing in between: the gradient computes it again.

    On a CPU only, where it halves the memory.
    """
    n = len(x)
    if jax.default_backend() != "cpu" or n % PART or n == PART:
        return apply(x)
    y = jax.lax.map(jax.checkpoint(apply), x.reshape(n // PART, PART, *x.shape[1:]))
    return y.reshape(n, *y.shape[2:])


class Conv(nnx.Module):
    """A square convolution with bias, alone or joined with halving or doubling the image."""

    def __init__(self, channels: int, depth: int, kernel: int, *, init: Initializer):
        if kernel % 2 == 0:
            raise ValueError(f"The convolution kernel must be odd, but it is {kernel}.")
        shape = (kernel, kernel, channels, depth)
        self.kernel = nnx.Param(init.kernel(shape))
        self.bias = nnx.Param(jnp.zeros(depth))

    def pooled(self, x: Array) -> Array:
        """Convolve, then 2x2 max-pool: [N, h, w, c] -> [N, h/2, w/2, depth]."""
        kernel = self.kernel[...].astype(x.dtype)
        size, _, channels, depth = kernel.shape
        n, h, w, _ = x.shape
        if channels <= FOLD_CHANNELS:
            taps = jnp.asarray(folding_taps(size), x.dtype)
            folded = jnp.einsum("pqad,rsbe,deio->abqsipro", taps, taps, kernel)
            folded = folded.reshape(*folded.shape[:2], 4 * channels, 4 * depth)
            y = convolve(space_to_depth(x), folded)
            y = y.reshape(n, h // 2, w // 2, 4, depth).max(3)
        else:
            y = convolve(x, kernel)
            y = y.reshape(n, h // 2, 2, w // 2, 2, depth).max((2, 4))
        return y + self.bias[...].astype(x.dtype).reshape(1, 1, 1, -1)

    def upsampled(self, x: Array) -> Array:
        """Nearest x2 upsampling, then convolve: [N, h, w, c] -> [N, 2h, 2w, depth]."""
        kernel = self.kernel[...].astype(x.dtype)
        size, _, channels, depth = kernel.shape
        taps = jnp.asarray(upsampling_taps(size), x.dtype)
        small = jnp.einsum("pad,rbe,deio->abipro", taps, taps, kernel)
        small = small.reshape(*small.shape[:2], channels, 4 * depth)
        y = depth_to_space(convolve(x, small))
        return y + self.bias[...].astype(x.dtype).reshape(1, 1, 1, -1)
