"""What a replay stores of a step, and how much memory that takes: the same for every replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np

from envs.api import LOG_PREFIX, Space, Spaces, Step

if TYPE_CHECKING:
    from dreamer.records import PackedLatent


class ReplayError(ValueError):
    """The replay cannot do what was asked; the message says why and what would be right."""


class Column(NamedTuple):
    """One array of a row of one environment."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of one entry."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


FLAGS = ("is_first", "is_last", "is_terminal")


def compact_dtype(space: Space) -> np.dtype:
    """The smallest dtype for a space's entries: 0..n-1, and -1 (missing) where it is signed."""
    declared = np.dtype(space.dtype)
    if space.classes is None or declared.kind not in "iu":
        return declared
    smaller = [np.dtype(f"{declared.kind}{size}") for size in (1, 2, 4) if size < declared.itemsize]
    return next((dtype for dtype in smaller if space.classes - 1 <= np.iinfo(dtype).max), declared)


def columns(obs_space: Spaces, act_space: Spaces, latent: tuple[int, int]) -> dict[str, Column]:
    """What a row of one environment holds: all but the `log/` keys.

    Args:
      latent: (D, S), the widths of a packed latent.
    """
    return {
        **{f"obs/{key}": _column(obs_space[key]) for key in _seen(obs_space)},
        **{f"action/{key}": _column(space) for key, space in act_space.items()},
        "reward": Column((), np.dtype(np.float32)),
        **{flag: Column((), np.dtype(bool)) for flag in FLAGS},
        "deter": Column((latent[0],), np.dtype(ml_dtypes.bfloat16)),
        "stoch": Column((latent[1],), np.dtype(np.uint8)),
    }


def bytes_needed(
    capacity: int, num_envs: int, obs_space: Spaces, act_space: Spaces, latent: tuple[int, int]
) -> int:
    """Memory of a full replay in bytes; the system hands it out only as rows are written."""
    row = sum(column.nbytes for column in columns(obs_space, act_space, latent).values())
    return capacity // num_envs * num_envs * row


@dataclass(frozen=True)
class Layout:
    """The shape of a ring: its columns, its environments and how many rows of each live at once."""

    num_envs: int
    capacity_per_env: int
    columns: Mapping[str, Column]
    obs_keys: tuple[str, ...]
    act_keys: tuple[str, ...]
    nbytes: int
    """Memory of the full ring."""

    @classmethod
    def of(
        cls,
        capacity: int,
        num_envs: int,
        obs_space: Spaces,
        act_space: Spaces,
        latent: tuple[int, int],
        available: int | None,
    ) -> Layout:
        """The layout of `capacity` steps over all environments together.

        Args:
          latent: (D, S), the widths of a packed latent.
          available: bytes there are for it, if known.

        Raises:
          ReplayError: the ring makes no sense or does not fit; says which capacity would.
        """
        nbytes = bytes_needed(capacity, num_envs, obs_space, act_space, latent)
        _check_capacity(capacity, num_envs, nbytes, available)
        stored = columns(obs_space, act_space, latent)
        keys = tuple(_seen(obs_space)), tuple(act_space)
        return cls(num_envs, capacity // num_envs, stored, *keys, nbytes)

    def row(self, step: Step, action: Mapping[str, Any], latent: PackedLatent) -> dict[str, Any]:
        """{column: value} of one row of all environments.

        Raises:
          ReplayError: a key is missing.
        """
        try:
            return {
                **{f"obs/{key}": step.obs[key] for key in self.obs_keys},
                **{f"action/{key}": action[key] for key in self.act_keys},
                "reward": step.reward,
                **{flag: getattr(step, flag) for flag in FLAGS},
                "deter": latent.deter,
                "stoch": latent.stoch,
            }
        except KeyError as error:
            raise ReplayError(
                f"the step or the action lacks the key {error}; this replay stores "
                f"{', '.join(self.obs_keys + self.act_keys)}"
            ) from None


def _seen(obs_space: Spaces) -> list[str]:
    return [key for key in obs_space if not key.startswith(LOG_PREFIX)]


def _column(space: Space) -> Column:
    return Column(tuple(space.shape), compact_dtype(space))


def _check_capacity(capacity: int, num_envs: int, nbytes: int, available: int | None) -> None:
    if not num_envs <= capacity < 2**31:
        raise ReplayError(
            f"replay.capacity is {capacity}; with {num_envs} environments it must lie between "
            f"{num_envs} and {2**31 - 1}"
        )
    if available is not None and nbytes > available:
        fitting = int(0.9 * available / nbytes * capacity)
        raise ReplayError(
            f"a replay of {capacity:,} steps needs {nbytes / 2**30:.1f} GiB when full, but "
            f"{available / 2**30:.1f} GiB are available: set replay.capacity to at most {fitting}"
        )
