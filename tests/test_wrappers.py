"""Many copies: autoreset in a slot of its own, each copy as if it were alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.api import FIRST_TRAINING_SEED
from envs.catch import Catch
from envs.gridworld import TASKS, GridWorld, door_key
from envs.wrappers import Batched, Levels

STEPS, COPIES = 150, 6


def play(env, key, actions):
    """[T+1, E, ...] steps of a stream."""
    reset_key, steps_key = jax.random.split(key)
    worlds, first = env.reset(key=reset_key)

    def turn(worlds, xs):
        action, key = xs
        return env.step(worlds, {"action": action}, key=key)

    _, steps = jax.lax.scan(turn, worlds, (actions, jax.random.split(steps_key, len(actions))))
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, steps)


@pytest.fixture(scope="module")
def stream():
    env = Batched(TASKS["Empty-5x5"](), COPIES)
    actions = jax.random.choice(jax.random.key(1), jnp.asarray([0, 1, 2, 2, 2]), (STEPS, COPIES))
    return jax.jit(lambda key: play(env, key, actions))(jax.random.key(0)), actions


def test_batched_first_follows_last_and_terminal_implies_last(stream):
    step, _ = stream
    assert step.is_first[0].all()
    np.testing.assert_array_equal(step.is_first[1:], step.is_last[:-1])
    assert not (step.is_first & step.is_last).any()
    assert (step.is_last | ~step.is_terminal).all()
    assert step.is_last.sum() > COPIES


def test_batched_final_observation_and_reward_are_kept(stream):
    step, _ = stream
    goals = np.asarray(step.is_terminal)
    assert goals.any() and (np.asarray(step.reward)[goals] > 0).all()
    assert (np.asarray(step.reward)[np.asarray(step.is_first)] == 0).all()
    assert (np.asarray(step.obs["log/success"])[goals] == 1).all()
    assert np.isnan(np.asarray(step.obs["log/success"])[~np.asarray(step.is_last)]).all()


def test_batched_copy_equals_the_single_environment(stream):
    step, actions = jax.device_get(stream)
    env = TASKS["Empty-5x5"]()
    advance = jax.jit(lambda s, a: env.step(s, {"action": a}, key=jax.random.key(0)))
    begin = jax.jit(lambda: env.reset(key=jax.random.key(0)))  # Empty has one layout
    for copy in range(2):
        for t in range(STEPS + 1):
            if step.is_first[t, copy]:
                state, told = begin()
            else:
                state, told = advance(state, actions[t - 1, copy])
            seen = jax.tree.map(lambda x, t=t, copy=copy: x[t, copy], step)
            jax.tree.map(np.testing.assert_array_equal, told, seen)


def test_batched_copies_start_in_different_worlds():
    env = Batched(TASKS["DoorKey-8x8"](), 16)
    worlds, _ = jax.jit(env.reset)(key=jax.random.key(0))
    assert len(np.unique(np.asarray(worlds.state.cells), axis=0)) > 8


@pytest.fixture(scope="module")
def crowd():
    """Many copies, of which three begin at a time: reset and step of all, and step of each by itself."""
    env = Batched(TASKS["DoorKey-5x5"](), 130)
    alone = jax.vmap(lambda state, action, key: env.env.step(state, action, key=key))
    return jax.jit(env.reset), jax.jit(env.step), jax.jit(alone)


@pytest.mark.parametrize("ended", [0, 1, 3, 4, 130])
def test_batched_any_number_of_ended_copies_is_reset_by_its_keys(crowd, ended):
    reset, advance, alone = crowd
    worlds, _ = reset(key=jax.random.key(0))
    is_last = jnp.arange(130) >= 130 - ended
    key, action = jax.random.key(1), {"action": jnp.zeros(130, jnp.int32)}
    then, step = advance(worlds._replace(is_last=is_last), action, key=jax.random.clone(key))
    reset_key, step_key = jax.random.split(key)
    fresh, first = reset(key=reset_key)
    moved = alone(worlds.state, action, jax.random.split(step_key, 130))
    pick = lambda new, old: np.where(is_last.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    expected = jax.tree.map(pick, (fresh.state, first), moved)
    jax.tree.map(np.testing.assert_array_equal, (then.state, step), expected)


def worlds(obs):
    """What each of many starts shows, as something that can be compared."""
    shown = [np.asarray(v).reshape(len(v), -1) for k, v in sorted(obs.items()) if k != "log/success"]
    return {row.tobytes() for row in np.concatenate(shown, 1)}


@pytest.fixture(scope="module")
def evaluated():
    """What evaluation shows of the first three training seeds."""
    env = envs.make("grid:DoorKey-5x5", 3)
    return worlds(env.reset([FIRST_TRAINING_SEED + i for i in range(3)]).obs)


def test_levels_worlds_are_those_of_the_first_training_seeds(evaluated):
    env = envs.make_jax("grid:DoorKey-5x5", levels=3)
    states, step = jax.jit(jax.vmap(lambda key: env.reset(key=key)))(jax.random.split(jax.random.key(0), 300))
    starts = np.column_stack([states.cells, states.position, states.direction])
    found, counts = np.unique(starts, axis=0, return_counts=True)
    assert len(found) == 3 and counts.min() > 60
    assert worlds(step.obs) == evaluated and len(evaluated) == 3


def test_levels_training_starts_only_in_their_worlds(evaluated):
    env = Batched(Levels(GridWorld("Short", 5, 6, door_key), 3), COPIES)
    actions = jax.random.randint(jax.random.key(1), (STEPS, COPIES), 0, 7)
    step = jax.jit(lambda key: play(env, key, actions))(jax.random.key(0))
    first = np.asarray(step.is_first)
    assert first.sum() > 100
    assert worlds({k: np.asarray(v)[first] for k, v in step.obs.items()}) == evaluated


def test_levels_step_equals_that_of_the_unlimited_environment():
    free, levels = (envs.make_jax("grid:Catch", levels=n) for n in (0, 3))
    assert isinstance(free, Catch)
    assert (levels.task, levels.obs_space, levels.act_space) == (free.task, free.obs_space, free.act_space)
    state, _ = free.reset(key=jax.random.key(0))
    action = {"action": jnp.int32(2)}
    ours, theirs = (env.step(state, action, key=jax.random.key(1)) for env in (levels, free))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
