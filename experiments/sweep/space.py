"""The search space of a sweep: one dimension for every field of the configuration that is searched.

Every dimension maps the unit interval to its values, so that a trial of a random, quasi-random or grid sweep
depends on nothing but the seed of the sweep and the trial's number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dreamer.schema import LARGEST, ConfigError, is_finite, shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KINDS = ("log", "uniform", "int", "choice")


@dataclass(frozen=True)
class Dimension:
    """The values that one field may take."""

    kind: Literal["log", "uniform", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Any, ...] = ()

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that must be valid for all to be valid: the ends of a range, every choice."""
        return self.choices or tuple(map(self._typed, (self.low, self.high)))

    def _typed(self, value: float) -> float | int:
        return int(value) if self.kind == "int" else value

    @property
    def count(self) -> int | None:
        """How many values there are, None where they cannot be counted; a range is never listed."""
        if self.kind == "int":
            return int(self.high) - int(self.low) + 1
        return len(self.choices) or None

    def nth(self, index: int) -> Any:
        """A value by its place, where they can be counted."""
        return int(self.low) + index if self.kind == "int" else self.choices[index]

    def at(self, unit: float) -> Any:
        """The value at a place in [0, 1)."""
        if self.count is not None:
            return self.nth(min(int(unit * self.count), self.count - 1))
        if self.kind == "log":
            value = math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + unit * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Whether it is one of the values."""
        if self.choices:
            return value in self.choices
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and (self.kind != "int" or value == int(value))

    def varied(self, value: Any, rng: np.random.Generator) -> Any:
        """A perturbed value: a fifth less or a quarter more; for choices a neighbour."""
        up = bool(rng.integers(2))
        if self.kind == "choice":
            place = self.choices.index(value) + (1 if up else -1)
            return self.choices[min(max(place, 0), len(self.choices) - 1)]
        number = value * (1.25 if up else 0.8)
        if self.kind == "int":
            number = max(round(number), value + 1) if up else min(round(number), value - 1)
        return self._typed(min(max(number, self.low), self.high))

    @property
    def distribution(self) -> BaseDistribution:
        """The same for Optuna, which has no lists among its choices: `encoded` names them."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution([self.encoded(x) for x in self.choices])
        if self.kind == "int":
            return distributions.IntDistribution(int(self.low), int(self.high))
        return distributions.FloatDistribution(self.low, self.high, log=self.kind == "log")

    def encoded(self, value: Any) -> Any:
        """A value as Optuna stores it."""
        plain = not any(isinstance(x, list) for x in self.choices)
        return value if plain else json.dumps(value)

    def decoded(self, value: Any) -> Any:
        """The inverse of `encoded`."""
        plain = not any(isinstance(x, list) for x in self.choices)
        return value if plain else json.loads(value)

    def __str__(self) -> str:
        if self.kind == "choice":
            return "one of " + ", ".join(map(str, self.choices))
        low, high = (format(self._typed(x), "g") for x in (self.low, self.high))
        return f"{low} to {high}" + {"log": ", logarithmic", "uniform": "", "int": ", whole"}[self.kind]


def dimension(path: str, table: Mapping[str, Any]) -> Dimension:
    """Read `{log = [1e-5, 1e-2]}` and its like.

    Raises:
      ConfigError: it is none of them.
    """
    if len(table) != 1 or next(iter(table)) not in KINDS:
        raise ConfigError(
            f"space.{path} must be one of {{log = [low, high]}}, {{uniform = [low, high]}}, "
            f"{{int = [low, high]}} and {{choice = [...]}}, but it is {shown(dict(table))}"
        )
    entry: Any = next(iter(table.items()))
    kind, values = entry
    if kind == "choice":
        if not isinstance(values, list) or not values:
            raise ConfigError(f"space.{path}: choice must be a list of values, but it is {shown(values)}")
        double = next((x for i, x in enumerate(values) if x in values[:i]), None)
        if double is not None:
            raise ConfigError(f"space.{path}: choice has {shown(double)} twice; once is enough")
        return Dimension("choice", choices=tuple(values))
    numbers = isinstance(values, list) and [type(x) in (int, float) and is_finite(x) for x in values]
    if numbers != [True, True] or not values[0] < values[1]:
        raise ConfigError(
            f"space.{path}: {kind} must be [low, high] with low below high, but it is {shown(values)}"
        )
    low, high = values
    if kind == "log" and low <= 0:
        raise ConfigError(f"space.{path}: log needs numbers above 0, but it begins at {shown(low)}")
    if kind == "int" and any(x != int(x) or abs(x) > LARGEST for x in values):
        raise ConfigError(
            f"space.{path}: int needs whole numbers of at most {LARGEST}, but it is {shown(values)}"
        )
    return Dimension(kind, float(low), float(high))


Space = Mapping[str, Dimension]
"""{dotted path of a field: its dimension}"""


def size(space: Space) -> int | None:
    """How many points a grid over it has; None where a dimension cannot be counted."""
    counts = [d.count for d in space.values()]
    return None if None in counts else math.prod(c for c in counts if c is not None)


def grid_point(space: Space, number: int) -> dict[str, Any]:
    """The point of a grid by its number; the last dimension changes fastest."""
    point: dict[str, Any] = {}
    for path, d in reversed(list(space.items())):
        assert d.count is not None, "a grid has only dimensions that can be counted"
        number, index = divmod(number, d.count)
        point[path] = d.nth(index)
    return {path: point[path] for path in space}


def random_point(space: Space, seed: int, number: int) -> dict[str, Any]:
    """An independent random point for every trial."""
    units = np.random.default_rng([seed, number]).random(len(space))
    return {path: d.at(u) for (path, d), u in zip(space.items(), units, strict=True)}


def even_point(space: Space, seed: int, number: int) -> dict[str, Any]:
    """A point of a scrambled Sobol sequence: spread more evenly than random points."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(space), rng=np.random.default_rng(seed))
    if number:
        sequence.fast_forward(number)
    (units,) = sequence.random(1)
    below_one = np.minimum(units, np.nextafter(1, 0))
    return {path: d.at(u) for (path, d), u in zip(space.items(), below_one, strict=True)}
