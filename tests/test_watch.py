"""A watched run is shown as of its newest checkpoint."""

from types import SimpleNamespace

from dreamer.checkpoint import CheckpointError
from experiments.report.watch import Watch


class Store(SimpleNamespace):
    """Checkpoints by their steps alone."""

    def steps(self):
        return self.saved


def watched(tmp_path, saved):
    made, said = [], []

    def make():
        made.append(len(made))
        page = tmp_path / "report.html"
        page.write_text(f"<body>page {len(made)}</body>")
        return page

    return Watch(Store(saved=saved), make, said.append), made, said


def test_a_page_is_made_once_for_every_checkpoint(tmp_path):
    saved = []
    watch, made, _ = watched(tmp_path, saved)
    assert not watch.look() and b"Waiting" in watch.page().body
    versions = {watch.version().body}
    for step in (10, 20):
        saved.append(step)
        assert watch.look() and not watch.look()
        versions.add(watch.version().body)
    assert len(made) == 2 and len(versions) == 3
    assert b"page 2" in watch.page().body and b"/version" in watch.page().body


def test_a_checkpoint_that_vanished_is_looked_for_again(tmp_path):
    watch, _, said = watched(tmp_path, [10])
    make, watch._make = watch._make, lambda: (_ for _ in ()).throw(CheckpointError("it is gone"))
    assert not watch.look() and said == ["it is gone"]
    watch._make = make
    assert watch.look()
