"""Replies that were paid for, in an SQLite file, so that nobody pays for them twice."""

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
    """What a reply is found by: who was asked (the body names the model), what, and which time."""
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
        made = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            made = sqlite3.connect(path, check_same_thread=False, timeout=30)
            made.execute(f"CREATE TABLE IF NOT EXISTS replies ({COLUMNS})")
            made.commit()
        except (OSError, sqlite3.Error) as error:
            if made is not None:
                made.close()
            raise ConfigError(f"the cache {path} cannot be used: {error}") from None
        self._file = made

    def get(self, key: str) -> Reply | None:
        """The reply that was stored, marked as replayed."""
        with self._lock:
            row = self._file.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else reply_from(json.loads(row[0]))._replace(replayed=True)

    def put(self, key: str, body: dict[str, Any], reply: Reply, *others: str) -> None:
        """Store a reply for good before anybody acts on it; the first one stays.

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


def reply_from(told: dict[str, Any]) -> Reply:
    """The inverse of `reply_to`; what earlier versions did not write has its default."""
    usage, lost = (Usage(**u) if (u := told.get(name)) else None for name in ("usage", "lost"))
    failures, unsent = tuple(told["failures"]), tuple(told.get("unsent", ()))
    fields: dict[str, Any] = {**told, "failures": failures, "unsent": unsent, "usage": usage, "lost": lost}
    return Reply(**fields)
