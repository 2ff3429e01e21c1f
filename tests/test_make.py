"""envs.make: names, suggestions, and what is imported when."""

import subprocess
import sys

import pytest

import envs
from envs.adapters import MissingExtra, UnknownTask


@pytest.mark.parametrize(
    ("task", "full"),
    [
        ("gymnasium:CartPole-v1", "gymnasium:CartPole-v1"),
        ("gymnasium:faulty_env:Sound-v0", "gymnasium:faulty_env:Sound-v0"),
        ("minigrid:DoorKey-5x5", "minigrid:MiniGrid-DoorKey-5x5-v0"),
        ("minigrid:MiniGrid-DoorKey-5x5-v0", "minigrid:MiniGrid-DoorKey-5x5-v0"),
        ("minigrid:BabyAI-GoToLocal", "minigrid:BabyAI-GoToLocal-v0"),
        ("minigrid:GoToLocal", "minigrid:BabyAI-GoToLocal-v0"),
        ("minigrid:MultiRoom-N4-S5-v1", "minigrid:MiniGrid-MultiRoom-N4-S5-v1"),
        ("probe:chosen", "probe:chosen"),
    ],
)
def test_canonical_task_name_is_the_full_name(task, full):
    assert envs.canonical(task) == full
    assert envs.canonical(full) == full


def test_make_short_name_has_the_full_name_and_num_envs():
    env = envs.make("minigrid:Empty-5x5", 3)
    assert (env.task, env.num_envs) == ("minigrid:MiniGrid-Empty-5x5-v0", 3)
    assert env.reset([0, 1, 2]).reward.shape == (3,)
    env.close()


@pytest.mark.parametrize(
    ("task", "hint"),
    [
        ("CartPole-v1", "did you mean gymnasium:CartPole-v1?"),
        ("DoorKey-5x5", "did you mean minigrid:DoorKey-5x5?"),
        ("Doorkey-5x", "minigrid:DoorKey-5x5"),
        ("gymnasium:CartPol-v1", "did you mean CartPole-v1"),
        ("gymnasium:CartPole", "did you mean CartPole-v1"),
        ("minigrid:DoorKy-5x5", "did you mean DoorKey-5x5"),
        ("probe:choosen", "did you mean chosen"),
        ("grid:LavaCrossing", "there is no task grid:LavaCrossing; did you mean grid:LavaCrossingS9N"),
        ("grid:LavaCrossingS11", "did you mean grid:LavaCrossingS11N5 or "),
        ("minigird:Empty-5x5", "did you mean minigrid or"),
        ("soccer:Goal", "the suites are minigrid, gymnasium, grid, "),
        ("my_env:My-v0", "did you mean gymnasium:my_env:My-v0?"),
        ("gymnasium:MiniGrid-Empty-5x5-v0", "did you mean minigrid:MiniGrid-Empty-5x5-v0?"),
        ("gymnasium:no_such_module:My-v0", "there is no module 'no_such_module'"),
        ("gymnasium:faulty_env:Sund-v0", "did you mean Sound-v0"),
        ("", "lacks its suite"),
    ],
)
def test_make_unknown_task_raises_with_a_suggestion(task, hint):
    with pytest.raises(UnknownTask) as error:
        envs.make(task)
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


def test_make_unsupported_observation_raises_value_error():
    with pytest.raises(ValueError, match="allowed: 'symbolic', 'rgb', 'full'"):
        envs.make("minigrid:Empty-5x5", obs="pixels")
    with pytest.raises(ValueError, match="gymnasium has no observation 'rgb'"):
        envs.make("gymnasium:CartPole-v1", obs="rgb")


def test_make_zero_copies_raises_value_error():
    with pytest.raises(ValueError, match="num_envs is 0"):
        envs.make("probe:chosen", 0)


@pytest.mark.parametrize("make", [envs.make, envs.make_jax])
@pytest.mark.parametrize("levels", [-1, 2**30 + 1])
def test_make_levels_out_of_range_raises_value_error(make, levels):
    with pytest.raises(ValueError, match=f"levels is {levels}; it takes 0 .any world. to {2**30}"):
        make("grid:Catch", levels=levels)


@pytest.mark.parametrize(
    ("task", "package", "install"),
    [
        ("gymnasium:HalfCheetah-v5", "mujoco", r"dreamer-toolkit\[mujoco\]"),
        ("gymnasium:ALE/Pong-v5", "ale_py", r"dreamer-toolkit\[atari\]"),
        ("gymnasium:LunarLander-v3", "Box2D", r"gymnasium\[box2d\]"),
    ],
)
def test_make_missing_package_raises_with_install_command(monkeypatch, task, package, install):
    # Other tests may have imported the package and those of Gymnasium's modules that import it.
    for module in [m for m in sys.modules if m.startswith((f"{package}.", "gymnasium.envs.mujoco"))]:
        monkeypatch.delitem(sys.modules, module)
    # None in sys.modules is how Python itself marks a module that must not be found.
    monkeypatch.setitem(sys.modules, package, None)
    for part in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, part)
    monkeypatch.setattr("importlib.util.find_spec", _without(package))
    with pytest.raises(MissingExtra, match=install):
        envs.make(task)


def _without(package):
    from importlib.util import find_spec

    return lambda name, *rest: None if name == package else find_spec(name, *rest)


def test_make_failing_constructor_raises_env_error():
    with pytest.raises(envs.EnvError, match="CannotBeBuilt-v0 cannot be built.*no licence"):
        envs.make("gymnasium:faulty_env:CannotBeBuilt-v0")


def test_suites_installed_packages_list_their_tasks():
    suites = {suite.name: suite for suite in envs.suites()}
    core = {name for name, suite in suites.items() if suite.install in ("minigrid", "gymnasium", "jax")}
    assert core == {"minigrid", "gymnasium", "grid", "jax", "pinpad", "probe"}
    assert all(suites[name].installed for name in core)
    assert {name for name, s in suites.items() if s.on_device} == {
        "grid",
        "gymnax",
        "xminigrid",
        "craftax",
        "brax",
        "navix",
        "jax",
    }
    assert len(suites["minigrid"].tasks()) > 150
    assert suites["minigrid"].obs[0] == "symbolic"
    for suite in filter(lambda suite: suite.installed, suites.values()):
        for task in suite.examples:
            assert "my_pkg" in task or task in suite.tasks()


@pytest.mark.parametrize(
    ("task", "other"),
    [
        ("craftax:Craftax-Classic", "Crafter"),
        ("brax:ant", "MuJoCo"),
        ("brax:halfcheetah", "MuJoCo"),
        ("navix:Navix-DoorKey-5x5-v0", "MiniGrid"),
    ],
)
def test_note_task_that_differs_from_its_namesake_says_so(task, other):
    text = envs.note(task)
    assert other in text and "do not compare" in text and text.endswith(".") and "\n" not in text


@pytest.mark.parametrize(
    "task", ["craftax:Craftax", "brax:hopper", "minigrid:DoorKey-5x5", "grid:Catch", "nowhere:x", "x"]
)
def test_note_other_task_is_empty(task):
    assert envs.note(task) == ""


def test_suite_not_installed_has_no_tasks_and_raises_missing_extra():
    from envs.make import Suite

    suite = Suite("x", "envs.probes", "no_such_package", "dreamer-toolkit[x]", ())
    assert not suite.installed and suite.tasks() == []
    with pytest.raises(MissingExtra, match=r"pip install 'dreamer-toolkit\[x\]'"):
        suite.adapter()


def test_import_envs_loads_neither_jax_nor_an_environment():
    code = "import envs, sys; print([m for m in ('jax', 'gymnasium', 'minigrid') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
