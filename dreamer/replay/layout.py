"""What a replay stores of a step, and how much memory that takes: the same for every replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401, from now on "bfloat16" names a dtype
import numpy as np

from envs.api import LOG_PREFIX, Space, Spaces, Step


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


def columns(obs_space: Spaces, act_space: Spaces, entries: Spaces) -> dict[str, Column]:
    """What a row of one environment holds: all but the `log/` keys.

    Args:
      entries: {column: space} of a packed latent.
    """
    return {
        **{f"obs/{key}": _column(obs_space[key]) for key in _seen(obs_space)},
        **{f"action/{key}": _column(space) for key, space in act_space.items()},
        "reward": Column((), np.dtype(np.float32)),
        **{flag: Column((), np.dtype(bool)) for flag in FLAGS},
        **{name: _column(space) for name, space in entries.items()},
    }


def bytes_needed(capacity: int, num_envs: int, obs_space: Spaces, act_space: Spaces, entries: Spaces) -> int:
    """Memory of a full replay in bytes; the system hands it out only as rows are written."""
    row = sum(column.nbytes for column in columns(obs_space, act_space, entries).values())
    return capacity // num_envs * num_envs * row


@dataclass(frozen=True)
class Layout:
    """The shape of a ring: its columns, its environments and how many rows of each live at once."""

    num_envs: int
    capacity_per_env: int
    columns: Mapping[str, Column]
    obs_keys: tuple[str, ...]
    act_keys: tuple[str, ...]
    entries: tuple[str, ...]
    """Columns of a packed latent."""
    nbytes: int
    """Memory of the full ring."""

    @classmethod
    def of(
        cls,
        capacity: int,
        num_envs: int,
        obs_space: Spaces,
        act_space: Spaces,
        entries: Spaces,
        available: int | None,
    ) -> Layout:
        """The layout of `capacity` steps over all environments together.

        Args:
          entries: {column: space} of a packed latent.
          available: bytes there are for it, if known.

        Raises:
          ReplayError: the ring makes no sense or does not fit; says which capacity would.
        """
        nbytes = bytes_needed(capacity, num_envs, obs_space, act_space, entries)
        _check_capacity(capacity, num_envs, nbytes, available)
        stored = columns(obs_space, act_space, entries)
        keys = tuple(_seen(obs_space)), tuple(act_space), tuple(entries)
        return cls(num_envs, capacity // num_envs, stored, *keys, nbytes)

    def row(self, step: Step, action: Mapping[str, Any], latent: Mapping[str, Any]) -> dict[str, Any]:
        """{column: value} of one row of all environments.

        Raises:
          ReplayError: a key is missing or an array has the wrong shape.
        """
        try:
            row = {
                **{f"obs/{key}": step.obs[key] for key in self.obs_keys},
                **{f"action/{key}": action[key] for key in self.act_keys},
                "reward": step.reward,
                **{flag: getattr(step, flag) for flag in FLAGS},
                **{name: latent[name] for name in self.entries},
            }
        except KeyError as error:
            raise ReplayError(
                f"the step, the action or the latent lacks the key {error}; this replay stores "
                f"{', '.join(self.obs_keys + self.act_keys + self.entries)}"
            ) from None
        self.check(row, (self.num_envs,))
        return row

    def check_length(self, length: int) -> None:
        """Refuse sequences that the ring is too short to ever hold.

        Raises:
          ReplayError: it says which capacity would do.
        """
        rows = length + 1
        if self.capacity_per_env < rows:
            raise ReplayError(
                f"the replay keeps {self.capacity_per_env} steps of each environment, but a "
                f"sequence needs {rows}: set replay.capacity to at least {rows * self.num_envs}"
            )

    def steps(self, latent: Mapping[str, Any], batch: int) -> int:
        """T of packed latents {column: [batch, T, ...]} of sampled steps.

        Raises:
          ReplayError: a column is missing or has the wrong shape.
        """
        if set(latent) != set(self.entries):
            raise ReplayError(
                f"the latent has the columns {', '.join(latent)}, but this replay stores "
                f"{', '.join(self.entries)}"
            )
        (_, length, *_) = (*np.shape(latent[self.entries[0]]), 0, 0)
        self.check(latent, (batch, length))
        return length

    def check(self, values: Mapping[str, Any], lead: tuple[int, ...]) -> None:
        """Refuse values of columns that are not [*lead, ...].

        Raises:
          ReplayError: naming the column and both shapes.
        """
        for name, value in values.items():
            expected = (*lead, *self.columns[name].shape)
            if np.shape(value) != expected:
                raise ReplayError(
                    f"{name} has the shape {np.shape(value)}, but this replay stores {expected}"
                )


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
