"""One request and its answer within limits that hold: seconds from its first to its last byte, and bytes.

Requests run in an event loop of a thread of its own, where a deadline ends whatever is under way: a
connection, a header that comes letter by letter, a body without an end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import zlib
from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

from dreamer.schema import ConfigError

LARGEST = 8 * 2**20
"""Bytes of an answer, as they come and unpacked."""
PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 47}
"""What an answer may be packed with, and what zlib calls that."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in small letters."""
    text: str
    """What arrived of the body."""
    flaw: str | None = None
    """Why that is not all of it, if it is not."""


class NoAnswer(Exception):
    """Nothing that could be read came back; the message says why."""

    def __init__(self, why: str, *, sent: bool):
        super().__init__(why)
        self.sent = sent
        """Whether the request may have arrived, so that it may be billed."""


class Connections:
    """Connections to one endpoint; safe to use from several threads.

    Args:
      silence: seconds without a byte before a request has failed.
      is_local: the endpoint is on this machine, where no proxy from the environment is asked.
      encrypted: it is asked over https, whose certificates are checked.

    Raises:
      ConfigError: httpx is not installed.
    """

    def __init__(self, silence: float, *, is_local: bool, encrypted: bool):
        try:
            import httpx
        except ImportError:
            raise ConfigError("language models need httpx: pip install httpx") from None
        for name in (
            "httpx",
            "httpcore",
        ):  # at their lowest level they write down headers, which may hold a key
            logging.getLogger(name).setLevel(logging.WARNING)
        self._httpx = httpx
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        # Loading all certificates is slow, and without https none is checked (redirects are not followed).
        self._client = httpx.AsyncClient(
            timeout=silence, limits=limits, trust_env=not is_local, verify=encrypted, follow_redirects=False
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="llm-transport")
        self._thread.start()

    def post(self, url: str, body: Any, headers: Mapping[str, str], seconds: float) -> Answer:
        """Send JSON and wait for the answer, at most so many seconds in all.

        Raises:
          NoAnswer: there is none.
        """
        future = asyncio.run_coroutine_threadsafe(self._post(url, body, headers, seconds), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise NoAnswer("it was stopped", sent=True) from None
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close the connections."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _post(self, url: str, body: Any, headers: Mapping[str, str], seconds: float) -> Answer:
        httpx, read = self._httpx, _Body()
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        kinds = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "gzip"}
        status, received, flaw = 0, dict[str, str](), None
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream("POST", url, content=content, headers={**kinds, **headers}) as answer,
            ):
                status, received = answer.status_code, {k.lower(): v for k, v in answer.headers.items()}
                read.packed(received.get("content-encoding", ""))
                async for piece in answer.aiter_raw():
                    read.add(piece)
        except TooLarge as error:
            flaw = str(error)
        except (TimeoutError, httpx.TimeoutException) as error:
            flaw = "timeout"
            if not status:
                connecting = isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
                raise NoAnswer(flaw, sent=not connecting) from None
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL, zlib.error) as error:
            # Its words, not itself: it knows the request and its headers.
            flaw = f"no connection ({type(error).__name__}: {error})"
            if not status:
                sent = not isinstance(
                    error, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol
                )
                raise NoAnswer(flaw, sent=sent) from None
        return Answer(status, received, read.text(received.get("content-type", "")), flaw)


class TooLarge(Exception):
    """An answer has more bytes than are read."""


class _Body:
    """The bytes of an answer, unpacked as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._raw = self._size = 0
        self._unpack: Any = None

    def packed(self, coding: str) -> None:
        """How the bytes are packed; anything that is not known stays as it is."""
        if coding.strip().lower() in PACKED:
            self._unpack = zlib.decompressobj(PACKED[coding.strip().lower()])

    def add(self, piece: bytes) -> None:
        """Add what came.

        Raises:
          TooLarge: that was too much.
        """
        self._raw += len(piece)
        if self._unpack is not None:
            piece = self._unpack.decompress(piece, LARGEST + 1 - self._size)
        self._parts.append(piece)
        self._size += len(piece)
        if max(self._raw, self._size) > LARGEST:
            raise TooLarge(f"a reply above {LARGEST // 2**20} MB, which was cut off")

    def text(self, content_type: str) -> str:
        """All that came, as text."""
        _, _, charset = content_type.lower().partition("charset=")
        data = b"".join(self._parts)
        try:
            return data.decode(charset.strip(" \"'") or "utf-8", "replace")
        except LookupError:
            return data.decode("utf-8", "replace")
