"""trust: whose modules run. Those in the folder of a run or a sweep, a stranger's perhaps, only if asked.

Such a folder names its task as `suite:module:name`, and its wrappers as `module:name`. A command stands under
a `Guard` while it works (`guarding`); `envs.modules` shows it every module before any file of it runs. The
processes that the command starts find the guard in their environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.machinery
import json
import os
import re
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.adapters import UnknownTask

VARIABLE = "DREAMER_GUARD"
"""Of the environment, with the guard of this process as JSON."""
MARKS = (
    "config.toml",
    "sweep.toml",
    "benchmark.toml",
    "objectives.toml",
    "storage.json",
    "manifest.json",
    "checkpoints",
    "members",
)
"""One of these is in every folder of a run, a checkpoint, a sweep, a benchmark or a comparison."""
CONFIGURATION = {"task", "agent", "replay"}
"""Names that the configuration of a run has, and that of another program hardly."""
LAYERS = ("checkpoints", "members", "trials")
"""Folders of a run or a sweep that hold others of their kind."""


class Untrusted(UnknownTask):
    """A module lies in a folder whose code is not trusted; the message says where, and how to trust it."""


@dataclass(frozen=True)
class Guard:
    """What a command was given, and whether the code in it may run."""

    folders: tuple[str, ...] = ()
    """Of runs, sweeps and exported files that the command opens."""
    named: tuple[str, ...] = ()
    """Words that its user wrote: a module among them is the user's own choice."""
    trusted: bool = False
    announced: tuple[str, ...] = ()
    """Modules that were mentioned already."""

    def home(self, file: Path) -> str | None:
        """The folder of a run, a sweep or an exported file in which a file lies, if any."""
        if _is_installed(file):
            return None
        forms = (Path(os.path.abspath(file)), file.resolve())
        opened = {form for f in self.folders for form in (Path(os.path.abspath(f)), Path(f).resolve())}
        above = dict.fromkeys(parent for form in forms for parent in (form, *form.parents))
        home = next((p for p in above if p in opened), None) or next(filter(holds_run, above), None)
        return None if home is None else str(home)


def guard() -> Guard | None:
    """That of this process; none in a user's own program, which knows what it imports."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    fields = json.loads(text)
    several = {name: tuple(fields.get(name, ())) for name in ("folders", "named", "announced")}
    return Guard(trusted=bool(fields.get("trusted")), **several)


@contextlib.contextmanager
def guarding(words: Sequence[str], *, trusted: bool) -> Iterator[None]:
    """Within it no module runs that lies in what a command line opens, unless that is trusted.

    Args:
      words: of the command line.
    """
    before = os.environ.get(VARIABLE)
    outer = guard() or Guard()
    named = [part for word in words for part in re.split(r"[:=,\s]+", word)]
    _stand(Guard((*outer.folders, *opened(words)), tuple(named), trusted or outer.trusted, outer.announced))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def _stand(guard: Guard) -> None:
    os.environ[VARIABLE] = json.dumps(dataclasses.asdict(guard))


def opened(words: Iterable[str]) -> list[str]:
    """The folders of runs and sweeps among the words of a command line, and those of exported files."""
    folders = []
    for word in words:
        _, _, rest = word.partition(":")
        for text in (word, word.partition("=")[2], rest, rest.rpartition("@")[0]):
            path = Path(os.path.abspath(text)) if text and "\0" not in text and len(text) < 4096 else None
            with contextlib.suppress(OSError):
                if path is not None and path.is_dir() and any((path / mark).exists() for mark in MARKS):
                    folders += [str(path), *map(str, _around(path))]
                elif path is not None and path.is_file() and _is_exported(path):
                    folders.append(str(path.parent))
    return folders


def _around(path: Path) -> Iterator[Path]:
    """The run of a checkpoint or a member, the sweep of a trial."""
    while path.parent.name in LAYERS:
        path = path.parent.parent
        yield path


def _is_exported(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # the header of safetensors begins here


def holds_run(folder: Path) -> bool:
    """Whether a folder is that of a run or a sweep."""
    if (folder / "sweep.toml").is_file() and (folder / "storage.json").is_file():
        return True
    try:
        with (folder / "config.toml").open("rb") as file:
            return tomllib.load(file).keys() >= CONFIGURATION
    except (OSError, ValueError, RecursionError):
        return False


def _is_installed(file: Path) -> bool:
    """Whether it came with Python or by an installer, which runs what it is asked to anyhow."""
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")}
    return any(place in file.resolve().parents for place in places)


def check(module: str, files: Sequence[Path], ours: Iterable[str]) -> None:
    """See that a module may be imported, and say so once where its name comes from a file.

    Args:
      files: that importing it runs, its own at the end.
      ours: packages that are not worth a word.

    Raises:
      Untrusted: one of them lies in the folder of a run or a sweep.
    """
    standing = guard()
    if standing is None:
        return
    for file in () if standing.trusted else files:
        home = standing.home(file)
        if home is not None:
            raise Untrusted(
                f"the module '{module}' is code in a folder that may be someone else's and would run here: "
                f"{file} lies in {home}; read it, and add --trust if you trust it"
            )
    if module in (*standing.named, *standing.announced) or module.partition(".")[0] in ours or not files:
        return
    print(f"importing the module '{module}', which a file names: {files[-1]}", file=sys.stderr, flush=True)
    _stand(dataclasses.replace(standing, announced=(*standing.announced, module)))


def allows(folder: str) -> bool:
    """Whether modules may be searched in a folder: not in one whose code is not trusted."""
    standing = guard()
    return standing is None or standing.trusted or standing.home(Path(folder)) is None


def files_of(module: str, places: Sequence[str]) -> tuple[list[Path], bool]:
    """The files that importing a module runs, those of the packages around it first; nothing is imported.

    Args:
      places: where it is searched for beside what finders of installed packages know.

    Returns:
      Those that are there, and whether all of it is.
    """
    files: list[Path] = []
    inside: list[str] | None = None
    for i, part in enumerate(module.split(".")):
        name = ".".join(module.split(".")[: i + 1])
        origin, inside, known = _find(name, part, places, inside)
        if not known:
            return files, False
        files += [Path(origin)] if origin else []
        if inside is None and name != module:
            return files, False
    return files, True


def _find(
    name: str, part: str, places: Sequence[str], inside: list[str] | None
) -> tuple[str | None, list[str] | None, bool]:
    """The file of a module, where modules in it are, and whether there is such a module."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        path = getattr(loaded, "__path__", None)
        return getattr(loaded, "__file__", None), None if path is None else list(path), True
    spec = importlib.machinery.PathFinder.find_spec(part, inside or places) if inside is not None else None
    if inside is None:
        for finder in sys.meta_path:
            if finder is importlib.machinery.PathFinder:
                spec = importlib.machinery.PathFinder.find_spec(part, places)
            elif hasattr(finder, "find_spec"):
                spec = finder.find_spec(part, None)
            if spec is not None:
                break
    if spec is None:
        return None, None, False
    path = spec.submodule_search_locations
    return spec.origin if spec.has_location else None, None if path is None else list(path), True
