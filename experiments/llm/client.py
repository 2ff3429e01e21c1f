"""Asking an endpoint: retries, the price, the budget, the cache, and a key that nobody ever sees.

A reply comes from the cache if it was paid for before. Otherwise the endpoint is asked until it answers, a
limit of patience is reached or the failure is one that asking again cannot mend. What the endpoint says goes
through `Secret.hide` before anybody reads it.

An endpoint whose greedy replies are functions of the request alone need not be asked the same twice: the
reply is repeated, for no tokens, as none are read or written.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from dreamer.schema import ConfigError
from experiments.llm import cache as caching
from experiments.llm.budget import Budget
from experiments.llm.cache import Cache
from experiments.llm.prices import Prices, price
from experiments.llm.wire import APIS, Broken, Reply, Request, Usage, error_in

AGAIN = (408, 409, 425, 429)
"""Statuses below 500 after which asking again may help."""
NOT_UNDERSTOOD = (400, 422)
"""What a server answers that does not know a field of the request."""
HOPELESS = "insufficient_quota"
"""A 429 that no waiting mends."""
SHORTEST_SECRET = 8
"""Characters; shorter keys are placeholders ("none"), and hiding them would garble replies."""
SHARED = "any"
"""The sample of replies that all steps share."""
LONGEST_WORDS = 300
"""Characters of an error that are repeated."""


class LLMError(Exception):
    """The endpoint failed for good; the message says how and never holds a key."""


class Rejected(LLMError):
    """The endpoint did not understand the request."""


class ReplayMiss(LLMError):
    """Only the cache may be asked, and it does not have the reply."""


@dataclass(frozen=True)
class Patience:
    """How long an endpoint is asked for one reply."""

    timeout: float = 120.0
    """Seconds without a byte before an attempt has failed."""
    attempts: int = 6
    """Largest number of attempts."""
    seconds: float = 600.0
    """No attempt begins later than this after the first one."""
    first_delay: float = 1.0
    """Seconds before the second attempt; each further wait is twice as long."""
    longest_delay: float = 60.0
    """Seconds that no wait of our own choice exceeds; what the endpoint asks for may."""


class Secret:
    """A key that can be sent and not be shown."""

    def __init__(self, key: str = ""):
        self._key = key

    def __repr__(self) -> str:
        return "Secret(***)" if self._key else "Secret(none)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret is not written down")

    def told(self) -> str:
        """The key, for the header it is sent in."""
        return self._key

    def hide(self, text: str) -> str:
        """The text without the key, as it is or escaped, and without words that begin as it does."""
        if len(self._key) < SHORTEST_SECRET:
            return text
        for form in {self._key, json.dumps(self._key)[1:-1], quote(self._key, safe="")}:
            text = text.replace(form, "***")
        return re.sub(re.escape(self._key[:SHORTEST_SECRET]) + r"[^\s\"'<>\\]*", "***", text)


class _Failure(NamedTuple):
    """An attempt that gave no reply."""

    what: str
    again: bool
    """Whether another attempt may help."""
    after: float | None = None
    """Seconds the endpoint wants us to wait."""
    status: int = 0


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
      repeats: its greedy replies are functions of the request alone, so that equal requests share one.
      prices: from `prices.load`.
      sleep: whoever stops many threads at once passes something that can be woken.
      draw: from [0, 1), the jitter of the waits.

    Raises:
      ConfigError: an address, a key or a package is missing or cannot be, or a limit in dollars has no price.
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
        repeats: bool = False,
        prices: Prices | None = None,
        budget: Budget | None = None,
        cache: Cache | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], object] = time.sleep,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ):
        if api not in APIS:
            raise ConfigError(f"there is no API {api!r}; there are {' and '.join(APIS)}")
        self.api, self._api, self.model = api, APIS[api], model
        self.base_url = _address(base_url or os.environ.get(self._api.base_url_env) or self._api.base_url)
        host = urlsplit(self.base_url).hostname or ""
        self.host, self.is_local = host, is_loopback(host)
        # In the cache a server on this machine has no port: it is another one at every start.
        self._endpoint = "loopback" if self.is_local else urlsplit(self.base_url).netloc
        usual = "max_completion_tokens" if host == "api.openai.com" else "max_tokens"
        self.tokens_field = tokens_field or usual
        self.extra_body = dict(extra_body or {})
        self._ways = self._api.constraints if constraints is None else constraints
        self._repeats = repeats
        self.price = price(prices or {}, model, host)
        self.budget = budget or Budget()
        self.patience = patience or Patience()
        self.refused: dict[str, str] = {}
        """Constraints that the endpoint did not understand, and its words; they are not sent again."""
        self._cache, self._sleep, self._draw, self._clock = cache, sleep, draw, clock
        self._lock = threading.Lock()
        if self.budget.max_usd is not None and self.price is None and not self.is_local:
            raise ConfigError(f"--max-usd needs a price for {model} at {host}: give one with --prices")
        replays = cache is not None and cache.replay_only
        self._secret = Secret() if replays else _secret(api_key_env or self._api.key_env, self.is_local, host)
        self._http = None if replays else _connections(self.patience.timeout, self.is_local)

    def __repr__(self) -> str:
        return f"LLMClient({self.model} at {self.base_url})"

    @property
    def settings(self) -> dict[str, Any]:
        """What a disclosure says about the endpoint, as JSON can say it."""
        told = {
            "model": self.model,
            "api": self.api,
            "host": self.host,
            "tokens_field": self.tokens_field,
            "extra_body": self.extra_body,
        }
        return self._shown(told)

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
        reply = self._replayed(bodies, sample) or self._asked(bodies, sample)
        usd = self.price.usd(reply.usage) if self.price and reply.usage else None
        self.budget.charge(reply.usage, usd)
        return reply._replace(usd=usd)

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
        for own, *_ in keys:
            if reply := self._cache.get(own):
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

    def _asked(self, bodies: list[tuple[str | None, dict[str, Any]]], sample: str) -> Reply:
        """The reply to the first body that the endpoint understands."""
        refused: dict[str, str] = {}
        for constraint, body in bodies:
            if constraint in self.refused:
                continue
            try:
                reply = self._persist(body)._replace(constraint=constraint)
            except Rejected as error:
                if constraint is None:
                    raise
                refused[constraint] = str(error)
                continue
            with self._lock:  # only now: a request that is refused in every form is wrong for another reason
                self.refused = self.refused | refused
            if self._cache is not None:
                key, *others = self._keys(body, sample)
                self._cache.put(key, self._shown(body), reply, *others)
            return reply
        raise AssertionError("the last body has no constraint")

    def _shown(self, told: dict[str, Any]) -> dict[str, Any]:
        """The same without the key, which somebody may have put into a field of their own."""
        return json.loads(self._secret.hide(json.dumps(told)))

    def _persist(self, body: dict[str, Any]) -> Reply:
        """Ask until there is a reply."""
        start, failures = self._clock(), []
        for delay in self._delays():
            self.budget.check()
            outcome = self._attempt(body)
            if isinstance(outcome, Reply):
                return outcome._replace(failures=tuple(failures))
            failures.append(outcome.what)
            if not outcome.again:
                kind = Rejected if outcome.status in NOT_UNDERSTOOD else LLMError
                raise kind(f"{self.model} at {self.host}: {outcome.what}")
            wait = max(delay, outcome.after or 0.0)
            if self._clock() - start + wait > self.patience.seconds:
                break
            if len(failures) < self.patience.attempts:
                self._sleep(wait)
        told = f"{len(failures)} attempt{'s' * (len(failures) > 1)}"
        raise LLMError(f"{self.model} at {self.host} gave no reply in {told}, at last: {failures[-1]}")

    def _delays(self) -> Iterator[float]:
        """Seconds to wait after each attempt: twice as long every time, times 0.5 to 1.5 by chance."""
        for attempt in range(self.patience.attempts):
            longest = min(self.patience.longest_delay, self.patience.first_delay * 2**attempt)
            yield longest * (0.5 + self._draw())

    def _attempt(self, body: dict[str, Any]) -> Reply | _Failure:
        import httpx

        assert self._http is not None
        start = self._clock()
        try:
            answer = self._http.post(
                self.base_url + self._api.path,
                json=body,
                headers=self._api.headers(self._secret.told()),
            )
            text = self._secret.hide(answer.text)
        except httpx.TimeoutException:
            return _Failure("timeout", again=True)
        except (httpx.TransportError, httpx.DecodingError) as error:
            # Its words, not itself: it knows the request and its headers.
            return _Failure(self._secret.hide(f"no connection ({type(error).__name__}: {error})"), again=True)
        value = _parsed(text)
        if answer.status_code != 200:
            return self._failed(answer.status_code, value, text, answer.headers.get("retry-after"))
        try:
            reply = self._api.decode(value)
        except Broken as error:
            return _Failure(f"broken reply ({_short(str(error))})", again=True)
        told = reply.request_id or answer.headers.get("x-request-id") or answer.headers.get("request-id")
        request_id = None if told is None else self._secret.hide(told)
        return reply._replace(request_id=request_id, latency=self._clock() - start)

    def _failed(self, status: int, value: Any, text: str, retry_after: str | None) -> _Failure:
        words = _short(error_in(value) or text)
        again = (status in AGAIN or status >= 500) and HOPELESS not in text
        what = f"HTTP {status}" + (f" ({words})" if words else "")
        return _Failure(what, again, seconds_of(retry_after, datetime.now(UTC)), status)


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


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(base_url: str) -> str:
    wrong = ConfigError("--llm-base-url must be an address like http://127.0.0.1:8080/v1")
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise wrong
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not repeated: it may hold a key.
        raise ConfigError("--llm-base-url must be an address alone; a key belongs in an environment variable")
    return base_url.rstrip("/")


def _secret(name: str, is_local: bool, host: str) -> Secret:
    key = os.environ.get(name, "").strip()
    if not key and not is_local:
        raise ConfigError(f"{host} needs a key: put it in the environment variable {name}")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the environment variable {name} holds something that cannot be a key")
    return Secret(key)


def _connections(timeout: float, is_local: bool) -> Any:
    try:
        import httpx
    except ImportError:
        raise ConfigError("language models need httpx: pip install httpx") from None
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    # A proxy from the environment is for other machines.
    return httpx.Client(timeout=timeout, limits=limits, trust_env=not is_local)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_WORDS else words[:LONGEST_WORDS] + "…"
