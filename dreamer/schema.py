"""Configurations as frozen dataclasses that check themselves, read from and written to TOML, by dotted path.

Types and ranges are read from the annotations of the fields, so an error can always say what is allowed.
A `ConfigError` starts with the field's name; a caller that knows where the section lies prepends its path.
"""

import dataclasses
import difflib
import json
import math
import numbers
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, TypeVar, get_args, get_origin

LARGEST = 2**53
"""Largest whole number: up to here each is exactly a float too, as JSON and databases hold it."""
DIGITS, LONGEST = 40, 400
"""Most characters shown of an invalid number, and of another invalid value."""


class ConfigError(ValueError):
    """An invalid configuration; the message starts with the field and says what is allowed."""


@dataclass(frozen=True)
class Range:
    """Which numbers a field may hold."""

    low: float
    """Smallest value."""
    high: float = math.inf
    """Largest value."""
    above: bool = False
    """Whether `low` itself is excluded."""
    below: bool = False
    """Whether `high` itself is excluded."""
    odd: bool = False
    """Whether even numbers are excluded."""

    def __contains__(self, value: float) -> bool:
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return low and high and (not self.odd or value % 2 == 1)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'of at least'} {self.low}"
        high = "" if math.isinf(self.high) else f" and {'below' if self.below else 'at most'} {self.high}"
        return low + high + (" and odd" if self.odd else "")


@dataclass(frozen=True)
class Traced:
    """Mark of a number that compiled programs take as an argument, so that changing it never recompiles."""

    alias: str = ""
    """Short name for it where members of a population differ in it; empty for the name of the field."""


@dataclass(frozen=True)
class Arguments:
    """Mark of a text field that holds arguments by name, as JSON; a table of a TOML file is accepted too.

    The text is canonical, so that equal arguments are equal fields: names sorted, empty without any.
    """

    def __str__(self) -> str:
        return """that is a JSON object, as '{"size": 8}'"""

    @staticmethod
    def canonical(value: Any) -> str | None:
        """The text of a JSON object or a mapping; None if it is neither."""
        try:
            arguments = Arguments.read(value) if isinstance(value, str) else value
            if not isinstance(arguments, Mapping):
                return None
            text = (
                json.dumps(arguments, sort_keys=True, ensure_ascii=False, allow_nan=False)
                if arguments
                else ""
            )
            text.encode()  # a lone surrogate cannot be written to a file
        except (ValueError, TypeError, RecursionError):
            return None
        return text

    @staticmethod
    def read(text: str) -> dict[str, Any]:
        """The arguments.

        Raises:
          ValueError: it is not JSON; the message says where it stops being valid.
        """
        return json.loads(text) if text.strip() else {}


@dataclass(frozen=True)
class Named:
    """Mark of a text field that names an entry of a table, or a class of a user's module as module:Class.

    A name may also be the sum of two different ones, as a+b.
    """

    names: tuple[str, ...]
    """Of the table."""

    def __contains__(self, value: str) -> bool:
        parts = value.split("+")
        return len(set(parts)) == len(parts) <= 2 and all(map(self._is_name, parts))

    def _is_name(self, value: str) -> bool:
        module, _, name = value.partition(":")
        return value in self.names or bool(module and name)

    def __str__(self) -> str:
        names = ", ".join(self.names)
        return f"one of {names}, a class of yours as my_module:MyClass, or the sum of two as a+b"


@dataclass(frozen=True)
class Section:
    """A part of a configuration; constructing one checks its fields.

    A field is a section, a `bool`, `str` (annotated with `Arguments` a table, with `Named` a name),
    `Literal`, `int` or `float` (annotated with a `Range`, and with `Traced` where programs take it as an
    argument), or a tuple of those.
    Values are converted to the declared type: 1e6 to a whole number, a list to a tuple.
    """

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, _checked(f.name, f.type, getattr(self, f.name)))


S = TypeVar("S", bound=Section)


def to_dict(cfg: Section) -> dict[str, Any]:
    """Nested dictionaries of plain numbers, strings and lists; `build` is the inverse."""
    values = {f.name: getattr(cfg, f.name) for f in fields(cfg)}
    return {k: to_dict(v) if isinstance(v, Section) else _plain(v) for k, v in values.items()}


def build(cls: type[S], values: Mapping[str, Any], base: S | None = None, path: str = "") -> S:
    """A section from nested dictionaries; what they leave out is as in `base` (None: the defaults).

    Args:
      path: where the section lies, for messages.

    Raises:
      ConfigError: for an unknown field (with close ones), a wrong type or a value out of range.
    """
    dotted = lambda name: f"{path}.{name}" if path else name
    known = {f.name: f for f in fields(cls)}
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{dotted(name)} is not a configuration field{_hint(cls, name, path)}")
        kind, default = known[name].type, known[name].default
        if _is_section(kind):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{dotted(name)} must be a table of fields, but it is {shown(value)}")
            inner = default if base is None else getattr(base, name)
            value = build(kind, value, None if inner is MISSING else inner, dotted(name))
        arguments[name] = value
    if base is None:
        missing = [name for name, f in known.items() if f.default is MISSING and name not in arguments]
        if missing:
            raise ConfigError(f"{dotted(missing[0])} is missing")
    try:
        return cls(**arguments) if base is None else dataclasses.replace(base, **arguments)
    except ConfigError as error:
        raise ConfigError(dotted(str(error))) from None


def paths(cls: type[Section]) -> dict[str, dataclasses.Field]:
    """Every field that is not a section, by its dotted path."""
    by_path = {}
    for f in fields(cls):
        kind = f.type
        by_path |= {f"{f.name}.{k}": v for k, v in paths(kind).items()} if _is_section(kind) else {f.name: f}
    return by_path


def traced(cls: type[Section]) -> dict[str, str]:
    """{alias: dotted path} of the numbers marked as `Traced`, in the order of their declaration.

    Raises:
      ValueError: two have the same alias.
    """
    by_alias: dict[str, str] = {}
    for path, f in paths(cls).items():
        for mark in annotations(f.type, Traced):
            alias = mark.alias or f.name
            if alias in by_alias:
                raise ValueError(f"{by_alias[alias]} and {path} are both called {alias}: give one an alias")
            by_alias[alias] = path
    return by_alias


M = TypeVar("M")


def annotations(kind: Any, mark: type[M]) -> list[M]:
    """The annotations of one class that the type of a field has."""
    metadata = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return [annotation for annotation in metadata if isinstance(annotation, mark)]


def replace_paths(cfg: S, changes: Mapping[str, Any]) -> S:
    """The configuration with other values at dotted paths, changed all at once.

    Raises:
      ConfigError: for an unknown path (with close ones), a wrong type or a value out of range.
    """
    known = paths(type(cfg))
    nested: dict[str, Any] = {}
    for path, value in changes.items():
        if path not in known:
            raise _unknown_path(path, known)
        *sections, name = path.split(".")
        node = nested
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return build(type(cfg), nested, cfg)


def replace_path(cfg: S, path: str, value: Any) -> S:
    """The configuration with another value at one dotted path; raises as `replace_paths`."""
    return replace_paths(cfg, {path: value})


def is_list(kind: Any) -> bool:
    """Whether a field of this type holds several values."""
    return get_origin(kind) is tuple


def parse_text(kind: Any, text: str) -> Any:
    """Parse text of a command line as a value for a field of this type; the text itself if it is none.

    The parts of a list are separated by spaces or commas, but in `lr=1e-3,3e-3` commas separate values.
    """
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if is_list(kind):
        split = lambda word: re.split(r",(?=[^,]*=)" if "=" in word else ",", word)
        parts = [part for word in text.strip("()[] ").split() for part in split(word) if part]
        return [parse_text(get_args(kind)[0], part) for part in parts]
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    return _number(text) if kind in (int, float) else text


def closest(path: str, known: Iterable[str]) -> list[str]:
    """The paths that `path` may have been meant as, the likeliest first, if any.

    Those are the field of which `path` is an extension, those that end with it, and those whose last name is
    nearly the one in `path`, or in its section has its words and more.
    """
    known = list(known)
    section, _, name = path.rpartition(".")
    inside = [p for p in known if path.startswith(f"{p}.")]
    ends = [p for p in known if f".{p}".endswith(f".{path}")]
    similar = [p for p in known if _is_like(name, p.rpartition(".")[2], within=p.startswith(section))]
    likeness = lambda p: (p.rpartition(".")[0] == section, difflib.SequenceMatcher(None, p, path).ratio())
    return inside or ends[:3] or sorted(similar, key=likeness, reverse=True)[:2]


LIKE = 0.8
"""Share of equal letters from which on a name counts as another one with a typo."""


def _is_like(name: str, other: str, *, within: bool) -> bool:
    """Whether a name is another one except for a typo or, `within` the section, for missing words."""
    left_out = within and set(name.split("_")) <= set(other.split("_"))
    return left_out or difflib.SequenceMatcher(None, name, other).ratio() >= LIKE


def diff(a: Section, b: Section) -> list[tuple[str, Any, Any]]:
    """Where two configurations of one kind differ: dotted path, value in `a`, value in `b`."""
    old, new = dict(values(a)), dict(values(b))
    return [(path, old[path], new[path]) for path in old if old[path] != new[path]]


def load_toml(cls: type[S], path: str | Path, base: S | None = None) -> S:
    """Read a configuration, or the parts of one that override `base`.

    Raises:
      ConfigError: naming the file, as in `build`, or if it cannot be read.
    """
    content = read_toml(path)
    try:
        return build(cls, content, base)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file, also of one that begins with a byte-order mark.

    Raises:
      ConfigError: naming the file, if it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deep to be a configuration") from None
    except ValueError as error:  # of TOML, of UTF-8, or of a number with thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def dump_toml(cfg: Section) -> str:
    """The configuration as TOML text, a table for every section; `load_toml` is the inverse."""
    return "\n".join(_lines(to_dict(cfg), "")) + "\n"


def _lines(values: Mapping[str, Any], table: str) -> Iterator[str]:
    leaves = {k: v for k, v in values.items() if not isinstance(v, dict)}
    if table and leaves:
        yield f"\n[{table}]"
    yield from (f"{k} = {_toml(v)}" for k, v in leaves.items())
    for name, value in values.items():
        if name not in leaves:
            yield from _lines(value, f"{table}.{name}" if table else name)


def _toml(value: Any) -> str:
    # JSON writes text, booleans, numbers and lists as TOML does, except the character 127.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def values(cfg: Section) -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every field."""
    for f in fields(cfg):
        value = getattr(cfg, f.name)
        if isinstance(value, Section):
            yield from ((f"{f.name}.{path}", inner) for path, inner in values(value))
        else:
            yield f.name, value


def _checked(name: str, kind: Any, value: Any) -> Any:
    """The value converted to the type of its field, or a ConfigError that says what is allowed."""
    converted = _converted(kind, value)
    if converted is None:
        raise ConfigError(f"{name} must be {allowed(kind)}, but it is {shown(value)}{_hint_of(kind, value)}")
    return converted


def _converted(kind: Any, value: Any) -> Any:
    """The value as `kind`, or None if it is not one."""
    if get_origin(kind) is Annotated:
        if annotations(kind, Arguments):
            return Arguments.canonical(value)
        plain = _converted(get_args(kind)[0], value)
        allowed = (*annotations(kind, Range), *annotations(kind, Named))
        return plain if plain is not None and all(plain in mark for mark in allowed) else None
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            return None
        items = tuple(_converted(get_args(kind)[0], item) for item in value)
        return None if None in items else items
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if kind in (int, float):
        number: Any = value
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not is_finite(number):
            return None
        if kind is int and (int(number) != number or abs(number) > LARGEST):
            return None
        return kind(number)
    return value if isinstance(value, kind) else None


def allowed(kind: Any) -> str:
    """The allowed values of a field, in words."""
    if get_origin(kind) is Annotated:
        plain, *marks = get_args(kind)
        if named := annotations(kind, Named):
            return str(named[0])
        return " ".join([allowed(plain), *(str(mark) for mark in marks if not isinstance(mark, Traced))])
    if get_origin(kind) is tuple:
        return f"a list whose entries are each {allowed(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        names = [name for name in get_args(kind) if name]
        words = names[0] if len(names) == 1 else f"one of {', '.join(names)}"
        return words if len(names) == len(get_args(kind)) else f"empty or {words}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words.get(kind) or f"a {kind.__name__}"


def _hint_of(kind: Any, value: Any) -> str:
    """The end of a message about an invalid value."""
    if annotations(kind, Arguments) and isinstance(value, str):
        return _broken(value)
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if plain is int and isinstance(value, int | float) and abs(value) > LARGEST:
        return f"; no whole number of a configuration is above {LARGEST:,}"
    named = [name for mark in annotations(kind, Named) for name in mark.names]
    choices = get_args(kind) if get_origin(kind) is Literal else named
    close = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _broken(text: str) -> str:
    """Where a text stops being valid JSON."""
    try:
        Arguments.read(text)
    except json.JSONDecodeError as error:
        return f", which is not JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        return ", which is nested too deep"
    except ValueError:
        return ", which has a number of thousands of digits"
    return ""


def _hint(cls: type[Section], name: str, path: str) -> str:
    """The end of a message about an unknown name in a section."""
    known = [f.name for f in fields(cls)]
    close = closest(name, known)
    if close:
        return f"; did you mean {' or '.join(f'{path}.{c}' if path else c for c in close)}?"
    return f"; {path or 'it'} has {', '.join(known)}"


def _unknown_path(path: str, known: Iterable[str]) -> ConfigError:
    parts = [other for other in known if other.startswith(f"{path}.")]
    if parts:
        return ConfigError(f"{path} is a section; name one of its fields, as {parts[0]}")
    close = closest(path, known)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return ConfigError(f"{path} is not a configuration field{hint}")


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def _number(text: str) -> Any:
    if not text.isascii():  # Python accepts digits of every script
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def is_finite(number: Any) -> bool:
    """Whether a number of any size is within the range of a float."""
    return abs(number) <= sys.float_info.max


def shown(value: Any) -> str:
    """An invalid value as shown in a message, short enough for a line."""
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(_plain(value))
    except ValueError:  # Python writes no number of so many digits
        return "a number of thousands of digits"
    if isinstance(value, int) and len(text) > DIGITS:
        return f"a number of {len(text.lstrip('-'))} digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
