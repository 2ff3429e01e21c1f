"""README and documentation are true: commands and code run, or parse and say why not; links are whole."""

import contextlib
import dataclasses
import importlib
import importlib.util
import re
import shutil
import sys
import tomllib
from pathlib import Path

import jax
import pages
import pytest
import tiny
from pages import DOCS, PAGES, README

import envs
from dreamer import schema
from dreamer.actors import named
from dreamer.agent import Agent
from dreamer.config import Config, from_dict
from experiments import cli, presets
from experiments.benchmark import benchmark
from experiments.commands import resolve
from experiments.compare.contestants import run_and_actor, split
from experiments.objectives import objectives
from experiments.presets import PRESETS
from experiments.presets.sizes import SIZES
from experiments.sweep import spec
from experiments.training import population

NAMES = [pages.name(page) for page in PAGES]
LANGUAGES = {"sh", "python", "toml", "text", "math", ""}
SWEEP = next(b.text for b in pages.blocks(DOCS / "sweeps.md") if b.said == "sweep.toml")
FILES = (".py", ".html", ".json", ".jsonl", ".toml", ".safetensors")
YOURS = ("My", "my_")
"""How names begin that stand for the reader's."""


def reference():
    """The module that writes the generated parts."""
    place = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def filled():
    """{page: its text with the generated parts}."""
    write = reference().filled
    return {page: write(page.read_text("utf-8")) for page in PAGES}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the files that commands name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("sweep.toml").write_text(SWEEP)
    Path("examples").mkdir()
    shutil.copy(DOCS.parent / "examples" / "sweep.toml", "examples")
    best = Path("sweeps/sweep/best.toml")
    best.parent.mkdir(parents=True)
    best.write_text(schema.dump_toml(presets.build("quickstart")))
    yield tmp_path
    for name, module in list(sys.modules.items()):  # of files that are gone now
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


# What is parsed.


def known(task):
    """See that a task is there, as far as can be said without its package; a reader's own is taken as is."""
    suite, _, rest = task.partition(":")
    if ":" in rest or rest.startswith(YOURS):
        assert suite in {s.name for s in envs.suites()}, task
        return
    with contextlib.suppress(envs.MissingExtra):
        envs.canonical(task)


def check_train(words, options, changes):
    cfg = resolve(words[0] if words else "", options, changes).cfg
    population.members(cfg)
    known(cfg.task)


def check_eval(words, options, changes):
    named(options.actor or "greedy")
    known(options.task or "minigrid:DoorKey-5x5")


def check_compare(words, options, changes):
    options.check()
    for kind, rest in map(split, options.agents):
        if kind == "run":
            run_and_actor(rest)
    for task in options.task:
        known(task)


def check_benchmark(words, options, changes):
    assert len(words) == 1
    with contextlib.suppress(envs.MissingExtra):
        benchmark.plan(words[0], options)


def check_objectives(words, options, changes):
    """Of classes that a page only imagines their form alone."""
    named = [name for name in options.objectives if not name.startswith("my_module:")]
    objectives.plan(dataclasses.replace(options, objectives=tuple(named)))


def check_bench(words, options, changes):
    assert set(options.sizes) <= set(SIZES)
    known(options.task or "grid:DoorKey-5x5")


CHECKS = {
    "train": check_train,
    "eval": check_eval,
    "compare": check_compare,
    "sweep": lambda words, options, changes: spec.load(Path(words[0])),
    "benchmark": check_benchmark,
    "objectives": check_objectives,
    "bench": check_bench,
    "envs": lambda words, options, changes: known(options.check or "grid:DoorKey-5x5"),
    "doctor": lambda words, options, changes: known(options.task or "grid:DoorKey-5x5"),
}
"""What is checked of a command beyond its options."""


@pytest.fixture
def parsed(monkeypatch):
    """Gets the exit code of a command line that is parsed to its end and not run."""

    def instead(check):
        def call(words, options, changes):
            check(words, options, changes)
            return 0

        return call

    for command, entry in list(cli.COMMANDS.items()):
        check = CHECKS.get(command, lambda words, options, changes: None)
        monkeypatch.setitem(cli.COMMANDS, command, entry._replace(call=instead(check)))
    return cli.main


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_of_a_page_parse(page, folder, parsed, capsys):
    for block in pages.blocks(page):
        if block.mark == "file":
            Path(block.said).write_text(block.text)
        for words in pages.commands(block.text) if block.language == "sh" else ():
            assert parsed(words) == 0, f"{block.where}: dreamer {' '.join(words)}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_in_the_prose_of_a_page_exist(page):
    for text in re.findall(r"`dreamer ([a-z][^`]*)`", pages.prose(page)):
        words = [*text.split(), ""]
        assert words[0] in cli.COMMANDS or " ".join(words[:2]) in cli.COMMANDS, text
        if words[0] == "train" and re.fullmatch(r"[a-z][\w-]*", words[1]):
            assert words[1] in PRESETS, text


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_fields_in_the_prose_of_a_page_exist(page):
    fields = schema.paths(Config)
    sections = {path[: match.start()] for path in fields for match in re.finditer(r"\.", path)}
    first = "|".join(sorted({path.partition(".")[0] for path in fields if "." in path}))
    for path in re.findall(rf"`(?:--)?((?:{first})\.[a-z_.-]+)(?: [^`]*)?`", pages.prose(page)):
        if not path.endswith(FILES):
            assert path.replace("-", "_") in {*fields, *sections}, path


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_of_a_page_have_known_languages_and_reasons(page):
    for block in pages.blocks(page):
        assert block.language in LANGUAGES, block.where
        assert block.mark != "not run" or block.said, f"{block.where} does not say why it is not run"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_settings_of_a_page_are_valid(page):
    for block in pages.blocks(page):
        if block.language == "toml":
            values = tomllib.loads(block.text)
            spec.read(values) if "sweep" in values else from_dict(values, presets.build("quickstart"))


# What runs.


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{name: folder} of untrained runs and their exported agents, as training leaves them behind."""
    place, tasks = tmp_path_factory.mktemp("docs") / "runs", {}
    tasks |= {"quickstart": "minigrid:DoorKey-5x5", "cartpole": "gymnasium:CartPole-v1"}
    for preset, task in tasks.items():
        env = envs.make(task)
        agent = Agent(env.obs_space, env.act_space, tiny.CFG)
        state = jax.jit(agent.init)(jax.random.key(0))
        run = tiny.store(place / f"{preset}-seed0", state, agent, task=task, report__episodes=4)
        assert cli.main(["export", str(run)]) == 0
    return place


def run(block, capsys):
    """Run a block, as a reader would who has the trained agents."""
    if block.mark == "file":
        Path(block.said).write_text(block.text)
        importlib.invalidate_caches()
    elif block.language == "python":
        exec(compile(block.text, block.where, "exec"), {})
    elif block.language == "sh":
        for words in pages.commands(block.text):
            if words[:1] == ["export"]:  # as the fixture has done
                words = [*words, "--force"]
            assert cli.main(words) == 0, (
                f"{block.where}: dreamer {' '.join(words)}: {capsys.readouterr().err}"
            )


def runnable():
    """The blocks that are run here; `test_readme` runs the Python of the README."""
    for page in PAGES:
        for block in pages.blocks(page):
            is_elsewhere = page == README and block.language == "python"
            if block.mark not in ("not run", "test command") and not is_elsewhere:
                yield block


def test_blocks_that_are_not_marked_run(runs, folder, monkeypatch, capsys, compilation_cache):
    quick = dataclasses.replace(tiny.RUN, task="gymnasium:CartPole-v1")
    monkeypatch.setitem(PRESETS, "cartpole", lambda: quick)
    Path("runs").symlink_to(runs)
    chosen = list(runnable())
    for block in chosen:
        run(block, capsys)
    assert sum(block.language in ("python", "sh") for block in chosen) > 10


# Where links lead.


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_of_a_page_lead_to_files_and_anchors(page, filled):
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        text = filled.get(place) or place.read_text("utf-8") if anchor else ""
        assert not anchor or anchor in pages.anchors(text), target


def test_reference_names_every_field_and_command(filled):
    configuration = filled[DOCS / "reference" / "configuration.md"]
    for path in schema.paths(Config):
        assert f'id="{path}"' in configuration, path
    listed = filled[DOCS / "reference" / "commands.md"]
    for command, entry in cli.COMMANDS.items():
        assert f"## dreamer {command} {{" in listed and entry.about in listed, command


def test_pages_have_no_unfilled_marks(filled):
    assert len(filled) > 25
    assert not [pages.name(page) for page, text in filled.items() if "<!-- generated" in text]


def test_site_navigation_has_every_page():
    nav = (pages.ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        if page != README:
            assert page.relative_to(DOCS).as_posix() in nav, page


# The walker itself.


def test_commands_every_form_is_detected():
    text = "dreamer eval RUN --json  # why\npip install . && .venv/bin/dreamer train \\\n  cartpole\nls\n"
    assert list(pages.commands(text)) == [["eval", "RUN", "--json"], ["train", "cartpole"]]


def test_blocks_marks_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    page = tmp_path / "a.md"
    page.write_text(
        "<!-- not run: long -->\n```sh\ndreamer train\n```\n\n```python\nx = 1\n```\n"
        "<!-- file: a.toml -->\n\n```toml\na = 1\n```\n"
    )
    assert [(b.language, b.mark, b.said) for b in pages.blocks(page)] == [
        ("sh", "not run", "long"),
        ("python", "", ""),
        ("toml", "file", "a.toml"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        "train nopreset",
        "train --agent.optim.rl 1",
        "train --task minigrid:Dorkey",
        "eval RUN --actor mpc",
        "nothing",
    ],
)
def test_commands_with_a_mistake_do_not_parse(words, folder, parsed):
    with contextlib.suppress(envs.UnknownTask):
        assert parsed(words.split()) != 0


def test_anchors_of_headings_are_those_of_markdown():
    text = '# A page\n## Signals and exit codes\n### result.json\n## x {#y-z}\n<a id="w"></a>'
    assert pages.anchors(text) == {"a-page", "signals-and-exit-codes", "resultjson", "y-z", "w"}
