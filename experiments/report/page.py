"""One file of HTML with everything in it, made from templates.

run.html           a run: curves, report card, episodes, configuration, machine
comparison.html    several runs side by side, seeds of one configuration as one group
contest.html       agents, baselines and language models that played the same episodes
objectives.html    what objectives reach and cost
plans.html         what planning brings a run, and what it costs
sweep.html         the trials of a sweep, and the best of them
board.html         all that lies below a folder (served by `dreamer board`)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import envs
from dreamer import atomic
from dreamer.config import Config, changes
from experiments import presets
from experiments.report.meanings import CARD, REPRESENTATION, grade

TEMPLATES = Path(__file__).parent / "templates"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = embedded
    environment.filters["number"] = number
    environment.filters["percent"] = lambda x: f"{x:.1%}"
    environment.filters["svg"] = Markup
    return environment


def embedded(data: Any) -> Markup:
    """Data as JSON that is safe inside a script element."""
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026"))


def number(value: float | None) -> str:
    """Three digits, or a dash where there is no number."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def render(template: str, **content: Any) -> str:
    """A template as text."""
    common = {"grades": grade, "card": CARD, "held": REPRESENTATION, "note": envs.note}
    return _environment().get_template(template).render(**common, **content)


def write(path: Path, template: str, **content: Any) -> Path:
    """Render a template into one file."""
    atomic.write(path, render(template, **content))
    return path


def preset_changes(cfg: Config) -> list[tuple[str, Any, Any]]:
    """(field, in the preset, here) of everything that differs from the preset a run started from."""
    if cfg.preset not in presets.PRESETS:
        return []
    return [row for row in changes(presets.build(cfg.preset), cfg) if row[0] != "preset"]
