"""What a task is made with: arguments, a limit, wrappers; and one sentence for what cannot be."""

import re
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import envs
from envs.adapters import MissingExtra, UnknownTask

ME = "my_arguments_env"


def world(env):
    return env.worlds()[0].unwrapped


def played(env, steps):
    """Rewards, ends and terminals of one copy."""
    first = env.reset([0])
    action = {k: np.zeros((1, *s.shape), s.dtype) for k, s in env.act_space.items()}
    rest = [env.step(action) for _ in range(steps)]
    return [(float(s.reward[0]), bool(s.is_last[0]), bool(s.is_terminal[0])) for s in (first, *rest)]


def test_make_kwargs_override_registered_arguments():
    env = envs.make(f"gymnasium:{ME}:Three-v0", kwargs={"bonus": 2, "nested": {"a": [1, {"b": None}]}})
    assert (world(env).size, world(env).bonus, world(env).nested) == (3, 2, {"a": [1, {"b": None}]})
    assert world(envs.make(f"gymnasium:{ME}:Three-v0", kwargs={"size": 9})).size == 9
    assert world(envs.make(f"gymnasium:{ME}:Three-v0")).size == 3


def test_make_several_copies_do_not_share_mutable_arguments():
    env = envs.make(f"gymnasium:{ME}:Three-v0", 2, kwargs={"nested": [1]})
    first, second = (w.unwrapped for w in env.worlds())
    first.nested.append(2)
    assert second.nested == [1]


def test_make_entry_point_with_var_kwargs_receives_all_arguments():
    env = envs.make(f"gymnasium:{ME}:Collecting-v0", kwargs={"size": 4, "extra": 2})
    assert (world(env).size, world(env).extra) == (4, 2)
    assert world(envs.make(f"gymnasium:{ME}:Built-v0", kwargs={"kind": "collecting", "size": 5})).size == 5


@pytest.mark.parametrize(("limit", "length"), [(0, 7), (3, 3), (9, 9)])
def test_make_max_episode_steps_overrides_registered_limit_as_truncation(limit, length):
    slots = played(envs.make(f"gymnasium:{ME}:Three-v0", max_episode_steps=limit), length)
    assert [last for _, last, _ in slots] == [False] * length + [True]
    assert not any(terminal for _, _, terminal in slots)


def test_make_max_episode_steps_without_registered_limit_truncates():
    slots = played(envs.make(f"gymnasium:{ME}:Sized-v0", kwargs={"size": 1}, max_episode_steps=4), 4)
    assert [last for _, last, _ in slots] == [False] * 4 + [True]


def test_make_wrappers_are_applied_in_order():
    task, kwargs = f"gymnasium:{ME}:Three-v0", {"bonus": 3}
    reward = lambda *wrappers: played(envs.make(task, kwargs=kwargs, wrappers=wrappers), 1)[1][0]
    assert reward(f"{ME}:Doubled", f"{ME}:plus_one") == 7
    assert reward(f"{ME}:plus_one", f"{ME}:Doubled") == 8
    assert reward(lambda env: env, f"{ME}:Doubled") == 6
    env = envs.make("gymnasium:CartPole-v1", wrappers=["gymnasium.wrappers:FlattenObservation"])
    assert env.obs_space["vector"].shape == (4,)


@pytest.mark.parametrize(
    ("task", "how", "error", "sentence"),
    [
        ("Three-v0", {"kwargs": {"sise": 3}}, UnknownTask, "takes no argument 'sise'; did you mean size?"),
        ("Three-v0", {"kwargs": {"foo": 3}}, UnknownTask, "argument 'foo'; it takes size, nested, bonus"),
        (
            "Three-v0",
            {"kwargs": {"max_episode_steps": 3}},
            UnknownTask,
            "a limit of steps is --env",
        ),
        ("Collecting-v0", {"kwargs": {"size": 1, "bonos": 3}}, UnknownTask, "'bonos'; did you mean bonus?"),
        ("Sized-v0", {}, UnknownTask, """Sized-v0 needs the argument 'size': --env.kwargs '{"size": ...}'"""),
        (
            "Collecting-v0",
            {},
            envs.EnvError,
            "cannot be built: it raised TypeError: Sized.__init__() missing 1",
        ),
        ("Built-v0", {"kwargs": {"kind": "x"}}, envs.EnvError, "cannot be built: it raised KeyError: 'x'"),
        ("NoEntry-v0", {}, envs.EnvError, "cannot be built: it raised Error: NoEntry-v0 registered but"),
        ("Three-v0", {"wrappers": ["absent:wrap"]}, UnknownTask, "there is no module 'absent' here"),
        (
            "Three-v0",
            {"wrappers": [f"{ME}:plus_on"]},
            UnknownTask,
            "'plus_on'; did you mean plus_one?",
        ),
        ("Three-v0", {"wrappers": [f"{ME}:not_callable"]}, UnknownTask, "has no 'not_callable'"),
        (
            "Three-v0",
            {"wrappers": [f"{ME}:nothing"]},
            envs.EnvError,
            "gave back nothing, expected",
        ),
        (
            "Three-v0",
            {"wrappers": [f"{ME}:number"]},
            envs.EnvError,
            "gave back a int, expected a",
        ),
        (
            "Three-v0",
            {"wrappers": [f"{ME}:raises"]},
            envs.EnvError,
            "cannot be built: it raised ValueError: no",
        ),
        (
            "Three-v0",
            {"wrappers": [f"{ME}:lacks"]},
            MissingExtra,
            "needs a missing package: ModuleNot",
        ),
    ],
)
def test_make_invalid_arguments_raises_one_sentence(task, how, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)) as raised:
        envs.make(f"gymnasium:{ME}:{task}", **how)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("make", [envs.make, envs.make_jax])
@pytest.mark.parametrize(
    ("task", "how", "sentence"),
    [
        ("grid:Catch", {"kwargs": {"size": 1}}, "grid tasks take no kwargs; they take obs, levels"),
        (
            "grid:Catch",
            {"max_episode_steps": 3},
            "grid tasks take no max_episode_steps; they take obs",
        ),
        (
            "jax:my_jax_env:Counting",
            {"wrappers": ["a:b"]},
            "take no wrappers; they take kwargs, max",
        ),
        ("jax:my_jax_env:Counting", {"kwargs": {"x": 1}}, "takes no argument 'x'; it takes none"),
    ],
)
def test_make_unsupported_device_arguments_raises_with_accepted_ones(make, task, how, sentence):
    with pytest.raises(UnknownTask, match=re.escape(sentence)):
        make(task, **how)


def test_make_arguments_for_suite_without_any_raises_unknown_task():
    with pytest.raises(UnknownTask, match="probe tasks take no kwargs and no wrappers; they take levels"):
        envs.make("probe:chosen", kwargs={"a": 1}, wrappers=["a:b"])


def test_make_negative_max_episode_steps_raises_value_error():
    with pytest.raises(ValueError, match="max_episode_steps is -1; it takes at least 1, or 0"):
        envs.make("gymnasium:CartPole-v1", max_episode_steps=-1)


def ends(world, steps):
    """(is_last, is_terminal) of every step of an episode on the device."""
    key = jax.random.key(0)
    state, _ = world.reset(key=key)
    found = []
    for _ in range(steps):
        state, step = world.step(state, {"action": jnp.zeros((), jnp.int32)}, key=key)
        found.append((bool(step.is_last), bool(step.is_terminal)))
    return found


def test_make_jax_user_env_accepts_kwargs_and_max_episode_steps():
    on, cut = (False, False), (True, False)
    with jax.debug_key_reuse(False):
        assert ends(envs.make_jax("jax:my_jax_env:Counting", max_episode_steps=3), 3) == [on, on, cut]
        assert ends(envs.make_jax("jax:my_jax_env:Counting", max_episode_steps=9), 5) == [*[on] * 4, cut]
        assert ends(envs.make_jax("jax:my_jax_env:lasting", kwargs={"until": 2}), 2) == [on, cut]
    with pytest.raises(UnknownTask, match="lasting needs the argument 'until'"):
        envs.make_jax("jax:my_jax_env:lasting")


def test_made_of_task_returns_versions_of_its_packages():
    found = envs.made_of("minigrid:Empty-5x5")
    assert set(found) == {"minigrid", "gymnasium"} and all(found.values())
    assert set(envs.made_of(f"gymnasium:{ME}:Three-v0")) == {"gymnasium"}
    assert envs.made_of("grid:Catch") == {}


def test_made_of_class_of_the_program_itself_names_no_package(monkeypatch):
    kind = type("Loose", (gymnasium.Env,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # as of a program that is a file
    monkeypatch.setitem(gymnasium.registry, "Loose-v0", EnvSpec("Loose-v0", entry_point=kind))
    assert set(envs.made_of("gymnasium:Loose-v0")) == {"gymnasium"}


def test_made_of_brax_and_mujoco_returns_backend_and_version(monkeypatch):
    from importlib import metadata

    from envs.adapters import brax as adapter  # which imports nothing of Brax
    from envs.adapters import gymnasium

    assert adapter.made_of("ant", {"backend": "spring"}) == {"brax backend": "spring"}
    assert adapter.made_of("ant", {}) == {"brax backend": "generalized"}
    monkeypatch.setattr(metadata, "version", {"mujoco": "4.0.0"}.__getitem__)
    assert gymnasium.made_of("Ant-v5", {}) == {"mujoco": "4.0.0"}
