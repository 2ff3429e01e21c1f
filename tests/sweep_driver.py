"""A sweep whose trials take a fifth of a second and no JAX: what the tests of launchers run and kill.

python sweep_driver.py sweep SPEC DIR LAUNCHER WORKERS
python sweep_driver.py worker --storage URL --out DIR
"""

import fcntl
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamer import atomic
from dreamer.schema import ConfigError
from experiments.sweep import sweep
from experiments.sweep.options import SweepOptions, WorkerOptions
from experiments.sweep.trial import Part, TrialFailed
from experiments.training.run import TrainingStopped

TICKS = 8


def pretend(part: Part, ended, lock: int) -> None:
    """Count to eight, from where an earlier attempt was killed; a learning rate of 1e-3 is the best."""
    part.folder.mkdir(parents=True, exist_ok=True)
    with _alone(part.folder):
        _count(part, ended)


def _count(part: Part, ended) -> None:
    done = part.folder / "ticks"
    tick = int(done.read_text()) if done.is_file() else 0
    while tick < TICKS:
        if ended():
            return
        time.sleep(0.025)
        tick += 1
        atomic.write(done, str(tick))
    lr = part.cfg.agent.optim.lr
    if lr > 0.02:
        raise TrialFailed("loss/total is nan")
    score = 1.0 - 0.1 * abs(math.log10(lr) + 3) - 0.001 * part.cfg.seed
    result = {"env_steps": part.cfg.steps, "success_rate": score, "return_mean": score}
    atomic.write(part.folder / "result.json", json.dumps(result))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Leave a mark if somebody else is at work here, by a lock of another kind than that of sweeps."""
    with (folder / "busy").open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            (folder / "TWO AT ONCE").touch()
        yield


def main(words: list[str]) -> int:
    if words[0] == "worker":
        return sweep.work(WorkerOptions(storage=words[2], out=words[4]), trainer=pretend)
    path, out, launcher, workers = words[1:5]
    storage = words[5] if len(words) > 5 else ""
    options = SweepOptions(out=out, launcher=launcher, workers=int(workers), storage=storage, json=True)
    return sweep.sweep(Path(path), options, trainer=pretend, command=worker_command)


def worker_command(folder: Path, url: str) -> list[str]:
    """Starts a worker of this file."""
    return [sys.executable, __file__, "worker", "--storage", url, "--out", str(folder)]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ConfigError, TrainingStopped) as error:
        sys.exit(f"dreamer: {error}")
