"""A signal in every phase ends a process within ten seconds, and what was trained is there."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .ground import Ground, Running, Trial, left_behind, logged, newest, until

LIMIT = 10.0
"""Seconds until a process must be gone."""
ENDLESS = 10**7


class Phase(NamedTuple):
    """Where a signal arrives."""

    words: Callable[[Ground, Path], list[Any]]
    begun: Callable[[Running, Path], bool]
    """Whether it is there."""
    spread: float = 1.0
    """Seconds over which the moment of the signal varies."""
    saves: bool = False
    """Whether something was trained that must be there afterwards."""
    ends_so: bool = False
    """Whether Ctrl-C is how it ends, with exit code 0."""


def _training(**changes: Any) -> Callable[[Ground, Path], list[Any]]:
    return lambda ground, folder: ground.train(folder, **{"steps": ENDLESS, **changes})


def _looking(command: str, *words: Any) -> Callable[[Ground, Path], list[Any]]:
    return lambda ground, folder: [command, ground.finished(task="probe:chosen", steps=400), *words]


def _learns(process: Running, run: Path) -> bool:
    return logged(run)["updates"] > 1


def _exists(process: Running, run: Path) -> bool:
    return (run / "config.toml").is_file()


def _after(seconds: float) -> Callable[[Running, Path], bool]:
    return lambda process, run: not time.sleep(seconds)


def _steps(count: int) -> Callable[[Running, Path], bool]:
    return lambda process, run: newest(run) >= count


SLOW = "gymnasium:faulty_env:Slow-v0"
PHASES = {
    "import": Phase(_training(), _after(0.1)),
    "prefill": Phase(_training(loop__prefill=ENDLESS), _exists),
    "compile": Phase(_training(agent__rssm__deter=256, agent__rssm__hidden=64), _exists, 4.0),
    "training, host": Phase(_training(), _learns, saves=True),
    "training, fused": Phase(_training(task="grid:Catch"), _learns, saves=True),
    "training, population": Phase(_training(task="grid:Catch", population__seeds=2), _learns, saves=True),
    "a slow environment": Phase(_training(task=SLOW), _exists),
    "slow ones in processes": Phase(_training(task=SLOW, env__parallel=True), _exists, 3.0),
    "an environment that hangs": Phase(_training(task="gymnasium:faulty_env:Stuck-v0"), _exists, 3.0),
    "processes that hang": Phase(
        _training(task="gymnasium:faulty_env:Stuck-v0", env__parallel=True), _exists, 4.0
    ),
    "evaluation between": Phase(
        _training(eval__every=100, eval__during=ENDLESS),
        lambda process, run: _learns(process, run),
        3.0,
        True,
    ),
    "evaluation at the end": Phase(_training(steps=400, eval__episodes=ENDLESS), _steps(400), 2.0, True),
    "report at the end": Phase(
        _training(steps=400, report__episodes=2000, eval__episodes=2),
        lambda process, run: "writing the report" in process.text,
        2.0,
        True,
    ),
    "dreamer eval": Phase(_looking("eval", "--episodes", ENDLESS), _after(2.0), 3.0),
    "dreamer report": Phase(_looking("report", "--episodes", 2000), _after(2.0), 3.0),
    "dreamer export": Phase(_looking("export"), _after(0.5), 1.0),
    "dreamer play": Phase(_looking("play", "--port", 0), _after(2.0), 3.0, ends_so=True),
    "dreamer compare": Phase(
        lambda ground, folder: [
            *("compare", "--task", "minigrid:Empty-5x5", "--agents", "random", "--episodes", 100_000),
            *("--out", folder),
        ],
        _after(2.0),
        3.0,
    ),
}


def signalled(ground: Ground, count: int) -> Iterator[Trial]:
    """SIGTERM and SIGINT in turn, at moments that vary."""
    chance = random.Random(0)
    for i, (name, phase) in enumerate(PHASES.items()):
        numbers = [signal.SIGTERM, signal.SIGINT] if count > len(PHASES) else [signal.SIGTERM]
        if i < count:
            yield from (_one(ground, name, phase, number, chance) for number in numbers)


def _one(ground: Ground, name: str, phase: Phase, number: int, chance: random.Random) -> Trial:
    folder = ground.place("signalled")
    what = f"{name}, {signal.Signals(number).name}"
    process = ground.start(*phase.words(ground, folder))
    if not until(lambda: process.is_over or phase.begun(process, folder), 180):
        process.kill()
        return Trial(what, "the phase did not come")
    time.sleep(chance.uniform(0, phase.spread))
    if process.is_over:
        return Trial(what, f"it ended before: {process.wait().last}")
    trained = logged(folder)["env_steps"] if phase.saves else 0
    session, began = process.process.pid, time.monotonic()
    process.process.send_signal(number)
    ended = process.wait(3 * LIMIT)
    seconds = time.monotonic() - began
    left = left_behind(session)
    if ended.code is None or seconds > LIMIT:
        return Trial(what, f"still there after {seconds:.1f} s")
    if left:
        return Trial(what, left)
    right = {128 + number, -number} | ({0} if phase.ends_so and number == signal.SIGINT else set())
    if ended.code not in right:
        return Trial(what, f"exit code {ended.code}: {ended.last}")
    if phase.saves and newest(folder) < trained:
        return Trial(what, f"of {trained} steps that were trained {newest(folder)} are saved")
    return Trial(f"{what}: {seconds:.1f} s", ended.plain())
