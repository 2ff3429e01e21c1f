"""A folder answers one question."""

import json
from dataclasses import replace

import pytest

from dreamer.schema import ConfigError
from experiments.compare.question import MANIFEST, Question, ask, place

ASKED = Question(("a:x",), ("random", "llm:m"), 5, 0, 20, {"a:x": {"random": {}, "llm:m": {"prompt": "1"}}})


def test_ask_same_or_extended_question_is_accepted(tmp_path):
    ask(tmp_path, ASKED)
    ask(tmp_path, ASKED)
    more = replace(ASKED, tasks=("a:x", "a:y"), agents=("random", "llm:m", "scripted"), episodes=9)
    ask(tmp_path, more)
    assert json.loads((tmp_path / MANIFEST).read_text())["episodes"] == 9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"max_steps": 0}, "max_steps was 20 and is 0"),
        ({"episodes": 4}, "episodes were 5 and are 4"),
        ({"agents": ("random",)}, "agents had llm:m"),
        ({"tasks": ("a:y",)}, "tasks had a:x"),
        (
            {"identity": {"a:x": {"random": {}, "llm:m": {"prompt": "2"}}}},
            "llm:m on a:x: prompt was 1 and is 2",
        ),
    ],
)
def test_ask_other_question_raises_with_difference(tmp_path, change, said):
    ask(tmp_path, ASKED)
    before = (tmp_path / MANIFEST).read_bytes()
    with pytest.raises(ConfigError, match=said):
        ask(tmp_path, replace(ASKED, **change))
    assert (tmp_path / MANIFEST).read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", '{"seed": 0}', "null"])
def test_ask_folder_without_comparison_raises_config_error(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ConfigError, match="not of a comparison"):
        ask(tmp_path, ASKED)


def test_place_names_with_slashes_map_to_one_folder(tmp_path):
    assert place(tmp_path, "a:b/c", "run:runs/x").relative_to(tmp_path).parts == (
        "transcripts",
        "a:b_c",
        "run:runs_x",
    )
