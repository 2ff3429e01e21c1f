"""Play an agent's episodes, each by itself: whatever happens in one leaves the others as they are.

An episode is one copy of the environment, a fresh policy memory and the seed, so its outcome does not depend
on which others were played before it, in which order or how many at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.api import LOG_PREFIX, Policy, Step, VectorEnv
from envs.rollout import Episode, rollout
from experiments.compare.transcript import Played, Together, Writer, read
from experiments.llm.budget import BudgetSpent, Uncountable

if TYPE_CHECKING:
    from experiments.compare.expectation import Expectation

Say = Callable[[str], None]


class Stopped(Exception):
    """Nothing more is to be played now; the message says why."""


class Unlimited(Stopped):
    """Nothing more can be played within the limits that were asked for, ever."""


@dataclass(frozen=True)
class Seat:
    """An agent at one task, ready to play."""

    make_env: Callable[[], VectorEnv]
    """One copy of the task."""
    make_policy: Callable[[VectorEnv, int, Writer], Policy]
    """The policy that plays the episode of a seed in that copy; writes its own lines if it `writes`."""
    act: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda line: line["act"]
    """The action {key: value} of a line of its transcripts."""
    names: Sequence[str] | None = None
    """What the choices of a single discrete action are called."""
    writes: bool = False
    """Whether the policy itself writes the lines of its transcript."""
    open: Callable[[Path], Writer] = Together
    """How its transcripts are written."""
    after: Callable[[Writer, Episode], None] = lambda file, episode: None
    """What it does once an episode is over, which is part of it."""
    concurrency: int = 1
    """Episodes at a time."""
    compiles: bool = False
    """Whether the first decision takes long, and should be made before the clock runs."""
    disclosure: Mapping[str, Any] = field(default_factory=dict)
    """What it saw, and what it was trained on."""
    expect: Expectation | None = None
    """What its world model, if it has one, expected to see."""
    curve: Path | None = None
    """The training episodes of one that learned on this task."""


@dataclass(frozen=True)
class Entry:
    """What an agent did on a task."""

    task: str
    agent: str
    played: list[Played]
    seat: Seat


class Recorded:
    """A policy of one copy, every decision of which becomes a line of a transcript.

    It is not asked where an action has no effect: at the end of the episode and at the cap.
    """

    def __init__(self, seat: Seat, policy: Policy, file: Writer, max_steps: int | None):
        self._names, self._policy, self._file, self._max_steps = seat.names, policy, file, max_steps
        self._step = 0
        self._action: Mapping[str, np.ndarray] = {}

    def init(self, batch: int) -> Any:
        return self._policy.init(batch)

    def act(self, carry: Any, step: Step, *, key: Any) -> tuple[Mapping[str, np.ndarray], Any]:
        line: dict[str, Any] = {"step": self._step, "reward": float(step.reward[0])}
        line |= {"is_last": bool(step.is_last[0]), "is_terminal": bool(step.is_terminal[0])}
        line["seen"] = digest(step.obs)
        if self._step and (line["is_last"] or self._step == self._max_steps):
            self._file.write(line)
            return self._action, carry
        began = time.perf_counter()
        self._action, carry = self._policy.act(carry, step, key=key)
        seconds = time.perf_counter() - began
        act = {k: np.asarray(v)[0].tolist() for k, v in self._action.items()}
        self._file.write(line | {"action": named(act, self._names), "act": act, "seconds": seconds})
        self._step += 1
        return self._action, carry


class Stoppable:
    """A policy that plays until it is stopped, and knows whether the episode came to its own end."""

    def __init__(self, policy: Policy, stop: threading.Event):
        self._policy, self._stop = policy, stop
        self.ended = False

    def init(self, batch: int) -> Any:
        return self._policy.init(batch)

    def act(self, carry: Any, step: Step, *, key: Any) -> tuple[Mapping[str, np.ndarray], Any]:
        if self._stop.is_set():
            raise Stopped("it was stopped")
        self.ended = bool(step.is_last[0])
        return self._policy.act(carry, step, key=key)


def digest(obs: Mapping[str, np.ndarray]) -> str:
    """What tells one observation of a single copy from another, in a few letters."""
    hasher = hashlib.blake2b(digest_size=4)
    for key in sorted(key for key in obs if not key.startswith(LOG_PREFIX)):
        hasher.update(np.ascontiguousarray(obs[key]).tobytes())
    return hasher.hexdigest()


def named(act: Mapping[str, Any], names: Sequence[str] | None) -> str:
    """An action in words."""
    if names and len(act) == 1:
        return names[int(next(iter(act.values())))]
    short = lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)
    return ", ".join(
        "[" + ", ".join(map(short, value)) + "]" if isinstance(value, list) else short(value)
        for value in act.values()
    )


def play(
    seat: Seat,
    seeds: Sequence[int],
    folder: Path,
    *,
    max_steps: int | None,
    say: Say,
    stop: threading.Event | None = None,
) -> None:
    """Play the episodes that have no finished transcript yet; those that failed are tried again.

    Args:
      folder: of the transcripts.
      max_steps: an episode ends after so many steps (None: no limit but the task's own).
      stop: is set when the episodes under way are to end.

    Raises:
      Stopped: before all were played; what is unfinished is played next time.
    """
    stop = stop or threading.Event()
    stop.clear()
    missing = [seed for seed in seeds if read(folder / f"{seed}.jsonl").result is None]
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in missing:
        waiting.put(seed)
    workers = min(seat.concurrency, len(missing))
    work = lambda: _work(seat, waiting, folder, max_steps, stop, say)
    if workers <= 1:
        work()
        return
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work) for _ in range(workers)]
        try:
            for future in running:
                future.result()
        except BaseException:
            stop.set()
            raise


def _work(
    seat: Seat,
    waiting: queue.SimpleQueue[int],
    folder: Path,
    max_steps: int | None,
    stop: threading.Event,
    say: Say,
) -> None:
    """Play episodes until none is left."""
    env = None
    try:
        while not stop.is_set():
            try:
                seed = waiting.get_nowait()
            except queue.Empty:
                return
            if env is None:
                env = seat.make_env()
                if seat.compiles:
                    rollout(seat.make_policy(env, seed, Together(folder)), env, [seed], max_steps=1)
            error = _episode(seat, env, seed, folder / f"{seed}.jsonl", max_steps, stop)
            if error:
                say(f"seed {seed} failed: {error}")
                env.close()  # whatever state it is in
                env = None
    finally:
        if env is not None:
            env.close()


def _episode(
    seat: Seat, env: VectorEnv, seed: int, path: Path, max_steps: int | None, stop: threading.Event
) -> str:
    """Play one episode into its transcript; what went wrong, or nothing.

    Raises:
      Stopped: the transcript stays without a result.
    """
    with contextlib.closing(seat.open(path)) as file:
        try:
            policy = seat.make_policy(env, seed, file)
            policy = policy if seat.writes else Recorded(seat, policy, file, max_steps)
            player = Stoppable(policy, stop)
            (played,) = rollout(player, env, [seed], key=seed, max_steps=max_steps)
            seat.after(file, played)
        except Stopped:
            raise
        except Uncountable as why:
            raise Unlimited(str(why)) from None
        except BudgetSpent as spent:
            raise Stopped(str(spent)) from None
        except Exception as wrong:  # of a server, a bot, a world: whatever it is, it is this episode's
            error = " ".join(str(wrong).split()) or type(wrong).__name__
            file.fail(error)
            return error
        file.finish(
            {
                "seed": seed,
                "return": played.return_,
                "length": played.length,
                "success": played.success,
                "discount": played.discount,
                "cut": not player.ended,
                "seconds": played.seconds,
            }
        )
    return ""
