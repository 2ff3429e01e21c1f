"""`dreamer launch --launcher submitit`: the processes of one run as the tasks of one job.

The job is one of SLURM; where there is no SLURM, submitit starts its tasks on this machine. The command that
submits it passes on what process 0 prints and waits; asked to stop, it has all processes save and end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dreamer.schema import ConfigError
from experiments import launch, machine, signals
from experiments.sweep.launch import executor, named

FOLDER = Path("jobs")
"""For submitit's files, below the working directory."""
POLL = 0.5
STEP = "SLURM_STEP_NUM_TASKS"
"""Set where SLURM has started the tasks, which then know who they are (`experiments.cluster`)."""


def submit(words: Sequence[str], processes: int, parameters: Sequence[str], folder: Path = FOLDER) -> int:
    """Submit a job whose tasks are the processes of a `dreamer train` command, and wait; the exit code.

    Args:
      processes: tasks of the job, equally many on each of its `nodes` (1).
      parameters: `name=value`, of submitit's executor.

    Raises:
      ConfigError: it is another command, submitit is missing, or the parameters are wrong.
    """
    launch.check(words)
    fixed = tasks(processes, named(parameters))
    is_new = not folder.exists()
    try:
        queue = executor(folder, parameters, name="dreamer-train", stderr_to_stdout=True, **fixed)
    except ConfigError:
        if is_new and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
        raise
    with signals.gentle_signals() as stop:
        stop.takes_its_time = True  # the processes end in time
        with _without_interrupts():
            job = queue.submit(work, list(words), launch.free_port())
        output = Path(job.task(0).paths.stdout)
        print(f"job {job.job_id}: {processes} processes, whose output is in {output.parent}", file=sys.stderr)
        return _follow(job, output, stop)


def tasks(processes: int, given: dict[str, Any]) -> dict[str, int]:
    """How many nodes a job has, and tasks on each.

    Raises:
      ConfigError: they do not give that many processes.
    """
    nodes = given.get("nodes", 1)
    if not isinstance(nodes, int) or nodes < 1 or processes % nodes:
        raise ConfigError(f"{processes} processes cannot be divided equally over nodes={nodes}")
    if given.get("tasks_per_node", processes // nodes) != processes // nodes:
        raise ConfigError(
            f"{processes} processes on {nodes} nodes are {processes // nodes} on each, but tasks_per_node is "
            f"{given['tasks_per_node']}: leave it out, or change --processes"
        )
    return {"nodes": nodes, "tasks_per_node": processes // nodes}


def work(words: Sequence[str], port: int) -> int:
    """Run the command as one process of the run, within a task of the job; its exit code.

    Args:
      port: where process 0 listens, if SLURM does not say.
    """
    import submitit

    place = submitit.JobEnvironment()
    index, count = place.global_rank, place.num_tasks
    mine = launch.environment(index, count, f"{place.hostnames[0]}:{port}") | launch.gpus(
        os.environ, index, count
    )
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    process = subprocess.Popen(
        machine.command("experiments.cli", *words),
        stdin=subprocess.DEVNULL,
        env=os.environ | ({} if STEP in os.environ else mine),
    )
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    if asked:  # before there was a process
        process.send_signal(asked[0])
    return process.wait()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started within it never hears Ctrl-C, which a terminal sends to all: it is asked by `_ask`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow(job: Any, output: Path, stop: signals.Stop) -> int:
    """Pass on the output of a job until it has ended; the exit code."""
    shown, is_asked = 0, False
    while True:
        is_over = job.done()
        shown = pass_on(output, shown)
        if is_over:
            break
        if stop and not is_asked:
            is_asked = True
            _ask(job)
        time.sleep(POLL)
    if stop:
        return 128 + (stop.signal or signal.SIGTERM)
    try:
        codes = job.results()
    except Exception as error:  # of submitit: a task was killed, or never began
        last = str(error).strip().splitlines()[-1]
        print(f"dreamer: job {job.job_id} did not end by itself: {last}", file=sys.stderr)
        return 1
    return next((code for code in codes if code), 0)


def _ask(job: Any) -> None:
    """Have all processes of a job save and end: `scancel` does, while submitit would kill its tasks."""
    import submitit

    if not isinstance(job, submitit.LocalJob):
        job.cancel(check=False)
        return
    with contextlib.suppress(ProcessLookupError):  # it is over
        os.kill(int(job.job_id), signal.SIGTERM)


def pass_on(output: Path, shown: int) -> int:
    """Print what a file has after so many bytes, whole lines only; how many are shown then."""
    try:
        with output.open("rb") as file:
            file.seek(shown)
            text = file.read()
    except OSError:  # it has not begun
        return shown
    text = text[: text.rfind(b"\n") + 1]
    sys.stderr.write(text.decode(errors="replace"))
    sys.stderr.flush()
    return shown + len(text)
