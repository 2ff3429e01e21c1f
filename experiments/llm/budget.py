"""A limit on dollars, tokens and hours that many threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from experiments.llm.wire import Usage


class BudgetSpent(Exception):
    """No further call may be made; what was paid for is kept, and a larger limit goes on from there."""


class Budget:
    """Counts what the calls cost and says when to stop.

    Dollars and tokens are of the whole comparison: whoever resumes one charges what its finished episodes
    cost, and replies that are replayed from the cache are charged as they were the first time. Hours are of
    this process. Calls under way when a limit is reached still end, so the last of them may exceed it.

    Args:
      max_usd: US dollars by the price table; calls without a known price (local models) do not count.
      max_tokens: input and output together.
      max_hours: from the making of this object.
      clock: seconds.
    """

    def __init__(
        self,
        max_usd: float | None = None,
        max_tokens: int | None = None,
        max_hours: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.max_usd, self.max_tokens, self.max_hours = max_usd, max_tokens, max_hours
        self.usd, self.tokens, self.untold = 0.0, 0, 0
        self._clock, self._start = clock, clock()
        self._lock = threading.Lock()

    def charge(self, usage: Usage | None, usd: float | None) -> None:
        """Add what one call cost; None is what the endpoint did not tell or the table does not know."""
        with self._lock:
            self.usd += usd or 0.0
            self.untold += usage is None
            if usage is not None:
                self.tokens += usage.input + usage.output

    def check(self) -> None:
        """Before each call.

        Raises:
          BudgetSpent: a limit is reached, or the endpoint does not tell what the limit is about.
        """
        with self._lock:
            usd, tokens, untold = self.usd, self.tokens, self.untold
        if self.max_usd is not None and usd >= self.max_usd:
            raise BudgetSpent(f"--max-usd {self.max_usd:g} is spent ({usd:.4f} dollars)")
        if self.max_tokens is not None and tokens >= self.max_tokens:
            raise BudgetSpent(f"--max-tokens {self.max_tokens} is spent ({tokens} tokens)")
        hours = (self._clock() - self._start) / 3600
        if self.max_hours is not None and hours >= self.max_hours:
            raise BudgetSpent(f"--max-hours {self.max_hours:g} is spent ({hours:.2f} hours)")
        if untold and self.max_tokens is not None:
            raise BudgetSpent("--max-tokens cannot be kept: the endpoint does not tell its tokens")
