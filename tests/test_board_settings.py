"""Configurations of any version are read as they are, and compared field by field."""

import tomllib

import pytest

from dreamer import schema
from dreamer.schema import ConfigError
from experiments import presets
from experiments.board import settings

QUIRKS = [
    'a = 1\n[b]\nc = "x"\n[b.d]\ne = [1, 2]\n',
    'a = """\n[b]\nc = 1\n"""\n[d]\ne = 2\n',
    "a = [\n[1, 2],\n[3]\n]\n[b]\nc = 1\n",
    "[[a]]\nb = 1\n[[a]]\nb = 2\n",
    "# only a comment\n",
    '["a.b"]\nc = 1\n[d]\n"e f" = 2.5\n',
]


def merged(text: str) -> dict:
    return {path: value for table in settings.read(text) for path, value in table.items()}


@pytest.mark.parametrize("text", QUIRKS)
def test_read_any_toml_equals_the_whole_parse(text):
    assert merged(text) == settings.of_object(tomllib.loads(text))


def test_read_configuration_of_today_has_every_field():
    cfg = presets.build("quickstart")
    fields = merged(schema.dump_toml(cfg))
    assert fields.keys() == dict(schema.values(cfg)).keys()
    assert fields["agent.optim.lr"] == cfg.agent.optim.lr


def test_read_two_runs_share_their_equal_tables():
    one, two = (settings.read(f"seed = {seed}\n[agent]\nlr = 0.1\n") for seed in (1, 2))
    assert one[1] is two[1] and one[0] is not two[0]


@pytest.mark.parametrize("text", ["a = ", "[a\nb = 1", "a = 1\na = 2\n", "a = " + "[" * 9000])
def test_read_invalid_toml_raises_value_error(text):
    with pytest.raises(ValueError):
        settings.read(text)


def test_plain_values_are_ones_that_json_can_hold():
    fields = merged("a = inf\nb = nan\nc = 1979-05-27\nd = 99999999999999999999\ne = [1, nan]\n")
    assert fields == {"a": "inf", "b": "nan", "c": "1979-05-27", "d": "99999999999999999999", "e": "[1, NaN]"}
    assert len(settings.plain("x" * 9999)) < 400


PATHS = ["task", "seed", "agent.optim.lr", "agent.policy.layers", "agent.value.layers", "loop.num_envs"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("seed", "seed"),
        ("lr", "agent.optim.lr"),
        ("optim.lr", "agent.optim.lr"),
        ("--loop.num-envs", "loop.num_envs"),
        ("policy.layers", "agent.policy.layers"),
    ],
)
def test_field_name_is_found_by_how_its_path_ends(name, path):
    assert settings.field(name, PATHS) == path


def test_field_unknown_or_ambiguous_name_raises_with_what_would_be_right():
    with pytest.raises(ConfigError, match=r"layers may be agent\.policy\.layers, agent\.value\.layers"):
        settings.field("layers", PATHS)
    with pytest.raises(ConfigError, match=r"has a field num_env; did you mean loop\.num_envs\?"):
        settings.field("num_env", PATHS)
    with pytest.raises(ConfigError, match="has a field zzz$"):
        settings.field("zzz", PATHS)


def test_differences_are_the_fields_that_differ_or_are_missing():
    one = settings.read("seed = 1\nsame = true\n[old]\na = 0\n")
    two = settings.read("seed = 2\nsame = true\n[new]\nb = 1.0\n")
    assert settings.differences([one, two]) == [
        ("seed", [1, 2]),
        ("old.a", [0, None]),
        ("new.b", [None, 1.0]),
    ]
    assert settings.differences([one, one]) == [] == settings.differences([])


def test_get_and_known_cover_all_tables():
    one = settings.read("seed = 1\n[a]\nb = 2\n")
    assert settings.get(one, "a.b") == 2 and settings.get(one, "a.c") is None
    assert settings.known([one, one]) == ["seed", "a.b"]
