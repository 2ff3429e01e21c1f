"""Convolutions that halve or double an image, arranged to run fast on a CPU.

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
from jax.ad_checkpoint import checkpoint_name

from dreamer.nets.layers import Initializer
from dreamer.ops import cpu
from envs.api import Space, UnsupportedSpace

RUN, RUN_WIDTH = 4, 64
"""Pixels of a row that the kernel gradient takes together: at most so many, with about so many channels."""
PART = 128
"""Images that go through the network together on a CPU, where 32 and 256 are slower."""
KEPT = "convolved"
"""What the gradient of a part does not compute again carries this name."""


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


def fold_channels() -> int:
    """Up to how many input channels space-to-depth pays: measured on a CPU, a guess elsewhere."""
    return 16 if jax.default_backend() == "cpu" else 4


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
    collects the pairs that lie the same distance apart. Runs make the product wide enough where there are
    few channels.
    """
    n, h, w, c = x.shape
    d = g.shape[-1]
    half, run = size // 2, math.gcd(w, max(1, min(RUN, RUN_WIDTH // c)))
    window = run + size - 1
    rows = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0))).reshape(n, h + size - 1, -1)
    starts = range(0, w * c, run * c)
    windows = jnp.stack([rows[..., start : start + window * c] for start in starts], 2)
    runs = g.reshape(-1, run * d)
    pairs = [windows[:, tap : tap + h].reshape(-1, window * c).T @ runs for tap in range(size)]
    pairs = jnp.stack(pairs).reshape(size, window, c, run, d)
    return jnp.stack([pairs[:, i : i + size, :, i] for i in range(run)]).sum(0)


@jax.custom_vjp
def convolve_in_fours(x: Array, kernel: Array) -> Array:
    """Convolve and keep the largest of the four members of every group: [N, h, w, c] -> [N, h, w, d].

    Args:
      x: [N, h, w, c].
      kernel: [size, size, c, 4d], the members' channels one member after the other.

    The gradient goes in equal shares to all members that are the largest; which those are is kept as four
    bits, so that nothing of the size of the convolution's result has to be kept or computed again.
    """
    return _in_fours(x, kernel)[0]


def _in_fours(x: Array, kernel: Array) -> tuple[Array, Array]:
    y = convolve(x, kernel)
    a, b, c, d = members = jnp.split(y, 4, -1)
    largest = jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
    bits = [jnp.where(member == largest, 1 << i, 0).astype(jnp.uint8) for i, member in enumerate(members)]
    return kept(largest), kept(bits[0] | bits[1] | bits[2] | bits[3])


def _in_fours_grad(saved: tuple[Array, Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel, bits = saved
    share = g / jax.lax.population_count(bits).astype(g.dtype)
    members = [jnp.where(bits & (1 << i), share, 0) for i in range(4)]
    _, back = jax.vjp(convolve, x, kernel)  # the result itself is not used, so it is not computed
    return back(jnp.concatenate(members, -1))


def _in_fours_saved(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    largest, bits = _in_fours(x, kernel)
    return largest, (x, kernel, bits)


convolve_in_fours.defvjp(_in_fours_saved, _in_fours_grad)


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


def kept(x: Array) -> Array:
    """Mark a result that is small and expensive to compute: `in_parts` keeps it for the gradient."""
    return checkpoint_name(x, KEPT)


def in_parts(apply: Callable[[Array], Array], x: Array) -> Array:
    """`apply` to [N, ...] a few images at a time; only what is `kept` is not computed again for the gradient.

    On a CPU only, where it halves the memory, and not where several devices have their own images.
    """
    n = len(x)
    part = math.gcd(n, PART)
    if jax.default_backend() != "cpu" or cpu.rows_are_shared() or part == n or part < PART // 4:
        return apply(x)
    policy = jax.checkpoint_policies.save_only_these_names(KEPT)
    y = jax.lax.map(jax.checkpoint(apply, policy=policy), x.reshape(n // part, part, *x.shape[1:]))
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
        if channels <= fold_channels():
            taps = jnp.asarray(folding_taps(size), x.dtype)
            folded = jnp.einsum("pqad,rsbe,deio->abqsipro", taps, taps, kernel)
            folded = folded.reshape(*folded.shape[:2], 4 * channels, 4 * depth)
            y = convolve_in_fours(space_to_depth(x), folded)
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
        y = depth_to_space(kept(convolve(x, small)))
        return y + self.bias[...].astype(x.dtype).reshape(1, 1, 1, -1)
