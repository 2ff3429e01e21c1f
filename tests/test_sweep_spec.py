"""The file of a sweep: what it means, and that its mistakes are told before anything starts."""

import math
import tomllib
import tracemalloc

import pytest

from dreamer import schema
from dreamer.schema import ConfigError
from experiments.sweep import space as spaces
from experiments.sweep import spec
from experiments.sweep.space import Dimension, dimension

WHOLE = """
[sweep]
preset = "quickstart"
task = "grid:DoorKey-5x5"
trials = 8
seeds = 3
steps = 5000
sampler = "random"
enqueue = [{"agent.optim.lr" = 1e-3}]
[fixed]
loop.train_ratio = 64
"eval.episodes" = 10
[space]
agent.optim.lr = {log = [1e-4, 1e-2]}
"agent.behavior.entropy" = {uniform = [0.0, 0.01]}
"agent.behavior.imag_length" = {int = [5, 20]}
"agent.encoder.mults" = {choice = [[2, 3], [2, 4]]}
"""
MULTS, LR = "agent.encoder.mults", "agent.optim.lr"


def read(**changes) -> spec.Spec:
    """The whole file with other tables: `sweep__trials=4` is a field, `space={...}` a table."""
    content = tomllib.loads(WHOLE)
    for name, value in changes.items():
        table, _, field = name.partition("__")
        if field:
            content[table][field] = value
        else:
            content[table] = value
    return spec.read(content)


def test_load_spec_file_returns_every_part():
    found = read()
    assert found.base.task == "grid:DoorKey-5x5" and found.base.steps == 5000
    assert found.base.loop.train_ratio == 64 and found.base.eval.episodes == 10
    assert found.base.report.episodes == 0
    assert list(found.space) == [LR, "agent.behavior.entropy", "agent.behavior.imag_length", MULTS]
    assert found.space[LR] == Dimension("log", 1e-4, 1e-2)
    assert found.tasks == ("grid:DoorKey-5x5",) and found.sweep.direction == "maximize"


def test_config_of_a_point_differs_from_the_base_only_in_its_values():
    found = read()
    point = found.point(5)
    assert point is not None
    changed = {path: now for path, _, now in schema.diff(found.base, found.config(point))}
    assert changed == {path: tuple(v) if isinstance(v, list) else v for path, v in point.items()}


def test_point_enqueued_values_come_first_and_the_rest_is_sampled():
    found, without = read(), read(sweep__enqueue=[])
    assert found.point(0) == {**(without.point(0) or {}), LR: 1e-3}
    assert [found.point(i + 1) for i in range(4)] == [without.point(i) for i in range(4)]


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_point_depends_only_on_seed_and_number(sampler):
    one, again = (read(sweep__sampler=sampler) for _ in range(2))
    other = read(sweep__sampler=sampler, sweep__seed=1)
    assert [one.point(i) for i in range(7, 0, -1)] == [again.point(i) for i in range(1, 8)][::-1]
    assert one.point(3) != other.point(3)
    assert len({repr(one.point(i)) for i in range(8)}) == 8


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_point_adaptive_sampler_knows_only_enqueued_points(sampler):
    found = read(sweep__sampler=sampler)
    assert found.point(0) == {LR: 1e-3} and found.point(1) is None


def test_point_grid_sampler_has_every_combination_once():
    space = {LR: {"choice": [1e-3, 1e-4]}, "agent.behavior.imag_length": {"int": [3, 5]}}
    found = read(sweep__sampler="grid", sweep__trials=0, sweep__enqueue=[], space=space)
    assert found.sweep.trials == 6
    points = [tuple((found.point(i) or {}).values()) for i in range(6)]
    assert points == [(1e-3, 3), (1e-3, 4), (1e-3, 5), (1e-4, 3), (1e-4, 4), (1e-4, 5)]


def test_dimension_at_covers_its_range():
    log = Dimension("log", 1e-4, 1e-2)
    assert math.isclose(log.at(0.0), 1e-4) and math.isclose(log.at(0.5), 1e-3)
    whole = Dimension("int", 3, 5)
    assert [whole.at(u) for u in (0.0, 0.34, 0.67, 0.999)] == [3, 4, 5, 5]
    assert Dimension("uniform", -1, 1).at(0.75) == 0.5


def test_even_point_sobol_points_are_evenly_spread():
    space = {"a": Dimension("uniform", 0, 1), "b": Dimension("uniform", 0, 1)}
    points = [spaces.even_point(space, 0, i) for i in range(16)]
    for name in space:  # one in each sixteenth of every axis
        assert sorted(int(p[name] * 16) for p in points) == list(range(16))


@pytest.mark.parametrize("sampler", ["grid", "random", "qmc"])
def test_dimension_wide_range_is_not_enumerated(sampler):
    wide = {"int": [1_100, 1_000_000_000]}
    space = {"replay.capacity": wide, "agent.behavior.imag_length": {"int": [1, 10**9]}}
    tracemalloc.start()
    found = read(sweep__sampler=sampler, sweep__enqueue=[{"replay.capacity": 123_456_789}], space=space)
    assert found.point(0)["replay.capacity"] == 123_456_789
    assert all(found.space[path].holds(value) for path, value in found.point(7).items())
    assert not found.space["replay.capacity"].holds(2e9) and not found.space["replay.capacity"].holds(
        2e5 + 0.5
    )
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    if sampler == "grid":
        assert spaces.size(found.space) == (10**9 - 1_099) * 10**9
        assert list(spaces.grid_point(found.space, 10**9 + 4).values()) == [1_101, 5]


@pytest.mark.parametrize("values", ["[1, 1e400]", "[1, " + "9" * 400 + "]", "[nan, 3]", "[-1e17, 1e17]"])
def test_dimension_invalid_bounds_raise_one_sentence(values):
    table = tomllib.loads(f"int = {values}")
    with pytest.raises(ConfigError, match="space.x: int (must be|needs)"):
        dimension("x", table)


@pytest.mark.parametrize("choices", [[1e-3, 1e-4], ["linear", "const"], [True, False], [[2, 3], [2, 4]]])
def test_dimension_choices_survive_encoding(choices):
    made = dimension("x", {"choice": choices})
    assert [made.decoded(made.encoded(x)) for x in choices] == choices
    assert all(made.holds(x) for x in choices)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"spaec": {}}, r"no table \[spaec\]; did you mean \[space\]"),
        ({"sweep__trails": 3}, "sweep.trails is not a configuration field.*did you mean sweep.trials"),
        ({"sweep__trials": 0}, "sweep.trials is missing"),
        ({"sweep__sampler": "tpee"}, "sampler must be one of .*did you mean tpe"),
        ({"sweep__preset": "quikstart"}, "no preset 'quikstart'; did you mean quickstart"),
        ({"sweep__metric": "success"}, "metric must be one of"),
        ({"fixed": {"loop.train_ration": 3}}, "train_ration is not a configuration field.*loop.train_ratio"),
        ({"fixed": {"steps": 3}}, r"fixed.steps: steps belongs in the table \[sweep\]"),
        ({"fixed": {"population.seeds": 3}}, r"seeds belongs in the table \[sweep\]"),
        ({"fixed": {"eval.episodes": 0}}, "judged by its evaluation"),
        ({"sweep__pruner": "exploit"}, "exploit copies single runs; give it one task and seeds = 1"),
        (
            {"sweep__pruner": "exploit", "sweep__population": 1},
            "runs in one program, but sweep.population is 1",
        ),
        (
            {"sweep__pruner": "exploit", "sweep__task": "minigrid:Empty-5x5"},
            "but minigrid:MiniGrid-Empty-5x5-v0 runs on the host",
        ),
        (
            {
                "sweep__pruner": "exploit",
                "sweep__seeds": 1,
                "space": {"agent.rssm.deter": {"int": [64, 128]}},
            },
            "exploit cannot vary agent.rssm.deter during a run, only numbers as agent.optim.lr",
        ),
        ({"fixed": {LR: 1e-3}}, r"in \[fixed\] and in \[space\]"),
        ({"space": {}}, "space is empty"),
        (
            {"space": {"optim.lr": {"log": [1e-4, 1]}}},
            "space.optim.lr is not a configuration field.*did you mean agent.optim.lr",
        ),
        ({"space": {LR: 1e-3}}, r"must be a table, as \{choice"),
        ({"space": {LR: {"lg": [1e-4, 1]}}}, "must be one of"),
        ({"space": {LR: {"log": [1, 1e-4]}}}, "low below high"),
        ({"space": {LR: {"log": [0, 1]}}}, "numbers above 0"),
        ({"space": {LR: {"uniform": [-1, 1]}}}, "agent.optim.lr must be a number"),
        ({"space": {LR: {"choice": [1, 1]}}}, "twice"),
        ({"space": {"agent.rssm.deter": {"log": [8, 64]}}}, "whole number: search it with int or choice"),
        ({"space": {"seed": {"int": [0, 4]}}}, "cannot be searched"),
        ({"space": {"eval.episodes": {"int": [1, 4]}}}, "cannot be searched"),
        ({"sweep__sampler": "grid"}, "make space.agent.optim.lr a choice"),
        ({"sweep__enqueue": [{"agent.optim.lrr": 1}]}, r"not in \[space\]; did you mean agent.optim.lr"),
        ({"sweep__enqueue": [{LR: 1.0}]}, "must be 0.0001 to 0.01, logarithmic, but it is 1.0"),
    ],
)
def test_load_invalid_spec_raises_one_sentence(changes, told):
    if "space" in changes:
        changes = {"sweep__enqueue": [], **changes}
    with pytest.raises(ConfigError, match=told) as error:
        read(**changes)
    assert "\n" not in str(error.value)


def test_load_grid_smaller_than_trials_is_refused():
    space = {LR: {"choice": [1e-3, 1e-4]}}
    with pytest.raises(ConfigError, match="only 2 points"):
        read(sweep__sampler="grid", sweep__trials=3, sweep__enqueue=[], space=space)


def test_load_incompatible_grid_values_are_refused():
    space = {"replay.capacity": {"choice": [300, 100_000]}}
    with pytest.raises(ConfigError, match="trial 0 is invalid: replay.capacity must hold"):
        read(sweep__sampler="grid", sweep__trials=0, sweep__enqueue=[], space=space)


def test_load_with_pruner_evaluates_during_training():
    assert read().base.eval.every == 0
    assert read(sweep__pruner="halving").base.eval.every == 556  # a ninth of 5000
    fixed = {"eval.every": 100}
    assert read(sweep__pruner="halving", fixed=fixed).base.eval.every == 100


def test_check_same_accepts_only_changed_amounts(tmp_path):
    spec.check_same(read(), read(sweep__trials=99, sweep__hours=2, sweep__concurrency=4), tmp_path)
    with pytest.raises(ConfigError, match="differs in sampler, space"):
        other = {LR: {"log": [1e-4, 1e-1]}}
        spec.check_same(read(), read(sweep__sampler="qmc", space=other), tmp_path)


def test_load_file_that_is_no_toml_raises_naming_it(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text("[sweep")
    with pytest.raises(ConfigError, match="spec.toml is not valid TOML"):
        spec.load(path)
    with pytest.raises(ConfigError, match="missing.toml cannot be read"):
        spec.load(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    "changes",
    [
        {"fixed": {"loop": {"actor": "mmpi"}}},
        {"space": {"loop.actor": {"choice": ["sampled", "mmpi"]}}},
    ],
)
def test_read_unknown_actor_is_refused_before_anything_starts(changes):
    with pytest.raises(ConfigError, match="there is no actor 'mmpi'; there are greedy, sampled"):
        read(**changes, sweep__enqueue=[])
    with pytest.raises(ConfigError, match="has no option 'horizn'"):
        read(space={"loop.actor": {"choice": ["sampled", "mppi:horizn=3"]}}, sweep__enqueue=[])
    known = read(space={"loop.actor": {"choice": ["sampled", "mppi:horizon=3"]}}, sweep__enqueue=[])
    assert known.space["loop.actor"].choices == ("sampled", "mppi:horizon=3")
