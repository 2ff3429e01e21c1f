"""Servers that get too much, and endpoints of language models that fail in every way there is."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from faulty_endpoint import FAULTS, FaultyEndpoint

from .ground import Ground, Trial, until


def servers(ground: Ground, count: int) -> Iterator[Trial]:
    """The pages of `play` and `report --watch`, beside five requests that never end: fifty at once."""
    for command in (("play",), ("report", "--watch"))[:count]:
        run = ground.finished(task="probe:chosen", steps=400)
        page = ground.start(command[0], run, *command[1:], "--port", 0)
        found = lambda p=page: re.search(r"http://127\.0\.0\.1:(\d+)/", p.text)
        if not until(lambda p=page, f=found: p.is_over or f()) or page.is_over:
            yield Trial(command[0], f"no page: {page.wait(1).last}")
            continue
        port = int(found()[1])
        with ExitStack() as stack:
            for _ in range(5):
                slow = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
                slow.sendall(b"POST /act HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n")
            answered: list[bool] = []
            threads = [threading.Thread(target=_ask, args=(port, answered)) for _ in range(50)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        page.process.terminate()
        ended = page.wait(10)
        why = f"{sum(answered)} of 50 were answered" if sum(answered) < 50 else ""
        yield Trial(command[0], why or ("" if ended.code is not None else "SIGTERM does not end it"))


def _ask(port: int, answered: list[bool]) -> None:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as asked:
        asked.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answered.append(asked.recv(64).startswith(b"HTTP/1.0 200"))


def endpoints(ground: Ground, count: int) -> Iterator[Trial]:
    """Each fault of an endpoint at the third request: every episode is finished or counted as errored."""
    for fault in FAULTS[:count]:
        out = ground.place("asked")
        wise = lambda messages: json.dumps({"action": "go forward"})
        with FaultyEndpoint(wise, fault=lambda i, body, f=fault: f if i == 2 else None) as endpoint:
            ended = ground.call(
                *("compare", "--task", "minigrid:Empty-5x5", "--episodes", 2, "--max-steps", 4),
                *("--agents", "random", "llm:tiny", "--llm-base-url", endpoint.url, "--out", out),
                *("--max-hours", 0.05),
                OPENAI_API_KEY="sk-secret-0123456789",
                seconds=240,
            )
            row = json.loads((out / "results.json").read_text())["tasks"]["minigrid:Empty-5x5"]["llm:tiny"]
            total = row["finished"] + row["errored"]
            why = ended.plain() or (f"{total} of 2 episodes" if total != 2 else "")
            why = why or ("" if ended.code in (0, 1, 2) else f"exit code {ended.code}")
            said = ended.text + "".join(p.read_text() for p in out.rglob("*.json*"))
            why = why or ("the key is written down" if "sk-secret-0123456789" in said else "")
            counted = row["tokens_in"] == endpoint.served.input
            told = fault in ("cut", "truncated json", "timeout", "dropped", "junk")
            why = why or ("" if counted or told else f"{row['tokens_in']} of {endpoint.served.input} tokens")
        yield Trial(fault, why)
