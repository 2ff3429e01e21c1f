"""What a build of the site adds to its pages: generated tables, equations, and files of the repository.

MkDocs calls these functions (`hooks` in mkdocs.yml). A link that leaves this folder, as
`../experiments/results/open-loop.png`, works on GitHub and in an editor; in the site it leads to a copy.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equations
import reference

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = re.compile(r"(?<=\]\()(?:\.\./)+([\w./-]+\.(?:png|gif|csv|json))(?=\))")
"""The target of a link to a picture or to numbers that lie elsewhere in the repository."""
COPIES = "repository"
"""Where the site has copies of those."""


def on_config(config: Any) -> Any:
    """Blocks of code marked `math` become MathML."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": equations.fence})
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """Add copies of what pages link to elsewhere in the repository."""
    from mkdocs.structure.files import File

    linked = {path for file in files.documentation_pages() for path in outside(file.content_string)}
    for path in sorted(linked):
        files.append(File.generated(config, f"{COPIES}/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in the generated parts, and lead links that leave this folder to the copies."""
    up = "../" * page.file.src_uri.count("/")
    return OUTSIDE.sub(lambda match: f"{up}{COPIES}/{match[1]}", reference.filled(markdown))


def outside(markdown: str) -> Iterator[str]:
    """Paths, from the root of the repository, of what a page links to elsewhere in it."""
    return (match[1] for match in OUTSIDE.finditer(markdown))
