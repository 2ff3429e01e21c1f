"""A worker takes trials, has their runs trained, records how each trial ended, and takes the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from dreamer.schema import ConfigError
from experiments.sweep import answer, executor, exploit, trial
from experiments.sweep.executor import LOG, Copier, Executor, RunDied
from experiments.sweep.study import Claim, Study
from experiments.sweep.trial import FAULTS, Part

TICK, LOOK = 0.25, 1.0
"""Seconds between iterations, and between checks of how a run stands."""


def work(study: Study, stop: Any, say: Callable[[str], None], executor: Executor) -> None:
    """Work until no trial is left to take, or until asked to stop.

    Args:
      stop: true once a stop is requested.
    """
    active: list[ActiveTrial] = []
    try:
        while True:
            began = time.monotonic()
            _fill(study, active, stop, executor)
            if not active:
                return
            for part, error in executor.wait(TICK):
                for held in active:
                    held.ended(part.folder, error)
            if study.spec.sweep.pruner == "exploit" and not stop:
                _exploit(study, [held for held in active if held.going], cast(Copier, executor))
            spent = (time.monotonic() - began) / len(active)
            for held in list(active):
                held.seconds += spent
                held.look(stop, executor)
                if not held.going and not held.waiting:
                    active.remove(held)
                    held.conclude(stop, say)
                    answer.write(study)
    finally:
        for held in active:
            held.let_go(stop)


def _fill(study: Study, active: list[ActiveTrial], stop: Any, executor: Executor) -> None:
    """Start runs of the active trials, then those of new ones, until every slot is taken."""
    free = lambda: executor.slots - sum(len(held.going) for held in active)
    for held in active:
        held.start(executor, free())
    while not stop and free() > 0:
        claim = study.claim()
        if claim is None:
            return
        active.append(ActiveTrial(study, claim))
        active[-1].start(executor, free())
        if not active[-1].going:  # done before, or never possible
            return


def _exploit(study: Study, active: Sequence[ActiveTrial], executor: Copier) -> None:
    """Once all were evaluated again, have those that fell behind follow those that lead."""
    every, sweep = study.spec.base.eval.every, study.spec.sweep
    judged = {held.claim.row.number: held.rungs(every) for held in active}
    rung = exploit.agreed(list(judged.values()))
    if rung is None or rung <= max(held.moved for held in active):
        return
    rng = np.random.default_rng([sweep.seed, rung])
    scores = {number: scores[rung] for number, scores in judged.items()}
    leaders = exploit.leaders(scores, maximizes=study.spec.maximizes, rng=rng)
    by_number = {held.claim.row.number: held for held in active}
    values = {number: held.values for number, held in by_number.items()}
    for number, leader in leaders.items():
        new = exploit.explored(values[leader], study.spec.space, rng)
        by_number[number].follow(by_number[leader], new, rung * every, executor)
    for held in active:
        held.moved = rung


class ActiveTrial:
    """A trial that this worker owns, and its runs."""

    def __init__(self, study: Study, claim: Claim):
        self.study, self.claim = study, claim
        self.seconds = 0.0
        """Time it took so far; concurrent trials share the time."""
        self.behind = 0
        """Environment steps at which it fell behind; 0 if it did not."""
        self.error: Exception | None = None
        self.going: list[Part] = []
        self.runs: list[Part] = []
        self.values = dict(claim.row.params)
        every = study.spec.base.eval.every
        self.moved = max((move["steps"] // every for move in claim.row.moves), default=0)
        """How often it was evaluated at the last exploitation."""
        self._looked = time.monotonic()
        try:
            self.runs = trial.parts(study.spec, claim.row.params, claim.folder)
        except FAULTS as error:
            self.error = error
        self.waiting = [part for part in self.runs if trial.result_of(part) is None]

    def start(self, executor: Executor, slots: int) -> None:
        """Start as many of the waiting runs."""
        for part in self.waiting[: max(slots, 0)]:
            executor.start(part, self.claim.lock.descriptor)
            self.going.append(part)
            self.waiting.remove(part)

    def ended(self, folder: Path, error: Exception | None) -> None:
        """A run is over; it may be one of ours."""
        left = [part for part in self.going if part.folder != folder]
        if len(left) < len(self.going):
            self.going, self.error = left, self.error or error

    def look(self, stop: Any, executor: Executor) -> None:
        """End the runs if we should stop, if one failed, or if the first one fell behind."""
        prunes = self.study.spec.sweep.pruner != "none" and self.error is None and not self.behind
        if prunes and self.going and time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._judge()
        if stop or self.error is not None or self.behind:
            self.waiting.clear()
            for part in self.going:
                executor.end(part)

    def _judge(self) -> None:
        first = self.runs[0]
        for steps, score in trial.judged(self.study.spec, first.folder):
            if steps in self.claim.seen or steps >= first.cfg.steps:
                continue
            if self.study.falls_behind(self.claim, steps, score):
                self.behind = steps
                return

    def rungs(self, every: int) -> dict[int, float]:
        """{how many times so many steps it had taken: its score then}."""
        return {steps // every: score for steps, score in self.claim.seen.items()}

    def follow(self, leader: ActiveTrial, values: dict[str, Any], steps: int, executor: Copier) -> None:
        """Continue from a copy of another one, with these values."""
        try:
            (part,) = trial.parts(self.study.spec, values, self.claim.folder)
        except ConfigError:  # they exclude each other: it stays as it is
            return
        about = {"steps": steps, "from": leader.claim.row.number, "params": values, "before": self.values}
        self.study.move(self.claim, about)
        executor.copy(part, leader.runs[0])
        self.values, self.runs, self.going = values, [part], [part]

    def conclude(self, stop: Any, say: Callable[[str], None]) -> None:
        """Record how the trial ended, if it did, and release it."""
        study, claim = self.study, self.claim
        try:
            if self.error is not None:
                raise self.error
            if self.behind:
                study.note_time(claim, self.seconds)
                study.prune(claim, f"fell behind after {self.behind:,} steps")
            elif all(trial.result_of(part) is not None for part in self.runs):
                result = trial.score(study.spec, self.runs)
                study.note_time(claim, self.seconds)
                study.finish(claim, result.scores, result.metric, result.interval)
        except FAULTS as error:
            study.note_time(claim, self.seconds)
            study.fail(claim, " ".join(str(error).split()), executor.tail(claim.folder / LOG))
        except RunDied as error:
            say(f"trial {claim.row.number}: {error}; it will be retried")
        finally:
            self.let_go(stop)

    def let_go(self, stop: Any) -> None:
        """Release the trial, for others to take if it has not ended."""
        self.study.release(self.claim, seconds=self.seconds, asked=bool(stop))
