"""Processes that are killed at random moments go on where they were saved."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

import envs
from dreamer.config import load_toml
from dreamer.logger import read_rows
from experiments.training import run, workspace

from .ground import Ground, Running, Trial, logged, newest, until

KINDS = {
    "host": {"task": "probe:chosen", "steps": 600},
    "fused": {"task": "grid:Catch", "steps": 20_000},
    "population": {"task": "grid:Catch", "steps": 20_000, "population__seeds": 2},
}


def killed(ground: Ground, count: int, kind: str) -> Iterator[Trial]:
    """SIGKILL while it trains and saves five times a second; then the same command, until the run is done.

    A kill is survived if the next process goes on from the newest checkpoint that was whole, and the run has
    at its end all its steps, each logged once, and nothing that was damaged; in the fused loop also the very
    arrays of a run that nobody disturbed.
    """
    chance, done = random.Random(kind), 0
    while done < count:
        seed = chance.randrange(1000)
        folder = ground.place(f"{kind}-seed{seed}")
        words = ground.train(folder, **KINDS[kind], seed=seed)
        trials: list[Trial] = []
        stood = -1
        while True:
            before = newest(folder)
            process = ground.start(*words)
            until(lambda p=process, f=folder, b=before: p.is_over or newest(f) > b, 240)
            time.sleep(chance.uniform(0, 1.0))
            if process.is_over or done + len(trials) == count:
                ended = process.wait()
                break
            process.kill()
            trials.append(
                Trial(f"{kind}, seed {seed}, killed at {newest(folder)} steps", _resumed(process, stood))
            )
            stood = newest(folder)
        why = _resumed(process, stood) or ended.went_well() or _whole(folder, **KINDS[kind])
        if not why and kind == "fused":
            alone = ground.place("alone")
            ground.call(*ground.train(alone, **KINDS[kind], seed=seed))
            why = (
                ""
                if same(arrays(folder), arrays(alone))
                else "the arrays are not those of an undisturbed run"
            )
        done += len(trials)
        yield from (Trial(trial.name, trial.why or why) for trial in trials)


def _resumed(process: Running, stood: int) -> str:
    """Why a process did not go on from the newest checkpoint there was; empty if it did."""
    if stood < 0:
        return ""
    if found := re.search(r"resuming .* at ([\d,]+) environment steps", process.text):
        at = int(found[1].replace(",", ""))
        return "" if at >= stood else f"resumed at {at} although there was a whole checkpoint of {stood}"
    return f"did not resume from {stood}"


def _whole(folder: Path, task: str, steps: int, **changes: int) -> str:
    """Why a run that is done is not as it should be; empty if it is."""
    is_on_device = envs.is_on_device(task)
    if (folder / "checkpoints" / "quarantine").exists():
        return "a checkpoint was damaged"
    for log in [*folder.glob("members/*/episodes.jsonl")] or [folder / "episodes.jsonl"]:
        # In both worlds an episode ends with the run; on the device a reset observation is a step, too.
        played = sum(row["length"] + is_on_device for row in read_rows(log))
        if played != steps:
            return f"episodes of {played} instead of {steps} steps are logged"
    if logged(folder)["env_steps"] < steps or newest(folder) < steps:
        return f"it ended at {newest(folder)} of {steps} steps"
    litter = [path.name for path in folder.rglob("*") if ".tmp" in path.name]
    return f"left behind: {litter}" if litter else ""


def arrays(folder: Path) -> list[np.ndarray]:
    """All that a resumed run begins with."""
    cfg = load_toml(folder / "config.toml")
    with workspace.opened(cfg) as opened:
        return jax.tree.leaves(jax.device_get(run.build(cfg, folder, opened, True).loop.checkpoint().arrays))


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    """Whether all arrays are equal bit for bit."""
    return len(ours) == len(theirs) and all(map(_equal, ours, theirs))


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def sweep(ground: Ground, count: int) -> Iterator[Trial]:
    """Workers and coordinators of one sweep are killed; each trial is made once, as in a sweep left alone."""
    import test_sweep
    from sweep_driver import pretend

    done, chance = 0, random.Random(0)
    while done < count:
        folder = ground.place("sweep")
        folder.mkdir()
        path, out, trials = test_sweep.write(folder, trials=24), folder / "killed", []
        test_sweep.run(path, folder / "alone", pretend)
        process = test_sweep.start(path, out, "processes", 3)
        while done + len(trials) < count and process.poll() is None:
            before = test_sweep.ticks_of(out)
            until(lambda p=process, o=out, b=before: p.poll() is not None or test_sweep.ticks_of(o) != b)
            time.sleep(chance.uniform(0.0, 0.3))
            workers = test_sweep.workers_of(out)
            if process.poll() is None and (chance.random() < 0.3 or not workers):
                process.kill()
                process.communicate()
                process = test_sweep.start(path, out, "processes", 3)
                trials.append(Trial(f"coordinator {len(trials)}"))
            elif workers and process.poll() is None:
                try:
                    os.kill(chance.choice(workers), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                trials.append(Trial(f"worker {len(trials)}"))
        why = ""
        try:
            test_sweep.finish(process)
            test_sweep.check_whole(out, 24, folder / "alone")
        except AssertionError as error:
            why = f"trials were lost or doubled: {error}"[:200]
        done += len(trials)
        print(f"sweep: {len(trials)} kills of it", file=sys.stderr)
        yield from (trial._replace(why=why) for trial in trials)
