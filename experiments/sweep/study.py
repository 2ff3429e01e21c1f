"""The trials of a sweep, their owners and outcomes: the one module that uses Optuna.

A trial is created once, by the holder of the lock of the folder, and ended once, because the storage lets
nothing end twice. In between it belongs to the holder of the lock of its own folder. A worker that is killed
loses that lock, so a trial that is running in the storage but not locked is an orphan: the next worker takes
it.

    killed before the trial is created      nothing is lost
    killed while its values are chosen      an orphan without all values: its new owner chooses the rest
    killed while it runs                    an orphan whose runs resume from their checkpoints
    killed between score and its storage    an orphan whose runs are done: their results are read again
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from dreamer import atomic
from dreamer.schema import ConfigError
from experiments.sweep import lock, spec
from experiments.sweep.spec import Spec

DEATHS = 10
"""A trial whose worker died this often is failed: it kills its worker."""
SPEC, WHERE, LOCK = "sweep.toml", "storage.json", "lock"
FILES = ("sqlite", "journal")
"""Kinds of storage that are a file."""
FINISHED, PRUNED, FAILED, RUNNING, WAITING = "finished", "pruned", "failed", "running", "waiting"
ENDED = (FINISHED, PRUNED, FAILED)


@dataclass(frozen=True)
class Row:
    """The record of a trial."""

    number: int
    state: str
    """One of finished, pruned, failed, running, waiting."""
    params: Mapping[str, Any]
    score: float | None = None
    """Only of a finished trial: a failed or pruned one has none."""
    interval: tuple[float, float] | None = None
    scores: tuple[float, ...] = ()
    """Of every seed."""
    metric: str = ""
    reason: str = ""
    """Why it failed or was pruned."""
    log: str = ""
    """How the log of a failed one ends."""
    seconds: float = 0.0
    attempts: int = 0
    """How often a worker took it, except when it was then asked to stop."""
    moves: tuple[Mapping[str, Any], ...] = ()
    """Each copy it made of another one: after how many `steps`, `from` which trial, and with which `params`
    instead of `before`."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Claim(NamedTuple):
    """A trial that this worker owns until it is released."""

    row: Row
    folder: Path
    lock: lock.Lock
    seen: dict[int, float]
    """{environment steps: score} that was already reported."""


class Counts(NamedTuple):
    """How far a sweep is."""

    ended: int
    locked: int
    """Trials that a worker holds."""
    open: int
    """Trials that no worker holds yet."""


class Study:
    """A sweep: its folder, which all workers share, and its storage."""

    def __init__(self, folder: Path, url: str = "", *, reading: bool = False):
        """Open what `prepare` made.

        Args:
          url: where the sweep is stored; empty for what the folder says.
          reading: open a copy, so that the database that the folder names is not written to.

        Raises:
          ConfigError: there is no sweep in the folder, or its storage cannot be reached.
        """
        where = folder / WHERE
        if not where.is_file() or not (folder / SPEC).is_file():
            raise ConfigError(
                f"{folder} holds no sweep: start one with dreamer sweep SPEC.toml --out {folder}"
            )
        stored = _stored(where)
        self.folder = folder
        self.url = url or resolved(folder, stored["url"])
        self._text = ""
        self._refresh()
        self._claiming = folder / LOCK
        with lock.held(self._claiming), contextlib.ExitStack() as opened:
            if reading:
                self._storage, self._study = self._read(stored["name"], opened, is_given=bool(url))
            else:
                self._storage = _open_storage(self.url, opened)
                self._study = _optuna().create_study(
                    storage=self._storage,
                    study_name=stored["name"],
                    direction=self.spec.sweep.direction,
                    pruner=_pruner(self.spec),
                    load_if_exists=True,
                )
            self._id = self._storage.get_study_id_from_name(stored["name"])
            self._opened = opened.pop_all()

    def _read(self, name: str, opened: contextlib.ExitStack, *, is_given: bool) -> tuple[Any, Any]:
        """Storage and study for reading only."""
        file = _file_of(self.url)
        if file is None and not is_given:
            raise ConfigError(
                f"{self.folder} says that it is stored at {without_password(self.url)}: if that is yours, "
                "name it with --storage"
            )
        url = self.url if file is None else _copied(self.url, file, opened)
        storage = _open_storage(url, opened)
        try:
            study = _optuna().load_study(study_name=name, storage=storage, pruner=_pruner(self.spec))
        except KeyError:
            raise ConfigError(
                f"{without_password(self.url)} does not hold the sweep of {self.folder}"
            ) from None
        return storage, study

    def close(self) -> None:
        """Close the storage's connections."""
        self._study = None
        self._opened.close()

    def _refresh(self) -> None:
        """Read the file of the sweep if it has changed: trials may be added while workers run."""
        text = (self.folder / SPEC).read_text("utf-8")
        if text != self._text:
            self.spec: Spec = spec.load(self.folder / SPEC)
            self._text = text

    def trial_folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    def rows(self) -> list[Row]:
        """Every trial, by its number."""
        return [self._row(trial) for trial in self._storage.get_all_trials(self._id, deepcopy=False)]

    def _row(self, trial: Any) -> Row:
        space, about = self.spec.space, trial.user_attrs
        params = {k: space[k].decoded(trial.params[k]) for k in space if k in trial.params}
        moves = tuple(about.get("moves", ()))
        if moves:
            params = dict(moves[-1]["params"])
        states = {"COMPLETE": FINISHED, "PRUNED": PRUNED, "FAIL": FAILED, "RUNNING": RUNNING}
        state = states.get(trial.state.name, WAITING)
        interval = about.get("interval")
        return Row(
            trial.number,
            state,
            params,
            trial.value if state == FINISHED else None,
            tuple(interval) if interval else None,
            tuple(about.get("scores", ())),
            about.get("metric", ""),
            about.get("reason", ""),
            about.get("log", ""),
            about.get("seconds", 0.0),
            about.get("attempts", 0),
            moves,
        )

    def counts(self) -> Counts:
        """A consistent snapshot of how far the sweep is."""
        with lock.held(self._claiming):
            self._refresh()
            rows = self.rows()
            ended = sum(row.ended for row in rows)
            running = [row.number for row in rows if row.state == RUNNING]
            locked = sum(self._is_locked(number) for number in running)
            fresh = 0 if self._spent(rows) else max(self.spec.sweep.trials - ended - len(running), 0)
            return Counts(ended, locked, len(running) - locked + fresh)

    def _is_locked(self, number: int) -> bool:
        taken = self._lock(number)
        if taken is not None:
            taken.release()
        return taken is None

    def _lock(self, number: int) -> lock.Lock | None:
        folder = self.trial_folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        return lock.take(folder / LOCK)

    def _spent(self, rows: Iterable[Row]) -> bool:
        hours = self.spec.sweep.hours
        return bool(hours) and sum(row.seconds for row in rows) >= 3600 * hours

    def claim(self) -> Claim | None:
        """A trial to work on: one that its worker left behind, else a new one; None if there is none."""
        with lock.held(self._claiming):
            self._refresh()
            trials = self._storage.get_all_trials(self._id, deepcopy=False)
            for trial in trials:
                running = trial.state.name == RUNNING.upper()
                claim = self._take(trial._trial_id, trial.number) if running else None
                if claim is not None:
                    return claim
            waiting = any(trial.state.name == WAITING.upper() for trial in trials)
            if not waiting:
                if len(trials) >= self.spec.sweep.trials or self._spent(map(self._row, trials)):
                    return None
                point = self.spec.point(len(trials))
                if point is not None:
                    self._study.enqueue_trial(self._encoded(point))
            self._study.sampler = _sampler(self.spec, len(trials) - waiting)
            asked = self._study.ask({k: d.distribution for k, d in self.spec.space.items()})
            claim = self._take(asked._trial_id, asked.number)
            assert claim is not None, "a new trial is not locked"
            return claim

    def _encoded(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return {k: self.spec.space[k].encoded(value) for k, value in point.items()}

    def _take(self, trial_id: int, number: int) -> Claim | None:
        """Take a trial if it is not locked, with all of its values; None also if it has just ended."""
        taken = self._lock(number)
        if taken is None:
            return None
        trial = self._storage.get_trial(trial_id)  # read under the lock
        attempts = trial.user_attrs.get("attempts", 0) + 1
        if trial.state.is_finished() or attempts > DEATHS:
            if not trial.state.is_finished():
                self._fail(number, f"its worker died {DEATHS} times; is there enough memory?", "")
            taken.release()
            return None
        if set(trial.params) != set(self.spec.space):
            self._study.sampler = _sampler(self.spec, number)
            resumed = _optuna().trial.Trial(self._study, trial_id)
            for name, dimension in self.spec.space.items():
                resumed._suggest(name, dimension.distribution)
        self._note(trial_id, attempts=attempts)
        trial = self._storage.get_trial(trial_id)
        return Claim(self._row(trial), self.trial_folder(number), taken, dict(trial.intermediate_values))

    def _note(self, trial_id: int, **attributes: Any) -> None:
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(trial_id, name, value)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def falls_behind(self, claim: Claim, steps: int, score: float) -> bool:
        """Report the score of a trial after this many environment steps, and whether it should end there."""
        trial_id = self._trial_id(claim.row.number)
        if steps not in claim.seen:
            self._storage.set_trial_intermediate_value(trial_id, steps, score)
            claim.seen[steps] = score
        return self._study.pruner.prune(self._study, self._storage.get_trial(trial_id))

    def move(self, claim: Claim, move: Mapping[str, Any]) -> None:
        """Record that a trial continues from a copy of another one; see `Row.moves`."""
        trial_id = self._trial_id(claim.row.number)
        before = self._storage.get_trial(trial_id).user_attrs.get("moves", [])
        self._note(trial_id, moves=[*before, dict(move)])

    def finish(self, claim: Claim, scores: Sequence[float], metric: str, interval: Sequence[float]) -> None:
        """End a trial with the score of every seed; its own is their mean."""
        about = {"scores": list(scores), "metric": metric, "interval": list(interval)}
        self._note(self._trial_id(claim.row.number), **about)
        self._tell(claim.row.number, "COMPLETE", math.fsum(scores) / len(scores))

    def prune(self, claim: Claim, reason: str) -> None:
        """End a trial that fell behind; it has no score."""
        self._note(self._trial_id(claim.row.number), reason=reason)
        self._tell(claim.row.number, "PRUNED")

    def fail(self, claim: Claim, reason: str, log: str) -> None:
        """End a trial that cannot be finished; it has no score."""
        self._fail(claim.row.number, reason, log)

    def _fail(self, number: int, reason: str, log: str) -> None:
        self._note(self._trial_id(number), reason=reason, log=log)
        self._tell(number, "FAIL")

    def _tell(self, number: int, state: str, score: float | None = None) -> None:
        self._study.tell(number, score, state=_optuna().trial.TrialState[state])

    def release(self, claim: Claim, *, seconds: float, asked: bool) -> None:
        """Release a trial, ended or not.

        Args:
          seconds: that it took.
          asked: the worker was asked to stop, so the attempt does not count.
        """
        trial_id = self._trial_id(claim.row.number)
        if not self._storage.get_trial(trial_id).state.is_finished():
            attempts = claim.row.attempts - 1 if asked else claim.row.attempts
            self._note(trial_id, seconds=claim.row.seconds + seconds, attempts=attempts)
        claim.lock.release()

    def note_time(self, claim: Claim, seconds: float) -> None:
        """Record the time a trial took so far, before it ends."""
        self._note(self._trial_id(claim.row.number), seconds=claim.row.seconds + seconds)

    def importances(self) -> dict[str, float]:
        """How much each field matters for the score, all together 1 (PED-ANOVA).

        Empty for too few trials, and where trials changed their values.
        """
        finished = [row for row in self.rows() if row.state == FINISHED]
        too_few = len(finished) < 4 or len({row.score for row in finished}) < 2
        if too_few or any(row.moves for row in finished):
            return {}
        return dict(_optuna().importance.get_param_importances(self._study))


def prepare(path: Path, folder: Path, url: str, *, shared: bool) -> Study:
    """Create the folder of a sweep, or reopen it with the current content of its file.

    Args:
      path: the file.
      url: where the sweep is stored; empty for what the folder says, else a file in the folder.
      shared: whether workers on several machines use it, which sqlite does not support.

    Raises:
      ConfigError: the folder holds something else, another sweep, or one that is stored elsewhere.
    """
    new, url = spec.load(path), absolute(url)
    where = folder / WHERE
    if folder.exists() and not where.is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists but is not a sweep (it has no {WHERE}): choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder / LOCK):
        if where.is_file() and (folder / SPEC).is_file():
            spec.check_same(spec.load(folder / SPEC), new, folder)
            stored = resolved(folder, _stored(where)["url"])
            shown = without_password(url)
            if url and shown != stored:
                raise ConfigError(f"{folder} is stored at {stored}, not at {shown}: choose another --out")
        else:
            inside = "journal:///sweep.journal" if shared else "sqlite:///sweep.db"
            name = f"sweep-{secrets.token_hex(6)}"
            atomic.write(where, json.dumps({"url": without_password(url) or inside, "name": name}) + "\n")
        atomic.write(folder / SPEC, path.read_text("utf-8"))
    return Study(folder, url)


def absolute(url: str) -> str:
    """The address of a file wherever it is read: `sqlite:///FILE` is relative to the working directory."""
    scheme, slashes, rest = url.partition(":///")
    return f"{scheme}{slashes}{Path(rest).absolute()}" if scheme in FILES and rest else url


def resolved(folder: Path, url: str) -> str:
    """The address that the folder of a sweep names, wherever the folder is now: its own file is inside it."""
    file = _file_of(url)
    if file is None:
        return url
    inside = folder.absolute() / file.name
    place = inside if inside.is_file() or not file.is_absolute() else file
    return f"{url.partition(':///')[0]}:///{place}"


def _file_of(url: str) -> Path | None:
    """The file that an address names, None for a server."""
    scheme, slashes, rest = url.partition(":///")
    return Path(rest) if slashes and scheme in FILES else None


def _copied(url: str, file: Path, opened: contextlib.ExitStack) -> str:
    """The address of a copy of what is stored in a file, which is gone when `opened` is closed."""
    if not file.is_file():
        raise ConfigError(f"{file} is missing, where the sweep is stored: name the file with --storage")
    place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="dreamer-sweep-"))) / file.name
    scheme = url.partition(":///")[0]
    try:
        if scheme == "sqlite":
            readable = f"file:{quote(str(file.absolute()))}?mode=ro"
            with (
                contextlib.closing(sqlite3.connect(readable, uri=True, timeout=120)) as source,
                contextlib.closing(sqlite3.connect(place)) as target,
            ):
                source.backup(target)
        else:
            shutil.copyfile(file, place)
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    return f"{scheme}:///{place}"


def _stored(where: Path) -> dict[str, str]:
    """Name and address of the storage, as the folder of a sweep says."""
    try:
        content = json.loads(where.read_text("utf-8"))
        return {key: str(content[key]) for key in ("url", "name")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{where} does not say where the sweep is stored: {error}") from None


def without_password(url: str) -> str:
    """The address without its password."""
    scheme, slashes, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{host}"


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError("Sweeps need Optuna: pip install 'dreamer-toolkit[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _open_storage(url: str, opened: contextlib.ExitStack) -> Any:
    """A storage, whose connections end when `opened` is closed."""
    storage = _storage(url)
    opened.callback(_disconnect, storage)
    return storage


def _disconnect(storage: Any) -> None:
    if hasattr(storage, "remove_session"):
        storage.remove_session()
    engine = getattr(getattr(storage, "_backend", storage), "engine", None)
    if engine is not None:
        engine.dispose()


def _storage(url: str) -> Any:
    optuna = _optuna()
    scheme, _, rest = url.partition("://")
    try:
        if scheme == "journal":
            backend = optuna.storages.journal.JournalFileBackend(rest.removeprefix("/"))
            return optuna.storages.JournalStorage(backend)
        if scheme == "sqlite":
            return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 120}})
        if scheme.partition("+")[0] == "postgresql":
            return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except ImportError:
        raise ConfigError(
            f"{scheme} needs its driver: pip install 'psycopg[binary]', and postgresql+psycopg://HOST/NAME"
        ) from None
    except Exception as error:
        cause = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{without_password(url)} cannot be opened: {cause}") from None
    raise ConfigError(
        f"{without_password(url)} is no storage; use sqlite:///FILE, journal:///FILE or postgresql://HOST/NAME"
    )


def _pruner(of: Spec) -> Any:
    pruners = _optuna().pruners
    first = of.base.eval.every
    match of.sweep.pruner:
        case "halving":
            return pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3)
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=first, max_resource=of.base.steps, reduction_factor=3)
    return pruners.NopPruner()


def _sampler(of: Spec, number: int) -> Any:
    """The sampler of the open values of a trial; its seed depends on the trial's number alone."""
    samplers = _optuna().samplers
    seed = (of.sweep.seed * 1_000_003 + number) % 2**31
    if of.sweep.sampler == "cmaes":
        try:
            import cmaes  # noqa: F401  # pyrefly: ignore[missing-import]
        except ImportError:
            raise ConfigError(
                "the sampler cmaes needs its package: pip install 'dreamer-toolkit[sweep]'"
            ) from None
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if of.sweep.sampler == "tpe":
        return samplers.TPESampler(seed=seed)
    return samplers.RandomSampler(seed=seed)
