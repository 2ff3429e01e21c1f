"""A limit on dollars, tokens and hours that many threads share, and that holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from experiments.llm.wire import Usage

POLL = 0.2
"""Seconds after which a thread that waits for others looks whether it is to stop."""


class BudgetSpent(Exception):
    """No further call may be made; what was paid for is kept, and a larger limit resumes from there."""


class Uncountable(BudgetSpent):
    """A limit cannot be kept: what the calls take is not reported."""


class Cost(NamedTuple):
    """What one call takes."""

    tokens: int = 0
    """Input and output together."""
    usd: float = 0.0


class Estimate(NamedTuple):
    """What a call will take, before it is made."""

    least: Cost
    """It takes more than this."""
    most: Cost
    """It takes no more than this, as far as is known beforehand."""
    likely: Cost | None = None
    """A good deal above what such calls took (None: there were none)."""


NOTHING = Estimate(Cost(), Cost())


class Budget:
    """Counts what the calls cost and says when to stop.

    Dollars and tokens are of the whole comparison: a resumed one charges what its finished episodes
    cost, and replies that are replayed from the cache are charged as they were the first time. Hours are of
    this process.

    Calls under way are counted ahead with the most that each may take. Where that leaves no room for another
    one, it waits for them to end, and then goes alone as long as its likely cost is within the limit.

    Args:
      max_usd: US dollars by the price table.
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
        self.usd, self.tokens, self.untold, self.unpriced = 0.0, 0, 0, 0
        self._clock, self._start = clock, clock()
        self._changed = threading.Condition()
        self._ahead = Cost()
        self._calls = 0

    def charge(self, usage: Usage | None, usd: float | None) -> None:
        """Add what one call cost; None is what the endpoint did not tell or the table does not know."""
        with self._changed:
            self._add(usage, usd)

    def _add(self, usage: Usage | None, usd: float | None) -> None:
        self.usd += usd or 0.0
        self.untold += usage is None
        self.unpriced += usage is not None and usd is None
        if usage is not None:
            self.tokens += usage.input + usage.output

    @property
    def seconds_left(self) -> float | None:
        """Until the hours are over, at least 0; None without a limit."""
        if self.max_hours is None:
            return None
        return max(0.0, 3600 * self.max_hours - (self._clock() - self._start))

    def check(self) -> None:
        """Whether anything may be asked at all.

        Raises:
          BudgetSpent: a limit is reached, or the endpoint does not tell what the limit is about.
        """
        with self._changed:
            self._check(Cost())

    def _check(self, least: Cost) -> None:
        if self.seconds_left == 0.0:
            hours = (self._clock() - self._start) / 3600
            raise BudgetSpent(f"--max-hours {self.max_hours:g} is spent ({hours:.3g} hours)")
        limits = {"--max-usd": self.max_usd, "--max-tokens": self.max_tokens}
        limited = [name for name, limit in limits.items() if limit is not None]
        if self.untold and limited:
            raise Uncountable(
                f"{limited[0]} cannot be kept: the endpoint does not tell its tokens; "
                "leave it out (--max-hours holds)"
            )
        if self.unpriced and self.max_usd is not None:
            raise Uncountable(
                "--max-usd cannot be kept: no price is known for requests of this size; "
                "give one with --prices, or use --max-tokens instead"
            )
        for name, limit, spent, more, unit in (
            ("--max-usd", self.max_usd, self.usd, least.usd, "dollars"),
            ("--max-tokens", self.max_tokens, self.tokens, least.tokens, "tokens"),
        ):
            if limit is not None and (spent >= limit or spent + more > limit):
                raise BudgetSpent(f"{name} {limit} is spent ({spent:.6g} {unit})")

    def reserve(self, estimate: Estimate, stopped: Callable[[], bool] = lambda: False) -> Cost:
        """Before each call: wait until there is room for it; what is counted ahead, for `settle`.

        Args:
          stopped: whether to give up waiting.

        Raises:
          BudgetSpent: a limit is reached, or the endpoint does not tell what the limit is about.
        """
        with self._changed:
            while True:
                self._check(estimate.least)
                ahead = self._granted(estimate)
                if ahead is not None:
                    self._ahead = _sum(self._ahead, ahead)
                    self._calls += 1
                    return ahead
                self._changed.wait(POLL)
                if stopped():
                    raise BudgetSpent("it was stopped")

    def _granted(self, estimate: Estimate) -> Cost | None:
        """What to count ahead for a call that may begin now; None: it waits for others."""
        if self._fits(_sum(self._ahead, estimate.most)):
            return estimate.most
        if self._calls:
            return None
        if estimate.likely is not None and not self._fits(estimate.likely):
            raise BudgetSpent(self._little(estimate.likely))
        return estimate.most

    def _fits(self, more: Cost) -> bool:
        dollars = self.max_usd is None or self.usd + more.usd <= self.max_usd
        return dollars and (self.max_tokens is None or self.tokens + more.tokens <= self.max_tokens)

    def _little(self, likely: Cost) -> str:
        if self.max_usd is not None and self.usd + likely.usd > self.max_usd:
            name, limit, spent, unit = "--max-usd", self.max_usd, self.usd, "dollars"
        else:
            name, limit, spent, unit = "--max-tokens", self.max_tokens, self.tokens, "tokens"
        return f"{name} {limit} is spent ({spent:.6g} {unit}, and another call may exceed it)"

    def settle(self, ahead: Cost, *costs: tuple[Usage | None, float | None]) -> None:
        """After each call: what it took, as for `charge`; nothing for one that was not billed.

        Args:
          ahead: what `reserve` counted for it.
        """
        with self._changed:
            self._ahead = Cost(self._ahead.tokens - ahead.tokens, self._ahead.usd - ahead.usd)
            self._calls -= 1
            if not self._calls:
                self._ahead = Cost()  # without what rounding left
            for cost in costs:
                self._add(*cost)
            self._changed.notify_all()


def _sum(a: Cost, b: Cost) -> Cost:
    return Cost(a.tokens + b.tokens, a.usd + b.usd)
