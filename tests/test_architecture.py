"""Imports go one way, in the order in which the code is read."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dreamer

ROOT = Path(dreamer.__file__).resolve().parents[1]
PACKAGES = ("envs", "dreamer", "experiments")

ORDER = (
    *("envs.adapters", "envs.api", "envs.probes", "envs.trust", "envs.modules", "envs.arguments"),
    *("envs.opengl", "envs.dm"),
    *("envs.readings", "envs.spaces", "envs.watchdog", "envs.rollout", "envs.wrappers"),
    "envs.distractor",
    *("envs.copies", "envs.device_copies", "envs.engine", "envs.vector", "envs.adapters.*", "envs.flat"),
    "envs.unflatten",
    *("envs.catch", "envs.draw", "envs.gridworld", "envs.pinpad", "envs.make", "envs.text", "envs.check"),
    "envs",
    "dreamer.packages",
    "dreamer.atomic",
    "dreamer.schema",
    "dreamer.config",
    "dreamer.processes",
    "dreamer.placement",
    "dreamer.numbers",
    "dreamer.records",
    "dreamer.ops",
    "dreamer.nets",
    "dreamer.cores",
    "dreamer.rssm",
    "dreamer.world",
    "dreamer.objectives",
    "dreamer.costs",
    "dreamer.actors",
    "dreamer.behavior",
    "dreamer.agent",
    "dreamer.dreaming",
    "dreamer.inspection",
    "dreamer.replay",
    "dreamer.migrations",
    "dreamer.pieces",
    "dreamer.checkpoint",
    "dreamer.status",
    "dreamer.trackers",
    "dreamer.logger",
    "dreamer.export",
    "dreamer.player",
    "dreamer.loops",
    *("dreamer", "dreamer.__main__", "dreamer.gym", "dreamer.sb3", "experiments"),
    *("experiments.presets", "experiments.names", "experiments.machine", "experiments.signals"),
    *("experiments.lock", "experiments.sidecar", "experiments.statistics", "experiments.serve"),
    "experiments.learning_curve",
    *("experiments.benchmark.published", "experiments.benchmark.scores"),
    *(
        "experiments.memory",
        "experiments.device_memory",
        "experiments.agreement",
        "experiments.decoding",
        "experiments.surroundings",
        "experiments.cluster",
        "experiments.costs",
        "experiments.evaluate",
    ),
    *("experiments.baselines.ppo.presets", "experiments.report.meanings", "experiments.diagnosis"),
    *("experiments.dream", "experiments.predictor"),
    *("experiments.report", "experiments.training", "experiments.baselines", "experiments.llm"),
    "experiments.imagine",
    *("experiments.play", "experiments.compare", "experiments.sweep", "experiments.bench"),
    *("experiments.benchmark", "experiments.objectives", "experiments.plans", "experiments.board"),
    *(
        "experiments.model_card",
        "experiments.export",
        "experiments.doctor",
        "experiments.launch",
        *("experiments.job", "experiments.remote"),
        "experiments.envs_command",
        "experiments.commands",
    ),
    *("experiments.cli", "experiments.chance", "experiments.sweep.child", "experiments.results_table"),
    *("experiments.animation", "experiments.figures", "experiments.parity"),
)
"""Reading order: what stands here may import what stands above it and its own neighbours. A package stands
for all that lies in it and does not stand here itself, with a star without its own file; a root for that."""

PUBLIC = {
    ("dreamer", "experiments.training.api"),
    ("dreamer.gym", "experiments.dream.env"),
    ("dreamer.sb3", "experiments.predictor"),
}
"""The imports that go up: public names of what needs an agent and its task, or builds runs from both."""

LEAVES = ("dreamer.replay", "dreamer.checkpoint", "dreamer.logger")
BELOW_LEAVES = (
    "envs.api",
    "dreamer.atomic",
    "dreamer.migrations",
    "dreamer.pieces",
    "dreamer.schema",
    "dreamer.config",
    "dreamer.processes",
    "dreamer.placement",
    "dreamer.records",
    "dreamer.status",
    "dreamer.trackers",
)
LOOPS = ("envs.rollout", "envs.watchdog", "envs.wrappers")
WORLDS = {"dreamer.loops": LOOPS, "dreamer.objectives": ("envs.modules",)}
"""What of `envs` somebody in `dreamer` may import besides `envs.api`."""

ON_DEVICE = (
    *("envs.gridworld", "envs.catch", "envs.device_copies", "envs.wrappers"),
    *("envs.adapters.device", "envs.adapters.gymnax", "envs.adapters.xminigrid", "envs.adapters.craftax"),
    *("envs.adapters.brax", "envs.adapters.navix"),
)
"""Worlds as pure functions of JAX arrays, imported only by who asks for them."""

UNTIL_CALLED = (
    *("jax", "jaxlib", "flax", "optax", "orbax", "tyro", "wandb", "mlflow", "scipy", "httpx"),
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
    """The entry of `ORDER` that a module belongs to."""
    if module in ORDER:
        return module
    packages = {entry.removesuffix(".*"): entry for entry in ORDER if entry not in PACKAGES}
    return next((e for p, e in reversed(packages.items()) if within(module, p)), None)


def complaints(module: str, imported: str) -> Iterator[str]:
    """What is wrong with one module importing another."""
    mine, theirs = (name.partition(".")[0] for name in (module, imported))
    if theirs not in PACKAGES or (module, imported) in PUBLIC:
        return
    here, there = place(module), place(imported)
    if imported == mine:
        yield "imports the root of its own package"
    elif mine == "envs" and theirs != "envs":
        yield "a world knows no agent"
    elif mine == "dreamer" and theirs == "experiments":
        yield "nothing imports experiments"
    elif mine == "dreamer" and theirs == "envs":
        if imported not in ("envs.api", *WORLDS.get(here or "", ())):
            yield "of envs an agent only knows envs.api"
    elif here is None or there is None:
        yield "is not in ORDER"
    elif ORDER.index(there) > ORDER.index(here):
        yield f"{there} comes after {here}"
    elif here in LEAVES and there not in (*BELOW_LEAVES, here):
        yield "a leaf only knows records and configuration"


@pytest.mark.parametrize("module", SOURCES)
def test_imports_of_every_module_follow_architecture_order(module):
    found = imports(SOURCES[module].read_text(), module)
    wrong = [f"{module} -> {other}: {why}" for other in found for why in complaints(module, other)]
    assert not wrong


def test_imports_reader_detects_every_import_form():
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
        ("dreamer.loops.host", "experiments.training.run"),
        ("dreamer.something_new", "dreamer.config"),
        ("dreamer", "experiments.cli"),
        ("dreamer.gym", "experiments.predictor"),
        ("envs.something_new", "envs.api"),
        ("envs.spaces", "envs.make"),
        ("envs.trust", "envs.adapters.gymnax"),
        ("experiments.something_new", "experiments.machine"),
        ("experiments.evaluate", "experiments.training.run"),
        ("experiments.training.run", "experiments.cli"),
        ("experiments.sweep.executor", "experiments.sweep.child"),
        ("envs.make", "dreamer.config"),
        ("envs.check", "envs"),
        ("experiments.training.run", "experiments"),
    ],
)
def test_complaints_forbidden_import_is_reported(module, imported):
    assert list(complaints(module, imported))


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("dreamer.agent", "dreamer.rssm"),
        ("dreamer.agent", "envs.api"),
        ("dreamer.loops.host", "envs.rollout"),
        ("dreamer.ops.dists", "jax.numpy"),
        ("dreamer.replay.host", "dreamer.replay.segments"),
        ("experiments.training.run", "envs"),
        ("envs.check", "envs.make"),
        ("envs.adapters.gymnax", "envs.arguments"),
        ("dreamer", "experiments.training.api"),
        ("dreamer.sb3", "experiments.predictor"),
        ("experiments.sweep.child", "experiments.cli"),
    ],
)
def test_complaints_allowed_import_is_not_reported(module, imported):
    assert not list(complaints(module, imported))


@pytest.mark.parametrize("module", [m for m in SOURCES if within(m, "envs") and m not in ON_DEVICE])
def test_env_modules_at_import_do_not_load_jax(module):
    top = {name.partition(".")[0] for name in imports(SOURCES[module].read_text(), module, called=False)}
    assert not top & {"jax", "jaxlib", "flax"}


def test_modules_names_do_not_shadow_standard_library():
    names = {path.stem for path in SOURCES.values()} | {p.parent.name for p in SOURCES.values()}
    assert not names & {"types", "math", "logging", "random", "json", "typing", "copy", "time"}


@pytest.mark.parametrize("module", ["experiments.cli", "experiments.training.run", "envs", "dreamer"])
def test_modules_at_import_do_not_load_heavy_packages(module):
    code = f"import sys, {module}; print(*sorted({set(UNTIL_CALLED)!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == []


def test_imports_between_modules_have_no_cycle():
    graph = {
        module: {other for other in imports(path.read_text(), module) if other in SOURCES and other != module}
        for module, path in SOURCES.items()
        if module not in PACKAGES
    }
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert len(order) >= len(graph)


def bases(source: str) -> dict[str, list[str]]:
    """{class: names of what it inherits from} in a source, without packages and type arguments."""
    name = lambda base: ast.unparse(base).partition("[")[0].rpartition(".")[2]
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return {node.name: [name(base) for base in node.bases] for node in found}


INTERFACES = {"Protocol", "ABC"}
"""What makes a class one to inherit from, where it stands in its own line,"""
FAMILIES = {"Section", "Exception", "ValueError"}
"""or above it: fields of the configuration and errors."""


def heirs(classes: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Classes that inherit from a concrete one of the same dictionary, with that one."""
    is_kin = lambda name: name in FAMILIES or any(map(is_kin, classes.get(name, ())))
    is_abstract = lambda name: bool(INTERFACES & set(classes[name])) or is_kin(name)
    found = [(name, base) for name, own in classes.items() for base in own]
    ours = classes.keys() - INTERFACES
    return [(name, base) for name, base in found if base in ours and not is_abstract(base)]


def test_classes_in_package_do_not_inherit_from_concrete_classes():
    classes: dict[str, list[str]] = {}
    for path in SOURCES.values():
        for name, own in bases(path.read_text()).items():
            classes[name] = classes.get(name, []) + own
    assert heirs(classes) == []


def test_heirs_class_deriving_from_concrete_one_is_detected():
    source = """
class Shape(Protocol[T]): ...
class Square(Shape): ...
class Red(shapes.Square): ...
class Wrong(ValueError): ...
class Worse(Wrong): ...
"""
    assert heirs(bases(source)) == [("Red", "Square")]


WRITER = "dreamer.atomic"
"""The one module that writes whole files: nobody else syncs or replaces one."""


def replacements(source: str) -> Iterator[str]:
    """The calls of a source by which a written file takes its place."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            is_path = node.func.attr == "replace" and len(node.args) == 1 and not node.keywords
            if (
                node.func.attr == "fsync"
                or called == "os.replace"
                or is_path
                and called != "dataclasses.replace"
            ):
                yield ast.unparse(node)


@pytest.mark.parametrize("module", [module for module in SOURCES if module != WRITER])
def test_file_replacement_occurs_only_in_writer_module(module):
    assert list(replacements(SOURCES[module].read_text())) == []


def test_replacements_every_form_is_detected():
    others = "text.replace('a', 'b'); dataclasses.replace(a, b=1); dataclasses.replace(a)"
    source = f"os.replace(a, b); path.replace(b); os.fsync(1); {others}"
    assert list(replacements(source)) == ["os.replace(a, b)", "path.replace(b)", "os.fsync(1)"]
    assert list(replacements(SOURCES[WRITER].read_text()))
