"""Launchers start a worker; the coordinator keeps as many workers as there is work for.

Every launcher starts the same command, `dreamer sweep worker --storage URL --out DIR`, and knows whether it
is alive. The coordinator may be killed at any time: workers continue, and the next one counts them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dreamer.schema import ConfigError
from envs import trust
from experiments import machine
from experiments.sweep.executor import tail
from experiments.sweep.study import Counts
from experiments.training.run import TrainingStopped

POLL = 1.0
FRUITLESS = 10
"""Workers per slot that may end in a row without having worked."""
WORKERS = "workers"
"""Folder of the logs of workers."""


class Worker(Protocol):
    """A started worker."""

    def alive(self) -> bool:
        """Whether it is running or queued."""
        ...

    def stop(self) -> None:
        """Ask it to save and end."""
        ...


Start = Callable[[int], Worker]
"""Starts a worker in a slot: the lowest free number."""


class Work(Protocol):
    """What workers share: a sweep, or another folder of runs."""

    @property
    def folder(self) -> Path: ...

    def counts(self) -> Counts:
        """How much has ended, is in the hands of a worker, and is left."""
        ...


def command(folder: Path, url: str) -> list[str]:
    """The command that starts a worker of a sweep."""
    return worker("sweep", "worker", "--storage", url, "--out", str(folder.absolute()))


def worker(*words: str) -> list[str]:
    """The command line of a worker."""
    standing = trust.guard()  # a job of another system does not see our environment
    trusted = ["--trust"] if standing is not None and standing.trusted else []
    return machine.command("experiments.cli", *words, *trusted)


def run(words: Sequence[str], log: str) -> int:
    """Run a worker's command within a job of another system, and forward its termination.

    Args:
      log: file for the output of the worker.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with Path(log).open("ab") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


class _Process:
    """A worker on this machine."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self._process = process

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.terminate()


def processes(words: Sequence[str], folder: Path, workers: int) -> Start:
    """Workers on this machine, each with its share of the cores and one of the GPUs."""
    shares, gpus = core_shares(workers), visible_gpus(os.environ)

    def start(slot: int) -> Worker:
        gpu = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if len(gpus) > 1 else {}
        with Path(_log(folder, slot)).open("ab") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the coordinator alone, which passes it on once
                env=os.environ | gpu,
            )
        if shares:
            with contextlib.suppress(ProcessLookupError):  # already over
                os.sched_setaffinity(process.pid, shares[slot % len(shares)])
        return _Process(process)

    return start


def _log(folder: Path, slot: int) -> str:
    return str(_logs(folder).absolute() / f"{slot}.log")


def _logs(folder: Path) -> Path:
    path = folder / WORKERS
    path.mkdir(exist_ok=True)
    return path


def core_shares(workers: int) -> list[set[int]]:
    """The cores of each worker, equally many; empty for one worker, or where there are fewer cores."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // workers
    return [set(cores[i * each : (i + 1) * each]) for i in range(workers)] if each and workers > 1 else []


def visible_gpus(environ: Mapping[str, str]) -> list[str]:
    """The GPUs of NVIDIA that this process may use, as CUDA names them."""
    if "CUDA_VISIBLE_DEVICES" in environ:
        return [name for name in environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i in range(len(list(devices.iterdir())))] if devices.is_dir() else []


class _Job:
    """A worker in a job of submitit."""

    def __init__(self, job: Any):
        self._job = job

    def alive(self) -> bool:
        return not self._job.done()

    def stop(self) -> None:
        self._job.cancel(check=False)


def jobs(words: Sequence[str], folder: Path, parameters: Sequence[str]) -> Start:
    """Workers as jobs of SLURM; where there is no SLURM, as processes of submitit's local executor.

    Args:
      parameters: `name=value`, of submitit's executor.
    """
    submit = executor(_logs(folder), parameters, name="dreamer-sweep").submit
    return lambda slot: _Job(submit(run, list(words), _log(folder, slot)))


def executor(folder: Path, parameters: Sequence[str], **fixed: Any) -> Any:
    """Submitit's executor, of SLURM or, where there is no SLURM, of this machine.

    Args:
      folder: for its files.
      parameters: `name=value`; a job gets 24 hours unless they say otherwise.
      fixed: parameters that the caller decides.

    Raises:
      ConfigError: submitit is missing, or does not take the parameters.
    """
    submitit = _needed("submitit")
    cluster = None if shutil.which("sbatch") else "local"
    queue = submitit.AutoExecutor(folder=folder, cluster=cluster)
    given = {"timeout_min": 24 * 60, **named(parameters)}
    if cluster == "local":
        given = {name: value for name, value in given.items() if not name.startswith("slurm_")}
    try:
        queue.update_parameters(**given | fixed)
    except (NameError, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"slurm: {str(error).strip().splitlines()[0]}") from None
    return queue


def named(parameters: Sequence[str]) -> dict[str, Any]:
    """{name: value} of entries like `timeout_min=240`."""
    return dict(_pair(entry) for entry in parameters)


def _pair(entry: str) -> tuple[str, Any]:
    name, equals, value = entry.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigError(f"slurm needs entries like timeout_min=240, but one is '{entry}'")
    return name, int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else value


class _Task:
    """A worker in a task of Ray."""

    def __init__(self, ray: Any, reference: Any, log: str):
        self._ray, self._reference, self._log = ray, reference, log

    def alive(self) -> bool:
        done, _ = self._ray.wait([self._reference], timeout=0)
        if done:
            try:
                self._ray.get(self._reference)
            except Exception as error:  # a node is gone, or lacks a package
                with Path(self._log).open("a") as file:
                    file.write(f"{error}\n")
        return not done

    def stop(self) -> None:
        self._ray.cancel(self._reference)


def tasks(words: Sequence[str], folder: Path) -> Start:
    """Workers as tasks of the Ray cluster that RAY_ADDRESS names, or of one that is started here."""
    ray = connected()
    # A killed worker is restarted by the coordinator, which knows whether there is work for it.
    remote = ray.remote(max_retries=0, num_gpus=1 if ray.cluster_resources().get("GPU") else 0)(run)

    def start(slot: int) -> Worker:
        log = _log(folder, slot)
        return _Task(ray, remote.remote(list(words), log), log)

    return start


def connected() -> Any:
    """Ray, connected with the cluster that RAY_ADDRESS names, or with one that is started here.

    Raises:
      ConfigError: it is missing.
    """
    ray = _needed("ray")
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS") or None, log_to_driver=False, configure_logging=False)
    return ray


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(f"this launcher needs {package}: pip install {package}") from None


def coordinate(work: Work, start: Start, workers: int, stop: Any, poll: float = POLL) -> None:
    """Keep workers while there is work, until all of it ended or a stop is requested.

    Workers started elsewhere count too, by what they hold.

    Raises:
      TrainingStopped: workers end without having worked.
    """
    running: dict[int, Worker] = {}
    ended, fruitless = -1, 0
    while not stop:
        running = {slot: worker for slot, worker in running.items() if worker.alive()}
        now = work.counts()
        if now.locked or now.ended != ended:
            ended, fruitless = now.ended, 0
        if not now.open and not now.locked:
            break
        starting = max(len(running) - now.locked, 0)
        for _ in range(min(workers - max(len(running), now.locked), now.open - starting)):
            slot = next(i for i in range(workers) if i not in running)
            running[slot] = start(slot)
            fruitless += 1
        if fruitless > FRUITLESS * workers:
            _stop(running)
            raise TrainingStopped(f"workers end without having worked: {_last_line(work.folder)}")
        time.sleep(poll)
    if stop:
        _stop(running)
    _await(running)


def _stop(running: Mapping[int, Worker]) -> None:
    for worker in running.values():
        worker.stop()


def _await(running: Mapping[int, Worker]) -> None:
    while any(worker.alive() for worker in running.values()):
        time.sleep(0.1)


def _last_line(folder: Path) -> str:
    """The last line in the logs of the workers."""
    logs = sorted((folder / WORKERS).glob("*.*"), key=lambda path: path.stat().st_mtime)
    lines = [line for log in logs for line in tail(log).splitlines() if line.strip()]
    return lines[-1] if lines else f"there is no output, see {folder / WORKERS}"
