"""Equations as MathML, made when the site is built: every browser of today shows it without a script."""

from html import escape
from typing import Any


def fence(source: str, language: str, css_class: str, options: Any, md: Any, **_: Any) -> str:
    """The HTML of a block of code marked `math`: LaTeX, an equation in every paragraph."""
    parts = (part.strip() for part in source.split("\n\n"))
    return f'<div class="{escape(css_class)}">{"".join(map(mathml, filter(None, parts)))}</div>'


def mathml(latex: str) -> str:
    """One displayed equation."""
    from latex2mathml.converter import convert

    return convert(" ".join(latex.split()), display="block")
