"""A run in a process of its own, which ends (saved) when the worker that started it is gone.

python -m experiments.sweep.child PARENT CONFIG RUN
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel ask this process to stop when its parent ends, where the kernel can (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)


def main(words: list[str]) -> int:
    parent, config, run = words
    end_with_parent(int(parent))
    from experiments import cli, lock
    from experiments.training import session

    lock.forget(Path(run), session.TRAINER)  # the trial is ours, so who had it is gone
    return cli.main(["train", "--config", config, "--run", run])


if __name__ == "__main__":
    from experiments import machine

    sys.exit(machine.end(main(sys.argv[1:])))
