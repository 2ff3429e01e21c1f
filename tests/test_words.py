"""The project speaks the field's language: names that say nothing and quaint idiom stay out."""

import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = {"told", "found", "own", "made", "said", "abreast", "crew", "foresee", "judgement", "hyper"}
PROSE = re.compile(
    r"\b(anew|whoever|whomever|somebody|nobody|everybody|go(es)? on with|going on with|abreast)\b"
    r"|cannot be(?=[.,;:)\"'])",
    re.IGNORECASE,
)
SOURCES = [
    p
    for package in ("docs", "dreamer", "envs", "examples", "experiments")
    for p in sorted((ROOT / package).rglob("*.py"))
]
QUOTED = ("experiments/llm/memory.py", "experiments/llm/prompt.py")
"""Prompts are versioned: their sentences stay as they were measured."""
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_say_what_they_are(path):
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    assert not {
        f"{t.string} in line {t.start[0]}" for t in tokens if t.type == tokenize.NAME and t.string in NAMES
    }


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_idiomatic(path):
    lines = path.read_text().splitlines()
    if str(path.relative_to(ROOT)) in QUOTED:
        lines = [line for line in lines if not line.strip().startswith(('"', 'parts.append(f"'))]
    assert not {f"line {i}: {line.strip()}" for i, line in enumerate(lines, 1) if PROSE.search(line)}
