"""Updates follow environment steps, logs and checkpoints follow the clock on the wall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.loops import clocks
from dreamer.loops.clocks import Every, Progress, updates_due


@pytest.mark.parametrize(
    ("steps", "updates", "since", "due"),
    [
        (5000, 0, -1, 0),
        (1000, 0, 1000, 0),
        (1031, 0, 1000, 0),
        (1032, 0, 1000, 1),
        (1128, 1, 1000, 3),
        (64, 2, 0, 0),
    ],
)
def test_by_hand(steps, updates, since, due):
    """At ratio 32 and 1024 replayed steps an update, one is due every 32 steps; those before do not count."""
    progress = Progress(env_steps=steps, updates=updates, learning_since=since)
    assert updates_due(progress, 32.0, 1024) == due


@given(
    st.lists(st.integers(0, 50), max_size=30),
    st.floats(0.1, 600),
    st.integers(1, 2000),
    st.integers(0, 100),
)
def test_however_steps_arrive_the_ratio_is_kept(arrivals, ratio, per_update, since):
    progress = Progress(env_steps=since, learning_since=since)
    for steps in arrivals:
        progress.env_steps += steps
        due = updates_due(progress, ratio, per_update)
        assert due >= 0
        progress.updates += due
        assert updates_due(progress, ratio, per_update) == 0
    replayed, wanted = progress.updates * per_update, (progress.env_steps - since) * ratio
    assert wanted - per_update <= replayed + 1e-6 and replayed <= wanted + 1e-6


def test_every_so_many_seconds(monkeypatch):
    times = [100, 100, 105, 110, 111, 119, 120, 155, 156, 165]
    monkeypatch.setattr(clocks.time, "monotonic", iter(times).__next__)
    due = Every(10)
    assert [due() for _ in times[1:]] == [False, False, True, False, False, True, True, False, True]
