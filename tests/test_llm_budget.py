import threading

import pytest

from experiments.llm.budget import Budget, BudgetSpent
from experiments.llm.wire import Usage


def test_without_a_limit_nothing_is_ever_spent():
    budget = Budget()
    budget.charge(Usage(10**9, 10**9), 1e9)
    budget.charge(None, None)
    budget.check()


def test_tokens_in_and_out_count():
    budget = Budget(max_tokens=100)
    budget.charge(Usage(60, 39), None)
    budget.check()
    budget.charge(Usage(0, 1), None)
    with pytest.raises(BudgetSpent, match="--max-tokens 100"):
        budget.check()


def test_dollars_count_and_unknown_ones_do_not():
    budget = Budget(max_usd=0.5)
    budget.charge(Usage(1, 1), 0.49)
    budget.charge(Usage(10**6, 1), None)
    budget.check()
    budget.charge(Usage(1, 1), 0.01)
    with pytest.raises(BudgetSpent, match="--max-usd 0.5"):
        budget.check()


def test_hours_count_from_the_start():
    now = [100.0]
    budget = Budget(max_hours=1.0, clock=lambda: now[0])
    now[0] += 3599
    budget.check()
    now[0] += 1
    with pytest.raises(BudgetSpent, match="--max-hours 1"):
        budget.check()


def test_tokens_that_nobody_tells_cannot_be_limited():
    budget = Budget(max_tokens=100)
    budget.charge(None, None)
    with pytest.raises(BudgetSpent, match="does not tell"):
        budget.check()


def test_nothing_is_spent_before_the_first_call():
    Budget(max_usd=0.01, max_tokens=1, max_hours=1.0).check()


def test_many_threads_lose_no_token():
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
