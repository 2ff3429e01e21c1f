"""Updates follow environment steps, logs and checkpoints follow the clock on the wall."""

import dataclasses
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.config import LoopConfig
from dreamer.loops import clocks
from dreamer.loops.clocks import Every, Progress, updates_due
from dreamer.loops.host import HostLoop
from dreamer.processes import ALONE


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
def test_updates_due_known_counters_matches_hand_computed_value(steps, updates, since, due):
    """At ratio 32 and 1024 replayed steps an update, one is due every 32 steps; those before do not count."""
    progress = Progress(env_steps=steps, updates=updates, learning_since=since)
    assert updates_due(progress, 32.0, 1024) == due


@given(
    st.lists(st.integers(0, 50), max_size=30),
    st.floats(0.1, 600),
    st.integers(1, 2000),
    st.integers(0, 100),
)
def test_updates_due_any_arrival_of_steps_keeps_ratio(arrivals, ratio, per_update, since):
    progress = Progress(env_steps=since, learning_since=since)
    for steps in arrivals:
        progress.env_steps += steps
        due = updates_due(progress, ratio, per_update)
        assert due >= 0
        progress.updates += due
        assert updates_due(progress, ratio, per_update) == 0
    replayed, wanted = progress.updates * per_update, (progress.env_steps - since) * ratio
    assert wanted - per_update <= replayed + 1e-6 and replayed <= wanted + 1e-6


def test_updates_due_after_ratio_change_counts_from_change():
    """At ratio 8 until step 1500, then at 128, in batches of 64 steps: 80 for the next 40 steps, no more."""
    progress = Progress(env_steps=1500, updates=175, learning_since=100)
    clocks.restart_count(progress)
    assert updates_due(progress, 128.0, 64) == 0  # as long as the replay cannot be sampled
    clocks.begin(progress)
    assert updates_due(progress, 128.0, 64) == 0
    progress.env_steps = 1540
    assert updates_due(progress, 128.0, 64) == 80
    assert updates_due(progress, 1.0, 64) == 0
    progress.env_steps = 2500
    assert updates_due(progress, 1.0, 64) == 15
    assert progress.learning_since == 100  # where the random actions ended


def test_host_loop_after_resume_waits_until_replay_can_be_sampled():
    """As a resume without the replay does; nothing of the loop is built but its counters."""
    loop, possible = object.__new__(HostLoop), [0]
    loop.cfg = LoopConfig(num_envs=4, batch_size=8, batch_length=8, train_ratio=32.0, prefill=40)
    loop.replay = SimpleNamespace(can_sample=lambda batch, length: possible[0])
    loop.progress = Progress(env_steps=10_000, updates=100, learning_since=40)
    loop._processes = ALONE
    clocks.restart_count(loop.progress)
    assert loop._due() == 0
    loop.progress.env_steps, possible[0] = 10_100, 8
    assert loop._due() == 0
    loop.progress.env_steps = 10_110
    assert loop._due() == 5
    assert Progress(**dataclasses.asdict(loop.progress)) == loop.progress  # as a checkpoint has it


def test_count_anew_before_learning_changes_nothing():
    progress = Progress(env_steps=50)
    clocks.restart_count(progress)
    assert progress == Progress(env_steps=50)
    clocks.begin(progress)
    assert progress == Progress(env_steps=50, learning_since=50)


def test_every_seconds_elapsed_is_due_once_per_interval(monkeypatch):
    times = [100, 100, 105, 110, 111, 119, 120, 155, 156, 165]
    monkeypatch.setattr(
        clocks, "time", SimpleNamespace(monotonic=iter(times).__next__)
    )  # other threads keep theirs
    due = Every(10)
    assert [due() for _ in times[1:]] == [False, False, True, False, False, True, True, False, True]
