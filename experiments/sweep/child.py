"""A run in a separate process, which ends (saved) when the worker that started it is gone.

python -m experiments.sweep.child PARENT CONFIG RUN
"""

from __future__ import annotations

import sys
from pathlib import Path

from experiments import machine


def main(words: list[str]) -> int:
    parent, config, run = words
    machine.end_with_parent(int(parent))
    from experiments import cli, lock
    from experiments.training import session

    lock.forget(Path(run), session.TRAINER)  # we hold the trial, so its previous holder is gone
    return cli.main(["train", "--config", config, "--run", run])


if __name__ == "__main__":
    sys.exit(machine.end(main(sys.argv[1:])))
