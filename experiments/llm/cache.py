"""Replies that were paid for, in an SQLite file, so that none is paid for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from dreamer.schema import ConfigError
from experiments.llm.wire import Reply, Usage

COLUMNS = "key TEXT PRIMARY KEY, request TEXT NOT NULL, reply TEXT NOT NULL"


def canonical(request: Any) -> str:
    """JSON that is the same for equal requests."""
    return json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def key(endpoint: str, body: dict[str, Any], sample: str) -> str:
    """What a reply is found by: which endpoint was asked (the body names the model), what, and which time."""
    return hashlib.sha256(canonical([endpoint, body, sample]).encode()).hexdigest()


class Cache:
    """Replies by the key of their request; safe to use from several threads.

    Args:
      path: made if it is not there.
      replay_only: nothing else may be asked, so that published transcripts play again without a key.

    Raises:
      ConfigError: the file cannot be used.
    """

    def __init__(self, path: Path, *, replay_only: bool = False):
        self.replay_only = replay_only
        self._lock = threading.Lock()
        if replay_only and not path.exists():
            raise ConfigError(f"there is no cache {path} to replay from")
        connection = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, check_same_thread=False, timeout=30)
            connection.execute(f"CREATE TABLE IF NOT EXISTS replies ({COLUMNS})")
            connection.commit()
        except (OSError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            raise ConfigError(f"the cache {path} cannot be used: {error}") from None
        self._file = connection

    def get(self, key: str) -> Reply | None:
        """The reply that was stored, marked as replayed."""
        with self._lock:
            row = self._file.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else reply_from(json.loads(row[0]))._replace(replayed=True)

    def put(self, key: str, body: dict[str, Any], reply: Reply, *others: str) -> None:
        """Store a reply for good before it is used; the first one stays.

        Args:
          others: keys that it is found by, too; it is stored under all or none.
        """
        rows = [(name, canonical(body), canonical(reply_to(reply))) for name in (key, *others)]
        with self._lock, self._file:
            self._file.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reply_to(reply: Reply) -> dict[str, Any]:
    """A reply as JSON can say it."""
    usage, lost = (None if u is None else u._asdict() for u in (reply.usage, reply.lost))
    lists = {"failures": list(reply.failures), "unsent": list(reply.unsent)}
    return reply._asdict() | {"usage": usage, "lost": lost} | lists


def reply_from(record: dict[str, Any]) -> Reply:
    """The inverse of `reply_to`; what earlier versions did not write has its default."""
    usage, lost = (Usage(**u) if (u := record.get(name)) else None for name in ("usage", "lost"))
    failures, unsent = tuple(record["failures"]), tuple(record.get("unsent", ()))
    fields: dict[str, Any] = {**record, "failures": failures, "unsent": unsent, "usage": usage, "lost": lost}
    return Reply(**fields)
