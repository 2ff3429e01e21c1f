"""A configuration can be written, read, compared and changed by path; a wrong one says what is allowed."""

import ast
import contextlib
import dataclasses
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dreamer import config, schema
from dreamer.agent import Agent
from dreamer.config import Config, EnvConfig, LoopConfig, PopulationConfig, changes
from dreamer.schema import Arguments, ConfigError, Named, Range
from envs import api

CFG = Config("minigrid:DoorKey-5x5", 1000)
KINDS = {path: field.type for path, field in schema.paths(Config).items()}


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
NESTED = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=4)
"""What JSON can say."""


def other_values(kind: Any) -> st.SearchStrategy:
    """Values that a field of this type may have."""
    if get_origin(kind) is Annotated:
        plain, *marks = get_args(kind)
        if schema.annotations(kind, Arguments):
            return st.dictionaries(TEXT, NESTED, max_size=3)
        for mark in schema.annotations(kind, Named):
            return st.sampled_from([*mark.names, "my_module:MyClass", "a.b:C"])
        ranges = [mark for mark in marks if isinstance(mark, Range)]
        allowed = ranges[0] if ranges else Range(0)
        high = min(allowed.high, 2**20)
        if plain is int:
            return st.integers(int(allowed.low), int(high)).filter(allowed.__contains__)
        return st.floats(allowed.low, high).filter(allowed.__contains__)
    if get_origin(kind) is tuple:
        return st.lists(other_values(get_args(kind)[0]), min_size=1, max_size=4).map(tuple)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    return {bool: st.booleans(), str: TEXT}[kind]


@st.composite
def configs(draw) -> Config:
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=8, unique=True))
    changes = {path: draw(other_values(KINDS[path])) for path in names}
    try:
        return schema.replace_paths(CFG, changes)
    except ConfigError:  # fields that do not go together
        assume(False)
        raise


def test_load_toml_with_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbfsteps = 160\n")
    assert config.load_toml(path, CFG).steps == 160


@given(configs())
def test_dump_toml_parsed_again_gives_same_configuration(cfg):
    assert config.from_dict(tomllib.loads(schema.dump_toml(cfg))) == cfg


@given(configs(), configs())
def test_diff_applied_to_first_configuration_gives_second(a, b):
    changed = {path: new for path, _, new in schema.diff(a, b)}
    assert schema.replace_paths(a, changed) == b
    assert (a == b) == (not changed)
    assert [path for path, _, _ in schema.diff(b, a)] == list(changed)


@given(configs())
def test_config_rebuilt_from_dict_has_equal_hash_and_no_diff(cfg):
    again = config.from_dict(schema.to_dict(cfg))
    assert hash(again) == hash(cfg) and schema.diff(cfg, again) == []


def test_load_toml_partial_file_keeps_other_fields(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("steps = 5e3\n[agent.rssm]\ndeter = 1024\n[agent.encoder]\nmults = [1, 2]\n")
    cfg = config.load_toml(path, CFG)
    expected = [("steps", 1000, 5000), ("agent.encoder.mults", (2, 3, 4, 4), (1, 2))]
    assert schema.diff(CFG, cfg) == [*expected, ("agent.rssm.deter", 512, 1024)]
    assert isinstance(cfg.steps, int)


def test_replace_paths_dependent_fields_change_together():
    cfg = schema.replace_paths(CFG, {"agent.rssm.deter": 9, "agent.rssm.blocks": 3})
    assert (cfg.agent.rssm.deter, cfg.agent.rssm.blocks) == (9, 3)
    with pytest.raises(
        ConfigError, match=r"^agent\.rssm\.deter must be a multiple of blocks \(8\), but it is 9$"
    ):
        schema.replace_path(CFG, "agent.rssm.deter", 9)


@pytest.mark.parametrize("path", KINDS)
def test_replace_path_wrong_type_names_field(path):
    table = [] if path == "env.kwargs" else [{"a": 1}]
    for wrong in (*table, None, object()):
        with pytest.raises(ConfigError, match=rf"^{path} must be "):
            schema.replace_path(CFG, path, wrong)
    if KINDS[path] is not str:
        with pytest.raises(ConfigError, match=rf"^{path} must be .*, but it is 'seven'"):
            schema.replace_path(CFG, path, "seven")


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        ("steps", [1, 10**9], [0, -1, 1.5, True, float("nan"), float("inf")]),
        ("seed", [0, 2**31 - 1], [-1, 2**31]),
        ("agent.encoder.kernel", [1, 3], [0, 4]),
        ("agent.encoder.mults", [[1], (2, 3)], [[], [0], [1.5], 3]),
        ("agent.decoder.mults", [[1]], [[]]),
        ("agent.rssm.classes", [2, 256], [1, 257]),
        ("agent.value.bins", [3, 256], [2]),
        ("agent.behavior.lam", [0, 1], [-0.1, 1.1]),
        ("agent.behavior.unimix", [0, 0.5], [1, -0.01]),
        ("agent.behavior.horizon", [1.01, 333], [1, 0]),
        ("agent.behavior.slow_rate", [1e-6, 1], [0, 1.5]),
        ("agent.loss.free_nats", [0], [-1]),
        ("agent.optim.beta2", [0, 0.999], [1]),
        ("agent.optim.eps", [1e-30], [0]),
        ("agent.optim.schedule", ["const"], ["constant", 1]),
        ("agent.dtype", ["bfloat16"], ["float16"]),
        ("env.levels", [0, 2**30], [-1, 2**30 + 1]),
        ("env.engine", ["", "envpool"], ["gym", 3]),
        ("env.distractor", ["", "noise"], ["video", 1, True]),
        ("env.lives", ["game", "terminal-and-go-on", "terminal-and-restart"], ["", "lost", 3]),
        ("env.kwargs", ["", "{}", '{"a": [1, {"b": null}]}', {"a": 1}], ["[1]", "{'a': 1}", '{"a": NaN}', 3]),
        ("env.kwargs", [{}], [[1], {"a": object()}, {"a": float("inf")}, '{"a": "\\ud800"}', "7", "{"]),
        ("env.max_episode_steps", [0, 5], [-1, 1.5]),
        ("env.wrappers", [[], ["a.b:c", "d:e"]], ["a:b", ["a"], [":b"], ["a:"], [1]]),
        ("loop.batch_length", [2], [1]),
        ("loop.train_ratio", [0.5, 512], [0]),
        ("replay.capacity", [16 * 65], [16 * 65 - 1]),
        ("eval.episodes", [0], [-1]),
        ("eval.seed", [0, 2**30 - 100], [2**30 - 99, 2**30]),
        ("log.wandb", [True], [1, "yes"]),
    ],
)
def test_replace_path_value_outside_range_raises_config_error(path, right, wrong):
    for value in right:
        schema.replace_path(CFG, path, value)
    for value in wrong:
        with pytest.raises(ConfigError, match=rf"^{path} "):
            schema.replace_path(CFG, path, value)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tsk": 1}, "tsk is not a configuration field; did you mean task?"),
        (
            {"agent": {"rssm": {"detr": 1}}},
            "agent.rssm.detr is not a configuration field; did you mean agent.rssm.deter?",
        ),
        ({"agent": 3}, "agent must be a table of fields, but it is 3"),
        ({"steps": 0}, "steps must be a whole number of at least 1, but it is 0"),
        (
            {"agent": {"loss": {"unimix": 1}}},
            "agent.loss.unimix must be a number of at least 0 and below 1, but it is 1",
        ),
        (
            {"agent": {"dtype": "float"}},
            "agent.dtype must be one of auto, float32, bfloat16, but it is 'float'; did you mean float32?",
        ),
        (
            {"agent": {"optim": {"schedule": "cosine"}}},
            "agent.optim.anneal must be above warmup (1000) for the schedule 'cosine', but it is 0",
        ),
        ({"log": {"wandb": 1}}, "log.wandb must be true or false, but it is 1"),
        (
            {"env": {"kwargs": "{size: 8}"}},
            """env.kwargs must be text that is a JSON object, as '{"size": 8}', but it is '{size: 8}', """
            "which is not JSON: Expecting property name enclosed in double quotes at character 2",
        ),
        ({"env": {"wrappers": ["wrap"]}}, "env.wrappers must be named as my_module:wrap, but one is 'wrap'"),
        ({"env": {"size": 8}}, "env.size is not a configuration field; env has obs, parallel, levels, "),
    ],
)
def test_from_dict_invalid_value_raises_expected_sentence(wrong, sentence):
    with pytest.raises(ConfigError) as error:
        config.from_dict(wrong, CFG)
    said = str(error.value)
    assert said.startswith(sentence) if sentence.endswith(" ") else said == sentence


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("lr", "agent.optim.lr"),
        ("rssm.deter", "agent.rssm.deter"),
        ("agent.opt.lr", "agent.optim.lr"),
        ("loop.num_env", "loop.num_envs"),
        ("agent.rssm", "agent.rssm.deter"),
    ],
)
def test_replace_path_misspelled_path_suggests_right_one(path, meant):
    with pytest.raises(ConfigError, match=rf"{meant}\b"):
        schema.replace_path(CFG, path, 1)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("env.kwarg", ["env.kwargs"]),
        ("env.kwargs.is_slippery", ["env.kwargs"]),
        ("kwargs", ["env.kwargs"]),
        ("batch", ["loop.batch_size", "loop.batch_length"]),
        ("env.max_steps", ["env.max_episode_steps", "eval.max_steps"]),
        ("agent.policy.lr", ["agent.optim.lr"]),
        *((path, []) for path in ("foo", "learning_rate", "epoch", "time_limit", "resume", "env.foo", "gpu")),
    ],
)
def test_closest_path_suggests_related_field_only(path, meant):
    assert schema.closest(path, KINDS) == meant


def test_env_kwargs_as_toml_table_equal_json_text(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(
        '[env]\nwrappers = ["m:wrap"]\n[env.kwargs]\nsize = 8\n[env.kwargs.deep]\nb = [1, 2]\na = true\n'
    )
    cfg = config.load_toml(path, CFG)
    written = schema.replace_path(CFG, "env.kwargs", '{"size":8, "deep":{"a":true,"b":[1,2]}}')
    assert cfg.env.kwargs == written.env.kwargs == '{"deep": {"a": true, "b": [1, 2]}, "size": 8}'
    path.write_text(schema.dump_toml(cfg))
    assert config.load_toml(path) == cfg and hash(config.load_toml(path)) == hash(cfg)
    assert cfg.env.world["kwargs"] == {"size": 8, "deep": {"a": True, "b": [1, 2]}}
    seen = {"obs": "", "pixels": (), "categories": (), "distractor": ""}
    assert CFG.env.world == {"kwargs": {}, "max_episode_steps": 0, "wrappers": ()} | seen


@pytest.mark.parametrize("change", [{"rssm.deter": 36, "rssm.blocks": 4}, {"decoder.depth": 3}])
def test_agent_decoder_blocks_are_validated_only_with_images(change):
    cfg = schema.replace_paths(config.AgentConfig(), change)
    build = lambda obs: Agent({"obs": obs}, {"action": api.Space((), "int32", 2)}, cfg)
    build(api.Space((3,), "float32"))
    with pytest.raises(ConfigError, match=r"^agent\.decoder\.blocks must divide "):
        build(api.Space((16, 16, 3), "uint8"))


def test_from_dict_missing_field_is_named():
    with pytest.raises(ConfigError, match="^task is missing$"):
        config.from_dict({"steps": 1})


def test_load_toml_bad_file_raises_with_its_path(tmp_path):
    broken, foreign = tmp_path / "broken.toml", tmp_path / "foreign.toml"
    broken.write_text("steps = = 3")
    foreign.write_text("[agent.rssm]\nwidth = 3")
    for path, why in (
        (broken, "is not valid TOML"),
        (foreign, "agent.rssm.width is not a configuration field"),
        (tmp_path / "absent.toml", "cannot be read"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=why) as error:
            config.load_toml(path, CFG)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a = " + b"[" * 3000 + b"]" * 3000, "is nested too deep"),
        (b"steps = " + b"9" * 6000, "is not valid TOML"),
        (bytes(range(256)), "is not valid TOML"),
        (
            b"steps = " + b"9" * 310,
            "steps must be a whole number .* it is a number of 310 digits",
        ),
        (b"steps = nan", "but it is nan"),
    ],
)
def test_load_toml_malformed_content_raises_one_sentence(content, why, tmp_path):
    file = tmp_path / "odd.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=why) as error:
        config.load_toml(file, CFG)
    assert str(file) in str(error.value) and len(str(error.value)) < 500


ODD = ["9" * 309, "-" + "9" * 5000, "1e309", "nan", "-inf", "\uff11\uff12", "\u0663", "\u00b2", ""]
"""Numbers that no field can have, in digits of other scripts and without end."""


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("path", ["steps", "agent.rssm.prior_layers", "agent.optim.lr", "replay.capacity"])
def test_replace_path_non_finite_number_raises_one_sentence(text, path):
    value = schema.parse_text(schema.paths(Config)[path].type, text)
    with pytest.raises(ConfigError, match=f"^{path} must be ") as error:
        schema.replace_path(CFG, path, value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "9" * 400, "\uff11", "1,,2", ""])
def test_population_config_non_finite_value_raises_config_error(text):
    with pytest.raises(ConfigError, match="vary needs entries like lr=1e-4,3e-4"):
        config.PopulationConfig(vary=(f"lr={text}",))


@pytest.mark.parametrize("until", ["return=nan", "return=1e400", "return=" + "9" * 400, "success=\uff10.5"])
def test_replace_path_non_finite_goal_raises_config_error(until):
    with pytest.raises(ConfigError, match="until must be"):
        schema.replace_path(CFG, "until", until)


@given(
    value=st.one_of(st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.booleans(), st.none())
)
def test_replace_path_arbitrary_value_is_accepted_or_raises_config_error(value):
    for path in ("steps", "agent.optim.lr", "env.kwargs", "agent.encoder.mults", "population.vary", "until"):
        with contextlib.suppress(ConfigError):
            schema.dump_toml(schema.replace_path(CFG, path, value))


def test_replace_path_too_deep_or_large_kwargs_raises_config_error():
    for text in ('{"a":' * 3000, '{"a": ' + "9" * 6000 + "}"):
        with pytest.raises(ConfigError, match="which (is nested too deep|has a number of thousands)"):
            schema.replace_path(CFG, "env.kwargs", text)


def test_config_section_built_in_python_validates_and_converts():
    with pytest.raises(ConfigError, match="^deter must be a whole number of at least 1, but it is -8$"):
        config.RSSMConfig(deter=-8)
    assert config.OptimConfig(lr=1).lr == 1.0 and isinstance(config.OptimConfig(lr=1).lr, float)


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (Range(1), "of at least 1"),
        (Range(0, above=True), "above 0"),
        (Range(0, 1, below=True), "of at least 0 and below 1"),
        (Range(1, odd=True), "of at least 1 and odd"),
    ],
)
def test_range_str_describes_allowed_values(allowed, words):
    assert str(allowed) == words


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (config.Count, "1e6", 1e6),
        (config.Count, "many", "many"),
        (float, "3e-4", 3e-4),
        (bool, "False", False),
        (bool, "maybe", "maybe"),
        (str, "007", "007"),
        (tuple[config.Count, ...], "2 3,4", [2, 3, 4]),
        (tuple[config.Count, ...], "(2, 3)", [2, 3]),
        (tuple[str, ...], "1m 12m", ["1m", "12m"]),
        (tuple[str, ...], "lr=1e-3,3e-3 seeds=2", ["lr=1e-3,3e-3", "seeds=2"]),
        (tuple[str, ...], "encoder=0.5,rssm.prior=0", ["encoder=0.5", "rssm.prior=0"]),
        (tuple[str, ...], "encoder,rssm", ["encoder", "rssm"]),
    ],
)
def test_parse_text_command_line_word_returns_typed_value(kind, text, value):
    assert schema.parse_text(kind, text) == value


def test_config_every_field_has_docstring():
    tree = ast.parse(Path(config.__file__).read_text())
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        assert ast.get_docstring(cls), cls.name
        for node, after in zip(cls.body, [*cls.body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign):
                said = after.value.value if isinstance(after, ast.Expr) else ""
                assert said.endswith("."), f"{cls.name}.{node.target.id} lacks its sentence"


def test_config_field_assignment_raises_frozen_instance_error():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CFG.agent.rssm.deter = 3


def test_config_first_training_seed_equals_that_of_envs():
    assert config.FIRST_TRAINING_SEED == api.FIRST_TRAINING_SEED


def test_changes_leave_out_what_neither_agent_reads():
    cfg = lambda objective, weight: schema.replace_paths(
        Config("probe:chosen", 10_000),
        {"agent.objective": objective, "agent.loss.barlow": weight, "agent.barlow.redundancy": weight},
    )
    paths = lambda old, new: {path for path, _, _ in changes(old, new)}
    redundancy = "agent.barlow.redundancy"
    both = {"agent.loss.barlow", redundancy}
    assert paths(cfg("reconstruction", 0.5), cfg("reconstruction", 0.25)) == set()
    assert paths(cfg("reconstruction+barlow", 0.5), cfg("reconstruction+barlow", 0.25)) == both
    assert paths(cfg("reconstruction", 0.5), cfg("barlow", 0.25)) == both | {"agent.objective"}
    assert paths(cfg("next_embedding", 0.5), cfg("next_embedding", 0.25)) == {redundancy}
    assert paths(cfg("mine:Own", 0.5), cfg("mine:Own", 0.25)) == both


def test_config_sequences_longer_than_the_transformer_are_refused():
    with pytest.raises(ConfigError, match=r"agent.next_embedding.length must be at least .* \(200\), but"):
        schema.replace_paths(
            Config("probe:chosen", 10_000),
            {"agent.objective": "next_embedding", "loop.batch_length": 200},
        )


def test_config_choice_that_may_be_empty_says_so():
    with pytest.raises(ConfigError, match="distractor must be empty or noise, but it is 'fog'"):
        EnvConfig(distractor="fog")


@pytest.mark.parametrize(
    ("mesh", "shape"),
    [
        ("", {}),
        ("data=8", {"data": 8, "fsdp": 1}),
        ("fsdp=2, data = 4", {"data": 4, "fsdp": 2}),
    ],
)
def test_mesh_shape_has_every_axis_in_order(mesh, shape):
    assert LoopConfig(mesh=mesh).mesh_shape == shape and list(LoopConfig(mesh=mesh).mesh_shape) == list(shape)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mesh": "tensor=2"}, "mesh names 'tensor', which is no axis: its axes are data and fsdp"),
        ({"mesh": "data=2,data=4"}, "mesh names 'data', twice"),
        ({"mesh": "data"}, "mesh needs a number of devices for data, as data=4, but it is ''"),
        ({"mesh": "data=0"}, "mesh needs a number of devices for data"),
        ({"mesh": "data=3"}, "mesh has 3 devices, which cannot share a batch of 16 sequences equally"),
        ({"mesh": "data=8", "accumulate": 4}, "cannot share each of the 4 parts of a batch of 16 sequences"),
        ({"mesh": "data=2,fsdp=2", "devices": 8}, "mesh data=2,fsdp=2 has 4 devices, but devices is 8"),
        ({"accumulate": 3}, "accumulate must divide a batch of 16 sequences, but it is 3"),
    ],
)
def test_mesh_contradictions_are_one_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        LoopConfig(**changes)


def test_mesh_and_population_contradict_each_other():
    with pytest.raises(ConfigError, match="loop.mesh divides one agent over devices, but this"):
        Config("grid:Catch", 10_000, loop=LoopConfig(mesh="data=2"), population=PopulationConfig(seeds=2))
