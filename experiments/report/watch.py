"""`dreamer report --watch`: the page of a run on localhost, updated whenever it saves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from dreamer.checkpoint import CheckpointError, CheckpointStore
from experiments import serve
from experiments.serve import Reply

LOOK_EVERY = 2.0
"""Seconds between checks for a new checkpoint."""
RELOAD = """
<script>
(() => {
  const shown = "VERSION";
  setInterval(async () => {
    try {
      const newest = await (await fetch("/version", { cache: "no-store" })).text();
      if (newest !== shown) location.reload();
    } catch (error) { /* the server is gone: the page stays as it is */ }
  }, 2000);
})();
</script>
"""
"""Script of a served page: it reloads as soon as there is another version than the one that it shows."""
WAITING = (
    "<!doctype html><title>waiting</title><link rel='icon' href='data:,'><p>Waiting for the first report.</p>"
)


class Watch:
    """The newest page of one run.

    Args:
      store: where its checkpoints are.
      make: writes the page and returns its path.
    """

    def __init__(self, store: CheckpointStore, make: Callable[[], Path], say: Callable[[str], None]):
        self._store, self._make, self._say = store, make, say
        self._page, self._made_of = (WAITING, 0), -1  # the page and its version, replaced together
        self._last_error = ""

    def look(self) -> bool:
        """Update the page if there is a newer checkpoint; True if so."""
        steps = self._store.steps()
        if not steps or steps[-1] == self._made_of:
            return False
        try:
            self._page = (self._make().read_text(), self._page[1] + 1)
        except CheckpointError as error:  # replaced while it was read: the next look finds a newer one
            if str(error) != self._last_error:
                self._say(str(error))
            self._last_error = str(error)
            return False
        self._made_of = steps[-1]
        return True

    def page(self) -> Reply:
        text, version = self._page
        script = RELOAD.replace("VERSION", str(version))
        return Reply.html(text.replace("</body>", script + "</body>") + ("" if "</body>" in text else script))

    def version(self) -> Reply:
        return Reply.text(str(self._page[1]))


def watch(store: CheckpointStore, make: Callable[[], Path], port: int, say: Callable[[str], None]) -> int:
    """Serve and refresh until Ctrl-C; the exit code.

    Raises:
      ConfigError: the port is in use.
    """
    watched = Watch(store, make, say)
    server = serve.server(port, {"/": watched.page, "/version": watched.version})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"{serve.address(server)} shows the run and follows it; Ctrl-C ends")
    pause = threading.Event()
    try:
        while True:
            if not watched.look():
                pause.wait(LOOK_EVERY)
    except KeyboardInterrupt:
        return 0
    finally:
        server.shutdown()
        server.server_close()
