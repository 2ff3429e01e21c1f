"""Pages of Markdown as what readers copy from them: blocks of code, and what their marks say.

A block runs in the tests unless the line above it says why not: `<!-- not run: minutes of training -->`. One
below `<!-- file: sweep.toml -->` is written to that file, which later blocks and commands may use.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
MARK = re.compile(r"<!-- (not run|file|test command)(?:: (.+?))? -->")
HEADING = re.compile(r"^#+ +(.+?)(?: *\{#([\w.-]+)\})?$")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A block of code."""

    where: str
    """Page and line."""
    language: str
    text: str
    mark: str
    """not run, file, test command, or nothing."""
    said: str
    """After the mark: why it does not run, or the name of the file."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page with a language, in order."""
    lines = page.read_text("utf-8").splitlines()
    start, above = None, ""
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            above = line if start is None and line.strip() else above
        elif start is None:
            start = number
        else:
            mark = MARK.fullmatch(above.strip())
            kind, said = (mark[1], mark[2] or "") if mark else ("", "")
            language, text = lines[start][3:].strip(), "\n".join(lines[start + 1 : number]) + "\n"
            if language:
                yield Block(f"{name(page)}:{start + 1}", language, text, kind, said)
            start, above = None, ""


def commands(text: str) -> Iterator[list[str]]:
    """The words after `dreamer` of every command line of a shell block that starts with it."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            if words[0].rpartition("/")[2] == "dreamer":
                yield words[1:end]
            words = words[end + 1 :]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Targets of its links and pictures that lie in the repository."""
    targets = [link or picture for link, picture in LINK.findall(prose(page))]
    return [target for target in targets if not target.startswith(("http:", "https:", "mailto:"))]


def anchors(text: str) -> set[str]:
    """What a link may name in a page: headings and elements with an id."""
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    for heading in filter(None, map(HEADING.match, text.splitlines())):
        ids.add(heading[2] or slug(heading[1]))
    return ids


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and Python-Markdown make it of plain English."""
    plain = re.sub(r"[^\w\s-]", "", heading.lower()).strip()
    return re.sub(r"[-\s]+", "-", plain)
