"""`dreamer launch`: several processes that train one agent, started together and ended together.

On this machine every process has its share of the cores and of the GPUs. What process 0 prints is passed on
as it is; the others train silently, and whatever they do print follows their number. When one dies the others
notice it themselves (`dreamer.processes`); what is left after `PATIENCE` seconds is ended here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from dreamer.processes import STOPPED
from dreamer.schema import ConfigError
from experiments import cluster, machine, signals
from experiments.sweep.launch import core_shares, visible_gpus

PATIENCE = 20.0
"""Seconds that the others have to end once one process has ended by itself."""
HARD = 5.0
"""Seconds that they have after being terminated."""
POLL = 0.1
JAX_LOST = b"coordination service"
"""In the messages of JAX once process 0 is gone."""


def launch(words: Sequence[str], processes: int) -> int:
    """Start the processes of a `dreamer train` command and wait for them; the exit code.

    Raises:
      ConfigError: it is another command, or there is none.
    """
    check(words)
    with signals.gentle_signals() as stop:
        stop.takes_its_time = True  # the processes end in time, or are ended below
        group = Group(words, processes)
        return group.wait(stop)


def check(words: Sequence[str]) -> None:
    """Check that a command is one that several processes can work on.

    Raises:
      ConfigError: it is not.
    """
    if not words or words[0] != "train":
        what = f"not {words[0]}" if words else "and it is missing"
        raise ConfigError(
            f"dreamer launch starts several processes of dreamer train, {what}: write it after --, as in "
            "dreamer launch --processes 2 -- train small --task minigrid:Empty-5x5"
        )


def environment(index: int, count: int, coordinator: str) -> dict[str, str]:
    """The variables by which a process knows which one it is."""
    return {
        cluster.COORDINATOR: coordinator,
        cluster.COUNT: str(count),
        cluster.INDEX: str(index),
    }


def gpus(environ: Mapping[str, str], index: int, count: int) -> dict[str, str]:
    """The variable by which a process sees its share of the GPUs; {} where there are too few for all."""
    visible = visible_gpus(environ)
    return {"CUDA_VISIBLE_DEVICES": ",".join(visible[index::count])} if len(visible) >= count else {}


class Group:
    """The processes of one run on this machine.

    Args:
      words: of the command after `dreamer`.
      count: processes.
    """

    def __init__(self, words: Sequence[str], count: int):
        coordinator, shares = f"127.0.0.1:{free_port()}", core_shares(count)
        self._explained = threading.Event()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        for index in range(count):
            process = subprocess.Popen(
                machine.command("experiments.cli", *words),
                stdin=subprocess.DEVNULL,
                stdout=None if index == 0 else subprocess.PIPE,
                stderr=None if index == 0 else subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
                env=os.environ | environment(index, count, coordinator) | gpus(os.environ, index, count),
            )
            if shares:
                with contextlib.suppress(ProcessLookupError):  # already over
                    os.sched_setaffinity(process.pid, shares[index])
            self._processes.append(process)
            if process.stdout is not None:
                relay = threading.Thread(
                    target=_relay, args=(process.stdout, index, self._explained), daemon=True
                )
                relay.start()
                self._threads.append(relay)

    @property
    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self._processes if process.poll() is None]

    def wait(self, stop: signals.Stop) -> int:
        """Wait until all have ended, and end those that outlive another one; the exit code."""
        deadline, is_asked, killed = None, False, ""
        while self._running:
            if stop and not is_asked:
                is_asked = True
                self._send(stop.signal or signal.SIGTERM)
            ended = next((p for p in self._processes if p.poll() is not None), None)
            if ended is not None and deadline is None:
                deadline = time.monotonic() + PATIENCE
                killed = self._killed(ended)
            if deadline is not None and time.monotonic() > deadline:
                self._end()
            time.sleep(POLL)
        for relay in self._threads:
            relay.join(1.0)
        codes = [process.returncode for process in self._processes]
        if codes[0] < 0 and killed and not self._explained.is_set():  # process 0 could not say it
            print(f"dreamer: {killed}", file=sys.stderr)
        ended = [code for code in codes if code > 0]
        return ended[0] if ended else STOPPED if any(codes) else 0

    def _killed(self, process: subprocess.Popen[bytes]) -> str:
        if process.returncode >= 0:
            return ""
        index, name = self._processes.index(process), signal.Signals(-process.returncode).name
        return f"process {index} was ended by {name}; rerun the same command to resume from the last save"

    def _send(self, number: int) -> None:
        for process in self._running:
            process.send_signal(number)

    def _end(self) -> None:
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + HARD
        while self._running and time.monotonic() < deadline:
            time.sleep(POLL)
        self._send(signal.SIGKILL)


def free_port() -> int:
    """A port of this machine that no process uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _relay(output: IO[bytes], index: int, explained: threading.Event) -> None:
    """Pass on what a process prints, line by line; of several that say why all end, only the first."""
    is_over = False  # JAX reports, over many lines, that its service is gone with process 0
    for line in output:
        is_over |= JAX_LOST in line
        is_sentence = line.startswith(b"dreamer: ")
        if (is_over and not is_sentence) or (is_sentence and explained.is_set()):
            continue
        if is_sentence:
            explained.set()
        sys.stderr.write(f"[{index}] {line.decode(errors='replace')}")
        sys.stderr.flush()
