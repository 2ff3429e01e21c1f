"""Imports go one way, in the order in which the code is read."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dreamer

ROOT = Path(dreamer.__file__).resolve().parents[1]
PACKAGES = ("envs", "dreamer", "experiments")

ORDER = (
    "envs.api",
    "dreamer.schema",
    "dreamer.config",
    "dreamer.records",
    "dreamer.ops",
    "dreamer.nets",
    "dreamer.rssm",
    "dreamer.objectives",
    "dreamer.hyper",
    "dreamer.world",
    "dreamer.actors",
    "dreamer.behavior",
    "dreamer.agent",
    "dreamer.inspection",
    "dreamer.replay",
    "dreamer.checkpoint",
    "dreamer.status",
    "dreamer.logger",
    "dreamer.export",
    "dreamer.player",
    "dreamer.loops",
    "experiments",
)
"""Reading order: what stands here may import what stands above it and its own neighbours."""

LEAVES = ("dreamer.replay", "dreamer.checkpoint", "dreamer.logger")
BELOW_LEAVES = ("envs.api", "dreamer.schema", "dreamer.config", "dreamer.records", "dreamer.status")
WORLDS = {"dreamer.loops": ("envs.rollout", "envs.wrappers")}
"""What of `envs` somebody in `dreamer` may import besides `envs.api`."""

ON_DEVICE = (
    *("envs.gridworld", "envs.catch", "envs.device_copies", "envs.wrappers"),
    *("envs.adapters.device", "envs.adapters.gymnax", "envs.adapters.xminigrid", "envs.adapters.craftax"),
    *("envs.adapters.brax", "envs.adapters.navix"),
)
"""Worlds as pure functions of JAX arrays, imported only by who asks for them."""

UNTIL_CALLED = (
    *("jax", "jaxlib", "flax", "optax", "orbax", "tyro", "wandb", "scipy", "httpx"),
    *("matplotlib", "jinja2", "PIL", "safetensors"),
)
"""Packages that take seconds or may be missing: imported inside the functions that need them."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(p): p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))}


def imports(source: str, module: str, *, called: bool = True) -> Iterator[str]:
    """Every module that a source imports, at any depth and in any form, by its full name.

    Args:
      module: the importing module, which relative imports start from.
      called: also those inside functions.
    """
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = SOURCES.get(module, Path()).name == "__init__.py"
            start = module.split(".")[: len(module.split(".")) - node.level + package] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from (name if name in SOURCES else base for name in names)
        elif called or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def within(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def place(module: str) -> str | None:
    return next((p for p in ORDER if within(module, p)), None)


def complaints(module: str, imported: str) -> Iterator[str]:
    """What is wrong with one module importing another."""
    mine, theirs = (name.partition(".")[0] for name in (module, imported))
    if theirs not in PACKAGES or module == "dreamer":
        return
    if imported == mine:
        yield "imports the root of its own package"
    elif mine == "envs":
        if theirs != "envs":
            yield "a world knows no agent"
    elif mine == "dreamer":
        if theirs == "experiments":
            yield "nothing imports experiments"
        elif theirs == "envs":
            if imported not in ("envs.api", *WORLDS.get(place(module) or "", ())):
                yield "of envs an agent only knows envs.api"
        elif (here := place(module)) is None or (there := place(imported)) is None:
            yield "is not in ORDER"
        elif ORDER.index(there) > ORDER.index(here):
            yield f"{there} comes after {here}"
        elif here in LEAVES and there not in (*BELOW_LEAVES, here):
            yield "a leaf only knows records and configuration"


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_one_way(module):
    found = imports(SOURCES[module].read_text(), module)
    wrong = [f"{module} -> {other}: {why}" for other in found for why in complaints(module, other)]
    assert not wrong


def test_the_reader_sees_every_form_of_import():
    source = """
import dreamer.rssm as a
from dreamer.ops import dists
from dreamer.ops.dists import twohot
from . import inputs
def f():
    class C:
        from ..config import RSSMConfig
if TYPE_CHECKING:
    import experiments.cli
"""
    found = set(imports(source, "dreamer.nets.layers"))
    assert found == {
        *("dreamer.rssm", "dreamer.ops.dists", "dreamer.nets.inputs", "dreamer.config", "experiments.cli"),
    }
    assert "dreamer.config" not in set(imports(source, "dreamer.nets.layers", called=False))
    assert set(imports("from . import config", "dreamer")) == {"dreamer.config"}


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("dreamer.ops.dists", "dreamer.agent"),
        ("dreamer.agent", "dreamer.checkpoint"),
        ("dreamer.replay.host", "dreamer.rssm"),
        ("dreamer.config", "dreamer.records"),
        ("dreamer.agent", "dreamer"),
        ("dreamer.agent", "envs.make"),
        ("dreamer.loops.host", "experiments.run"),
        ("dreamer.something_new", "dreamer.config"),
        ("envs.make", "dreamer.config"),
        ("envs.check", "envs"),
        ("experiments.run", "experiments"),
    ],
)
def test_a_wrong_import_is_complained_about(module, imported):
    assert list(complaints(module, imported))


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("dreamer.agent", "dreamer.rssm"),
        ("dreamer.agent", "envs.api"),
        ("dreamer.loops.host", "envs.rollout"),
        ("dreamer.ops.dists", "jax.numpy"),
        ("dreamer.replay.host", "dreamer.replay.segments"),
        ("experiments.run", "envs"),
        ("envs.check", "envs.make"),
    ],
)
def test_a_right_import_is_not(module, imported):
    assert not list(complaints(module, imported))


@pytest.mark.parametrize("module", [m for m in SOURCES if within(m, "envs") and m not in ON_DEVICE])
def test_worlds_do_not_start_jax(module):
    top = {name.partition(".")[0] for name in imports(SOURCES[module].read_text(), module, called=False)}
    assert not top & {"jax", "jaxlib", "flax"}


def test_no_module_hides_one_of_the_standard_library():
    names = {path.stem for path in SOURCES.values()} | {p.parent.name for p in SOURCES.values()}
    assert not names & {"types", "math", "logging", "random", "json", "typing", "copy", "time"}


@pytest.mark.parametrize("module", ["experiments.cli", "experiments.run", "envs", "dreamer"])
def test_nothing_heavy_is_imported_before_it_is_needed(module):
    code = f"import sys, {module}; print(*sorted({set(UNTIL_CALLED)!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
