"""craftax: the same worlds as the package's own. They compile slowly, and so the tests are few."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.adapters import craftax as adapter
from envs.api import is_recorded
from envs.wrappers import Batched

pytest.importorskip("craftax")

LIMIT = 6
PLACE_PLANT = 10


@pytest.fixture(autouse=True)
def lenient():
    """Craftax promotes ranks and uses keys twice where it makes worlds."""
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        yield


@pytest.mark.parametrize(("task", "size", "actions"), [("Craftax-Classic", 1345, 17), ("Craftax", 8268, 43)])
def test_craftax_adapter_reset_and_step_keep_declared_shapes_and_dtypes(task, size, actions):
    env, count = envs.make_jax(f"craftax:{task}"), len(adapter.achievements(task))
    unlocked = envs.Space((count,), "uint8")
    assert env.obs_space == {"vector": envs.Space((size,), "float32"), "log/achievements": unlocked}
    assert is_recorded("log/achievements", unlocked.size)
    assert env.act_space == {"action": envs.Space((), "int32", actions)}
    state, first = jax.eval_shape(lambda key: env.reset(key=key), jax.random.key(0))
    act = {"action": jnp.zeros((), jnp.int32)}
    later_state, step = jax.eval_shape(lambda s, key: env.step(s, act, key=key), state, jax.random.key(0))
    shape = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    assert shape(state) == shape(later_state) and shape(first) == shape(step)
    assert shape(step.obs["vector"]) == ((size,), np.float32, False)
    assert shape(step.obs["log/achievements"]) == ((count,), np.uint8, False)
    assert not any(jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("task", "module", "count"),
    [
        ("Craftax-Classic", "craftax.craftax_classic.constants", 22),
        ("Craftax", "craftax.craftax.constants", 67),
    ],
)
def test_achievements_are_those_of_the_package(task, module, count):
    theirs = {item.value: item.name.lower() for item in importlib.import_module(module).Achievement}
    assert adapter.achievements(task) == tuple(theirs[i] for i in range(count)) and len(theirs) == count


def test_craftax_adapter_checked_passes_environment_contract():
    findings = envs.check("craftax:Craftax-Classic", steps=20)
    assert not [f for f in findings if f.status == "fail"], findings


def test_craftax_adapter_played_matches_original_env_with_truncating_limit():
    ours = adapter.Craftax("Craftax-Classic", pixels=False, max_steps=LIMIT)
    theirs, params = ours._env, ours._params

    @jax.jit
    def reset(key):
        return ours.reset(key=key), theirs.reset(key, params)

    @jax.jit
    def step(mine, state, action, key):
        return ours.step(mine, {"action": action}, key=key), theirs.step(key, state, action, params)

    # Both are in one program, where XLA may fuse floats differently.
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    (mine, first), (obs, state) = reset(jax.random.key(0))
    same(first.obs["vector"], obs)
    actions = np.random.default_rng(0).integers(0, 17, LIMIT)
    actions[1] = PLACE_PLANT
    for t in range(LIMIT):
        if t == 1:  # so that placing what it has unlocks something
            mine, state = (
                s.replace(inventory=s.inventory.replace(sapling=jnp.ones_like(s.inventory.sapling)))
                for s in (mine, state)
            )
        before = mine, state
        (mine, told), (obs, state, reward, done, _) = step(mine, state, actions[t], jax.random.key(t + 1))
        same(told.obs["vector"], obs)
        same(told.reward, reward)
        same(told.obs["log/achievements"], state.achievements)
        assert bool(told.obs["log/achievements"][adapter.CLASSIC.index("place_plant")]) == (t >= 1)
        assert bool(told.is_last) == bool(done) == (t == LIMIT - 1)
        assert not told.is_terminal

    # Death is terminal, at the limit (where the last step was) and before it.
    for clock in (before[0].timestep, jnp.zeros_like(before[0].timestep)):
        dying = before[0].replace(player_health=jnp.full_like(before[0].player_health, -9), timestep=clock)
        (_, told), (_, _, _, done, _) = step(dying, before[1], actions[0], jax.random.key(0))
        assert told.is_last and told.is_terminal


def test_craftax_adapter_batched_in_scan_passes_environment_contract():
    env = Batched(adapter.Craftax("Craftax-Classic", pixels=False, max_steps=LIMIT), 2)

    def turn(worlds, key):
        act_key, key = jax.random.split(key)
        return env.step(worlds, {"action": jax.random.randint(act_key, (2,), 0, 17)}, key=key)

    @jax.jit
    def play(key):
        reset_key, key = jax.random.split(key)
        return jax.lax.scan(turn, env.reset(key=reset_key)[0], jax.random.split(key, 3 * LIMIT))[1]

    step = jax.tree.map(np.asarray, play(jax.random.key(0)))
    # After the slot of the reset an episode has LIMIT steps, then a slot of its own for the next reset.
    expected = [LIMIT - 1, 2 * LIMIT]
    for copy in range(2):
        np.testing.assert_array_equal(np.flatnonzero(step.is_last[:, copy]), expected)
        np.testing.assert_array_equal(np.flatnonzero(step.is_first[:, copy]), [t + 1 for t in expected])
    assert not step.is_terminal.any() and not step.reward[step.is_first].any()
    starts = step.obs["vector"][step.is_first]
    assert len({start.tobytes() for start in starts}) == len(starts) == 4


def test_craftax_adapter_pixels_are_uint8_images(capsys):
    env = envs.make_jax("craftax:Craftax-Classic", obs="pixels")
    assert capsys.readouterr().out == ""
    assert env.obs_space["image"] == envs.Space((63, 63, 3), "uint8")

    @jax.jit
    def reset(key):
        return env.reset(key=key)[1].obs["image"], env._env.reset_env(key, env._params)[0]

    image, floats = reset(jax.random.key(0))
    assert image.shape == (63, 63, 3) and image.dtype == np.uint8
    np.testing.assert_allclose(np.asarray(image) / 255, floats, atol=0.5 / 255 + 1e-6)
    assert np.asarray(image).max() > 100


def test_craftax_adapter_wrong_name_or_observation_raises_unknown_task():
    with pytest.raises(envs.UnknownTask, match="did you mean Craftax-Classic"):
        envs.make("craftax:Craftax-Clasic")
    with pytest.raises(envs.UnknownTask, match="allowed: 'symbolic', 'pixels'"):
        envs.make("craftax:Craftax", obs="rgb")
