import threading
import time

import pytest

from experiments.llm.budget import NOTHING, Budget, BudgetSpent, Cost, Estimate, Uncountable
from experiments.llm.wire import Usage


def test_budget_without_limits_is_never_spent():
    budget = Budget()
    budget.charge(Usage(10**9, 10**9), 1e9)
    budget.charge(None, None)
    budget.check()


def test_budget_max_tokens_counts_input_and_output():
    budget = Budget(max_tokens=100)
    budget.charge(Usage(60, 39), None)
    budget.check()
    budget.charge(Usage(0, 1), None)
    with pytest.raises(BudgetSpent, match="--max-tokens 100"):
        budget.check()


def test_budget_max_usd_counts_cost():
    budget = Budget(max_usd=0.5)
    budget.charge(Usage(1, 1), 0.49)
    budget.check()
    budget.charge(Usage(1, 1), 0.01)
    with pytest.raises(BudgetSpent, match="--max-usd 0.5"):
        budget.check()


@pytest.mark.parametrize(
    ("usage", "said"), [(None, "does not tell its tokens"), (Usage(1, 1), "no price is known")]
)
def test_budget_max_usd_unknown_cost_raises_uncountable(usage, said):
    budget = Budget(max_usd=0.5)
    budget.charge(usage, None)
    with pytest.raises(Uncountable, match=f"--max-usd cannot be kept: .*{said}"):
        budget.check()
    without = Budget(max_tokens=9 if usage else None)
    without.charge(usage, None)
    without.check()


def test_budget_max_hours_counts_from_creation():
    now = [100.0]
    budget = Budget(max_hours=1.0, clock=lambda: now[0])
    now[0] += 3599
    budget.check()
    now[0] += 1
    with pytest.raises(BudgetSpent, match="--max-hours 1"):
        budget.check()


def test_budget_max_tokens_unreported_usage_raises_budget_spent():
    budget = Budget(max_tokens=100)
    budget.charge(None, None)
    with pytest.raises(BudgetSpent, match="does not tell"):
        budget.check()


def test_budget_before_first_call_is_not_spent():
    Budget(max_usd=0.01, max_tokens=1, max_hours=1.0).check()


def test_budget_charged_by_many_threads_loses_nothing():
    budget = Budget()
    threads = [
        threading.Thread(target=lambda: [budget.charge(Usage(1, 1), 0.5) for _ in range(500)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (budget.tokens, budget.usd) == (8000, 2000.0)


def costs(usd, most=None, likely=None):
    make = lambda dollars: Cost(1, dollars)
    return Estimate(make(usd), make(most or usd), likely and make(likely))


def test_budget_reserved_calls_count_in_advance():
    budget = Budget(max_usd=2.0)
    spent, together, lock = [], [], threading.Lock()

    def call():
        try:
            ahead = budget.reserve(costs(0.1, 0.6))
        except BudgetSpent:
            return
        with lock:
            together.append(1)
            assert sum(together) * 0.5 + sum(spent) <= 2.0
        time.sleep(0.01)
        with lock:
            together.append(-1)
            spent.append(0.5)
        budget.settle(ahead, (Usage(1, 1), 0.5))

    threads = [threading.Thread(target=call) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(spent) == budget.usd == 2.0 or sum(spent) == 1.5
    assert budget.usd <= 2.0


def test_budget_reserve_exceeding_call_waits_for_others():
    budget = Budget(max_usd=1.0)
    ahead = budget.reserve(costs(0.1, 0.9))
    began = threading.Event()

    def second():
        other = budget.reserve(costs(0.1, 0.9))
        began.set()
        budget.settle(other)

    thread = threading.Thread(target=second)
    thread.start()
    assert not began.wait(0.1)
    budget.settle(ahead, (Usage(1, 1), 0.05))
    assert began.wait(10)
    thread.join()


def test_budget_reserve_waiting_is_ended_by_stop():
    budget = Budget(max_usd=1.0)
    budget.reserve(costs(0.1, 0.9))
    with pytest.raises(BudgetSpent, match="stopped"):
        budget.reserve(costs(0.1, 0.9), lambda: True)


def test_budget_reserve_alone_uses_likely_cost():
    budget = Budget(max_usd=1.0)
    budget.settle(budget.reserve(costs(0.1, 5.0, 0.9)))
    with pytest.raises(BudgetSpent, match="another call may exceed it"):
        budget.reserve(costs(0.1, 5.0, 1.1))
    budget.settle(budget.reserve(costs(0.1, 5.0)))  # nobody knows yet
    with pytest.raises(BudgetSpent, match="--max-usd 1"):
        budget.reserve(costs(1.1))


def test_budget_settle_unbilled_call_costs_nothing():
    budget = Budget(max_tokens=10)
    for _ in range(20):
        budget.settle(budget.reserve(Estimate(Cost(1), Cost(9))))
    assert budget.tokens == 0


def test_budget_reserve_without_limits_does_not_wait():
    budget = Budget()
    for _ in range(100):
        budget.reserve(NOTHING)
    assert budget.seconds_left is None


def test_budget_seconds_left_counts_down_to_zero():
    now = [0.0]
    budget = Budget(max_hours=1.0, clock=lambda: now[0])
    now[0] = 3000.0
    assert budget.seconds_left == 600.0
    now[0] = 9000.0
    assert budget.seconds_left == 0.0
    with pytest.raises(BudgetSpent, match="--max-hours"):
        budget.reserve(NOTHING)
