"""Signals that end a process gently, and soon: `with gentle_signals() as stop`."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from envs import watchdog
from envs.watchdog import Interrupted

GRACE = 8.0
"""Seconds until a process that ignores a signal is ended; time spent saving does not count."""
PATIENCE = 2.0
"""Seconds that an environment has to answer after a signal."""
ASKED = 128
"""Added to a signal's number where another process of the run received it."""
TICK = 0.2
"""Seconds between two checks whether a process reacts to a signal."""


class Stop:
    """Whether the process was asked to end; true as a condition once it was."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.is_held = True
        """Whether a signal only sets this; else it also raises `Interrupted` wherever the main thread is."""
        self.takes_its_time = True
        """Whether a process that knows of a signal may take as long as it needs."""
        self.ask: Callable[[int], None] = self._note
        """Ask to stop, from any thread, because another process of the run received this signal."""
        self.last_words = "ended before it could stop by itself; what was saved is as it was"
        """The message of a process that has to be ended."""

    def _note(self, number: int) -> None:
        self.signal = self.signal or number

    def __bool__(self) -> bool:
        return self.signal is not None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within it a signal only sets this, because something is not saved."""
        with self._as(is_held=True):
            yield

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Within it a signal raises `Interrupted`, because nothing is lost by that.

        Raises:
          Interrupted: there was one before.
        """
        with self._as(is_held=False):
            if self:
                raise Interrupted
            yield

    @contextlib.contextmanager
    def unhurried(self) -> Iterator[None]:
        """Within it what is done takes as long as it needs, such as to save."""
        with self._as(takes_its_time=True):
            yield

    @contextlib.contextmanager
    def _as(self, **fields: bool) -> Iterator[None]:
        before = {name: getattr(self, name) for name in fields}
        vars(self).update(fields)
        try:
            yield
        finally:
            vars(self).update(before)


def stop_at_once() -> Stop:
    """A `Stop` for `gentle_signals` with which a signal ends the process soon, whatever it does."""
    stop = Stop()
    stop.is_held = stop.takes_its_time = False
    return stop


@contextlib.contextmanager
def gentle_signals(stop: Stop | None = None) -> Iterator[Stop]:
    """Within it the first SIGINT or SIGTERM asks to stop, and a second one ends the process at once.

    Python runs signal handlers between its own instructions, so one that arrives during a long compilation
    would wait for it. A thread that the C handler wakes sees it at once. It reminds the main thread where it
    may be interrupted, and ends the process if it has not stopped in `GRACE` seconds; that loses nothing that
    was saved, because saves are atomic.
    """
    stop = Stop() if stop is None else stop
    signals = (signal.SIGINT, signal.SIGTERM)
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watchdog.listen()

    def note(number: int, frame: Any) -> None:
        stop.signal = stop.signal or number
        if not stop.is_held:
            raise Interrupted

    def ask(number: int) -> None:
        stop.signal = stop.signal or number
        with contextlib.suppress(OSError):  # it is over
            writer.send(bytes([number | ASKED]))

    stop.ask = ask
    hook = sys.unraisablehook

    def unraisable(what: Any) -> None:
        # Raised in a callback of the garbage collector, it is lost there; the thread repeats it.
        if not isinstance(what.exc_value, Interrupted):
            hook(what)

    sys.unraisablehook = unraisable
    previous = {number: signal.signal(number, note) for number in signals}
    old_writer = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, stop, signals), daemon=True, name="signals")
    thread.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(old_writer)
        sys.unraisablehook = hook
        for number, handler in previous.items():
            signal.signal(number, handler)
        writer.close()
        thread.join(1.0)
        reader.close()


@contextlib.contextmanager
def interrupts() -> Iterator[Stop]:
    """Within it the first SIGINT asks to stop, and a second one raises `KeyboardInterrupt`.

    For Python programs of the user: no other signals, no threads, no exits. Outside the main thread signals
    are not handled.
    """
    stop = Stop()
    stop.is_held = False
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: Any) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.signal = number
        if not stop.is_held:
            raise Interrupted

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


def _watch(reader: socket.socket, stop: Stop, signals: Sequence[int]) -> None:
    """Ensure that the process ends after a signal, until the other end of `reader` is closed."""
    first, left, patience = 0, GRACE, PATIENCE
    is_elsewhere = False  # whether the first signal was of another process, and this one's may follow
    looked = time.monotonic()
    while True:
        there = select.select([reader], [], [], TICK if first else None)[0]
        received = reader.recv(64) if there else b""
        if there and not received:
            return
        before, looked = looked, time.monotonic()
        asked = [number for number in received if number in signals]
        elsewhere = [number - ASKED for number in received if number > ASKED]
        if first and asked and not is_elsewhere:
            watchdog.leave(128 + first, stop.last_words)
        if asked or not first:
            is_elsewhere = bool(elsewhere) and not asked
        if not first:
            first = next(iter(asked + elsewhere), 0)
            continue
        if stop and stop.takes_its_time:
            continue
        left, patience = left - (looked - before), patience - (looked - before)
        if left <= 0:
            watchdog.leave(128 + first, stop.last_words)
        if patience <= 0:
            patience = 1.0
            watchdog.interrupt(Interrupted(), lambda: not stop.is_held)
