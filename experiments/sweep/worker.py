"""Whoever works takes a trial, trains its runs one after the other, says how it ended, and takes the next.

Every run is a process of its own: one that crashes or runs out of memory fails its trial, not the worker, and
what it said stands in the log of the trial.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import envs
from dreamer import schema
from dreamer.schema import ConfigError
from experiments.session import write_atomically
from experiments.sweep import answer, trial
from experiments.sweep.study import Claim, Study
from experiments.sweep.trial import Part, TrialFailed

TAIL = 20
"""Lines of a log that a failed trial keeps."""
LOG = "log.txt"


class RunDied(Exception):
    """A run was killed from outside: its trial is nobody's fault and is taken up again."""


Ended = Callable[[], bool]
"""Whether a run should end now; asked a few times a second."""
Trainer = Callable[[Part, Ended, int], None]
"""Trains a run (or goes on with it) until it is done or should end; the number is that of the trial's lock,
which every process that writes to the run holds. Raises `TrialFailed` or `RunDied`."""


def train_apart(part: Part, ended: Ended, lock: int) -> None:
    """Train in a process of its own."""
    config, log = part.folder.with_suffix(".toml"), part.folder.parent / LOG
    write_atomically(config, schema.dump_toml(part.cfg))
    command = [
        sys.executable,
        "-m",
        "experiments.sweep.child",
        str(os.getpid()),
        str(config),
        str(part.folder),
    ]
    with log.open("ab") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=[lock],
            start_new_session=True,
        )
        asked = False
        while process.poll() is None:
            if not asked and ended():
                process.send_signal(signal.SIGTERM)
                asked = True
            try:
                process.wait(0.25)
            except subprocess.TimeoutExpired:
                continue
    code = process.returncode
    if code == 0 or asked:
        return
    if code in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM):
        raise RunDied(f"{part.folder.name} was killed")
    raise TrialFailed(_reason(log, code))


def tail(log: Path, lines: int = TAIL) -> str:
    """How a log ends."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, 2) - 16384, 0))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def _reason(log: Path, code: int) -> str:
    """Why a run ended, in its own words."""
    said = [line for line in tail(log).splitlines() if line.strip()]
    told = next((line for line in reversed(said) if line.startswith("dreamer: ")), None)
    if told is not None:
        return told.removeprefix("dreamer: ")
    how = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{how}: {said[-1].strip()}" if said else how


def work(study: Study, stop: Any, say: Callable[[str], None], trainer: Trainer = train_apart) -> None:
    """Work until no trial is left to take, or until asked to stop.

    Args:
      stop: true once somebody asked.
    """
    while not stop:
        claim = study.claim()
        if claim is None:
            return
        _one(study, claim, stop, say, trainer)
        answer.write(study)


def _one(study: Study, claim: Claim, stop: Any, say: Callable[[str], None], trainer: Trainer) -> None:
    """Work on one trial and let go of it."""
    began = time.monotonic()
    spent = lambda: time.monotonic() - began
    try:
        runs = trial.parts(study.spec, claim.row.params, claim.folder)
        watch = _Watch(study, claim, runs[0], stop)
        for part in runs:
            if trial.result_of(part) is None:
                trainer(part, watch, claim.lock.descriptor)
            if stop or watch.behind:
                break
        study.note_time(claim, spent())
        if watch.behind:
            study.prune(claim, f"fell behind after {watch.behind:,} steps")
        elif not stop or all(trial.result_of(part) is not None for part in runs):
            found = trial.score(study.spec, runs)
            study.finish(claim, found.scores, found.metric, found.interval)
    except (TrialFailed, ConfigError, envs.EnvError, envs.UnknownTask, envs.MissingExtra) as error:
        study.note_time(claim, spent())
        study.fail(claim, " ".join(str(error).split()), tail(claim.folder / LOG))
    except RunDied as error:
        say(f"trial {claim.row.number}: {error}; it is taken up again")
    finally:
        study.release(claim, seconds=spent(), asked=bool(stop))


class _Watch:
    """Asked while a run goes on whether it should end: because of us, or because it fell behind."""

    def __init__(self, study: Study, claim: Claim, first: Part, stop: Any):
        self._study, self._claim, self._first, self._stop = study, claim, first, stop
        self._prunes = study.spec.sweep.pruner != "none"
        self._looked = 0.0
        self.behind = 0
        """Environment steps at which it fell behind; 0 if it did not."""

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._prunes and not self.behind and now - self._looked > 1.0:
            self._looked = now
            self._judge()
        return bool(self._stop) or bool(self.behind)

    def _judge(self) -> None:
        for steps, score in trial.judged(self._study.spec, self._first.folder):
            if steps in self._claim.seen or steps >= self._first.cfg.steps:
                continue
            if self._study.falls_behind(self._claim, steps, score):
                self.behind = steps
                return
