"""Asking an endpoint: retries, the price, the budget, the cache, and a key that is never shown.

A reply comes from the cache if it was paid for before. Otherwise the endpoint is asked until it answers, a
limit of patience is reached or the failure is one that a retry cannot fix. What the endpoint says goes
through `Secret.hide` before it is shown.

An endpoint whose greedy replies are functions of the request alone need not be asked the same twice: the
reply is repeated, for no tokens, as none are read or written.
"""

from __future__ import annotations

import email.utils
import json
import math
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from dreamer.schema import ConfigError
from experiments.llm import address
from experiments.llm import cache as caching
from experiments.llm.budget import NOTHING, Budget, Cost, Estimate
from experiments.llm.cache import Cache
from experiments.llm.prices import Prices, price
from experiments.llm.secret import Secret, is_loopback, key_for
from experiments.llm.transport import Answer, Connections, NoAnswer
from experiments.llm.wire import APIS, Broken, Reply, Request, Usage, error_in, usage_in

AGAIN = (408, 409, 425, 429)
"""Statuses below 500 after which asking again may help."""
NOT_UNDERSTOOD = (400, 422)
"""What a server answers that does not know a field of the request."""
HOPELESS = "insufficient_quota"
"""A 429 that waiting does not fix."""
SHARED = "any"
"""The sample of replies that all steps share."""
LONGEST_WORDS = 300
"""Characters of an error that are repeated."""
CHANGES: dict[str, str | bool | None] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": None,
    "seed": None,
    "stream": False,
}
"""What becomes of a field that an endpoint refuses: another name, nothing, or a value that is said."""
STREAMS = ("text/event-stream", "application/x-ndjson", "application/jsonl")
TOO_LONG = re.compile(r"context|too (large|many|long)|exceed|at most|maximum", re.IGNORECASE)
"""A limit on the output is named, but not because of its name."""
BYTES_PER_TOKEN = 2
"""At least, until the endpoint has told; most texts have about four."""
MOST_BYTES_PER_TOKEN = 16
MARGIN = 1.25
"""By which another call may take more for its size than the dearest one so far."""


class LLMError(Exception):
    """The endpoint failed for good; the message says how and never holds a key."""


class Rejected(LLMError):
    """The endpoint did not understand the request; `field` is one it names that can be changed."""

    def __init__(self, why: str, field: str | None = None):
        super().__init__(why)
        self.field = field


class ReplayMiss(LLMError):
    """Only the cache may be asked, and it does not have the reply."""


@dataclass(frozen=True)
class Patience:
    """How long an endpoint is asked for one reply."""

    timeout: float = 120.0
    """Seconds without a byte before an attempt has failed."""
    longest: float = 600.0
    """Seconds that an attempt may take in all."""
    attempts: int = 6
    """Largest number of attempts."""
    seconds: float = 600.0
    """No attempt begins later than this after the first one."""
    first_delay: float = 1.0
    """Seconds before the second attempt; each further wait is twice as long."""
    longest_delay: float = 60.0
    """Seconds that no wait of our own choice exceeds; what the endpoint asks for may."""


class _Failure(NamedTuple):
    """An attempt that gave no reply."""

    what: str
    again: bool
    """Whether another attempt may help."""
    after: float | None = None
    """Seconds the endpoint wants us to wait."""
    status: int = 0
    field: str | None = None
    """Of the request, which can be changed."""
    billed: bool = False
    """Whether it may have been billed."""
    usage: Usage | None = None
    """What it was billed for, where that is told."""


class LLMClient:
    """A model behind an address; safe to use from several threads.

    Args:
      base_url: up to and with the version, as "http://127.0.0.1:8080/v1" (empty: from the environment
        variable of the API, OPENAI_BASE_URL, else the provider's own).
      model: the name it is asked for by.
      api_key_env: the environment variable that holds the key (empty: the API's usual one); servers on this
        machine need none.
      api: "openai" or "anthropic".
      tokens_field: what limits the output (empty: max_completion_tokens at OpenAI, else max_tokens).
      extra_body: fields that every request has besides ours, as {"reasoning_effort": "low"}.
      constraints: in which ways it is asked for valid answers, the best first (None: those of the API).
      plain_http: the key may go over plain http to another machine.
      free: a server of our own, which costs nothing.
      repeats: its greedy replies are functions of the request alone, so that equal requests share one.
      prices: from `prices.load`.
      sleep: an interruptible wait, for callers that stop many threads at once.
      stopped: whether they are to stop.
      draw: from [0, 1), the jitter of the waits.

    Raises:
      ConfigError: an address, a key or a package is missing or invalid, or a limit in dollars has no price.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "",
        api: str = "openai",
        tokens_field: str = "",
        extra_body: Mapping[str, Any] | None = None,
        constraints: tuple[str, ...] | None = None,
        plain_http: bool = False,
        free: bool = False,
        repeats: bool = False,
        prices: Prices | None = None,
        budget: Budget | None = None,
        cache: Cache | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], object] = time.sleep,
        stopped: Callable[[], bool] = lambda: False,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ):
        if api not in APIS:
            raise ConfigError(f"there is no API {api!r}; there are {' and '.join(APIS)}")
        self.api, self._api, self.model = api, APIS[api], model
        given = base_url or os.environ.get(self._api.base_url_env) or self._api.base_url
        self.base_url = address.checked(given, self._api.path)
        parts = urlsplit(self.base_url)
        host = parts.hostname or ""
        self.host, self.is_local = host, is_loopback(host)
        # In the cache a server on this machine has no port: it is another one at every start.
        self._endpoint = "loopback" if self.is_local else parts.netloc
        usual = "max_completion_tokens" if host == "api.openai.com" else "max_tokens"
        self.tokens_field = tokens_field or usual
        self.extra_body = dict(extra_body or {})
        self._ways = self._api.constraints if constraints is None else constraints
        self._repeats, self._free = repeats, free
        self.price = price(prices or {}, model, host)
        self.budget = budget or Budget()
        self.patience = patience or Patience()
        self.refused: dict[str, str] = {}
        """Constraints that the endpoint did not understand, and its words; they are not sent again."""
        self.changes: dict[str, str | bool | None] = {}
        """Fields that it refuses for this model, and what became of them, as in `CHANGES`."""
        self._cache, self._sleep, self._draw, self._clock = cache, sleep, draw, clock
        self._stopped, self._lock = stopped, threading.Lock()
        self._first, self._begun = threading.Lock(), threading.Event()
        self._seen = _Seen()
        if self.budget.max_usd is not None and self.price is None and not free:
            raise ConfigError(
                f"--max-usd needs a price for {model} at {host}: give one with --prices, "
                "or limit with --max-tokens"
            )
        replays = cache is not None and cache.replay_only
        self._secret = (
            Secret()
            if replays
            else key_for(parts.scheme, host, api_key_env, self._api.key_env, in_the_clear=plain_http)
        )
        if self._secret.hide(self.base_url) != self.base_url:
            raise ConfigError(address.NO_KEYS)
        self._http = (
            None
            if replays
            else Connections(self.patience.timeout, is_local=self.is_local, encrypted=parts.scheme == "https")
        )

    def __repr__(self) -> str:
        return f"LLMClient({self.model} at {self.base_url})"

    @property
    def settings(self) -> dict[str, Any]:
        """What a disclosure says about the endpoint, as JSON can say it."""
        fields = {
            "model": self.model,
            "api": self.api,
            "host": self.host,
            "tokens_field": self.tokens_field,
            "extra_body": self.extra_body,
        }
        return self._secret.hide_in(fields)

    def ask(self, request: Request, *, sample: str = "") -> Reply:
        """The reply to a request, from the cache if it was paid for before.

        Where only some answers are valid, the server is asked to write no others, in the best way that it
        has not refused: a JSON schema, a grammar, nothing.

        Args:
          sample: tells equal requests apart that are to be answered each for itself.

        Raises:
          LLMError: the endpoint failed for good.
          BudgetSpent: nothing more may be asked.
        """
        bodies = [(constraint, self._body(request, constraint)) for constraint in self._constraints(request)]
        reply = self._replayed(bodies, sample)
        if reply is None:
            return self._asked(bodies, sample, request)
        reply = self._priced(reply)
        self.budget.charge(reply.usage, self.usd(reply.usage))
        if reply.lost is not None:
            self.budget.charge(reply.lost, reply.lost_usd)
        return reply

    def usd(self, usage: Usage | None) -> float | None:
        """What tokens cost, None where that is unknown."""
        if self.price is not None and usage is not None:
            return self.price.usd(usage)
        return 0.0 if self._free else None

    def _priced(self, reply: Reply) -> Reply:
        known = self.price is not None
        lost_usd = self._most_usd(reply.lost) if known and reply.lost is not None else None
        return reply._replace(usd=self.usd(reply.usage) if known else None, lost_usd=lost_usd)

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()

    def __enter__(self) -> LLMClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _constraints(self, request: Request) -> tuple[str | None, ...]:
        if not request.actions:
            return (None,)
        return (*self._ways, None)

    def _body(self, request: Request, constraint: str | None) -> dict[str, Any]:
        return self._api.encode(request, self.model, constraint, self.tokens_field) | self.extra_body

    def _replayed(self, bodies: list[tuple[str | None, dict[str, Any]]], sample: str) -> Reply | None:
        if self._cache is None:
            return None
        keys = [self._keys(body, sample) for _, body in bodies]
        for exact, *_ in keys:
            if reply := self._cache.get(exact):
                return reply
        for shared in (key for _, *more in keys for key in more):
            if reply := self._cache.get(shared):
                return reply._replace(repeated=True, failures=(), usage=reply.usage and Usage(0, 0))
        if self._cache.replay_only:
            raise ReplayMiss(
                f"the cache has no reply of {self.model} to this request, and nothing else may be asked"
            )
        return None

    def _keys(self, body: dict[str, Any], sample: str) -> list[str]:
        """What a reply is found by: its own sample and, where that makes no difference, any."""
        greedy = self._repeats and body.get("temperature") == 0
        samples = (sample, SHARED) if greedy else (sample,)
        return [caching.key(self._endpoint, body, name) for name in samples]

    def _asked(self, bodies: list[tuple[str | None, dict[str, Any]]], sample: str, request: Request) -> Reply:
        """The reply to the first body that the endpoint understands.

        The very first request finds out what that is, and others wait for it.
        """
        if not self._begun.is_set():
            with self._first:
                if not self._begun.is_set():
                    try:
                        return self._understood(bodies, sample, request)
                    finally:
                        self._begun.set()
        return self._understood(bodies, sample, request)

    def _understood(
        self, bodies: list[tuple[str | None, dict[str, Any]]], sample: str, request: Request
    ) -> Reply:
        refused: dict[str, str] = {}
        changes = dict(self.changes)
        for constraint, body in bodies:
            if constraint in self.refused:
                continue
            try:
                reply = self._with_changes(body, changes, request)._replace(constraint=constraint)
            except Rejected as error:
                if constraint is None:
                    raise
                refused[constraint] = str(error)
                continue
            with self._lock:  # only now: a request that is refused in every form is wrong for another reason
                self.refused = self.refused | refused
                self.changes = self.changes | changes
            if self._cache is not None:
                key, *others = self._keys(body, sample)  # of what was wanted, whatever had to be changed
                self._cache.put(key, self._secret.hide_in(_changed(body, changes)), reply, *others)
            return reply
        raise AssertionError("the last body has no constraint")

    def _with_changes(
        self, body: dict[str, Any], changes: dict[str, str | bool | None], request: Request
    ) -> Reply:
        """The reply to a body, with every field changed once that the endpoint refuses.

        Args:
          changes: gets those that were needed.
        """
        while True:
            try:
                reply = self._persist(_changed(body, changes), request)
            except Rejected as error:
                if error.field is None or error.field in changes or error.field in changes.values():
                    raise
                changes[error.field] = CHANGES[error.field]
                continue
            left_out = sorted(field for field, now in changes.items() if now is None and field in body)
            return reply._replace(unsent=tuple(left_out))

    def _persist(self, body: dict[str, Any], request: Request) -> Reply:
        """Ask until there is a reply."""
        start, failures, lost = self._clock(), [], list[Usage]()
        for delay in self._delays():
            outcome = self._counted(body, request, lost)
            if isinstance(outcome, Reply):
                all_lost = Usage(sum(u.input for u in lost), sum(u.output for u in lost)) if lost else None
                return self._priced(outcome._replace(failures=tuple(failures), lost=all_lost))
            failures.append(outcome.what)
            if not outcome.again:
                why = f"{self.model} at {self.host}: {outcome.what}"
                if outcome.status in NOT_UNDERSTOOD or outcome.field is not None:
                    raise Rejected(why, outcome.field)
                raise LLMError(why)
            wait = max(delay, outcome.after or 0.0)
            if self._clock() - start + wait > self.patience.seconds:
                break
            if len(failures) < self.patience.attempts:
                left = self.budget.seconds_left
                self._sleep(wait if left is None else min(wait, left))
        attempts = f"{len(failures)} attempt{'s' * (len(failures) > 1)}"
        raise LLMError(f"{self.model} at {self.host} gave no reply in {attempts}, at last: {failures[-1]}")

    def _counted(self, body: dict[str, Any], request: Request, lost: list[Usage]) -> Reply | _Failure:
        """One attempt, counted ahead and then as what it was.

        Args:
          lost: gets what it may be billed for without a reply.
        """
        most = self._most(body, request)
        ahead = self.budget.reserve(self._estimate(body, request, most), self._stopped)
        costs: list[tuple[Usage | None, float | None]] = []
        try:
            outcome = self._attempt(body)
            if isinstance(outcome, Reply):
                costs.append((outcome.usage, self.usd(outcome.usage)))
                if outcome.usage is not None:
                    self._seen = self._seen.with_(outcome.usage, _bytes(body))
            elif outcome.billed:
                lost.append(outcome.usage or most)
                costs.append((lost[-1], self._most_usd(lost[-1])))
            return outcome
        finally:
            self.budget.settle(ahead, *costs)

    def _most(self, body: dict[str, Any], request: Request) -> Usage:
        """The most tokens that a call may take."""
        limits = [body.get(name) for name in ("max_tokens", "max_completion_tokens", self.tokens_field)]
        limit = next((x for x in limits if isinstance(x, int)), request.max_tokens)
        return Usage(math.ceil(_bytes(body) * self._seen.per_byte * MARGIN), max(limit, self._seen.output))

    def _estimate(self, body: dict[str, Any], request: Request, most: Usage) -> Estimate:
        if self.budget.max_usd is None and self.budget.max_tokens is None:
            return NOTHING
        words = sum(len(message.content) for message in request.messages)
        least = Usage(words // MOST_BYTES_PER_TOKEN + 1, 1)
        likely = None
        if self._seen.output:
            likely = self._cost(most._replace(output=min(most.output, math.ceil(self._seen.output * MARGIN))))
        return Estimate(self._cost(least), self._cost(most), likely)

    def _cost(self, usage: Usage) -> Cost:
        return Cost(usage.input + usage.output, self._most_usd(usage) or 0.0)

    def _most_usd(self, usage: Usage) -> float | None:
        """The most that tokens may cost, whatever a cache did for them and however many there are."""
        if self.price is None:
            return self.usd(usage)
        price = replace(self.price, up_to=None)
        ways = (usage._replace(cached=None, written=None), usage._replace(cached=None, written=usage.input))
        return max(price.usd(way) or 0.0 for way in ways)

    def _delays(self) -> Iterator[float]:
        """Seconds to wait after each attempt: twice as long every time, times 0.5 to 1.5 by chance."""
        for attempt in range(self.patience.attempts):
            longest = min(self.patience.longest_delay, self.patience.first_delay * 2**attempt)
            yield longest * (0.5 + self._draw())

    def _attempt(self, body: dict[str, Any]) -> Reply | _Failure:
        assert self._http is not None
        start, left = self._clock(), self.budget.seconds_left
        url, headers = self.base_url + self._api.path, self._api.headers(self._secret.reveal())
        longest = self.patience.longest if left is None else min(self.patience.longest, left)
        try:
            answer = self._http.post(url, body, headers, longest)
        except NoAnswer as none:
            return _Failure(self._secret.hide(str(none)), again=True, billed=none.sent)
        text = self._secret.hide(answer.text)
        value = _parsed(text)
        if answer.status != 200 or address.is_page(answer.headers, text):
            return self._failed(answer, value, text)
        if _is_stream(answer.headers, text):
            why = (
                "it answers with a stream (text/event-stream), which is not read: switch streaming off there"
            )
            return _Failure(why, again=False, field="stream", billed=True, usage=usage_in(text))
        if answer.flaw is not None:
            again = "cut off" not in answer.flaw
            return _Failure(self._secret.hide(answer.flaw), again, billed=True, usage=usage_in(text))
        try:
            reply = self._api.decode(value)
        except Broken as error:
            usage = usage_in(text)
            billed = usage is not None or error_in(value) is None
            return _Failure(f"broken reply ({_short(str(error))})", again=True, billed=billed, usage=usage)
        request_id = (
            reply.request_id or answer.headers.get("x-request-id") or answer.headers.get("request-id")
        )
        reply = reply._replace(request_id=request_id, latency=self._clock() - start)
        # Again: a key may have come in parts.
        texts = {name: v for name, v in reply._asdict().items() if isinstance(v, str)}
        return reply._replace(**self._secret.hide_in(texts))

    def _failed(self, answer: Answer, value: Any, text: str) -> _Failure:
        """What an answer that is no reply means."""
        words = _short(error_in(value) or text)
        status = answer.status
        hint = address.hint(self.base_url, self._api.path, answer, error_in(value))
        if hint is not None:
            return _Failure(self._secret.hide(hint), again=False, status=status)
        again = (status in AGAIN or status >= 500) and HOPELESS not in text
        what = f"HTTP {status}" + (f" ({words})" if words else "")
        after = seconds_of(answer.headers.get("retry-after"), datetime.now(UTC))
        field = _refused(value, words) if status in NOT_UNDERSTOOD else None
        return _Failure(what, again, after, status, field)


class _Seen(NamedTuple):
    """The dearest call so far."""

    per_byte: float = 1 / BYTES_PER_TOKEN / MARGIN
    """Tokens for every byte of a request."""
    output: int = 0

    def with_(self, usage: Usage, size: int) -> _Seen:
        per_byte = usage.input / size
        return _Seen(
            max(self.per_byte, per_byte) if self.output else per_byte, max(self.output, usage.output, 1)
        )


def _changed(body: dict[str, Any], changes: Mapping[str, str | bool | None]) -> dict[str, Any]:
    """A request as the endpoint wants it."""
    sent = dict(body)
    for field, now in changes.items():
        if isinstance(now, bool):
            sent[field] = now
        elif field in sent:
            value = sent.pop(field)
            sent |= {} if now is None else {now: value}
    return sent


def _refused(value: Any, words: str) -> str | None:
    """The field that an error is about, if it is one that can be changed."""
    error = value.get("error") if isinstance(value, Mapping) else None
    param = error.get("param") if isinstance(error, Mapping) else None
    named = [param, *re.findall(r"\w+", words)]
    field = next((name for name in named if isinstance(name, str) and name in CHANGES), None)
    return None if field is None or (field.startswith("max_") and TOO_LONG.search(words)) else field


def _is_stream(headers: Mapping[str, str], text: str) -> bool:
    """Whether a reply comes in pieces, as servers stream it."""
    kind = headers.get("content-type", "").lower().startswith(STREAMS)
    return kind or re.match(r"\s*(data|event|id|retry)?:", text) is not None


def _bytes(body: Mapping[str, Any]) -> int:
    return len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))


def seconds_of(retry_after: str | None, now: datetime) -> float | None:
    """How long an endpoint asks us to wait: it says seconds or a date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(retry_after) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_WORDS else words[:LONGEST_WORDS] + "…"
