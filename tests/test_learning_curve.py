"""Episodes count where they began, and no stretch of training is shown while one of its episodes runs."""

import math

import numpy as np
import pytest

from experiments import learning_curve
from experiments.learning_curve import in_order, running_since, spans


class Copies:
    """Copies of an environment whose episodes take as many steps as `lengths` says, as the loops log them.

    Args:
      counts_resets: whether the slot of a reset is a step, as in the fused loop.
    """

    def __init__(self, copies, lengths, *, counts_resets):
        self.lengths, self.counts_resets = iter(lengths), counts_resets
        self.rows, self.env_steps = [], 0
        self.restart(copies)

    def restart(self, copies):
        self.left = [next(self.lengths) for _ in range(copies)]
        self.began, self.total = [self.env_steps] * copies, list(self.left)

    def slot(self):
        """One step of every copy; those whose episode is over are reset."""
        resets = [left == 0 for left in self.left]
        self.env_steps += len(resets) if self.counts_resets else resets.count(False)
        for copy, is_reset in enumerate(resets):
            if is_reset:
                self.left[copy] = self.total[copy] = next(self.lengths)
                self.began[copy] = self.env_steps
                continue
            self.left[copy] -= 1
            if not self.left[copy]:
                row = {"env_steps": self.env_steps, "began": self.began[copy], "length": self.total[copy]}
                self.rows.append(row | {"return": 0.0, "success": row["length"] < 20})

    @property
    def running_since(self):
        """When the oldest episode began that still runs."""
        return min(
            (began for began, left in zip(self.began, self.left, strict=True) if left), default=math.inf
        )


def drawn(seed):
    """Lengths at random."""
    rng = np.random.default_rng(seed)
    return iter(lambda: int(rng.integers(1, 30)), None)


@pytest.mark.parametrize("counts_resets", [False, True])
@pytest.mark.parametrize("copies", [1, 2, 5])
def test_running_since_is_when_the_oldest_running_episode_began(copies, counts_resets):
    world, exact = Copies(copies, drawn(copies), counts_resets=counts_resets), 0
    for slot in range(300):
        world.slot()
        if not world.rows or slot % 7:
            continue
        since = running_since(spans(world.rows))
        assert since <= world.running_since
        if slot > 100 and all(world.left):
            assert since == world.running_since
            exact += 1
    assert exact > 5


def test_running_since_resume_forgets_episodes_that_it_lost():
    world = Copies(4, drawn(0), counts_resets=False)
    for _ in range(100):
        world.slot()
    at = world.env_steps
    world.restart(4)
    for _ in range(100):
        world.slot()
        assert running_since(spans(world.rows)) <= world.running_since
    assert running_since(spans(world.rows)) == world.running_since > at


def test_running_since_one_copy_that_has_never_ended_an_episode_holds_back_all():
    world = Copies(3, [1000, *[5] * 100], counts_resets=False)
    for _ in range(50):
        world.slot()
    assert len(world.rows) > 10 and running_since(spans(world.rows)) == 0


def test_running_since_without_beginnings_is_infinite():
    rows = [{"env_steps": 5, "length": 5}, {"env_steps": 9, "began": None, "length": None}]
    assert running_since(spans(rows)) == running_since(spans([])) == math.inf
    assert [learning_curve.began(row) for row in rows] == [5, 9]
    assert in_order(spans(rows)).tolist() == [0, 1], "as they ended"


def test_running_since_rows_that_fit_no_copies_are_taken_as_they_are():
    rows = [{"env_steps": at, "began": max(at - 30, 0), "length": 20} for at in range(1, 400, 7)]
    assert running_since(spans(rows)) <= rows[-1]["began"]


def test_in_order_is_by_beginning_and_leaves_out_what_must_be_waited_for():
    """Of two copies one fails, which takes 8 steps, and the other succeeds in 2, 2 and 3."""
    world = Copies(2, [8, 2, 2, 3, 50, 50], counts_resets=True)
    for _ in range(7):
        world.slot()
    assert in_order(spans(world.rows)).tolist() == [], "both that succeeded wait for the first of the other"
    for _ in range(3):
        world.slot()
    order = in_order(spans(world.rows))
    assert [world.rows[i]["began"] for i in order] == [0, 0, 6, 12]
    assert [world.rows[i]["length"] for i in order] == [2, 8, 2, 3]


def test_in_order_waits_for_a_bounded_number():
    world = Copies(2, [10_000, *[3] * 1000], counts_resets=False)
    for _ in range(1000):
        world.slot()
    assert len(in_order(spans(world.rows))) == len(world.rows) - learning_curve.WAITING


def test_acted_with_names_every_actor_but_the_sampled_policy():
    planned = [{"acted_with": "mppi:horizon=3"}, {"return": 1.0}, {"acted_with": "greedy"}]
    words = learning_curve.acted_with(planned)
    assert words == "acted with mppi:horizon=3 and greedy, not with sampled actions"
    assert learning_curve.acted_with(planned[1:2]) == ""
