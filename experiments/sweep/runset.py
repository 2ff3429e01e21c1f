"""A set of runs that workers share: which have ended, which are held by a worker, and which are left.

DIR/lock                  held while a run is claimed
DIR/runs/<name>/          an ordinary run folder
DIR/runs/<name>.toml .log its configuration and output
DIR/runs/<name>.lock      held by the worker that trains it
DIR/runs/<name>.failed    why it failed; the next session tries again
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dreamer import atomic
from dreamer.config import Config, changes
from experiments.sweep import lock, trial
from experiments.sweep.study import Counts
from experiments.sweep.trial import Part, beside
from experiments.training import session

LOCK, RUNS = "lock", "runs"
DONE, FAILED, UNFINISHED, MISSING = "done", "failed", "unfinished", "missing"


class Claim(NamedTuple):
    """A run that this worker trains until it releases the lock."""

    part: Part
    lock: lock.Lock


class RunSet(ABC):
    """Runs in a folder, whose states are files there."""

    folder: Path

    @property
    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """Every run, in the order in which they are trained."""
        ...

    @abstractmethod
    def refresh(self) -> None:
        """Read again what is asked for: runs may be added while workers run."""
        ...

    @abstractmethod
    def title(self, part: Part) -> str:
        """What a run is called in messages."""
        ...

    def state(self, part: Part) -> str:
        """How far a run is."""
        if trial.result_of(part) is not None:
            return DONE
        if beside(part, "failed").is_file():
            return FAILED
        return UNFINISHED if (part.folder / session.CONFIG).is_file() else MISSING

    def why(self, part: Part) -> str:
        """Why a run failed; empty where it did not."""
        path = beside(part, "failed")
        return path.read_text("utf-8").strip() if path.is_file() else ""

    def why_not_done(self, part: Part) -> str:
        """Why a run has no result; empty where it has one."""
        taken = f"has taken {trial.steps_of(part.folder):,} of {part.cfg.steps:,} steps"
        whys = {FAILED: self.why(part), UNFINISHED: taken, MISSING: "has not begun", DONE: ""}
        return whys[self.state(part)]

    def counts(self) -> Counts:
        """A consistent snapshot of how many runs have ended, are held by a worker, and are left."""
        with lock.held(self.folder / LOCK):
            self.refresh()
            left = list(self._left())
            locked = sum(_is_locked(part) for part in left)
            return Counts(len(self.parts) - len(left), locked, len(left) - locked)

    def claim(self) -> Claim | None:
        """A run to train that has not ended and that no other worker holds."""
        with lock.held(self.folder / LOCK):
            self.refresh()
            for part in self._left():
                taken = lock.take(beside(part, "lock"))
                if taken is not None:
                    return Claim(part, taken)
        return None

    def going(self) -> list[Part]:
        """The runs that a worker trains now."""
        with lock.held(self.folder / LOCK):
            self.refresh()
            return [part for part in self._left() if _is_locked(part)]

    def _left(self) -> Iterator[Part]:
        return (part for part in self.parts if self.state(part) not in (DONE, FAILED))

    def fail(self, part: Part, why: str) -> None:
        """Record that a run failed."""
        atomic.write(beside(part, "failed"), " ".join(why.split()) + "\n")

    def forgive(self) -> None:
        """Have the runs that failed tried again."""
        for part in self.parts:
            beside(part, "failed").unlink(missing_ok=True)


def _is_locked(part: Part) -> bool:
    taken = lock.take(beside(part, "lock"))
    if taken is not None:
        taken.release()
    return taken is None


def changed_fields(old: Config, new: Config, besides: Sequence[str] = ()) -> list[str]:
    """What of a configuration is not as it was, in words, without what a resumed run may change.

    Args:
      besides: other fields that do not count.
    """
    return [
        f"{path} was {was!r}, now {now!r}"
        for path, was, now in changes(old, new)
        if path not in besides and not path.startswith(session.MAY_CHANGE)
    ]
