"""`dreamer board`: one page on this machine over all runs, sweeps, benchmarks and comparisons below a folder.

It only looks. Only those who have the printed address can read what is shown: data is sent to requests that
bring the token in it (no browser adds it by itself), and each report has an address of its own, which says
nothing of the token or of other reports. A report may come from anyone: it runs in a sandbox, from which it
reaches neither the board nor the network.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import hmac
import json as jsonlib
import os
import re
import secrets
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from dreamer import atomic
from dreamer.schema import ConfigError
from experiments import serve
from experiments.board import settings
from experiments.board.curves import CLOCKS, Curves
from experiments.board.index import EVERY, Index
from experiments.board.rows import PAGES, Row
from experiments.serve import Refused, Reply

PATIENCE = 0.5
"""Seconds that a request for rows waits for a look that takes long."""
SLICE = 0.1
"""Seconds that the first look takes before it lets a request in."""
MOST_RUNS, MOST_CURVES = 30, 24
"""In one request."""
LARGEST_PAGE = 2**28
"""Bytes of a report."""
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src data:; font-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What a report may do: show itself."""


class Board:
    """The paths of the server.

    Args:
      root: what lies below it is shown.
    """

    def __init__(self, root: Path):
        self.token = secrets.token_urlsafe(24)
        self._index, self._lock = Index(root), threading.Lock()
        self._files = self._index.files
        self._curves = Curves(self._files)

    def start(self) -> None:
        """Look at everything, in a thread of its own, before anyone asks."""
        threading.Thread(target=self._look, daemon=True, name="board-look").start()

    def _look(self) -> None:
        done = False
        while not done:
            with self._lock:
                done = self._index.look(SLICE)
            time.sleep(0.001)  # in which others get the lock

    def page(self) -> Reply:
        """The page, which has no data yet."""
        content = _page()
        return Reply.html(content, policy(content))

    def posts(self) -> dict[str, Callable[[dict[str, Any]], Reply]]:
        """{path: what it answers}."""
        return {
            "/rows": self.rows,
            "/field": self.field,
            "/curves": self.curves,
            "/differences": self.differences,
        }

    def rows(self, request: dict[str, Any]) -> Reply:
        """What is new since a version: rows, and ids of those that are gone."""
        since = request.get("since", 0)
        if not isinstance(since, int):
            raise Refused("since must be a whole number")
        with self._lock:
            self._index.look(PATIENCE)
            answer = {
                "root": str(self._files.root),
                "name": self._files.root.name,
                "version": self._index.version,
                "complete": self._index.is_complete,
                "every": EVERY,
                "now": time.time(),
                "rows": [self._shown(row) for row in self._index.rows(since)],
                "gone": self._index.gone(since),
            }
        return Reply.json(answer)

    def field(self, request: dict[str, Any]) -> Reply:
        """The values of a field of the configuration, by the ids of the runs that have it."""
        name = request.get("name")
        if not isinstance(name, str):
            raise Refused("name must be the name of a field")
        with self._lock:
            configurations = self._index.settings()
        try:
            path = settings.field(name, settings.known(configurations.values()))
        except ConfigError as error:  # what a user types is no fault of the page
            return Reply.json({"error": str(error)})
        values = {id: settings.get(fields, path) for id, fields in configurations.items()}
        return Reply.json({"path": path, "values": {id: v for id, v in values.items() if v is not None}})

    def curves(self, request: dict[str, Any]) -> Reply:
        """The curves of runs, and which others each of them has."""
        runs, names, clock = self._chosen(request), request.get("curves", []), request.get("over", CLOCKS[0])
        if not isinstance(names, list) or len(names) > MOST_CURVES or clock not in CLOCKS:
            raise Refused(f"curves must be at most {MOST_CURVES} names, over {', '.join(CLOCKS)}")
        wanted = [name for name in names if isinstance(name, str)]
        folders = {id: "" if id == "." else id for id in runs}
        return Reply.json(
            {
                "names": {id: self._curves.names(folder) for id, folder in folders.items()},
                "curves": {id: self._curves.read(folder, wanted, clock) for id, folder in folders.items()},
            }
        )

    def differences(self, request: dict[str, Any]) -> Reply:
        """In which fields the configurations of runs differ, and how many fields there are."""
        runs = self._chosen(request)
        with self._lock:
            known = self._index.settings()
        ids = [id for id in runs if id in known]
        configurations = [known[id] for id in ids]
        rows = [{"path": path, "values": values} for path, values in settings.differences(configurations)]
        return Reply.json({"runs": ids, "fields": len(settings.known(configurations)), "differences": rows})

    def find(self, path: str) -> Reply | None:
        """A report by its address; None if there is none at it."""
        _, kind, signature, quoted = (*path.split("/", 3), "", "", "")[:4]
        at = os.fsdecode(unquote_to_bytes(quoted))
        if kind != "page" or not hmac.compare_digest(signature.encode(), self._signature(at).encode()):
            return None
        if at.rpartition("/")[2] not in PAGES:
            return None
        try:
            return Reply(self._files.read(at, LARGEST_PAGE), "text/html; charset=utf-8", REPORT_POLICY)
        except OSError:
            return None

    def table(self) -> dict[str, Any]:
        """All rows, as JSON."""
        with self._lock:
            self._index.look()
            rows = sorted(self._index.rows(), key=lambda row: row.id)
        return {"folder": str(self._files.root), "rows": [dataclasses.asdict(row) for row in rows]}

    def _chosen(self, request: dict[str, Any]) -> list[str]:
        """The ids of runs that a request names, of those that are there."""
        ids = request.get("runs")
        if not isinstance(ids, list) or len(ids) > MOST_RUNS:
            raise Refused(f"runs must be at most {MOST_RUNS} ids")
        with self._lock:
            return [id for id in dict.fromkeys(map(str, ids)) if self._index.row(id) is not None]

    def _shown(self, row: Row) -> dict[str, Any]:
        """A row for the page: with the address of its report instead of the path."""
        fields = dataclasses.asdict(row)
        if row.page:
            fields["page"] = f"/page/{self._signature(row.page)}/{quote(os.fsencode(row.page))}"
        return fields

    def _signature(self, at: str) -> str:
        """What only this board can have put before the path of a report."""
        return hmac.new(self.token.encode(), os.fsencode(at), hashlib.sha256).hexdigest()[:32]


@functools.cache
def _page() -> str:
    from experiments.report import page

    return page.render("board.html", clocks=CLOCKS, most=MOST_RUNS)


def policy(page: str) -> str:
    """The Content-Security-Policy under which a page runs its scripts and no others."""
    hashes = {
        kind: " ".join(map(_digest, re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)))
        for kind in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def board(folder: str, *, port: int, open: bool, json: bool) -> int:
    """Serve until Ctrl-C, or print the table; the exit code.

    Args:
      folder: what lies below it is shown; empty for the current one.
      open: the page in a browser, where there is a screen.

    Raises:
      ConfigError: there is no such folder, or the port is in use.
    """
    root = Path(folder or ".")
    if not root.is_dir():
        what = "is no folder" if root.exists() else "is not there"
        raise ConfigError(f"{root} {what}: name one that runs lie below, as in dreamer board runs")
    say = lambda text: print(text, file=sys.stderr, flush=True)
    if json:
        print(jsonlib.dumps(Board(root).table()))
        return 0
    content = Board(root)
    server = serve.server(port, {"/": content.page}, content.posts(), find=content.find, token=content.token)
    content.start()
    address = f"{serve.address(server)}#token={content.token}"
    say(f"{address} shows what lies below {root.resolve()}; Ctrl-C ends")
    with contextlib.ExitStack() as stack:
        if open and _has_screen():
            private = stack.enter_context(tempfile.TemporaryDirectory(prefix="dreamer-board-"))
            _open(address, Path(private))
        serve.until_interrupted(server)
    return 0


def _has_screen() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(address: str, private: Path) -> None:
    """Open a browser by a file that only this user can read: other users see the arguments of a command."""
    page = private / "board.html"
    target = jsonlib.dumps(address).replace("<", "\\u003c")
    atomic.write(page, f"<!doctype html><title>board</title><script>location.replace({target})</script>")
    threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
