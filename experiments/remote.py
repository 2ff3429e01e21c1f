"""`dreamer launch --launcher ray`: the processes of one run in a Ray cluster, spread over its nodes.

The cluster is the one that RAY_ADDRESS names, or one that is started here. Every process is a child of an
actor of Ray, which starts it and passes signals on. All nodes must see the working directory and the run.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamer.schema import ConfigError
from experiments import launch, machine, signals
from experiments.job import FOLDER, POLL, pass_on
from experiments.sweep.launch import connected


class Child:
    """Starts one process of the run on the node of its actor."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: int | None = None
        self._lock = threading.Lock()  # Ray calls `run` and `signal` in two threads

    def address(self) -> str:
        """Where process 0 can listen, if it is this one."""
        ray = importlib.import_module("ray")
        return f"{ray.util.get_node_ip_address()}:{launch.free_port()}"

    def run(self, words: Sequence[str], variables: Mapping[str, str], folder: str, output: str) -> int:
        """Run the command in a folder until it ends; its exit code.

        Args:
          variables: by which it knows which process it is.
          output: file for what it prints.
        """
        with self._lock, Path(folder, output).open("ab") as log:
            if self._asked is not None:
                return 128 + self._asked
            self._process = subprocess.Popen(
                machine.command("experiments.cli", *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=os.environ | variables,
            )
        return self._process.wait()

    def signal(self, number: int) -> None:
        """Send the process a signal; one that has not begun does not begin."""
        with self._lock:
            self._asked = number
            if self._process is not None:
                self._process.send_signal(number)


def submit(words: Sequence[str], processes: int, folder: Path = FOLDER) -> int:
    """Start the processes of a `dreamer train` command in a Ray cluster, and wait; the exit code.

    Args:
      folder: for what they print.

    Raises:
      ConfigError: it is another command, Ray is missing, or the cluster has too few CPUs or GPUs.
    """
    launch.check(words)
    ray = connected()
    gpus = check_resources(ray.cluster_resources(), processes)
    folder.mkdir(parents=True, exist_ok=True)
    options = {"num_cpus": 1, "num_gpus": gpus, "max_concurrency": 2, "scheduling_strategy": "SPREAD"}
    remote = ray.remote(**options)(Child)
    with signals.gentle_signals() as stop:
        stop.takes_its_time = True  # the processes end in time
        children = [remote.remote() for _ in range(processes)]
        coordinator = ray.get(children[0].address.remote())
        outputs = [str(folder / f"ray-{time.time_ns()}-{index}.log") for index in range(processes)]
        print(f"{processes} processes, whose output is in {outputs[0][:-6]}-*.log", file=sys.stderr)
        running = [
            child.run.remote(
                list(words), launch.environment(index, processes, coordinator), os.getcwd(), outputs[index]
            )
            for index, child in enumerate(children)
        ]
        return _follow(ray, children, running, Path(outputs[0]), stop)


def check_resources(there: Mapping[str, float], processes: int) -> int:
    """How many GPUs each process has: one, where the cluster has any.

    Raises:
      ConfigError: there are not enough of them, or of CPUs.
    """
    names = ("CPU", "GPU") if there.get("GPU") else ("CPU",)
    for name in names:
        if there.get(name, 0) < processes:
            has = f"the Ray cluster has {there.get(name, 0):g}"
            raise ConfigError(f"{processes} processes need {processes} {name}s, but {has}")
    return len(names) - 1


def _follow(ray: Any, children: list[Any], running: list[Any], output: Path, stop: signals.Stop) -> int:
    """Pass on what process 0 prints until all have ended; the exit code."""
    shown, is_asked, left = 0, False, running
    while left:
        _, left = ray.wait(left, num_returns=len(left), timeout=POLL)
        shown = pass_on(output, shown)
        if stop and not is_asked:
            is_asked = True
            for child in children:
                child.signal.remote(signal.SIGTERM)
    if stop:
        return 128 + (stop.signal or signal.SIGTERM)
    try:
        codes = ray.get(running)
    except Exception as error:  # of Ray: a node is gone, or lacks a package
        last = str(error).strip().splitlines()[-1]
        print(f"dreamer: a process of the run was lost: {last}", file=sys.stderr)
        return 1
    return next((code for code in codes if code), 0)
