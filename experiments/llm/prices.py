"""What a request costs, by a dated table: per request, then summed, for tiers go by the size of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamer.schema import ConfigError, read_toml
from experiments.llm.wire import Usage

TABLE = Path(__file__).with_name("prices.toml")
"""The table that comes with the toolkit."""
SNAPSHOT = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")
"""The date of a version at the end of a model's name: it costs what its alias costs."""
MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens of one model."""

    input: float
    output: float
    cached: float | None = None
    """Input read from the provider's cache (None: as the rest of the input, an upper bound)."""
    written: float | None = None
    """Input written to it (None: as the rest)."""
    host: str | None = None
    """Where the price holds (None: everywhere)."""
    up_to: int | None = None
    """Largest input, in tokens, for which it holds (None: any)."""
    date: str = ""
    """When it was read."""
    source: str = ""
    """Where."""

    def usd(self, usage: Usage) -> float | None:
        """What one request costs, None where the price does not hold for its size."""
        if self.up_to is not None and usage.input > self.up_to:
            return None
        cached, written = usage.cached or 0, usage.written or 0
        fresh = max(0, usage.input - cached - written)
        dollars = fresh * self.input + usage.output * self.output
        dollars += cached * (self.input if self.cached is None else self.cached)
        dollars += written * (self.input if self.written is None else self.written)
        return dollars / MILLION


Prices = Mapping[str, Price]
"""By the name under which a model is asked for."""


def price(prices: Prices, model: str, host: str) -> Price | None:
    """The price of a model at a host, None where it is unknown: it is not guessed, and unknown is not 0."""
    entry = prices.get(model) or prices.get(SNAPSHOT.sub("", model))
    return entry if entry is not None and entry.host in (None, host) else None


def load(path: Path | None = None) -> dict[str, Price]:
    """The table that comes with the toolkit, with what a file of the user's says instead.

    Raises:
      ConfigError: the file cannot be read or has another form.
    """
    return _read(TABLE) | ({} if path is None else _read(path))


def _read(path: Path) -> dict[str, Price]:
    try:
        table = read_toml(path)
    except ConfigError as error:
        raise ConfigError(f"prices {error}") from None
    date, models = table.get("date"), table.get("models")
    if date is None or not isinstance(models, dict):
        raise ConfigError(f'prices {path} needs date = "YYYY-MM-DD" and a table [models]')
    source = str(table.get("source", path.name))
    return {name: _entry(path, name, entry, str(date), source) for name, entry in models.items()}


def _entry(path: Path, name: str, entry: Any, date: str, source: str) -> Price:
    wrong = f'prices {path}: "{name}" must be like {{ input = 2.5, cached = 1.25, output = 10.0 }}'
    if not isinstance(entry, dict) or not {"input", "output"} <= set(entry):
        raise ConfigError(wrong)
    known = ("input", "output", "cached", "written", "host", "up_to")
    if unknown := sorted(set(entry) - set(known)):
        raise ConfigError(f"{wrong}; {unknown[0]} is not among {', '.join(known)}")
    for key, value in entry.items():
        right = isinstance(value, str) if key == "host" else _is_amount(value)
        if not right:
            raise ConfigError(f"{wrong}; {key} cannot be {value!r}")
    return Price(**entry, date=date, source=source)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
