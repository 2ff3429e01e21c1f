"""Checkpoints that are whole or absent: Orbax holds the arrays, a manifest holds their digests.

    <folder>/step-000000020000/arrays/         one Orbax checkpoint of the state's leaves
    <folder>/step-000000020000/loop/           another one of those that only the loop needs, if any
    <folder>/step-000000020000/pieces-1.safetensors   what process 1 has of leaves split over processes
    <folder>/step-000000020000/manifest.json   sha256 of every file, leaves, meta; written last
    <folder>/replay/                           files that never change, shared by checkpoints
    <folder>/quarantine/                       checkpoints that turned out to be damaged

The number is that of environment steps; further checkpoints at the same number, taken while only updates
continued, are `step-000000020000-1`, `-2` and so on, and the meta holds the number of updates.

A checkpoint is written under a temporary name and renamed when complete, so a process killed at any
moment leaves the earlier ones as they were. Orbax alone neither notices a flipped byte nor refuses
another dtype; both are checked here, before anything reaches the learner.

Reading changes nothing: only the process that owns a run sets a checkpoint aside, and only one whose bytes
are verifiably not those that were written. Links are followed, and what cannot be read now is left alone.

JAX and Orbax are imported where arrays are touched: listing checkpoints and their meta needs neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dreamer import atomic, pieces
from dreamer.migrations import renamed
from dreamer.processes import ALONE, Elsewhere, Processes, current

FORMAT = "dreamer-checkpoint"
VERSION, WHOLE = 4, 3
"""In 1 the leaves of the loop were among the others; `dreamer.migrations` has what was renamed since. One
with leaves in pieces is of version 4, all others are still of version 3."""
NAME = re.compile(r"step-(\d{12})(?:-(\d+))?")
LOOP = "loop/"
"""Leaves (and their files) that only a resumed loop needs, not a player of the agent."""
LOOP_FOLDER = LOOP.rstrip("/")
MARGIN = 2**22
"""Upper bound on the bytes that a checkpoint needs besides its arrays."""
LOOKS = 10
"""How often a reader lists the folder again when what it read was deleted meanwhile."""


class CheckpointError(ValueError):
    """A checkpoint cannot be written or read; the message says why and what would be right."""


class NoCheckpoint(CheckpointError):
    """Nothing in the folder can be used; its contents were left as they are."""


class _Unusable(Exception):
    """A checkpoint cannot be used."""


class _Damaged(_Unusable):
    """It is not what its manifest promises."""


class _Unreadable(_Unusable):
    """It cannot be read now, as without permission; nothing says that it is damaged."""


class CheckpointStore:
    """The checkpoints of one run.

    One process saves; any number may read. `save` returns as soon as the state is copied and a
    thread writes it: call `wait` before the process ends.

    Args:
      folder: where they are; created by the first save.
      keep: newest checkpoints kept.
      notice: called, in the caller's thread, with messages about errors that stop nothing (a damaged
        checkpoint that was set aside, a failed save that no call waited for). Default: a warning.
      owner: whether this process trains the run. Then a damaged checkpoint is moved to `quarantine/` when an
        earlier one takes its place, and one that cannot be read now is an error; a reader moves nothing.
      written: called after every save in the thread that wrote it, for example to free memory that Orbax and
        its threads leave scattered over the arenas of the C library, some 100 KB of every save.
      processes: that save together, into one folder that all of them see: each writes what it has, process 0
        also all that is whole, the manifest and the name. Then `save` returns when everything is written.
    """

    def __init__(
        self,
        folder: str | Path,
        keep: int = 2,
        notice: Callable[[str], None] | None = None,
        *,
        owner: bool = False,
        written: Callable[[], None] = lambda: None,
        processes: Processes = ALONE,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.keep = keep
        self.owner = owner
        self._notice = notice or (lambda text: warnings.warn(text, stacklevel=3))
        self._written = written
        self._processes = processes
        self._thread = futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: futures.Future[None] | None = None
        self._digests: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}

    @property
    def replay_folder(self) -> Path:
        """Where `extra_files` writes, and all it may hold: what no checkpoint lists is deleted."""
        return self.folder / "replay"

    def save(
        self,
        step: int,
        state: Any,
        meta: dict[str, Any],
        extra_files: Callable[[Path], list[str]] | None = None,
    ) -> None:
        """Copy the state, then write it in the background; errors of that appear in `wait`.

        Args:
          step: a name for it, and its order in time.
          state: a pytree of arrays and numbers.
          meta: anything that JSON can hold.
          extra_files: writes files that never change into the folder it is given and returns the
            names of all that this checkpoint needs, earlier ones too. Runs before this returns.

        Raises:
          CheckpointError: no space, or `extra_files` could not write (tried twice); where several processes
            save together it is raised in all, whichever could not write.
        """
        if self._processes.are_several:
            self._twice(step, lambda: self._save_together(step, state, json.dumps(meta), extra_files))
            self._written()
            return
        try:
            self.wait()
        except CheckpointError as error:
            self._notice(str(error))
        text = json.dumps(meta)
        arrays = _copy(_leaves(state))

        def prepare() -> list[str]:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_space(arrays)
            return extra_files(self.replay_folder) if extra_files else []

        def write() -> None:
            self._twice(step, lambda: self._write(step, arrays, json.loads(text), files))
            with contextlib.suppress(OSError):  # the checkpoint stands; the next one tries again
                self._collect()
            self._written()

        files = self._twice(step, prepare)
        self._pending = self._thread.submit(write)

    def _save_together(
        self, step: int, state: Any, meta: str, extra_files: Callable[[Path], list[str]] | None
    ) -> None:
        """Write what this process has; process 0 publishes it once all have."""
        us, leaves = self._processes, _leaves(state)
        split = {name: leaf for name, leaf in leaves.items() if pieces.is_split(leaf)}
        wholes = _whole({k: v for k, v in leaves.items() if k not in split}) if us.is_first else {}
        mine, index = pieces.here(split)

        def prepare() -> tuple[str, dict[str, Any]]:
            name = ""
            if us.is_first:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._clean()
                name = self._free_name(step).name
                (self.folder / f".tmp-{name}").mkdir()
            files = extra_files(self.replay_folder) if extra_files else []
            return name, {file: self._shared_digest(file) for file in files}

        def write() -> dict[str, Any]:
            if us.is_first:
                self._check_space(wholes | mine)
                for place, part in _parts(wholes).items():
                    _save_arrays(temporary / place, part)
            digests = _digests(temporary) if us.is_first else {}
            if mine:
                file = pieces.name_of(us.index)
                pieces.write(temporary / file, mine)
                digests[file] = _digest(temporary / file)
            return {"files": digests, "index": index}

        def publish() -> None:
            if us.is_first:
                files, replay = _union(part["files"] for part in written), _union(d for _, d in prepared)
                manifest = _manifest(step, leaves, files, replay, json.loads(meta))
                manifest["parts"] = [sorted(digests) for _, digests in prepared]
                if split:
                    indices = {pieces.name_of(i): part["index"] for i, part in enumerate(written)}
                    manifest |= {"version": VERSION, "pieces": {k: v for k, v in indices.items() if v}}
                self._publish(temporary, self.folder / name, manifest)
                # Before the others continue, whose next files no checkpoint needs yet.
                with contextlib.suppress(OSError):  # the checkpoint stands; the next one tries again
                    self._collect()

        prepared = self._in_all(prepare)
        name = prepared[0][0]
        temporary = self.folder / f".tmp-{name}"
        try:
            written = self._in_all(write)
            self._in_all(publish)
        finally:
            if us.is_first:
                shutil.rmtree(temporary, ignore_errors=True)

    def _check_space(self, arrays: dict[str, np.ndarray]) -> None:
        needed = sum(array.nbytes for array in arrays.values()) + MARGIN
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(f"it needs {needed / 2**20:.0f} MB and {free / 2**20:.0f} MB are free")

    def _in_all(self, attempt: Callable[[], Any]) -> list[Any]:
        """The results of all processes.

        Raises:
          CheckpointError: one of them could not; raised in all of them.
        """
        result, why = None, ""
        try:
            result = attempt()
        except Exception as error:
            why = _reason(error)
        answers = self._processes.gather([why, result])
        for i, (reason, _) in enumerate(answers):
            if reason:
                raise CheckpointError(f"process {i}: {reason}")
        return [result for _, result in answers]

    def wait(self) -> None:
        """Return when the last save is on disk.

        Raises:
          CheckpointError: it failed (tried twice); the checkpoints before it are as they were.
        """
        if self._pending is not None:
            futures.wait([self._pending])  # an interrupt in here leaves it pending
            done, self._pending = self._pending, None
            done.result()

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, oldest first."""
        return sorted({_step(path) for path, _ in self._complete()})

    def faults(self) -> dict[str, str]:
        """{name: reason} of entries with a checkpoint's name but no manifest that can be read and trusted."""
        return {path.name: str(error) for path, error in self._faults().items()}

    def _faults(self) -> dict[Path, _Unusable]:
        faults = {}
        for path in self._candidates():
            try:
                _read_manifest(path)
            except _Unusable as error:
                faults[path] = error
        return faults

    def at(self, updates: int) -> str:
        """Name of the newest checkpoint made after this many updates, by the progress in its meta.

        Raises:
          NoCheckpoint: there is none; the message lists those that exist.
        """
        names: dict[int, str] = {}
        for path, manifest in self._complete():
            names.setdefault(manifest["meta"]["progress"]["updates"], path.name)
        if not names:
            raise self._nothing(None)
        if updates not in names:
            there = ", ".join(map(str, sorted(names)))
            raise NoCheckpoint(
                f"no checkpoint in {self.folder} was made after {updates} updates; "
                f"there are checkpoints after {there}"
            )
        return names[updates]

    def meta(self, step: int | str | None = None) -> dict[str, Any]:
        """The meta saved with a state (default: the newest), without reading arrays."""
        return self._find(step)["meta"]

    def replay_files(self, step: int | None = None) -> list[str]:
        """Names in `replay_folder` that a checkpoint (default: the newest) needs."""
        return list(self._find(step)["replay"])

    def replay_parts(self, step: int | str | None = None) -> list[list[str]]:
        """The same by the process that wrote them, where several did; else one list of all."""
        manifest = self._find(step)
        return manifest.get("parts") or [list(manifest["replay"])]

    def load(
        self,
        like: Any,
        step: int | str | None = None,
        *,
        replay: bool = True,
        member: int | None = None,
    ) -> tuple[int, Any, dict[str, Any]]:
        """Verify and read a checkpoint: by default the newest that is whole.

        Where the newest is damaged the one before it is used, with a notice; the owner of the run moves the
        damaged one to `quarantine/`. A damaged one requested by its step raises instead.

        Args:
          like: the same pytree, without `loop` if that is not needed, of arrays or
            `jax.ShapeDtypeStruct`s. Where it has numpy arrays or numbers the result has them too;
            everything else is put on its device or sharding.
          step: a particular one, or the name of its folder.
          member: of a population, whose leaves are stacked along a first axis.
          replay: also verify the files in `replay_folder`.

        Returns:
          step, state and meta.

        Raises:
          NoCheckpoint: nothing there can be used.
          CheckpointError: it does not fit `like` (says which leaf), or its owner cannot read the newest now.
        """
        loop = any(name.startswith(LOOP) for name in _leaves(like))
        for _ in range(LOOKS):
            faults: dict[Path, _Unusable] = {}
            usable = self._whole(step, faults, replay, loop)
            if usable is None and not self._vanished(faults):
                raise self._no_use(step, faults)
            if usable is None:
                continue
            path, manifest = usable
            try:
                state = _restore(path, manifest, like, member)
            except CheckpointError:
                if _is_there(path):
                    raise
                continue  # it was old, and the process that saves deleted it meanwhile
            if step is None:
                self._pass_over(faults)
            return _step(path), state, manifest["meta"]
        raise CheckpointError(f"the checkpoints in {self.folder} are replaced faster than they can be read")

    def _whole(
        self, step: int | str | None, faults: dict[Path, _Unusable], replay: bool, loop: bool
    ) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint that is whole, and its manifest; `faults` gets those that are not.

        Args:
          replay, loop: whether the files of the replay and the leaves of the loop must be whole, too.

        Raises:
          CheckpointError: this process owns the run and cannot read the newest now.
        """
        for path in self._candidates():
            if not _is(path, step):
                continue
            try:
                manifest = _read_manifest(path)
                needed = {n: d for n, d in manifest["files"].items() if loop or not n.startswith(LOOP)}
                self._verify(path, needed)
                self._verify(self.replay_folder, manifest["replay"] if replay else {})
                return path, manifest
            except _Unreadable as error:
                faults[path] = error
                if self.owner and _is_there(path):
                    raise CheckpointError(
                        f"{path} cannot be read now: {error}; make it readable, otherwise what was learned "
                        "since the one before would be lost"
                    ) from None
            except _Damaged as error:
                faults[path] = error
        return None

    def _vanished(self, faults: dict[Path, _Unusable]) -> bool:
        """Whether one of these is gone: it was old, and newer ones have replaced it."""
        return any(not _is_there(path) for path in faults)

    def _no_use(self, step: int | str | None, faults: dict[Path, _Unusable]) -> CheckpointError:
        """Why nothing can be used."""
        if not faults:
            return self._nothing(step)
        if learner := self._learner(step):
            number, why = learner
            return CheckpointError(
                f"of checkpoint {number} in {self.folder} the learner is whole but the replay is not "
                f"({why}): resume without the replay (dreamer train --without-replay), or restore that file"
            )
        if step is not None:
            is_damaged = any(isinstance(error, _Damaged) for error in faults.values())
            fate = "is damaged" if is_damaged else "cannot be read now"
            return NoCheckpoint(f"checkpoint {step} in {self.folder} {fate}: {next(iter(faults.values()))}")
        listed = "; ".join(f"{path.name}: {error}" for path, error in faults.items())
        return NoCheckpoint(f"no checkpoint in {self.folder} can be used ({listed})")

    def _learner(self, step: int | str | None) -> tuple[int, str] | None:
        """Step of the newest checkpoint that is whole except for the replay, and what is wrong with that."""
        usable = self._whole(step, {}, replay=False, loop=True)
        if usable is None:
            return None
        path, manifest = usable
        try:
            self._verify(self.replay_folder, manifest["replay"])
        except _Unusable as error:
            return _step(path), str(error)
        return None

    def _find(self, step: int | str | None) -> dict[str, Any]:
        for _ in range(LOOKS):
            looked = [path for path in self._candidates() if _is(path, step)]
            for path, manifest in self._complete():
                if _is(path, step):
                    return manifest
            if all(_is_there(path) for path in looked):  # else newer ones have replaced them
                break
        raise self._no_use(step, {path: error for path, error in self._faults().items() if _is(path, step)})

    def _nothing(self, step: int | str | None) -> CheckpointError:
        steps = self.steps()
        if steps:
            there = ", ".join(map(str, steps))
            return NoCheckpoint(f"there is no checkpoint {step} in {self.folder}; there is {there}")
        if not self.folder.is_dir():
            return NoCheckpoint(f"there is no checkpoint folder {self.folder}")
        if (self.folder / "quarantine").is_dir():
            return NoCheckpoint(f"every checkpoint in {self.folder} was damaged: see quarantine/")
        return NoCheckpoint(f"{self.folder} holds no checkpoint of dreamer-toolkit")

    def _candidates(self) -> list[Path]:
        """Everything with the name of a checkpoint, newest first."""
        if not self.folder.is_dir():
            return []
        candidates = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        return sorted(candidates, key=_order, reverse=True)

    def _complete(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Checkpoints with an intact manifest, newest first."""
        for path in self._candidates():
            with contextlib.suppress(_Unusable):
                yield path, _read_manifest(path)

    def _twice(self, step: int, attempt: Callable[[], Any]) -> Any:
        """Try again once: Orbax may raise the error of an earlier save in the next one."""
        for last in (False, True):
            try:
                return attempt()
            except Elsewhere:
                raise
            except Exception as error:
                if last:
                    raise CheckpointError(
                        f"checkpoint {step} could not be written to {self.folder}: "
                        f"{_reason(error)}; earlier ones are as they were"
                    ) from error

    def _write(
        self, step: int, arrays: dict[str, np.ndarray], meta: dict[str, Any], files: list[str]
    ) -> None:
        self._clean()
        path = self._free_name(step)
        temporary = self.folder / f".tmp-{path.name}"
        try:
            for place, part in _parts(arrays).items():
                _save_arrays(temporary / place, part)
            replay = {name: self._shared_digest(name) for name in files}
            self._publish(temporary, path, _manifest(step, arrays, _digests(temporary), replay, meta))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _clean(self) -> None:
        for litter in self.folder.glob(".tmp-*"):  # of a process that was killed
            shutil.rmtree(litter, ignore_errors=True)

    def _publish(self, temporary: Path, path: Path, about: dict[str, Any]) -> None:
        """Write the manifest, and give a complete checkpoint its name."""
        manifest = {"format": FORMAT, **about}
        sealed = json.dumps({**manifest, "seal": _seal(manifest)})
        atomic.write(temporary / "manifest.json", sealed)
        atomic.publish(temporary, path)

    def _free_name(self, step: int) -> Path:
        """The next free name of this step, which has several checkpoints when only updates continue."""
        numbers = [_order(path)[1] for path in self._candidates() if _step(path) == step]
        return self.folder / (f"step-{step:012d}" + (f"-{max(numbers) + 1}" if numbers else ""))

    def _collect(self) -> None:
        """Delete complete checkpoints beyond the newest `keep`, and files that no other lists."""
        complete = list(self._complete())
        for path, _ in complete[self.keep :]:
            trash = self.folder / f".tmp-{path.name}-old"
            os.rename(path, trash)  # at once, so that no reader sees half of one
            if trash.is_symlink():
                trash.unlink()
            else:
                shutil.rmtree(trash)
        listed = {name for _, manifest in complete[: self.keep] for name in manifest["replay"]}
        if self.replay_folder.is_dir():
            for file in self.replay_folder.iterdir():
                if file.name not in listed:
                    file.unlink()
                    self._digests.pop(file.name, None)

    def _verify(self, folder: Path, files: dict[str, dict[str, Any]]) -> None:
        """Compare files with their digests in the manifest.

        Raises:
          _Damaged: one differs or is missing.
          _Unreadable: one cannot be read now.
        """
        for name, promised in files.items():
            parts = PurePosixPath(name)
            if parts.is_absolute() or ".." in parts.parts:
                raise _Damaged(f"{name} lies outside the checkpoint")
            file = folder / name
            try:
                digest = self._shared_digest(name) if folder == self.replay_folder else _digest(file)
            except OSError as error:
                raise _fault(file, name, error) from None
            if digest != promised:
                raise _Damaged(f"{name} does not have the digest it was written with")

    def _shared_digest(self, name: str) -> dict[str, Any]:
        """Digest of a file in `replay_folder`; as it never changes, it is read once."""
        status = (self.replay_folder / name).stat()
        version = (status.st_size, status.st_mtime_ns)
        if name not in self._digests or self._digests[name][0] != version:
            self._digests[name] = (version, _digest(self.replay_folder / name))
        return self._digests[name][1]

    def _pass_over(self, faults: dict[Path, _Unusable]) -> None:
        """Say which checkpoints are not used; the owner of the run moves those that are damaged."""
        for path, why in faults.items():
            if not _is_there(path):  # it was old, and the process that saves deleted it
                continue
            if not isinstance(why, _Damaged):
                self._notice(f"checkpoint {path.name} cannot be read now and an older one is used: {why}")
            elif self.owner:
                self._notice(f"checkpoint {path.name} is damaged and not used: {why}; {self._moved(path)}")
            else:
                self._notice(f"checkpoint {path.name} is damaged and an older one is used: {why}")

    def _moved(self, path: Path) -> str:
        """Move a checkpoint to the quarantine; returns a message about the outcome."""
        target = self.folder / "quarantine" / path.name
        while target.exists():
            target = target.with_name(f"{target.name}x")
        try:
            target.parent.mkdir(exist_ok=True)
            os.rename(path, target)
            return f"it was moved to {target}"
        except OSError as error:
            return f"it could not be moved to {target.parent} ({error.strerror})"


def check_name(folder: Path) -> None:
    """Check that Orbax can store checkpoints below a folder of this name.

    Raises:
      CheckpointError: it cannot; the message says why.
    """
    text = str(folder.absolute())
    if any("\ud800" <= character <= "\udfff" for character in text):
        what = "bytes that are not text"
    elif "\\" in text:
        what = "a backslash"
    elif any(re.search(r"\[.+\]", part) for part in folder.absolute().parts):
        what = "brackets"
    else:
        return
    raise CheckpointError(
        f"{folder} cannot hold checkpoints: Orbax cannot read them back from a folder with {what} in its "
        "name; choose another name"
    )


def _leaves(state: Any) -> dict[str, Any]:
    """Every leaf by its path, like `params/encoder/w`."""
    import jax

    flat = jax.tree_util.tree_flatten_with_path(state)[0]
    leaves = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}
    if len(leaves) < len(flat):
        raise CheckpointError("two leaves of the state have the same path; rename one of the keys")
    for name, leaf in leaves.items():
        dtype = _array_like(leaf).dtype
        if not isinstance(dtype, np.dtype) or dtype.kind in "OSUMm":  # a typed key, or not numbers
            raise CheckpointError(f"{name} is a {type(leaf).__name__}, which no checkpoint holds")
    return leaves


def _array_like(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") else np.asarray(leaf)


def _kind(leaf: Any) -> str:
    """Dtype and shape of an array, a number or an abstract array, like `float32[3, 4]`."""
    leaf = _array_like(leaf)
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _copy(leaves: dict[str, Any]) -> dict[str, np.ndarray]:
    """Host copies: `device_get` alone may give views of memory that training later changes."""
    import jax

    return {name: np.array(leaf) for name, leaf in jax.device_get(leaves).items()}


def _parts(leaves: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{folder: leaves} of a checkpoint: those of the loop, often much larger, apart from the others."""
    parts: dict[str, dict[str, Any]] = {"arrays": {}}
    for name, leaf in leaves.items():
        parts.setdefault(LOOP_FOLDER if name.startswith(LOOP) else "arrays", {})[name] = leaf
    return parts


def _whole(leaves: dict[str, Any]) -> dict[str, np.ndarray]:
    """Copies of leaves that every process has whole."""
    local = lambda x: x.addressable_data(0) if hasattr(x, "addressable_data") else x
    return {name: np.array(local(leaf)) for name, leaf in leaves.items()}


def _manifest(
    step: int, leaves: dict[str, Any], files: dict[str, Any], replay: dict[str, Any], meta: dict[str, Any]
) -> dict[str, Any]:
    """What a checkpoint says of itself: its leaves, and digests of its files and of those of the replay."""
    kinds = {name: _kind(leaf) for name, leaf in leaves.items()}
    return {"version": WHOLE, "step": step, "leaves": kinds, "files": files, "replay": replay, "meta": meta}


def _union(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    stored = {name: array for name, array in arrays.items() if array.size}
    with _quiet():  # Orbax refuses empty arrays; their shape describes them fully
        if current().are_several:
            _save_alone(path, stored)
            return
        from orbax.checkpoint import v1

        orbax: Any = v1
        orbax.save(path, stored)


def _save_alone(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The same files, written by one of several processes, which waits for no other one.

    `orbax.checkpoint.v1.save` compares the path in all processes whatever its options say (0.12.8): it would
    wait for them, and for ever for one that cannot write.
    """
    import orbax.checkpoint

    orbax: Any = orbax.checkpoint
    here = current().index
    alone = orbax.options.MultiprocessingOptions(primary_host=here, active_processes={here})
    handler = orbax.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with orbax.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        checkpointer.save(path, arrays)


@contextlib.contextmanager
def _by_itself(orbax: Any) -> Iterator[None]:
    """Within it Orbax reads in this process without waiting for another one."""
    if not current().are_several:
        yield
        return
    here = current().index
    options = orbax.options.MultiprocessingOptions(primary_host=here, active_processes={here})
    with orbax.Context(multiprocessing_options=options):
        yield


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    """{name: digest} of the files below a folder."""
    written = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): _digest(file) for file in written}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax and its event loop from repeating every error over hundreds of lines."""
    logs = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _restore(path: Path, manifest: dict[str, Any], like: Any, member: int | None) -> Any:
    """Read the arrays of a verified checkpoint into the structure of `like`."""
    import jax

    wanted, version = _leaves(like), manifest["version"]
    names = {renamed(name, version): name for name in manifest["leaves"]}
    stored = {name: manifest["leaves"][old] for name, old in names.items()}
    whole = any(name.startswith(LOOP) for name in wanted)
    for name in {**stored, **wanted}:
        if name.startswith(LOOP) and not whole:
            continue
        was = stored.get(name, "nothing")
        now = _kind(wanted[name]) if name in wanted else "nothing"
        if was != now and (member is None or _of_member(was) != now):
            raise CheckpointError(
                f"checkpoint {manifest['step']} holds {was} at {name!r}, but {now} is expected "
                "there: it was written with another configuration or version"
            )
    indices = manifest.get("pieces", {})
    split = pieces.leaves_of(indices)
    complete = {name: kind for name, kind in manifest["leaves"].items() if name not in split}
    if version == 1:
        arrays = _load_arrays(path / "arrays", complete)
    else:
        parts = _parts(complete).items()
        parts = {place: part for place, part in parts if whole or place != LOOP_FOLDER}
        arrays = {k: v for place, part in parts.items() for k, v in _load_arrays(path / place, part).items()}
    try:
        arrays |= pieces.read(path, {name: _empty(manifest["leaves"][name]) for name in split}, indices)
    except ValueError as error:
        raise CheckpointError(f"{path} contradicts its manifest: {error}") from error
    select = lambda array: array if member is None else array[member]
    leaves = [_placed(select(arrays[names[name]]), leaf) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _of_member(kind: str) -> str:
    """`float32[8, 3, 4]` of eight members -> `float32[3, 4]` of one."""
    dtype, _, shape = kind.partition("[")
    return f"{dtype}{json.loads(f'[{shape}')[1:]}" if shape else kind


def _empty(kind: str) -> np.ndarray:
    dtype, _, shape = kind.partition("[")
    return np.empty(json.loads(f"[{shape}"), dtype)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    from orbax.checkpoint import v1

    orbax: Any = v1
    try:
        with _quiet(), _kept_open(path) as place, _by_itself(orbax):
            return dict(orbax.load(place))
    except Exception as error:  # whatever the cause, the digests say that the files are whole
        raise CheckpointError(
            f"{path} is whole, but this version of Orbax cannot read it: {_reason(error)}"
        ) from error


def _load_arrays(path: Path, stored: dict[str, str]) -> dict[str, np.ndarray]:
    arrays = _read_arrays(path)
    for name, kind in stored.items():
        dtype, _, shape = kind.partition("[")
        if 0 in json.loads(f"[{shape}"):  # empty
            arrays[name] = np.zeros(json.loads(f"[{shape}"), dtype)
        if name not in arrays or _kind(arrays[name]) != kind:
            raise CheckpointError(f"{path} contradicts its manifest at {name!r}")
    return arrays


@contextlib.contextmanager
def _kept_open(path: Path) -> Iterator[Path]:
    """The same files at another path, where they stay readable even if they are deleted meanwhile.

    With half a checkpoint, threads of Orbax would print a traceback for every array. Where open files of a
    process have no path (all systems but Linux), or there is no temporary folder, it is the folder itself.
    """
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="checkpoint-"))
        except OSError:
            place = None
        if place is None or not Path("/proc/self/fd").is_dir():
            yield path
            return
        for folder, folders, files in os.walk(path, onerror=_raise, followlinks=True):
            mirror = Path(place, os.path.relpath(folder, path))
            for name in folders:
                (mirror / name).mkdir()
            for name in files:
                opened = stack.enter_context(open(Path(folder, name), "rb"))
                (mirror / name).symlink_to(f"/proc/self/fd/{opened.fileno()}")
        yield Path(place)


def _raise(error: OSError) -> None:
    raise error


def _placed(array: np.ndarray, leaf: Any) -> Any:
    import jax

    if isinstance(leaf, bool | int | float):
        return array.item()
    if isinstance(leaf, np.ndarray | np.generic):
        return array
    if leaf.sharding is not None and not leaf.sharding.is_fully_addressable:
        return jax.make_array_from_callback(array.shape, leaf.sharding, lambda index: array[index])
    return jax.device_put(array, leaf.sharding)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        if manifest.pop("seal") != _seal(manifest):
            raise _Damaged("manifest.json was changed after it was written")
    except OSError as error:
        raise _fault(path / "manifest.json", "manifest.json", error) from None
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _Damaged(f"manifest.json cannot be read ({_reason(error)})") from None
    if manifest["format"] != FORMAT or manifest["version"] > VERSION:
        raise CheckpointError(
            f"{path} has the format {manifest['format']} {manifest['version']}, but this version "
            f"of dreamer-toolkit reads {FORMAT} up to {VERSION}: upgrade it"
        )
    return manifest


def _seal(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _digest(file: Path) -> dict[str, Any]:
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return {"sha256": digest, "bytes": os.fstat(opened.fileno()).st_size}


def _fault(file: Path, name: str, error: OSError) -> _Unusable:
    """What an error in reading a file says about its checkpoint."""
    gone = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    link = next((p for p in (file, *file.parents) if os.path.islink(p) and not os.path.exists(p)), None)
    if gone and link is not None:
        return _Unreadable(f"{name} is behind the link {link}, which is broken now")
    if isinstance(error, FileNotFoundError):
        return _Damaged(f"{name} is missing")
    reason = f"{name} cannot be read ({error.strerror})"
    return _Damaged(reason) if gone else _Unreadable(reason)


def _is_there(path: Path) -> bool:
    """Whether a folder has this entry, even as a broken link."""
    return os.path.lexists(path)


def _order(path: Path) -> tuple[int, int]:
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


def _step(path: Path) -> int:
    return _order(path)[0]


def _is(path: Path, step: int | str | None) -> bool:
    """Whether this is a checkpoint of that step or name; None matches any."""
    return step is None or step in (_step(path), path.name)


def _reason(error: BaseException) -> str:
    """The error message, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()) or type(error).__name__
    if "os_error_code" in text:  # tensorstore quotes every path on the way down
        text = text.rsplit(": ", 1)[-1].split(" [")[0]
    return text[:200]
