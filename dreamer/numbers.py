"""The numbers of an agent that compiled programs take as an argument: changing them never recompiles.

They are the configuration itself, its fields marked `Traced` replaced by arrays: `numbers.optim.lr` is the
learning rate. As a pytree these arrays are its leaves and everything else is its structure, so that numbers
are handed to `jit` and stacked for the members of a population as any other arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey

from dreamer import schema
from dreamer.config import TRACED, AgentConfig
from dreamer.schema import Section

Numbers = AgentConfig
"""An `AgentConfig` whose traced fields are arrays."""
S = TypeVar("S", bound=Section)
_FIELDS: dict[str, tuple[str, ...]] = {
    section: tuple(path.split(".")[1] for path in TRACED.values() if path.split(".")[0] == section)
    for section in dict.fromkeys(path.split(".")[0] for path in TRACED.values())
}
"""{section: its traced fields}."""
_KEYS = [GetAttrKey(f"{section}.{field}") for section, fields in _FIELDS.items() for field in fields]
_STRUCTURE = "_structure"
"""Attribute in which numbers keep what they are apart from their arrays."""


def trace(cfg: AgentConfig) -> Numbers:
    """The numbers of a configuration, as float32 scalars."""
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), cfg)


def replace(numbers: Numbers, changes: Mapping[str, Any]) -> Numbers:
    """The numbers with other arrays at traced fields, as ``replace(numbers, {"optim.lr": rate})``.

    Raises:
      ConfigError: there is no such number.
    """
    for path, value in changes.items():
        section, _, field = path.partition(".")
        if field not in _FIELDS.get(section, ()):
            close = " or ".join(schema.closest(path, TRACED.values())) or ", ".join(TRACED.values())
            raise schema.ConfigError(f"{path} is not a traced number; did you mean {close}?")
        numbers = _with(numbers, {section: _with(getattr(numbers, section), {field: value})})
    return numbers


def _with(section: S, changes: Mapping[str, Any]) -> S:
    """A copy with other values, which need not be those of a configuration."""
    new = object.__new__(type(section))
    new.__dict__.update(section.__dict__)
    new.__dict__.update(changes)
    return new


def _structure(numbers: Numbers) -> AgentConfig:
    """The configuration with no number in any traced field: equal for all that differ in numbers only."""
    if _STRUCTURE not in numbers.__dict__:
        empty = {k: _with(getattr(numbers, k), dict.fromkeys(fields)) for k, fields in _FIELDS.items()}
        numbers.__dict__[_STRUCTURE] = _with(numbers, empty)
    return numbers.__dict__[_STRUCTURE]


def _flatten(numbers: Numbers) -> tuple[list[Any], AgentConfig]:
    leaves = [
        getattr(section, field)
        for section, fields in ((getattr(numbers, name), fields) for name, fields in _FIELDS.items())
        for field in fields
    ]
    return leaves, _structure(numbers)


def _flatten_with_keys(numbers: Numbers) -> tuple[list[tuple[Any, Any]], AgentConfig]:
    leaves, structure = _flatten(numbers)
    return list(zip(_KEYS, leaves, strict=True)), structure


def _unflatten(structure: AgentConfig, leaves: Iterable[Any]) -> Numbers:
    values = iter(leaves)
    sections = {
        name: _with(getattr(structure, name), {field: next(values) for field in fields})
        for name, fields in _FIELDS.items()
    }
    return _with(structure, {**sections, _STRUCTURE: structure})


jax.tree_util.register_pytree_with_keys(AgentConfig, _flatten_with_keys, _unflatten, _flatten)
