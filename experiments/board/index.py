"""Everything that lies below a folder, kept up to date at little cost.

A look goes through all folders: one whose time is unchanged is not listed again, and a row whose files have
the size and time that they had is not read again. So the first look reads the small files of every run, and
each later one asks for the times of files alone, except for those that changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from experiments import lock
from experiments.board import groups, runs
from experiments.board.contents import LARGEST, text
from experiments.board.files import Files, Listing, Stamp
from experiments.board.rows import (
    BENCHMARK,
    COMPARISON,
    GATHERED,
    MEMBER,
    OBJECTIVES,
    PAGE,
    SWEEP,
    TRAINING,
    WATCHED,
    Place,
    Row,
    kind,
    page,
)
from experiments.board.settings import Settings

EVERY = 2.0
"""Seconds between two looks."""
SHARE = 0.05
"""Of the time that looks may take: those that take long come more seldom."""
SETTLED = 2.0
"""Seconds after its last change from which on the time of a folder shows every later one."""
DEEPEST = 12
"""Folders within folders."""
SKIPPED = {"checkpoints", "tensorboard", "wandb", "mlruns", "transcripts", "node_modules", "__pycache__"}
"""Folders that hold no runs, and many files."""


class _Listed(NamedTuple):
    listing: Listing
    stamp: Stamp
    settled: bool
    """Whether the listing is what the folder with this stamp holds, and not what it held a moment before."""


class _Entry(NamedTuple):
    read: Row
    """By its own files."""
    row: Row
    """With what the runs in it say."""
    settings: Settings
    signature: tuple[object, ...]
    """Of all that was read."""
    version: int
    """The number of the change that made the row what it is."""


class Index:
    """The rows of everything below `root`. Not for several threads at a time."""

    def __init__(self, root: Path):
        self.files = Files(root)
        self.version = 0
        """Number of changes so far."""
        self.is_complete = False
        """Whether all folders were looked at at least once."""
        self._listed: dict[str, _Listed] = {}
        self._entries: dict[str, _Entry] = {}
        self._gone: dict[str, int] = {}
        self._held: dict[str, bool] = {}
        self._round: Iterator[None] | None = None
        self._due, self._took = 0.0, 0.0

    def look(self, seconds: float = float("inf")) -> bool:
        """Look at what changed since the last look, for at most about this long; True once that is done."""
        began = time.monotonic()
        if self._round is None:
            if began < self._due:
                return True
            self._round, self._took = self._look(), 0.0
        for _ in self._round:
            if time.monotonic() - began > seconds:
                self._took += time.monotonic() - began
                return False
        ended = time.monotonic()
        self._took += ended - began
        self._round, self.is_complete = None, True
        self._due = ended + max(EVERY, self._took / SHARE)
        return True

    def rows(self, since: int = 0) -> list[Row]:
        """The rows that are new or different since a version."""
        return [entry.row for entry in self._entries.values() if entry.version > since]

    def gone(self, since: int) -> list[str]:
        """The ids of rows that are no longer there since a version."""
        return [id for id, version in self._gone.items() if version > since and id not in self._entries]

    def row(self, id: str) -> Row | None:
        """A row by its id."""
        return self._entries[id].row if id in self._entries else None

    def settings(self) -> dict[str, Settings]:
        """The configuration of every run, by the id of its row."""
        return {id: entry.settings for id, entry in self._entries.items() if entry.settings}

    def _look(self) -> Iterator[None]:
        waiting, seen = [""], set()
        while waiting:
            path = waiting.pop()
            listing = self._list(path)
            if listing is not None:
                seen.add(path)
                self._update(path, listing)
                waiting += self._inner(path, listing)
            yield
        for path in self._listed.keys() - seen:
            del self._listed[path]
            self._held.pop(path, None)
            self._remove(path or ".")
        self._gather()

    def _inner(self, path: str, listing: Listing) -> list[str]:
        """The folders in a folder that may hold runs; the last is the first by name."""
        if path.count("/") >= DEEPEST or "pyvenv.cfg" in listing.files:
            return []
        names = [
            name for name in reversed(listing.folders) if name not in SKIPPED and not name.startswith(".")
        ]
        return [f"{path}/{name}" if path else name for name in names]

    def _list(self, path: str) -> Listing | None:
        """What a folder holds; None if it is no longer there."""
        stamp, before = self.files.stamp(path), self._listed.get(path)
        if stamp is None:
            return None
        if before is not None and before.settled and before.stamp == stamp:
            return before.listing
        settled = time.time() - stamp.time / 1e9 > SETTLED
        try:
            with self.files.folder(path) as folder:
                listing = folder.listing()
        except OSError:
            return None
        self._listed[path] = _Listed(listing, stamp, settled)
        return listing

    def _update(self, path: str, listing: Listing) -> None:
        """Read a row again if anything that it is made of has changed."""
        id, its_kind = path or ".", kind(path, listing)
        if not its_kind:
            self._remove(id)
            return
        stamps = [(name, self.files.stamp(f"{path}/{name}")) for name in WATCHED if name in listing.files]
        stamps = [(name, stamp) for name, stamp in stamps if stamp is not None]
        held = self._is_held(path, listing, its_kind)
        failure = self._failure(path)
        signature = (its_kind, held, failure, len(listing.folders), *stamps)
        before = self._entries.get(id)
        if before is not None and before.signature == signature and before.row.status != TRAINING:
            return
        newest = max((stamp.time for _, stamp in stamps), default=0) / 1e9
        found_in = Place(path, listing, held, newest, failure)
        self._keep(id, self._read(found_in, its_kind), signature)

    def _read(self, place: Place, its_kind: str) -> tuple[Row, Settings] | None:
        name = page(place.listing)
        at = f"{place.path}/{name}".lstrip("/") if name else ""
        base = Row(place.path or ".", its_kind, changed=place.changed, page=at)
        try:
            with self.files.folder(place.path) as folder:
                if its_kind in (SWEEP, BENCHMARK, OBJECTIVES, COMPARISON, PAGE):
                    row = groups.read(folder, place, base)
                    return None if row is None else (row, ())
                return runs.read(folder, place, base)
        except OSError:  # it has just gone
            return None

    def _is_held(self, path: str, listing: Listing, its_kind: str) -> bool:
        """Whether a process works in a folder, or in that of the population that it belongs to."""
        held = lock.NAME in listing.files and self._lock_is_alive(path)
        self._held[path] = held
        return (
            held or its_kind == MEMBER and self._held.get(path.rpartition("/")[0].rpartition("/")[0], False)
        )

    def _lock_is_alive(self, path: str) -> bool:
        try:
            with self.files.folder(path) as folder:
                stamp = self.files.stamp(f"{path}/{lock.NAME}")
                age = time.time() - stamp.time / 1e9 if stamp else lock.STALE
                return lock.is_alive(folder.read(lock.NAME, LARGEST), age)
        except OSError:
            return False

    def _failure(self, path: str) -> str:
        """Why a run failed, in the file that a benchmark leaves beside it; empty without one."""
        above, _, name = path.rpartition("/")
        beside = self._listed.get(above) if path else None
        if beside is None or f"{name}.failed" not in beside.listing.files:
            return ""
        try:
            content = self.files.read(f"{path}.failed", LARGEST).decode(errors="replace")
        except OSError:
            content = ""
        return text(" ".join(content.split())) or "it failed"

    def _keep(self, id: str, content: tuple[Row, Settings] | None, signature: tuple[object, ...]) -> None:
        if content is None:
            self._remove(id)
            return
        row, fields = content
        before = self._entries.get(id)
        if before is not None and (before.read, before.settings) == (row, fields):
            self._entries[id] = before._replace(signature=signature)
        else:
            self.version += 1
            self._entries[id] = _Entry(row, row, fields, signature, self.version)

    def _remove(self, id: str) -> None:
        if self._entries.pop(id, None) is not None:
            self.version += 1
            self._gone[id] = self.version

    def _gather(self) -> None:
        """Give sweeps and benchmarks what the runs in them say."""
        parts: dict[str, list[Row]] = {
            id: [] for id, entry in self._entries.items() if entry.row.kind in GATHERED
        }
        for id, entry in self._entries.items():
            above = id
            while parts and "/" in above:
                above = above.rpartition("/")[0]
                if above in parts:
                    parts[above].append(entry.row)
        for id, rows in parts.items():
            entry = self._entries[id]
            row = groups.gathered(entry.read, rows)
            if row != entry.row:
                self.version += 1
                self._entries[id] = entry._replace(row=row, version=self.version)
