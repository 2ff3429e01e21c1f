"""Which tasks a benchmark has, and what is said where there are none."""

import importlib
from types import SimpleNamespace

import pytest

import envs
from dreamer.schema import ConfigError
from experiments.benchmark import published, suites


def test_tasks_words_give_full_names_once_in_their_order():
    told = suites.tasks("minigrid", ["DoorKey-5x5", "minigrid:Empty-5x5", "DoorKey-5x5"])
    assert told == ("minigrid:MiniGrid-DoorKey-5x5-v0", "minigrid:MiniGrid-Empty-5x5-v0")


@pytest.mark.parametrize(
    ("suite", "words", "message"),
    [
        ("minigird", ["Empty-5x5"], "there is no suite 'minigird'; did you mean minigrid"),
        ("minigrid", ["DorKey-5x5"], "did you mean .*DoorKey-5x5"),
        ("minigrid", ["grid:Catch"], "grid:Catch is no task of minigrid"),
        ("nothing-like-it", [], "the suites are minigrid, "),
    ],
)
def test_tasks_unknown_name_raises_with_suggestions(suite, words, message):
    with pytest.raises(envs.UnknownTask, match=message):
        suites.tasks(suite, words)


def test_tasks_without_words_of_a_suite_without_sets_raise_with_an_example():
    with pytest.raises(
        ConfigError, match="has no set of tasks: name them, as in --tasks DoorKey-5x5 FourRooms"
    ):
        suites.tasks("grid", [])


@pytest.fixture
def toy(monkeypatch):
    """Adds suites whose adapters are no modules."""

    def add(name: str, **adapter) -> None:
        full = {"OBS": ("",), "ids": lambda: [], "canonical": lambda name: name, **adapter}
        suite = SimpleNamespace(
            name=name, installed=True, examples=(), adapter=lambda: SimpleNamespace(**full)
        )
        others = (other for other in envs.suites() if other.name != name)
        monkeypatch.setattr(importlib.import_module("envs.make"), "SUITES", (*others, suite))

    return add


def test_sets_of_the_adapter_are_named_and_the_default_comes_first(toy):
    toy("toy", sets=lambda: {"easy": ("a", "toy:b"), "default": ("c",)})
    assert suites.sets("toy") == {"easy": ("a", "b"), "default": ("c",)}
    assert suites.tasks("toy", []) == ("toy:c",)
    assert suites.tasks("toy", ["easy", "d"]) == ("toy:a", "toy:b", "toy:d")


def test_tasks_without_words_of_crafter_is_the_one_of_its_scoreboard(toy):
    toy("crafter")
    assert suites.tasks("crafter", []) == ("crafter:reward",)
    assert published.of("crafter:reward").scores


def test_tasks_misspelled_set_is_suggested(toy):
    def canonical(name: str) -> str:
        raise envs.UnknownTask(f"there is no task toy:{name}")

    toy("toy", sets=lambda: {"levels": ("a",)}, canonical=canonical)
    with pytest.raises(envs.UnknownTask, match="no task toy:level; did you mean the set levels"):
        suites.tasks("toy", ["level"])


def test_published_sets_have_the_names_of_the_adapter(toy):
    toy("dmc", ids=lambda: ["ball-in-cup-catch", "walker-walk", "dog-run"])
    told = suites.sets("dmc")
    assert len(told["dmc_proprio"]) == 18 and len(told["dmc_vision"]) == 20
    assert {"ball-in-cup-catch", "walker-walk"} <= set(told["dmc_proprio"])
    assert all(published.of(f"dmc:{name}").scores for name in told["dmc_proprio"])
    assert suites.tasks("dmc", [])[0] == f"dmc:{told['dmc_proprio'][0]}"


def test_preset_is_named_after_set_or_suite(monkeypatch):
    monkeypatch.setattr(suites.presets, "PRESETS", {"dreamerv3": None})
    assert suites.preset("minigrid", ["Empty-5x5"]) == "dreamerv3"
    known = {"dreamerv3": None, "minigrid": None, "dmc-vision": None, "dmc-proprio": None}
    monkeypatch.setattr(suites.presets, "PRESETS", known)
    assert suites.preset("minigrid", ["Empty-5x5"]) == "minigrid"
    assert suites.preset("dmc", ["dmc_vision"]) == "dmc-vision"
    assert suites.preset("dmc", []) == "dmc-proprio"
