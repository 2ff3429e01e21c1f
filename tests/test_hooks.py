"""A hook is due by the clock that it was given."""

import math
from types import SimpleNamespace

import pytest

from experiments.training.hooks import Hook, next_multiple


def due(hook, unit, counts):
    """At which of these counts a hook runs."""
    progress, found = SimpleNamespace(env_steps=0, updates=0), []
    hook.start(progress)
    for count in counts:
        setattr(progress, unit, count)
        if hook.is_due(progress):
            hook.run(progress)
            found.append(count)
    return found


@pytest.mark.parametrize("unit", ["env_steps", "updates"])
def test_hook_by_counts_is_due_at_the_first_turn_after_each_multiple(unit):
    calls = []
    assert due(Hook(unit, 10, lambda: calls.append(1)), unit, [4, 9, 13, 17, 20, 45, 49]) == [13, 20, 45]
    assert len(calls) == 3


def test_hook_with_zero_is_never_due():
    assert due(Hook("env_steps", 0, lambda: None), "env_steps", [1, 10**9]) == []


def test_hook_by_seconds_waits_for_its_time_and_until_it_is_ready():
    ready = []
    hook = Hook("seconds", 0.0, lambda: None, is_ready=lambda: bool(ready))
    progress = SimpleNamespace(env_steps=0, updates=0)
    assert not hook.is_due(progress), "it was never started"
    hook.start(progress)
    assert not hook.is_due(progress)
    ready.append(1)
    assert hook.is_due(progress)
    assert not due(Hook("seconds", 1000.0, lambda: None), "env_steps", [1])


def test_next_multiple_any_count_is_strictly_above():
    assert [next_multiple(n, 10) for n in (0, 9, 10)] == [10, 10, 20]
    assert next_multiple(5, 0) == math.inf
