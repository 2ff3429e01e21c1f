"""The configurations of runs, field by field, whichever version wrote them.

They are read as what they are, tables of TOML, and not as today's `Config`: an older one has fields that are
now unknown and lacks others, and both can be shown. Runs share most of their text, so each different table is
parsed once and shared.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dreamer import schema

Settings = tuple[Mapping[str, Any], ...]
"""The fields of a configuration by their dotted paths, in parts that other runs may share."""
SHARED = 4096
"""Different tables that are remembered."""
LONGEST = 300
"""Characters of a text that are shown."""


def read(text: str) -> Settings:
    """The fields of a TOML file.

    Raises:
      ValueError: it is not TOML.
    """
    try:
        # A table begins with a line of its name: within a value, what is before it does not parse.
        if "\n[[" not in text:
            return tuple(_table(part) for part in re.split(r"\n(?=\[)", text))
    except ValueError:
        pass
    try:
        return (of_object(tomllib.loads(text)),)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


@functools.lru_cache(SHARED)
def _table(text: str) -> Mapping[str, Any]:
    try:
        return of_object(tomllib.loads(text))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def of_object(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of nested tables by their dotted paths."""
    fields: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            fields |= {f"{name}.{path}": inner for path, inner in of_object(value).items()}
        else:
            fields[name] = plain(value)
    return fields


def plain(value: Any) -> Any:
    """A value as JSON can hold and a page can show it."""
    match value:
        case bool() | None:
            return value
        case int():
            return value if abs(value) <= schema.LARGEST else str(value)[:LONGEST]
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return value if len(value) <= LONGEST else value[:LONGEST] + "..."
        case datetime.date() | datetime.time():
            return value.isoformat()
        case list() | dict():
            return plain(json.dumps(value, default=str, sort_keys=True))
    return plain(str(value))


def get(settings: Settings, path: str) -> Any:
    """The value of a field; None where there is none."""
    return next((table[path] for table in settings if path in table), None)


def known(configurations: Iterable[Settings]) -> list[str]:
    """The paths of all fields that any of these has, in the order in which they come."""
    tables = {id(table): table for settings in configurations for table in settings}
    return list(dict.fromkeys(path for table in tables.values() for path in table))


def field(name: str, paths: Sequence[str]) -> str:
    """The path that a user means by a name: the path itself or how it ends, with hyphens or underscores.

    Raises:
      ConfigError: there is none, or there are several.
    """
    name = name.strip().lstrip("-").replace("-", "_")
    ends = [path for path in paths if path == name] or [path for path in paths if path.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise schema.ConfigError(f"{name} may be {', '.join(ends)}: write more of it")
    close = " or ".join(schema.closest(name, paths))
    raise schema.ConfigError(
        f"no configuration here has a field {name:.60}" + (f"; did you mean {close}?" if close else "")
    )


def differences(configurations: Sequence[Settings]) -> list[tuple[str, list[Any]]]:
    """(path, values) of every field in which some of these differ; None where one lacks it."""
    merged = [
        {path: value for table in settings for path, value in table.items()} for settings in configurations
    ]
    paths = dict.fromkeys(path for fields in merged for path in fields)
    rows = [(path, [fields.get(path) for fields in merged]) for path in paths]
    return [(path, values) for path, values in rows if len({json.dumps(value) for value in values}) > 1]
