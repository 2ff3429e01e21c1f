"""The generated parts of pages: tables written from what they are about, so that they cannot be out of date.

A page has a line `<!-- generated: NAME -->` for each, with a name in `PARTS`.
"""

import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, fields
from html import escape
from pathlib import Path
from typing import Any

import envs
from dreamer import schema
from dreamer.config import Config
from dreamer.schema import Section, Traced
from experiments import presets, results_table
from experiments.bench import profile
from experiments.commands import COMMANDS, Command
from experiments.presets.sizes import SIZES
from experiments.report.meanings import MEANINGS
from experiments.training.session import MAY_CHANGE, NEVER_CHANGE

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)


def filled(markdown: str) -> str:
    """A page with its generated parts.

    Raises:
      KeyError: a mark names no part.
    """
    return MARK.sub(lambda match: PARTS[match[1]](), markdown)


# The configuration.


def configuration() -> str:
    """Every field of the configuration, a table for each section."""
    return "".join(_section(Config, "", Config.__doc__ or ""))


def _section(cls: Any, path: str, about: str) -> Iterator[str]:
    """The tables of a section and of those in it."""
    dotted = lambda name: f"{path}.{name}" if path else name
    known, parts = sentences(cls), [f for f in fields(cls) if _is_section(f.type)]
    rows = [_field(f, dotted(f.name), known[f.name]) for f in fields(cls) if f not in parts]
    yield f"\n## {path or 'The run'} {{#{path.replace('.', '-') or 'run'}}}\n\n{_line(about)}\n"
    if rows:
        yield "\n" + _table(("field", "default", "values", "meaning", "on resume"), rows)
    for f in parts:
        yield from _section(f.type, dotted(f.name), known[f.name])


def _field(f: Field[Any], path: str, sentence: str) -> list[str]:
    traced = schema.annotations(f.type, Traced)
    alias = f" (`{traced[0].alias}`)" if traced and traced[0].alias else ""
    meaning = escape(sentence) + (f" ◆{alias}" if traced else "")
    return [f'<span id="{path}">`{path}`</span>', _default(f), schema.allowed(f.type), meaning, _fate(path)]


def _fate(path: str) -> str:
    """What happens to a change of this field when a run is resumed."""
    if path.startswith(MAY_CHANGE):
        return "free"
    return "fixed" if path.startswith(NEVER_CHANGE) else "`--force`"


# The command line.


def commands() -> str:
    """Every command with its options."""
    listed = "".join(f"- [`dreamer {name}`](#{_anchor(name)}): {c.about}\n" for name, c in COMMANDS.items())
    return listed + "".join(_command(name, command) for name, command in COMMANDS.items())


def _command(name: str, command: Command) -> str:
    usage = " ".join(filter(None, ["dreamer", name, command.words, "[OPTIONS]"]))
    known = sentences(command.options)
    rows = [_option(f, known[f.name]) for f in fields(command.options)]
    options = _table(("option", "default", "values", "meaning"), rows) if rows else "It has no options.\n"
    return (
        f"\n## dreamer {name} {{#{_anchor(name)}}}\n\n{command.about}\n\n```text\n{usage}\n```\n\n{options}"
    )


def _option(f: Field[Any], sentence: str) -> list[str]:
    flag = "--" + f.name.replace("_", "-")
    if _is_section(f.type):
        return [f"`{flag}.…`", "", f"[fields of `{f.name}`](configuration.md#{f.name})", escape(sentence)]
    return [f"`{flag}`", _default(f), schema.allowed(f.type), escape(sentence)]


def _anchor(name: str) -> str:
    return f"dreamer-{name.replace(' ', '-')}"


# Other tables.


def preset_table() -> str:
    """Every preset with its sentence."""
    return _table(("preset", "what it is"), ([f"`{p}`", presets.describe(p)] for p in presets.PRESETS))


def size_list() -> str:
    """The sizes, smallest first."""
    return ", ".join(f"`{size}`" for size in SIZES) + "\n"


def meanings() -> str:
    """Every number of the report card."""
    rows = [
        [f'<span id="{k}">{m.title}</span>', f"`{k}`", m.sentence, m.healthy] for k, m in MEANINGS.items()
    ]
    return _table(("number", "in `card.json`", "what it says", "healthy"), rows)


def suites() -> str:
    """Every suite of environments, whether installed or not."""
    rows = [
        [
            f"`{s.name}`",
            ", ".join(f"`{task}`" for task in s.examples),
            "JAX" if s.on_device else "Gymnasium",
            f"`{s.how}`" if s.package not in ("jax", "gymnasium", "minigrid") else "included",
        ]
        for s in envs.suites()
        if s.name != "probe"
    ]
    return _table(("suite", "tasks such as", "loop", "install"), rows)


def ports() -> str:
    """Where ports differ from originals, without its title."""
    return (ROOT / "envs" / "adapters" / "PORTS.md").read_text("utf-8").partition("\n")[2]


def profiles() -> str:
    """Where the time of an update goes, a table for every agent that was measured."""
    content = json.loads((ROOT / "experiments" / "results" / "profile.json").read_text())
    return "\n".join(map(_profile, content["rows"]))


def _profile(row: dict[str, Any]) -> str:
    return (
        f"**{row['size']}, {row['obs']}**: {row['update_ms']:,.0f} ms an update, where a large product makes "
        f"{row['product_gflops']:.0f} GFLOP/s\n\n{_table(profile.HEADS, profile.lines(row))}"
    )


PARTS: dict[str, Callable[[], str]] = {
    "configuration": configuration,
    "commands": commands,
    "presets": preset_table,
    "sizes": size_list,
    "meanings": meanings,
    "suites": suites,
    "ports": ports,
    "results": results_table.table,
    "speed": results_table.speed,
    "profiles": profiles,
}
"""{name in a mark: writes the Markdown that takes its place}."""


# What they share.


def sentences(cls: type[Section]) -> dict[str, str]:
    """{field: the sentence under it} of a section, inherited fields included."""
    known: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Section):
            known |= dict(_documented(ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]))
    return known


def _documented(cls: Any) -> Iterator[tuple[str, str]]:
    """(field, text below it) of the source of a class."""
    for pair in itertools.pairwise(cls.body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                yield name, str(text)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown; a cell is one line, without bars."""
    cells = [[_line(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |\n" for row in cells]
    return "".join([lines[0], "|" + " --- |" * len(cells[0]) + "\n", *lines[1:]])


def _default(f: Field[Any]) -> str:
    value = f.default
    if value is MISSING or value in ("", ()):
        return ""
    words = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{words.lower() if isinstance(value, bool) else words}`"


def _line(text: str) -> str:
    return " ".join(text.split())


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
