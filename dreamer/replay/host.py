"""Recorded experience in host memory: a ring of vector steps, sampled as sequences.

Every column is one preallocated array `[num_envs, rows, ...]`; row r of the run lives in slot
`r % rows`, and all environments write a row together. Categorical entries are kept, and given back,
in the smallest integer dtype that holds their classes; latents are kept packed. Not thread-safe.

JAX is imported where it is used: asking how much memory a replay would need does not start it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamer.replay import segments
from dreamer.replay.layout import Layout, ReplayError
from envs.api import Spaces, Step

if TYPE_CHECKING:
    from dreamer.records import Batch, PackedLatent

SEGMENT_BYTES = 2**28
"""Largest file of a save (unless a single row is larger), so a save needs little memory."""


def available_memory() -> int | None:
    """Bytes this process may still take, within a container's limit; None where that is unknown."""
    limits = []
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    except OSError:  # not Linux: all of the memory is the best guess
        if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


class HostReplay:
    """A ring of the last `capacity` steps of `num_envs` environments in host memory.

    Args:
      capacity: steps kept, over all environments together.
      num_envs: environments, which advance together.
      obs_space, act_space: what a step holds.
      entries: {column: space} of a packed latent.
      online: train on every fresh sequence once before sampling uniformly.

    Raises:
      ReplayError: if the full ring would not fit the machine's memory.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        obs_space: Spaces,
        act_space: Spaces,
        entries: Spaces,
        online: bool = True,
    ) -> None:
        layout = Layout.of(capacity, num_envs, obs_space, act_space, entries, available_memory())
        self.layout, self._columns = layout, layout.columns
        self.num_envs, self.capacity_per_env = layout.num_envs, layout.capacity_per_env
        self.nbytes = layout.nbytes
        self.online = online
        self.inserted = 0
        self.online_taken = 0
        rows = (num_envs, self.capacity_per_env)
        self._ring = {
            name: np.zeros((*rows, *column.shape), column.dtype) for name, column in self._columns.items()
        }
        self._flat = {
            name: self._ring[name].reshape(rows[0] * rows[1], *column.shape)
            for name, column in self._columns.items()
        }
        self._folder: Path | None = None
        self._segments: list[str] = []
        self._saved = 0

    @property
    def counters(self) -> dict[str, int]:
        """What a checkpoint keeps beside the files of `save`."""
        return {"inserted": self.inserted, "online_taken": self.online_taken}

    def __len__(self) -> int:
        """Steps that live, over all environments."""
        return (self.inserted - self._oldest) * self.num_envs

    def add(self, step: Step, action: Mapping[str, Any], latent: PackedLatent) -> None:
        """Append one row: what the environments said, and what was chosen and believed after it.

        The action of a step that `is_last` is stored as zeros: it was never executed.

        Args:
          step: arrays with a leading axis of environments.
          action: `{key: [num_envs, ...]}`.
          latent: {column: [num_envs, ...]} the posterior after seeing `step`.

        Raises:
          ReplayError: a key is missing or an array has the wrong shape.
        """
        import jax

        row = self.layout.row(step, *jax.device_get((dict(action), latent)))
        slot = self.inserted % self.capacity_per_env
        for name, value in row.items():
            self._ring[name][:, slot] = value
        ended = np.asarray(step.is_last, bool)
        for key in self.layout.act_keys:
            self._ring[f"action/{key}"][ended, slot] = 0
        self.inserted += 1

    def can_sample(self, batch: int, length: int) -> int:
        """Number of possible sequences of `length` steps after a context; 0 if fewer than `batch`.

        Raises:
          ReplayError: the ring is too short to ever hold one sequence.
        """
        self.layout.check_length(length)
        starts = max(self.inserted - self._oldest - length, 0) * self.num_envs
        return starts if starts >= batch else 0

    def sample(
        self, key: Any, batch: int, length: int, *, online: bool = True
    ) -> tuple[Batch, tuple[np.ndarray, np.ndarray]]:
        """Copy out `batch` sequences of `length` steps, each with the context before it.

        A sequence may cross the end of an episode (`is_first` says where) but never the ring's seam
        between newest and oldest. Where a stream was interrupted (a row that `is_first` after one
        that was not `is_last`), the row before is given back as `is_last`.

        Args:
          key: a typed key; the same key and counters give the same sequences.
          batch: B.
          length: T.
          online: False leaves the queue of fresh sequences alone, as sampling another length must:
            entries of the queue are counted in sequences of the training length.

        Returns:
          The batch, and where it is from: env [B], absolute row of index 0 [B], for `refresh`.

        Raises:
          ReplayError: there are fewer than `batch` possible sequences.
        """
        from dreamer.records import Batch

        if not self.can_sample(batch, length):
            raise ReplayError(
                f"the replay holds {len(self)} steps, too few for {batch} sequences of {length + 1}"
            )
        env, first = self._choose(key, batch, length, self.online and online)
        trained = self._index(env[:, None], first[:, None] + np.arange(length))
        context = self._index(env, first - 1)
        is_first, is_last = self._take("is_first", trained), self._take("is_last", trained)
        is_last[:, :-1] |= is_first[:, 1:]
        sampled = Batch(
            obs={key: self._take(f"obs/{key}", trained) for key in self.layout.obs_keys},
            action={key: self._take(f"action/{key}", trained) for key in self.layout.act_keys},
            reward=self._take("reward", trained),
            is_first=is_first,
            is_last=is_last,
            is_terminal=self._take("is_terminal", trained),
            context_latent={name: self._take(name, context) for name in self.layout.entries},
            context_action={key: self._take(f"action/{key}", context) for key in self.layout.act_keys},
        )
        return sampled, (env, first)

    def refresh(self, where: tuple[np.ndarray, np.ndarray], latent: PackedLatent) -> None:
        """Replace the latents of sampled steps; steps overwritten meanwhile are ignored.

        Args:
          where: as `sample` gave it.
          latent: {column: [B, T, ...]} the new posteriors.

        Raises:
          ReplayError: a column is missing or has the wrong shape.
        """
        import jax

        env, first = where
        length = self.layout.steps(latent, len(env))
        time = first[:, None] + np.arange(length)
        index, living = self._index(env[:, None], time), time >= self._oldest
        for name, value in jax.device_get(dict(latent)).items():
            self._flat[name][index[living]] = value[living]

    def save(self, folder: str | Path) -> list[str]:
        """Write the rows added since the last save as new files; return all that are needed now.

        Latents stay in a file as they were when it was written, not as `refresh` leaves them later.

        Raises:
          OSError: disk full or folder not writable; rows that are not on disk are written by the next save.
        """
        folder = Path(folder)
        if folder != self._folder:
            self._folder, self._segments, self._saved = folder, [], 0
        folder.mkdir(parents=True, exist_ok=True)
        longest = max(SEGMENT_BYTES * self.capacity_per_env // self.nbytes, 1)
        first = max(self._saved, self._oldest)
        while first < self.inserted:
            last = min(first + longest, self.inserted)
            slots = np.arange(first, last) % self.capacity_per_env
            arrays = ((name, ring[:, slots]) for name, ring in self._ring.items())
            name = segments.write(folder, first, last, self.num_envs, self._columns, arrays)
            self._segments.append(name)
            first = self._saved = last
        self._segments = [name for name in self._segments if segments.span(name)[1] > self._oldest]
        return list(self._segments)

    def load(self, folder: str | Path, names: Sequence[str], counters: Mapping[str, int]) -> None:
        """Become the replay that was saved: its rows, its counters, its files.

        Args:
          folder: where the files are.
          names: what `save` returned.
          counters: what `counters` was at that time.

        Raises:
          ReplayError: a file is damaged or of another replay, or rows are missing.
        """
        folder, names = Path(folder), sorted(names, key=segments.span)
        rows = np.arange(self.num_envs)
        self._fill(folder, names, counters["inserted"], self.num_envs, rows, rows)
        self.inserted, self.online_taken = counters["inserted"], counters["online_taken"]
        self._folder, self._segments, self._saved = folder, names, self.inserted

    def load_dealt(
        self,
        folder: str | Path,
        parts: Sequence[Sequence[str]],
        counters: Mapping[str, int],
        index: int = 0,
        count: int = 1,
    ) -> None:
        """Become part `index` of `count` of a replay that was saved in parts, as many as then or not.

        Part q of Q has every Q-th stream from q on, and so it is dealt again. If the number has changed, the
        next save writes all rows, and the queue of fresh sequences starts at the one where it was.

        Args:
          parts: what `save` returned, of each part.
          counters: of one part, as they count the same rows.

        Raises:
          ReplayError: as `load`.
        """
        if len(parts) == count:
            self.load(folder, parts[index], counters)
            return
        total = self.num_envs * count
        if total % len(parts):
            raise ReplayError(f"{total} streams were not saved in {len(parts)} equal parts")
        streams, each = np.arange(index, total, count), total // len(parts)
        for q, names in enumerate(parts):
            ours = np.flatnonzero(streams % len(parts) == q)
            if ours.size:
                theirs = streams[ours] // len(parts)
                self._fill(Path(folder), names, counters["inserted"], each, theirs, ours)
        self.inserted = counters["inserted"]
        self.online_taken = counters["online_taken"] // each * self.num_envs
        self._folder, self._segments, self._saved = Path(folder), [], self._oldest

    def _fill(
        self,
        folder: Path,
        names: Sequence[str],
        inserted: int,
        num_envs: int,
        theirs: np.ndarray,
        ours: np.ndarray,
    ) -> None:
        """Read the streams `theirs` of files of `num_envs` streams as the streams `ours`."""
        oldest = max(inserted - self.capacity_per_env, 0)
        complete = oldest
        for name in sorted(names, key=segments.span):
            first, last = segments.span(name)
            begin, end = max(first, oldest), min(last, inserted)
            if begin > complete:
                break
            where = np.ix_(ours, np.arange(begin, end) % self.capacity_per_env)
            for key, value in segments.read(folder / name, num_envs, self._columns).items():
                self._ring[key][where] = value[theirs, begin - first : end - first]
            complete = max(complete, end)
        if complete < inserted:
            raise ReplayError(
                f"the replay files in {folder} lack row {complete} of the rows {oldest} to "
                f"{inserted}; was replay.capacity raised after the run had begun?"
            )

    @property
    def _oldest(self) -> int:
        """The oldest row that lives."""
        return max(self.inserted - self.capacity_per_env, 0)

    def _index(self, env: np.ndarray, row: np.ndarray) -> np.ndarray:
        return env * self.capacity_per_env + row % self.capacity_per_env

    def _take(self, name: str, index: np.ndarray) -> np.ndarray:
        return np.take(self._flat[name], index, axis=0)  # three times faster than [index] on images

    def _choose(self, key: Any, batch: int, length: int, online: bool) -> tuple[np.ndarray, np.ndarray]:
        """Environments [B] and first trained rows [B]."""
        import jax

        from dreamer.placement import choosing_device
        from dreamer.replay.sampling import choose

        counts = {
            "inserted": self.inserted,
            "online_taken": self.online_taken,
            "capacity_per_env": self.capacity_per_env,
            "num_envs": self.num_envs,
            "length": length,
        }
        key, counts = jax.device_put(
            (key, {name: np.int32(count) for name, count in counts.items()}), choosing_device()
        )
        env, start, taken = jax.device_get(choose(key, **counts, batch=batch, online=online))
        self.online_taken = int(taken)
        return env.astype(np.int64), start.astype(np.int64) + 1
