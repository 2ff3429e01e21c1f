"""The processes of one run, each with its share of environments, replay and devices, and how they agree.

    process 0 ◄──────► process 1        every process has a connection to process 0
        ▲ ▲                             gather: one message of each, and all of them back to each
        │ └──────────► process 2        between: signs of life, requests to stop, goodbyes
        └────────────► process 3

Arrays meet in collectives of JAX, which only need every process to run the same programs in the same order.
What decides which program is next (environment steps, hooks, signals, errors) is gathered here, so that all
decide the same. A process that ends without a goodbye is noticed at once if its machine lives, else after
`SILENCE` seconds; the others cannot continue without it and end with one sentence.

A process alone gathers its message and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dreamer.schema import ConfigError

T = TypeVar("T")

TICK = 0.2
"""Seconds between two looks at what the other processes should know."""
BEAT = 3.0
"""Seconds between two signs of life."""
SILENCE = 20.0
"""Seconds without one after which a process is given up."""
PATIENCE = 5.0
"""Seconds that this process has to end by itself once another one has ended with an error."""
MEETING = 300.0
"""Seconds in which all processes of a run must have started."""
STOPPED = 1
"""Exit code where another process has ended."""


class Elsewhere(Exception):
    """Another process cannot continue, and all save and end; the message is its sentence."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Args:
      index: of this one.
      count: of all.
      line: the connection between them; None for a process alone.
    """

    index: int = 0
    count: int = 1
    line: Line | None = None

    @property
    def are_several(self) -> bool:
        return self.count > 1

    @property
    def is_first(self) -> bool:
        """Whether this one logs, evaluates and writes the files of the run."""
        return self.index == 0

    def share(self, total: int, field: str) -> int:
        """This process's part of a number that all share equally.

        Raises:
          ConfigError: they cannot.
        """
        if total % self.count:
            raise ConfigError(
                f"{self.count} processes cannot share {field} {total} equally: take a multiple of "
                f"{self.count}"
            )
        return total // self.count

    def part(self, total: int) -> range:
        """Which of `total` numbered things belong to this process: every `count`-th."""
        return range(self.index, total, self.count)

    def gather(self, message: T) -> list[T]:
        """The messages of all processes, in their order; called by all of them at the same point.

        Args:
          message: anything that JSON can hold, and numpy numbers.

        Raises:
          Elsewhere: one of them has called `fail` instead.
        """
        return [message] if self.line is None else self.line.gather(message)

    def first(self, message: T) -> T:
        """The message of process 0; called by all."""
        return self.gather(message)[0]

    def join(self, sequences: Sequence[Sequence[Any]]) -> list[Any]:
        """What `part` has dealt, in its order again: the inverse for lists of all processes."""
        total = sum(map(len, sequences))
        return [sequences[i % self.count][i // self.count] for i in range(total)]

    def fail(self, sentence: str) -> None:
        """Instead of `gather`: all others raise `Elsewhere` with this sentence where they gather."""
        if self.line is not None:
            self.line.fail(sentence)


ALONE = Processes()
_current = ALONE


def current() -> Processes:
    """The processes of the run that this process trains in."""
    return _current


def become(processes: Processes) -> None:
    """From now on this process is one of these."""
    global _current
    _current = processes


class Line:
    """The connections of one process with others, and threads that listen to them.

    Args:
      index: of this process.
      names: of all, for sentences, as "process 1 (node17)".
      sockets: {process: connection}: process 0 has one to every other, the others one to it.
      leave: ends this process with an exit code and a sentence (empty where another one says why).
    """

    def __init__(
        self,
        index: int,
        names: list[str],
        sockets: Mapping[int, socket.socket],
        leave: Callable[[int, str], object],
    ):
        self.index, self.names, self._sockets, self._leave = index, names, sockets, leave
        self.asked: Callable[[int], object] = lambda signal: None
        """Called, in another thread, once another process was asked to stop by a signal."""
        self.signal: Callable[[], int | None] = lambda: None
        """The signal by which this process was asked to stop."""
        self._inbox: dict[int, queue.SimpleQueue[dict[str, Any]]] = {i: queue.SimpleQueue() for i in sockets}
        self._heard = dict.fromkeys(sockets, time.monotonic())
        self._locks = {i: threading.Lock() for i in sockets}
        self._gone = {i: threading.Event() for i in sockets}
        self._closed, self._has_asked = threading.Event(), False
        self._ending = threading.Lock()
        for peer in sockets:
            threading.Thread(target=self._listen, args=(peer,), daemon=True, name=f"process-{peer}").start()
        threading.Thread(target=self._tend, daemon=True, name="processes").start()

    # In the main thread.

    def gather(self, message: Any) -> list[Any]:
        """As `Processes.gather`."""
        return self._exchange({"kind": "say", "message": message})

    def fail(self, sentence: str) -> None:
        """As `Processes.fail`."""
        with contextlib.suppress(Elsewhere):
            self._exchange({"kind": "say", "failed": sentence})

    def _exchange(self, mine: dict[str, Any]) -> list[Any]:
        if self.index:
            self._send(0, mine)
            everyone = self._inbox[0].get()["all"]
        else:
            mine = json.loads(json.dumps(mine, default=_plain))  # as the others get it
            everyone = [mine, *(self._inbox[peer].get() for peer in sorted(self._sockets))]
            for peer in self._sockets:
                self._send(peer, {"kind": "say", "all": everyone})
        for i, one in enumerate(everyone):
            if (sentence := one.get("failed")) is not None:
                raise Elsewhere(sentence if i == 0 else f"{self.names[i]}: {sentence}")
        return [one["message"] for one in everyone]

    @property
    def is_closed(self) -> bool:
        """Whether this process has said goodbye."""
        return self._closed.is_set()

    def close(self, code: int = 0, sentence: str = "") -> None:
        """Say goodbye; with an error the other processes end too, and process 0 says why.

        Process 0 waits until the others have gone, because theirs end with a message of JAX where it is gone.
        """
        self._closed.set()
        for peer in self._sockets:
            kind = "end" if code and not self.index else "bye"
            self._send(peer, {"kind": kind, "code": code, "sentence": sentence})
        if not self.index:
            deadline = time.monotonic() + 2 * PATIENCE
            for gone in self._gone.values():
                gone.wait(max(deadline - time.monotonic(), 0))
        for connection in self._sockets.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    # In other threads.

    def _send(self, peer: int, message: dict[str, Any]) -> None:
        text = json.dumps(message, default=_plain) + "\n"
        with contextlib.suppress(OSError), self._locks[peer]:  # it is gone, which `_listen` notices
            self._sockets[peer].sendall(text.encode())

    def _listen(self, peer: int) -> None:
        message: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError), self._sockets[peer].makefile("rb") as lines:
            for line in lines:
                self._heard[peer] = time.monotonic()
                message = json.loads(line)
                self._hear(peer, message)
        self._gone[peer].set()
        if message.get("kind") != "bye":
            self._lost(peer, "has ended")

    def _hear(self, peer: int, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "say":
                self._inbox[peer].put(message)
            case "stop":
                self._has_asked = True  # it has reached process 0, which passes it on
                self._ask(message["signal"], besides=peer)
                self.asked(message["signal"])
            case "bye" if message["code"] and message["sentence"]:
                self._gone[peer].set()
                if not self._closed.wait(PATIENCE):
                    self._end(message["code"], f"{self.names[peer]}: {message['sentence']}")
            case "bye" if message["code"] > 128:  # ended by a signal
                self.asked(message["code"] - 128)
            case "end":
                self._end(message["code"], "")

    def _tend(self) -> None:
        """Send signs of life and the request to stop; give up a process that is silent."""
        beaten = 0.0
        while not self._closed.wait(TICK):
            now = time.monotonic()
            if not self._has_asked and (signal := self.signal()) is not None:
                self._has_asked = True
                self._ask(signal)
            if now - beaten >= BEAT:
                beaten = now
                for peer in self._sockets:
                    self._send(peer, {"kind": "beat"})
            for peer, heard in self._heard.items():
                if now - heard > SILENCE and not self._gone[peer].is_set():
                    self._lost(peer, f"has given no sign of life for {SILENCE:.0f} s")

    def _ask(self, signal: int, besides: int | None = None) -> None:
        for peer in self._sockets:
            if peer != besides:
                self._send(peer, {"kind": "stop", "signal": signal})

    def _lost(self, peer: int, what: str) -> None:
        if not self._closed.is_set():
            self._end(
                STOPPED, f"{self.names[peer]} {what}; rerun the same command to resume from the last save"
            )

    def _end(self, code: int, sentence: str) -> None:
        with self._ending:  # once: the first reason counts
            if not self.index:
                for peer in self._sockets:
                    self._send(peer, {"kind": "end", "code": code})
            self._leave(code, sentence)


def _plain(value: Any) -> Any:
    """Mappings, and numbers and arrays of numpy, as JSON holds them."""
    return dict(value) if isinstance(value, Mapping) else value.tolist()


def meet(
    index: int,
    count: int,
    host: str,
    port: int,
    leave: Callable[[int, str], object],
    about: Any = None,
    *,
    limit: float = MEETING,
) -> tuple[Processes, list[Any]]:
    """Connect the processes of a run with process 0.

    Args:
      host, port: where process 0 listens, and the others find it.
      leave: as of `Line`.
      about: what this one says of itself, as JSON can hold.
      limit: seconds that they wait for each other.

    Returns:
      The processes, and what all say of themselves.

    Raises:
      ConfigError: they do not come, or do not fit each other.
    """
    deadline = time.monotonic() + limit
    hello = {"index": index, "count": count, "host": socket.gethostname(), "about": about}
    if index:
        connection = _reached(index, host, port, deadline, limit)
        connection.sendall(json.dumps(hello).encode() + b"\n")
        answer = _line(connection, deadline)
        if answer is None or "refused" in answer:
            connection.close()
            why = "it gave no answer" if answer is None else answer["refused"]
            raise ConfigError(f"process {index} was not taken in by process 0 at {host}:{port}: {why}")
        everyone, sockets = answer["all"], {0: connection}
    else:
        hellos, sockets = _welcomed(count, host, port, deadline, limit)
        everyone = [hello, *(hellos[i] for i in sorted(hellos))]
        for connection in sockets.values():
            connection.sendall(json.dumps({"all": everyone}).encode() + b"\n")
    for connection in sockets.values():
        connection.settimeout(None)
    names = [f"process {one['index']} ({one['host']})" for one in everyone]
    return Processes(index, count, Line(index, names, sockets, leave)), [one["about"] for one in everyone]


def _reached(index: int, host: str, port: int, deadline: float, limit: float) -> socket.socket:
    """The connection of another process to process 0, which may start later."""
    while True:
        try:
            return _swift(socket.create_connection((host, port), timeout=5))
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"process {index} does not reach process 0 at {host}:{port} within {limit:.0f} s "
                    f"({error.strerror or error}): start all processes with the same coordinator"
                ) from None
            time.sleep(0.1)


def _welcomed(
    count: int, host: str, port: int, deadline: float, limit: float
) -> tuple[dict[int, dict[str, Any]], dict[int, socket.socket]]:
    """What the other processes say of themselves, and their connections."""
    hellos: dict[int, dict[str, Any]] = {}
    sockets: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as refused, _server(host, port) as server:
        refused.callback(lambda: [connection.close() for connection in sockets.values()])
        while len(sockets) < count - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                connection = _swift(server.accept()[0])
            except TimeoutError:
                missing = ", ".join(str(i) for i in range(1, count) if i not in sockets)
                raise ConfigError(
                    f"of {count} processes these did not start within {limit:.0f} s: {missing}"
                ) from None
            hello = _line(connection, time.monotonic() + 5)
            if hello is None:  # not one of ours
                connection.close()
                continue
            if why := _misfit(hello, count, sockets):
                connection.sendall(json.dumps({"refused": why}).encode() + b"\n")
                connection.close()
                raise ConfigError(
                    f"process {hello['index']} ({hello['host']}) does not fit the others: {why}"
                )
            hellos[hello["index"]], sockets[hello["index"]] = hello, connection
        refused.pop_all()
    return hellos, dict(sorted(sockets.items()))


def _misfit(hello: dict[str, Any], count: int, others: Mapping[int, Any]) -> str:
    if hello["count"] != count:
        return f"it expects {hello['count']} processes, process 0 expects {count}"
    if not 0 < hello["index"] < count:
        return f"of {count} processes the numbers are 0 to {count - 1}"
    return "another process has the same number" if hello["index"] in others else ""


def _server(host: str, port: int) -> socket.socket:
    local = host in ("localhost", "127.0.0.1")
    try:
        return socket.create_server((host if local else "", port))
    except OSError as error:
        raise ConfigError(
            f"process 0 cannot listen on port {port} ({error.strerror}): choose another coordinator"
        ) from None


def _swift(connection: socket.socket) -> socket.socket:
    """With small messages sent at once."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _line(connection: socket.socket, deadline: float) -> dict[str, Any] | None:
    """The first line of a connection, byte by byte so that nothing after it is taken; None without one."""
    text = b""
    try:
        while not text.endswith(b"\n") and len(text) < 2**22:
            connection.settimeout(max(deadline - time.monotonic(), 0.01))
            byte = connection.recv(1)
            if not byte:
                return None
            text += byte
        message = json.loads(text)
    except (OSError, ValueError):
        return None
    known = {"index", "count", "host"}, {"all"}, {"refused"}
    return message if isinstance(message, dict) and any(keys <= message.keys() for keys in known) else None
