"""Waiting for an environment, and what ends the wait: a time limit, or a request to stop.

An environment may wait for a simulator, a server or a lock that never answers. All waits are within
a `Watchdog`: after a minute it says so, and after a time limit it raises an `EnvError` where the waiting is.
An error is raised there by a signal, whose handler Python runs between two of its instructions and in what it
waits for itself (a pipe, a socket, a sleep), but not in the middle of native code: that only `leave` ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import NoReturn

from envs.api import EnvError

FIRST_WORD = 60.0
"""Seconds without an answer after which a notice is printed, then again whenever that time has doubled."""
LOOK = 1.0
"""Seconds between two looks."""
PATIENCE = 10.0
"""Seconds after its time limit until native code that does not answer is ended with the process."""
SIGNAL = signal.SIGURG
"""Wakes the main thread; nothing happens where it has no handler."""


class Interrupted(BaseException):
    """A request to end the process; no environment may keep it from that."""


class _Main:
    """What the main thread does, and what is to be raised in it."""

    waits = False
    error: BaseException | None = None
    wherever: Callable[[], bool] = staticmethod(lambda: False)


def interrupt(error: BaseException, wherever: Callable[[], bool] = lambda: False) -> None:
    """Raise an error in the main thread if it waits for an environment, from any thread.

    Args:
      wherever: whether the error may be raised in whatever the main thread does.
    """
    _Main.error, _Main.wherever = error, wherever
    main = threading.main_thread().ident
    if main is not None and signal.getsignal(SIGNAL) is _deliver:
        signal.pthread_kill(main, SIGNAL)


def listen() -> None:
    """Have the main thread hear of `interrupt`, where this is the main thread."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(SIGNAL) is signal.SIG_DFL:
        signal.signal(SIGNAL, _deliver)


def _deliver(number: int, frame: FrameType | None) -> None:
    error, _Main.error = _Main.error, None
    if error is not None and (_Main.waits or _Main.wherever()):
        raise error


def leave(code: int, sentence: str) -> NoReturn:
    """End the process and its children now, whatever they do; for when nothing gentler is left.

    Args:
      sentence: why, on standard error; empty says nothing.
    """
    for child in multiprocessing.active_children():
        child.kill()
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a panel may have hidden it
    with contextlib.suppress(OSError):
        os.write(2, (show_cursor + (f"dreamer: {sentence}\n" if sentence else "")).encode())
    os._exit(code)


def end_with_parent(seconds: float = 3.0) -> None:
    """In a process of `multiprocessing`: end some seconds after the one that started it, in any case."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="parent").start()


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Within it a request to stop may end what the main thread waits for: nothing is lost by that."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        listen()
        _Main.waits = True
    try:
        yield
    finally:
        if in_main:
            _Main.waits = False


@contextlib.contextmanager
def building(task: str) -> Iterator[None]:
    """Around the building of environments, which takes as long as it takes."""
    watchdog = Watchdog(task)
    try:
        with watchdog:
            yield
    finally:
        watchdog.close()


class Watchdog:
    """Watches a wait for an environment; a context manager around the wait.

    Args:
      task: whose environment it is.
      timeout: seconds that one answer may take; 0: any.
      say: hears of what takes long (None: standard error).
    """

    def __init__(self, task: str, timeout: float = 0.0, say: Callable[[str], None] | None = None):
        self.copy: int | None = None
        """The copy that is waited for, where it is known."""
        self._task, self._timeout = task, timeout
        self._say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self._since: float | None = None
        self._seen, self._due = 0.0, FIRST_WORD
        self._in_main = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watchdog:
        if self._thread is None:
            self._start()
        self._in_main = threading.get_ident() == threading.main_thread().ident
        self._since = time.monotonic()
        if self._in_main:
            _Main.waits = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._in_main:
            _Main.waits = False
        self._since = None

    def next(self, copy: int) -> None:
        """From now on another copy is waited for."""
        self.copy, self._since = copy, time.monotonic()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread = None

    def look(self, now: float) -> None:
        """Say what has taken long, and end what has taken too long."""
        since = self._since
        if since is None:
            return
        if since != self._seen:
            self._seen, self._due = since, FIRST_WORD
        waited = now - since
        if waited >= self._due:
            self._due *= 2
            self._say(f"{self._task}{self._which}: no answer for {waited:.0f} s; {self._what_next}")
        if self._timeout and waited >= self._timeout:
            self._end(waited)

    @property
    def _which(self) -> str:
        return "" if self.copy is None else f", copy {self.copy}"

    @property
    def _what_next(self) -> str:
        if self._timeout:
            return f"after {self._timeout:g} s (env.timeout) that is an error"
        return "it is waited for (--env.timeout SECONDS would end that)"

    def _end(self, waited: float) -> None:
        if not self._in_main:
            return  # nothing can be raised in another thread
        limit = f"it gave no answer for {self._timeout:g} s (env.timeout)"
        interrupt(EnvError(limit))
        if waited >= self._timeout + PATIENCE:
            leave(1, f"{self._task}{self._which}: {limit}, nor did it let itself be interrupted")

    def _start(self) -> None:
        listen()
        self._closed = closed = threading.Event()

        def watch() -> None:
            while not closed.wait(LOOK):
                self.look(time.monotonic())

        self._thread = threading.Thread(target=watch, daemon=True, name="watchdog")
        self._thread.start()
