"""xminigrid: the same worlds as XLand-MiniGrid's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned

import envs
from envs.adapters import xminigrid as adapter
from envs.wrappers import Batched

xminigrid = pytest.importorskip("xminigrid")

COPIES, WORLDS = 16, 300


def test_tasks_list_equals_the_package_tasks_with_rules():
    ids = [name for name in xminigrid.registered_environments() if not name.startswith("XLand-")]
    assert {adapter.canonical(name) for name in adapter.TASKS} == set(ids)


@pytest.mark.parametrize("task", ["DoorKey-5x5", "MemoryS8", "LockedRoom"])
def test_xminigrid_tasks_pass_the_check(task):
    # The package promotes ranks where it compares positions.
    with jax.numpy_rank_promotion("allow"):
        findings = envs.check(f"xminigrid:{task}", steps=120)
    assert not [f for f in findings if f.status == "fail"], findings


@pytest.mark.parametrize(("task", "limit"), [("Empty-5x5", 40), ("MemoryS8", 30)])
def test_xminigrid_played_beside_the_package_gives_the_same_steps(task, limit):
    ours = adapter.XMiniGrid(adapter.canonical(task), max_steps=limit)
    theirs, params = xminigrid.make(adapter.canonical(task), max_steps=limit)

    def turn(carry, action):
        mine, state = carry
        mine, step = ours.step(mine, {"action": action}, key=jax.random.key(9))
        state = theirs.step(params, state, action)
        return (mine, state), (step, (state.observation, state.reward, state.discount, state.last()))

    def play(key):
        mine, first = ours.reset(key=key)
        state = theirs.reset(params, key)
        # Mostly forward, so that some arrive in time.
        actions = jax.random.choice(jax.random.fold_in(key, 1), jnp.asarray([0, 0, 0, 1, 2, 3]), (limit,))
        return first, state.observation, jax.lax.scan(turn, (mine, state), actions)[1]

    # Both worlds start from one key on purpose.
    with jax.debug_key_reuse(False):
        first, shown, (step, (obs, reward, discount, last)) = jax.jit(jax.vmap(play))(
            jax.random.split(jax.random.key(0), COPIES)
        )
    image = lambda obs: np.stack([obs["tile"], obs["color"]], -1)
    np.testing.assert_array_equal(image(first.obs), shown)
    np.testing.assert_array_equal(image(step.obs), obs)
    np.testing.assert_array_equal(step.reward, reward)
    np.testing.assert_array_equal(step.is_last, last)
    np.testing.assert_array_equal(step.is_terminal, np.asarray(last) & (np.asarray(discount) == 0))
    told, won = np.asarray(step.obs["log/success"]), np.asarray(reward) > 0
    np.testing.assert_array_equal(told, np.where(last, won, np.nan))

    # What happens after the end is undefined, and so only first endings count.
    end = np.argmax(last, 1)
    terminal = np.asarray(step.is_terminal)[np.arange(COPIES), end]
    assert (end[~terminal] == limit - 1).all()
    assert terminal.any() and not terminal.all()


def reachable(free, starts):
    """[n, h, w] cells one can walk to over free ones; those next to free ones count, whatever they are."""
    seen = np.zeros_like(free)
    seen[np.arange(len(free)), *starts.T] = True
    while True:
        wide = np.pad(seen & free, ((0, 0), (1, 1), (1, 1)))
        beside = wide[:, 2:, 1:-1] | wide[:, :-2, 1:-1] | wide[:, 1:-1, 2:] | wide[:, 1:-1, :-2]
        if (seen == (seen | beside)).all():
            return seen
        seen |= beside


def solvable(task, world):
    """[n] whether a world has what it takes, where it can be reached."""
    from xminigrid.core.constants import Tiles

    tile, color = np.moveaxis(np.asarray(world.grid), -1, 0)
    every, agent = np.arange(len(tile)), np.asarray(world.agent.position)
    door, key = tile == Tiles.DOOR_LOCKED, tile == Tiles.KEY
    anywhere = reachable(tile != Tiles.WALL, agent)
    good = np.ones(len(tile), bool)
    if "key" in task.lower() or "lock" in task.lower():
        outside = reachable((tile != Tiles.WALL) & ~door, agent)
        good &= (door.sum((1, 2)) == 1) & (key.sum((1, 2)) == 1)
        good &= (key & outside).any((1, 2)) & (door & outside).any((1, 2))
        good &= (color * key).max((1, 2)) == (color * door).max((1, 2))
    if "PickUp" in task:
        wanted = np.asarray(world.goal_encoding)[:, 1:3, None, None]
        thing = (tile == wanted[:, 0]) & (color == wanted[:, 1])
        good &= (thing.sum((1, 2)) == 1) & (thing & anywhere & ~outside).any((1, 2))
    elif task.startswith("Memory"):
        right, wrong = world.carry.success_pos, world.carry.failure_pos
        right, wrong = np.asarray(right), np.asarray(wrong)
        above = lambda row: np.where(row == 2, 1, 5)  # the object is beyond the place
        cue = tile[:, 2, 1]
        good &= tile[every, above(right[:, 0]), right[:, 1]] == cue
        good &= tile[every, above(wrong[:, 0]), wrong[:, 1]] != cue
        good &= anywhere[every, *right.T] & (agent != right).any(1) & (agent != wrong).any(1)
    elif task not in ("Unlock", "Playground"):
        goal = tile == Tiles.GOAL
        good &= (goal.sum((1, 2)) == 1) & (goal & anywhere).any((1, 2)) & ~goal[every, *agent.T]
    return good


@pytest.mark.parametrize("task", [task for task in adapter.TASKS if task not in adapter.FLAWED])
def test_xminigrid_every_task_draws_solvable_worlds(task):
    ours = envs.make_jax(f"xminigrid:{task}")
    draw = jax.jit(jax.vmap(lambda key: ours.reset(key=key)[0].state))
    with jax.numpy_rank_promotion("allow"):
        assert solvable(task, draw(jax.random.split(jax.random.key(0), WORLDS))).all()


@pytest.mark.parametrize("task", adapter.FLAWED)
def test_xminigrid_flawed_worlds_are_redrawn_and_others_unchanged(task):
    ours = envs.make_jax(f"xminigrid:{task}")
    both = lambda key: (ours.reset(key=key)[0].state, ours._env.reset(ours._params, key).state)
    with jax.debug_key_reuse(False):
        mine, theirs = jax.jit(jax.vmap(both))(jax.random.split(jax.random.key(1), WORLDS))
    assert solvable(task, mine).all()
    flawed = ~solvable(task, theirs)
    assert 0.04 * WORLDS < flawed.sum() < 0.16 * WORLDS  # expected: 0.0625 without a key and 0.033 with two
    same = (np.asarray(mine.grid) == np.asarray(theirs.grid)).all((1, 2, 3))
    np.testing.assert_array_equal(same, ~flawed)


def test_xminigrid_batched_scan_compiles_once():
    step = scanned.played(Batched(adapter.XMiniGrid("MiniGrid-DoorKey-5x5", max_steps=20), COPIES), 30)
    limit = np.asarray(step.is_last & ~step.is_terminal)
    assert limit.any()
    assert (np.asarray(step.obs["log/success"])[limit] == 0).all()
    starts = np.asarray(step.is_first)
    assert len({tile.tobytes() for tile in np.asarray(step.obs["tile"])[starts]}) > 1


def test_xminigrid_playground_has_no_success():
    env = envs.make_jax("xminigrid:Playground")
    assert set(env.obs_space) == {"tile", "color"}
    assert envs.make_jax("xminigrid:MemoryS8").obs_space["tile"].shape == (3, 3)


def test_canonical_xminigrid_names_are_completed_and_suggested():
    assert envs.canonical("xminigrid:DoorKey-5x5") == "xminigrid:MiniGrid-DoorKey-5x5"
    assert envs.canonical("xminigrid:MiniGrid-FourRooms") == "xminigrid:MiniGrid-FourRooms"
    with pytest.raises(envs.UnknownTask, match="did you mean DoorKey-5x5"):
        envs.make("xminigrid:DoorKy-5x5")
    with pytest.raises(envs.UnknownTask, match="its goals are downloaded"):
        envs.make("xminigrid:XLand-MiniGrid-R1-9x9")


def test_xminigrid_state_has_no_key_and_no_weak_types():
    state, _ = envs.make_jax("xminigrid:Empty-5x5").reset(key=jax.random.key(0))
    leaves = jax.tree.leaves(state)
    assert not any(x.weak_type for x in leaves)
    assert not any(jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in leaves)
