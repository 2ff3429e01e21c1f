"""gymnax: the same worlds as the package's own, without its autoreset."""

import contextlib
import importlib
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned

import envs
from envs.adapters import gymnax as adapter
from envs.adapters.device import later
from envs.make import SUITES
from envs.wrappers import Batched

gymnax = pytest.importorskip("gymnax")


@contextlib.contextmanager
def lenient():
    """For package code that promotes ranks, and for tests that use one key in two worlds on purpose."""
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        yield


def test_the_tasks_are_those_of_the_package():
    assert {*adapter.TASKS, *adapter.DOWNLOADS} == set(gymnax.registered_envs)


@pytest.mark.parametrize(
    "task",
    ["CartPole-v1", "Pendulum-v1", "Breakout-MinAtar", "Catch-bsuite", "FrozenLake-misc", "Swimmer-misc"],
)
def test_it_keeps_the_contract(task):
    with lenient() if task == "Swimmer-misc" else contextlib.nullcontext():
        findings = envs.check(f"gymnax:{task}", steps=220)
    assert not [f for f in findings if f.status == "fail"], findings


def play_both(task, steps, key=0):
    """Ours and the package's stream of one episode after the other, with the same keys and actions."""
    ours, (theirs, params) = envs.make_jax(f"gymnax:{task}"), gymnax.make(task)
    space = ours.act_space["action"]

    def turn(carry, key):
        mine, state = carry
        act_key, key = jax.random.split(key)
        if space.classes:
            action = raw = jax.random.randint(act_key, (), 0, space.classes)
        else:
            action = jax.random.uniform(act_key, space.shape, minval=-1, maxval=1)
            raw = action * theirs.action_space(params).high  # the bounds are symmetric
        obs, state, reward, terminated, truncated, info = theirs.step(key, state, raw, params)
        step_key, reset_key = jax.random.split(key)
        mine, step = ours.step(mine, {"action": action}, key=step_key)
        fresh, first = ours.reset(key=reset_key)
        mine = jax.tree.map(lambda new, old: jnp.where(step.is_last, new, old), fresh, mine)
        return (mine, state), (step, first, obs, info["final_observation"], reward, terminated, truncated)

    @jax.jit
    def play(key):
        reset_key, key = jax.random.split(key)
        start = ours.reset(key=reset_key)[0], theirs.reset(reset_key, params)[1]
        return jax.lax.scan(turn, start, jax.random.split(key, steps))[1]

    with lenient():
        return jax.tree.map(np.asarray, play(jax.random.key(key)))


@pytest.mark.parametrize(
    ("task", "key", "ends"),
    [
        ("CartPole-v1", "vector", "terminal"),
        ("Pendulum-v1", "vector", "limit"),
        ("Breakout-MinAtar", "board", "terminal"),
        ("FrozenLake-misc", "token", "terminal"),
    ],
)
def test_it_is_the_world_of_the_package(task, key, ends):
    step, first, obs, final, reward, terminated, truncated = play_both(task, 450)
    # Ours and theirs are compiled in one program, where XLA may fuse floats differently.
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    same(step.obs[key], final)
    same(step.reward, reward)
    np.testing.assert_array_equal(step.is_terminal, terminated)
    np.testing.assert_array_equal(step.is_last, terminated | truncated)
    assert step.is_last.any() and (terminated if ends == "terminal" else truncated).any()
    same(first.obs[key][step.is_last], obs[step.is_last])


def test_a_time_limit_is_not_terminal():
    step, *_ = play_both("Pendulum-v1", 450)
    np.testing.assert_array_equal(np.flatnonzero(step.is_last), [199, 399])
    assert not step.is_terminal.any()


def test_an_end_at_the_time_limit_is_terminal():
    for terminal, limit in ((True, True), (True, False), (False, True), (False, False)):
        step = later({}, 1, terminal, limit)
        assert (bool(step.is_terminal), bool(step.is_last)) == (terminal, terminal or limit)


@pytest.mark.parametrize("task", ["CartPole-v1", "Breakout-MinAtar"])
def test_copies_in_a_scan_compile_once(task):
    step = scanned.played(Batched(envs.make_jax(f"gymnax:{task}"), 5), 60)
    # Different keys, different worlds.
    (array,) = step.obs.values()
    assert len({np.asarray(array[:, i]).tobytes() for i in range(5)}) == 5


def test_actions_are_mapped_to_the_bounds():
    space = gymnax.environments.spaces.Box(jnp.asarray([-2.0, 0.0]), jnp.asarray([2.0, 1.0]), (2,))
    declared, scale = adapter.action("gymnax:x", space)
    assert declared == envs.Space((2,), "float32")
    for given, expected in ((-1, [-2, 0]), (0, [0, 0.5]), (1, [2, 1]), (7, [2, 1])):
        np.testing.assert_allclose(scale(jnp.full(2, given)), expected)


def test_a_space_that_nobody_can_handle_is_named():
    spaces = gymnax.environments.spaces
    pair = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])
    with pytest.raises(envs.UnsupportedSpace, match="the observation of gymnax:x is Tuple"):
        adapter.observation("gymnax:x", pair, board=False)
    with pytest.raises(envs.UnsupportedSpace, match="the action of gymnax:x is Tuple"):
        adapter.action("gymnax:x", pair)
    with pytest.raises(envs.UnsupportedSpace, match="lacks bounds"):
        adapter.action("gymnax:x", spaces.Box(-np.inf, np.inf, (1,)))


def test_wrong_names():
    with pytest.raises(envs.UnknownTask, match="did you mean Breakout-MinAtar"):
        envs.make("gymnax:Breakout-MinAtr")
    with pytest.raises(envs.UnknownTask, match="downloads its images"):
        envs.make("gymnax:MNISTBandit-bsuite")


def test_another_gymnax_says_what_to_install(monkeypatch):
    assert next(suite.by_hand for suite in SUITES if suite.name == "gymnax") == adapter.INSTALL
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: "0.0.9")
        with pytest.raises(envs.MissingExtra, match="need gymnax 1.0.1, but 0.0.9 is installed: pip install"):
            envs.make("gymnax:CartPole-v1")

    def missing(name):
        raise ModuleNotFoundError("No module named 'six'", name="six")

    monkeypatch.setattr(adapter.importlib, "import_module", missing)
    with pytest.raises(envs.MissingExtra, match="need six too: pip install"):
        adapter.load()
