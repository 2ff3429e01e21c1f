"""The generated parts of the documentation say what the code says."""

import importlib.util
from dataclasses import fields
from pathlib import Path

import pytest

import envs
from dreamer import schema
from dreamer.config import Config, TwoHotConfig
from experiments.commands import COMMANDS, TrainOptions
from experiments.presets import PRESETS
from experiments.report.meanings import MEANINGS

PLACE = Path(__file__).parents[1] / "docs" / "reference.py"


@pytest.fixture(scope="module")
def reference():
    place = importlib.util.spec_from_file_location("reference", PLACE)
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def rows(table):
    """The cells of the rows of a table."""
    lines = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [line.strip("| ").split(" | ") for line in lines][1:]


def test_filled_marks_are_replaced_and_the_rest_stays(reference):
    text = reference.filled("# A\n\n<!-- generated: sizes -->\n\nB <!-- generated: sizes -->\n")
    assert text.startswith("# A\n\n`tiny`, `1m`") and text.endswith("\n\nB <!-- generated: sizes -->\n")


def test_filled_unknown_part_raises(reference):
    with pytest.raises(KeyError, match="nothing"):
        reference.filled("<!-- generated: nothing -->")


def test_configuration_has_a_row_for_every_field(reference):
    listed = [row for row in rows(reference.configuration()) if row[0].startswith("<span")]
    assert len(listed) == len(schema.paths(Config))
    lr = next(row for row in listed if "`agent.optim.lr`" in row[0])
    assert lr[1:] == ["`4e-05`", "a number of at least 0", "Learning rate after the warm-up. ◆", "`--force`"]


@pytest.mark.parametrize(
    ("field", "fate"), [("steps", "free"), ("task", "fixed"), ("eval.every", "free"), ("seed", "`--force`")]
)
def test_configuration_says_what_may_change(reference, field, fate):
    assert next(row for row in rows(reference.configuration()) if f"`{field}`" in row[0])[4] == fate


def test_sentences_include_inherited_fields(reference):
    known = reference.sentences(TwoHotConfig)
    assert list(known) == [f.name for f in fields(TwoHotConfig)]
    assert all(text.endswith(".") for text in known.values())


def test_commands_have_every_option_and_no_markup_of_their_own(reference):
    text = reference.commands()
    for name, command in COMMANDS.items():
        part = text.partition(f"## dreamer {name} {{")[2].partition("\n## ")[0]
        for f in fields(command.options):
            assert f"`--{f.name.replace('_', '-')}" in part, (name, f.name)
    assert "&lt;seed&gt;" in text and "<seed>" not in text
    assert fields(TrainOptions)


def test_other_tables_have_a_row_for_each_entry(reference):
    assert len(rows(reference.PARTS["presets"]())) == len(PRESETS)
    assert len(rows(reference.PARTS["meanings"]())) == len(MEANINGS)
    assert len(rows(reference.PARTS["suites"]())) == len(envs.suites()) - 1  # without the probes


def test_equations_become_mathml():
    pytest.importorskip("latex2mathml")
    place = importlib.util.spec_from_file_location("equations", PLACE.with_name("equations.py"))
    equations = importlib.util.module_from_spec(place)
    place.loader.exec_module(equations)
    html = equations.fence("a_t =\n b\n\nc", "math", "math", {}, None)
    assert html.count("<math ") == 2 and html.startswith('<div class="math">') and "<msub>" in html
