"""gymnax: the same worlds as the package's own, without its autoreset."""

import contextlib
import importlib
import importlib.metadata

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned

import envs
from envs.adapters import gymnax as adapter
from envs.adapters.device import transition
from envs.make import SUITES
from envs.wrappers import Batched

gymnax = pytest.importorskip("gymnax")


@contextlib.contextmanager
def lenient():
    """For package code that promotes ranks, and for tests that use one key in two worlds on purpose."""
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        yield


def test_gymnax_adapter_tasks_match_registry_of_package():
    assert {*adapter.TASKS, *adapter.DOWNLOADS} == set(gymnax.registered_envs)


@pytest.mark.parametrize(
    "task",
    ["CartPole-v1", "Pendulum-v1", "Breakout-MinAtar", "Catch-bsuite", "FrozenLake-misc", "Swimmer-misc"],
)
def test_gymnax_adapter_checked_passes_environment_contract(task):
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
def test_gymnax_adapter_played_matches_original_env(task, key, ends):
    step, first, obs, final, reward, terminated, truncated = play_both(task, 450)
    # Ours and theirs are compiled in one program, where XLA may fuse floats differently.
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    same(step.obs[key], final)
    same(step.reward, reward)
    np.testing.assert_array_equal(step.is_terminal, terminated)
    np.testing.assert_array_equal(step.is_last, terminated | truncated)
    assert step.is_last.any() and (terminated if ends == "terminal" else truncated).any()
    same(first.obs[key][step.is_last], obs[step.is_last])


def test_gymnax_adapter_time_limit_is_not_terminal():
    step, *_ = play_both("Pendulum-v1", 450)
    np.testing.assert_array_equal(np.flatnonzero(step.is_last), [199, 399])
    assert not step.is_terminal.any()


@pytest.mark.parametrize(("task", "limit"), [("Freeway-MinAtar", 2500), ("DiscountingChain-bsuite", 100)])
def test_gymnax_adapter_task_ending_only_by_limit_is_not_terminal(task, limit):
    env = envs.make_jax(f"gymnax:{task}")
    state, _ = env.reset(key=jax.random.key(0))
    step = jax.jit(lambda state: env.step(state, {"action": 0}, key=jax.random.key(1)))
    state, before = step(state.replace(time=jnp.int32(limit - 2)))
    _, end = step(state)
    assert not before.is_last and end.is_last and not end.is_terminal


def test_transition_terminal_at_time_limit_is_terminal():
    for terminal, limit in ((True, True), (True, False), (False, True), (False, False)):
        step = transition({}, 1, terminal, limit)
        assert (bool(step.is_terminal), bool(step.is_last)) == (terminal, terminal or limit)


@pytest.mark.parametrize("task", ["CartPole-v1", "Breakout-MinAtar"])
def test_gymnax_adapter_batched_in_scan_compiles_once(task):
    step = scanned.played(Batched(envs.make_jax(f"gymnax:{task}"), 5), 60)
    # Different keys, different worlds.
    (array,) = step.obs.values()
    assert len({np.asarray(array[:, i]).tobytes() for i in range(5)}) == 5


def balance(obs, rng):
    """Keeps the pole up."""
    return int(obs[2] + 0.5 * obs[3] + 0.05 * obs[0] + 0.1 * obs[1] > 0)


def swing(obs, rng):
    """Pushes the car the way it moves; 2 is right."""
    return 2 if obs[1] >= 0 else 0


def push(obs, rng):
    """The same with all the force there is."""
    return np.float32([1 if obs[1] >= 0 else -1])


def draw(classes):
    return lambda obs, rng: int(rng.integers(classes))


CLASSIC = {
    # the parts of a state in Gymnasium's order, a player, and the steps in which rounding stays small
    "CartPole-v1": (("x", "x_dot", "theta", "theta_dot"), balance, 120),
    "Acrobot-v1": (("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"), draw(3), 500),
    "MountainCar-v0": (("position", "velocity"), swing, 200),
    "MountainCarContinuous-v0": (("position", "velocity"), push, 999),
    "Pendulum-v1": (("theta", "theta_dot"), lambda obs, rng: np.float32(rng.uniform(-1, 1, 1)), 200),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("task", CLASSIC)
def test_gymnax_adapter_classic_control_matches_gymnasium(task, seed):
    """From the same state, with the same actions: the same observations, rewards and ends."""
    parts, player, steps = CLASSIC[task]
    original, rng = gymnasium.make(task), np.random.default_rng(seed)
    obs, _ = original.reset(seed=seed)
    ours = envs.make_jax(f"gymnax:{task}")
    state, _ = ours.reset(key=jax.random.key(0))
    start = zip(parts, np.float32(original.unwrapped.state), strict=True)
    state = state.replace(**{part: jnp.asarray(value) for part, value in start})
    advance = jax.jit(lambda state, act: ours.step(state, {"action": act}, key=jax.random.key(1)))
    high = original.action_space.high if task == "Pendulum-v1" else 1  # ours are all in [-1, 1]

    for t in range(steps):
        act = player(obs, rng)
        obs, reward, terminated, truncated, _ = original.step(act * high)
        state, step = advance(state, act)
        np.testing.assert_allclose(step.obs["vector"], obs, rtol=1e-3, atol=2e-3, err_msg=f"step {t}")
        np.testing.assert_allclose(step.reward, reward, rtol=1e-3, atol=2e-3)
        assert (bool(step.is_terminal), bool(step.is_last)) == (terminated, terminated or truncated)
        if step.is_last:
            break
    assert step.is_last or task == "CartPole-v1"
    if task == "MountainCarContinuous-v0":  # from one wall to the other side
        assert step.is_terminal and 100 < t < 120


def test_gymnax_adapter_actions_are_scaled_to_bounds():
    space = gymnax.environments.spaces.Box(jnp.asarray([-2.0, 0.0]), jnp.asarray([2.0, 1.0]), (2,))
    declared, scale = adapter.action("gymnax:x", space)
    assert declared == envs.Space((2,), "float32")
    for given, expected in ((-1, [-2, 0]), (0, [0, 0.5]), (1, [2, 1]), (7, [2, 1])):
        np.testing.assert_allclose(scale(jnp.full(2, given)), expected)


def test_gymnax_adapter_unsupported_space_is_named():
    spaces = gymnax.environments.spaces
    pair = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])
    with pytest.raises(envs.UnsupportedSpace, match="the observation of gymnax:x is Tuple"):
        adapter.observation("gymnax:x", pair, board=False)
    with pytest.raises(envs.UnsupportedSpace, match="the action of gymnax:x is Tuple"):
        adapter.action("gymnax:x", pair)
    with pytest.raises(envs.UnsupportedSpace, match="lacks bounds"):
        adapter.action("gymnax:x", spaces.Box(-np.inf, np.inf, (1,)))


def test_gymnax_adapter_wrong_name_raises_unknown_task():
    with pytest.raises(envs.UnknownTask, match="did you mean Breakout-MinAtar"):
        envs.make("gymnax:Breakout-MinAtr")
    with pytest.raises(envs.UnknownTask, match="downloads its images"):
        envs.make("gymnax:MNISTBandit-bsuite")


def test_gymnax_adapter_other_version_raises_with_install_command(monkeypatch):
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
