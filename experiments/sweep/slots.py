"""Many runs in one process: runs of one structure share a program, and a finished run frees its slot.

python -m experiments.sweep.slots PARENT SOCKET POPULATION SEEDS

Every run is an ordinary run folder with its own checkpoints, so each can be resumed alone or with other runs,
wherever this process ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from dreamer.config import TRACED, Config, load_toml
from dreamer.loops import members
from dreamer.loops.fused import FusedLoop
from dreamer.loops.outputs import Diverged, LoopOutput
from dreamer.placement import Placement
from envs.watchdog import Interrupted
from experiments import lock as lock_of_folder
from experiments import machine, signals, surroundings
from experiments.sweep.executor import LOG, ON_ACCELERATOR
from experiments.sweep.trial import FAULTS
from experiments.training import run, session, workspace
from experiments.training.run import TrainingStopped
from experiments.training.workspace import Workspace

KEPT = 4
"""Unused workspaces that are kept."""
REPORTED = (TrainingStopped, *FAULTS)
"""Expected errors of a run; of any other the traceback is logged."""
NUMBERS = tuple(f"agent.{path}" for path in TRACED.values())
"""Fields that may differ when a run is resumed: copying changes them."""


class Slot:
    """An active run, its log and the lock of its trial."""

    def __init__(self, cfg: Config, folder: Path, shared: Workspace, lock: int, stop: signals.Stop):
        from rich.console import Console

        self.cpu_seconds = 0.0
        """Its share of the CPU time of this process."""
        self._open = contextlib.ExitStack()
        self._open.callback(os.close, lock)
        self.log: TextIO = self._open.enter_context((folder.parent / LOG).open("a"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock_of_folder.forget(
                folder, session.TRAINER
            )  # we hold the trial, so its previous holder is gone
            self._open.enter_context(session.claimed(folder))
            resume = session.open_folder(folder, cfg, NUMBERS)
            surroundings.record(folder, cfg)
            clock = lambda: self.cpu_seconds
            self.run = run.build(cfg, folder, shared, resume, console=Console(file=self.log), cpu_clock=clock)
            self.run.stop = stop
            self._open.enter_context(self.run.opened())
        except BaseException:
            self._open.close()
            raise

    @property
    def loop(self) -> FusedLoop:
        """Runs that share their programs are on the device."""
        assert isinstance(self.run.loop, FusedLoop)
        return self.run.loop

    def take(self, turn: LoopOutput) -> bool:
        """Process an output; whether the run is over."""
        run = self.run
        with run.guarded():
            if self.loop.failure:
                raise Diverged(self.loop.failure)
            run.collect(turn)
            try:
                if not run.done:
                    run.between()
                return run.done and self.finish()
            except Interrupted:  # all runs are saved when the process ends
                return False

    def finish(self) -> bool:
        """Save and evaluate; true."""
        self.run.end()
        with self.run.stop.released():
            self.run.finish()
        return True

    def close(self) -> None:
        """Leave it as it is."""
        self._open.close()


class SlotWorker:
    """All runs of this process, and the programs that they share.

    Args:
      line: socket that runs come from and their ends are reported to.
      slots: runs at the same time.
      placement: how many of them one call of a program takes.
    """

    def __init__(self, line: socket.socket, slots: int, placement: Placement):
        self._line, self._count, self._placement = line, slots, placement
        self._stop = signals.Stop()
        self._text, self._locks = b"", list[int]()
        self._slots: dict[str, Slot] = {}
        self._following: dict[str, tuple[str, str]] = {}
        """Runs that wait until their leader has come as far as they have."""
        self._workspaces: dict[str, tuple[contextlib.ExitStack, Workspace]] = {}

    def go_on(self, stop: signals.Stop) -> None:
        """Train the requested runs until the connection closes; then save all."""
        self._stop = stop
        while not stop and self._listen(wait=not self._slots):
            if self._slots:
                self._advance()
        for folder in list(self._slots):
            self._end(folder)

    def _listen(self, *, wait: bool) -> bool:
        """Process the pending messages (or wait for one); false once the connection is closed."""
        self._line.settimeout(None if wait else 0)
        try:
            data, locks, _, _ = socket.recv_fds(self._line, 65536, 64)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._locks += locks
        *lines, self._text = (self._text + data).split(b"\n")
        for line in map(json.loads, lines):
            if "train" in line:
                self._start(line["train"], line["config"], self._locks.pop(0))
            elif line.get("end") in self._slots:
                self._end(line["end"])
            elif line.get("copy") in self._slots and line["leader"] in self._slots:
                self._following[line["copy"]] = line["leader"], line["config"]
        return bool(data)

    def _start(self, folder: str, config: str, lock: int) -> None:
        with self._telling(folder), contextlib.ExitStack() as until_started:
            until_started.callback(os.close, lock)
            cfg = _read(config)
            shared = self._workspace(cfg)
            until_started.pop_all()
            slot = self._slots[folder] = Slot(cfg, Path(folder), shared, lock, self._stop)
            with contextlib.suppress(Interrupted):
                if slot.run.done and slot.finish():
                    self._tell(folder)

    def _workspace(self, cfg: Config) -> Workspace:
        """The workspace of the structure of a run; a new one may replace an unused one."""
        kind = workspace.structure(cfg)
        if kind not in self._workspaces:
            used = [slot.run.workspace for slot in self._slots.values()]
            idle = [k for k, (_, shared) in self._workspaces.items() if shared not in used]
            for old in idle[: max(len(self._workspaces) - KEPT + 1, 0)]:
                self._workspaces.pop(old)[0].close()
            open_ = contextlib.ExitStack()
            self._workspaces[kind] = (open_, open_.enter_context(workspace.opened(cfg, self._count)))
        return self._workspaces[kind][1]

    def _advance(self) -> None:
        """One dispatch for the runs that share the program of the one that came first."""
        self._follow()
        began = time.process_time()
        going = {folder: slot for folder, slot in self._slots.items() if folder not in self._following}
        if not going:  # the last one could not follow
            return
        compiled = next(iter(going.values())).loop.compiled
        group = [(f, slot) for f, slot in going.items() if slot.loop.compiled is compiled]
        with self._telling(*(folder for folder, _ in group)):
            turns = members.advance([slot.loop for _, slot in group], self._placement)
            for _, slot in group:
                slot.cpu_seconds += (time.process_time() - began) / len(group)
            for (folder, slot), turn in zip(group, turns, strict=True):
                began = time.process_time()
                with self._telling(folder):
                    over = slot.take(turn)
                    slot.cpu_seconds += time.process_time() - began
                    if over:
                        self._tell(folder)

    def _follow(self) -> None:
        """Copy leaders that are far enough; if one is gone, or itself waits, its follower continues alone."""
        steps = lambda folder: self._slots[folder].run.loop.progress.slots
        for folder, (leader, config) in list(self._following.items()):
            is_there = leader in self._slots and leader not in self._following
            if folder not in self._slots:
                del self._following[folder]
            elif not is_there or steps(leader) >= steps(folder):
                del self._following[folder]
                with self._telling(folder):
                    follower = self._slots[folder].run
                    follower.fork_from(self._slots[leader].run if is_there else follower, _read(config))

    def _end(self, folder: str) -> None:
        """Save a run and release its slot."""
        with self._telling(folder):
            self._slots[folder].run.end()
            self._tell(folder)

    @contextlib.contextmanager
    def _telling(self, *folders: str) -> Iterator[None]:
        """Around work for runs: an error in it ends these alone."""
        try:
            yield
        except Exception as error:
            why = " ".join(str(error).split())
            for folder in folders:
                if not isinstance(error, REPORTED):
                    with (Path(folder).parent / LOG).open("a") as log:
                        log.write(traceback.format_exc())
                self._tell(folder, why if isinstance(error, REPORTED) else f"{type(error).__name__}: {why}")

    def _tell(self, folder: str, failed: str | None = None) -> None:
        """Report that a run is over."""
        slot = self._slots.pop(folder, None)
        if slot is not None:
            slot.close()
        with contextlib.suppress(OSError):  # the connection is closed
            self._line.setblocking(True)
            self._line.sendall(json.dumps({"ended": folder, "failed": failed}).encode() + b"\n")


def _read(config: str) -> Config:
    """A configuration for one device: more runs, not more devices, fill a machine."""
    cfg = load_toml(Path(config))
    return dataclasses.replace(cfg, loop=dataclasses.replace(cfg.loop, devices=1, mesh=""))


def main(words: list[str]) -> int:
    parent, line, population, seeds = map(int, words)
    machine.end_with_parent(parent)
    machine.prepare()
    import jax

    on_cpu = jax.default_backend() == "cpu"
    slots, device = population or (seeds if on_cpu else ON_ACCELERATOR), jax.local_devices()[:1]
    placement = Placement.sequential(device) if on_cpu else Placement.vmapped(device, slots)
    with signals.gentle_signals() as stop, socket.socket(fileno=line) as connection:
        connection.sendall(json.dumps({"slots": slots}).encode() + b"\n")
        SlotWorker(connection, slots, placement).go_on(stop)
    return 0 if stop.signal is None else 128 + stop.signal


if __name__ == "__main__":
    sys.exit(machine.end(main(sys.argv[1:])))
