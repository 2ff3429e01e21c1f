"""navix: the same worlds as NAVIX's own, seen as MiniGrid's agents see theirs."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned

import envs
from envs.adapters import navix as adapter
from envs.make import SUITES
from envs.wrappers import Batched

try:
    navix = adapter.load()
except ImportError as missing:
    pytest.skip(str(missing), allow_module_level=True)

COPIES, LIMIT = 16, 30
AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Row and column of a step in each direction."""


@pytest.fixture(autouse=True)
def lenient():
    """NAVIX promotes ranks and uses keys twice where it makes worlds; so do tests that start two from one."""
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        yield


def test_tasks_list_equals_the_package_registry():
    assert sorted(adapter.canonical(name) for name in adapter.TASKS) == sorted(navix.registry())


def test_navix_every_task_keeps_declared_shapes_and_dtypes():
    # NAVIX compares arrays where it compares trees.
    shape = lambda tree: (
        jax.tree.structure(tree),
        [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(tree)],
    )
    act = {"action": jnp.zeros((), jnp.int32)}
    for task in adapter.TASKS:
        env = envs.make_jax(f"navix:{task}")
        state, start = jax.eval_shape(lambda key, env=env: env.reset(key=key), jax.random.key(0))
        step = lambda state, key, env=env: env.step(state, act, key=key)
        after, later = jax.eval_shape(step, state, jax.random.key(0))
        assert shape(state) == shape(after) and shape(start) == shape(later), task
        spaces = {
            key: envs.Space(x.shape, str(x.dtype), env.obs_space[key].classes) for key, x in later.obs.items()
        }
        assert spaces == env.obs_space and env.act_space["action"].classes == 7, task


@pytest.mark.parametrize("task", ["DoorKey-5x5", "Dynamic-Obstacles-5x5", "PutNear-6x6-N2"])
def test_navix_tasks_pass_the_check(task):
    findings = envs.check(f"navix:{task}", steps=120)
    assert not [f for f in findings if f.status == "fail"], findings


def play_both(task):
    """Ours and NAVIX's own stream of the same episodes, and of each step NAVIX's whole grid."""
    name = adapter.canonical(task)
    ours = adapter.Navix(name, max_steps=LIMIT)
    view = navix.observations.symbolic_first_person
    theirs = navix.make(name, max_steps=LIMIT, observation_fn=view, disable_autoreset=True)

    def turn(carry, step):
        (mine, time), (action, key) = carry, step
        mine, step = ours.step(mine, {"action": action}, key=key)
        time = theirs.step(time.replace(state=time.state.replace(key=key)), action)
        world = time.state
        return (mine, time), (step, time.replace(state=None), navix.observations.symbolic(world), world)

    def play(key):
        (mine, start), time = ours.reset(key=key), theirs.reset(key)
        # Mostly forward, so that some arrive in time.
        action_key, step_key = jax.random.split(jax.random.fold_in(key, 1))
        actions = jax.random.choice(action_key, jnp.asarray([0, 1, 2, 2, 2, 3]), (LIMIT,))
        steps = actions, jax.random.split(step_key, LIMIT)
        return start, time, jax.lax.scan(turn, (mine, time), steps)[1]

    keys = jax.random.split(jax.random.key(0), COPIES)
    no_keys = lambda world: world.replace(key=None, cache=None)

    def lean(key):
        start, time, (step, times, whole, world) = play(key)
        return start, time.replace(state=no_keys(time.state)), (step, times, whole, no_keys(world))

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lean))(keys))


@pytest.mark.parametrize("task", ["Empty-Random-5x5", "Dynamic-Obstacles-6x6", "LavaGapS5"])
def test_navix_played_beside_the_package_gives_the_same_steps(task):
    start, time, (step, times, _, _) = play_both(task)
    image = lambda obs: np.stack([obs[key] for key in adapter.CLASSES], -1)
    np.testing.assert_array_equal(image(start.obs), time.observation.swapaxes(1, 2))
    np.testing.assert_array_equal(image(step.obs), times.observation.swapaxes(2, 3))
    np.testing.assert_array_equal(step.reward, times.reward)
    np.testing.assert_array_equal(step.is_last, times.step_type > 0)
    np.testing.assert_array_equal(step.is_terminal, times.step_type == 2)
    won = (times.step_type == 2) & (times.reward > 0)
    np.testing.assert_array_equal(step.obs["log/success"], np.where(step.is_last, won, np.nan))

    # What happens after the end is undefined, and so only first endings count.
    end = np.argmax(step.is_last, 1)
    terminal = step.is_terminal[np.arange(COPIES), end]
    assert step.is_last.any(1).all() and (end[~terminal] == LIMIT - 1).all()
    assert terminal.any() and (task != "Empty-Random-5x5" or not terminal.all())


def look(layer, position, direction, *, outside, own):
    """A layer of the whole grid [row, column] as the agent sees it, [7, 7] as (x, y)."""
    down, right = AHEAD[direction]
    seen = np.full((7, 7), outside)
    for x, y in np.ndindex(7, 7):
        ahead, aside = 6 - y, x - 3
        row = position[0] + ahead * down + aside * right
        column = position[1] + ahead * right - aside * down
        if 0 <= row < layer.shape[0] and 0 <= column < layer.shape[1]:
            seen[x, y] = layer[row, column]
    seen[3, 6] = own
    return seen


def test_navix_view_equals_the_minigrid_view():
    _, _, (step, _, whole, world) = play_both("DoorKey-6x6")
    player, wall, floor = world.entities["player"], (2, 5, 0), (1, 0, 0)
    for copy, t in np.ndindex(COPIES, LIMIT):
        position, direction = player.position[copy, t, 0], player.direction[copy, t, 0]
        for i, key in enumerate(adapter.CLASSES):
            seen = look(whole[copy, t, :, :, i], position, direction, outside=wall[i], own=floor[i])
            np.testing.assert_array_equal(step.obs[key][copy, t], seen)
    np.testing.assert_array_equal(step.obs["direction"], player.direction[..., 0])
    assert set(np.unique(player.direction)) == {0, 1, 2, 3}
    assert {4, 5, 8} < set(np.unique(step.obs["object"])) and 2 in step.obs["state"]


@pytest.mark.parametrize(("task", "named"), [("Fetch-5x5-N2", 1), ("GoToDoor-5x5", 1), ("PutNear-6x6-N2", 2)])
def test_navix_mission_task_has_the_target_in_the_observation(task, named):
    start, time, (step, *_) = play_both(task)
    for copy in range(COPIES):
        things = {
            tuple(position): (tag, color)
            for kind in time.state.entities.values()
            if hasattr(kind, "colour")
            for position, tag, color in zip(
                kind.position[copy], np.asarray(kind.tag)[copy], kind.colour[copy], strict=True
            )
        }
        for i in range(named):
            target = start.obs["target_object"][copy, i], start.obs["target_color"][copy, i]
            assert target == things[tuple(time.state.mission[i].position[copy])]
    for key in ("target_object", "target_color"):
        assert start.obs[key].shape == (COPIES, named)
        np.testing.assert_array_equal(step.obs[key], np.repeat(start.obs[key][:, None], LIMIT, 1))
        assert len(np.unique(start.obs["target_color"])) > 1


FORWARD, PICKUP, DROP = 2, 3, 4


def facing(env, kind, pocket=-1):
    """A world in which the agent faces the first thing of a kind from the west, and NAVIX's own time step."""
    state, _ = env.reset(key=jax.random.key(0))
    world = state.time.state
    there = world.entities[kind].position[0] - jnp.asarray([0, 1])
    player = world.get_player().replace(position=there, direction=jnp.int32(0), pocket=jnp.int32(pocket))
    return state._replace(time=state.time.replace(state=world.set_player(player)))


@pytest.mark.parametrize(
    ("task", "kind", "reward"),
    [("DoorKey-5x5", "goal", 1), ("LavaGapS5", "lava", 0), ("Dynamic-Obstacles-5x5", "ball", 0)],
)
@pytest.mark.parametrize("pocket", [-1, 3])
def test_navix_drop_in_front_of_an_object_does_not_end_the_episode(task, kind, reward, pocket):
    env = envs.make_jax(f"navix:{task}")
    state = facing(env, kind, pocket)
    # Balls stand still here, so that nothing else can end the episode.
    env._env = env._env.replace(transitions_fn=navix.transitions.deterministic_transition)
    act = jax.jit(lambda action: env.step(state, {"action": action}, key=jax.random.key(1)))
    after, step = act(DROP)
    assert not step.is_last and step.reward == 0
    same = jax.tree.map(np.array_equal, after.time.state.entities, state.time.state.entities)
    assert all(jax.tree.leaves(same)), "nothing moved, and what was held still is"
    assert act(FORWARD)[1].is_terminal

    theirs = env._env.replace(action_set=navix.actions.MINIGRID_ACTION_SET)
    keyed = state.time.replace(state=state.time.state.replace(key=jax.random.key(1)))
    ended = jax.jit(theirs._step)(keyed, DROP)
    assert ended.is_termination() and ended.reward == reward, "NAVIX does what ours need not mend any more"


def test_navix_held_key_can_be_dropped_where_it_was():
    env = envs.make_jax("navix:DoorKey-8x8")
    act = jax.jit(lambda state, action: env.step(state, {"action": action}, key=jax.random.key(1))[0])
    before = facing(env, "key")
    held = act(before, PICKUP)
    after = act(held, DROP)
    assert held.time.state.get_player().pocket == 3 and after.time.state.get_player().pocket == -1
    np.testing.assert_array_equal(*(x.time.state.get_keys().position for x in (before, after)))


WITHOUT_NAMESAKE = ("DoorKey-Random-", "Empty-Random-8x8", "Empty-Random-16x16", "FourRooms-")


def test_navix_time_limits_equal_those_of_minigrid():
    import gymnasium
    import minigrid  # noqa: F401

    for task in adapter.TASKS:
        own = navix.make(adapter.canonical(task)).max_steps
        limit = adapter.Navix(adapter.canonical(task))._env.max_steps
        original = task.replace("DoorKey-Random", "DoorKey")
        for size in ("5x5", "6x6"):
            original = original.replace(f"Obstacles-{size}-Random", f"Obstacles-Random-{size}")
        # v0 of this task has six rooms by mistake; NAVIX has the four of v1.
        version = "-v1" if task == "MultiRoom-N4-S5" else "-v0"
        spec = gymnasium.registry.get(f"MiniGrid-{original}{version}")
        if spec is None:
            assert task.startswith(WITHOUT_NAMESAKE) and limit == own, task
        else:
            assert limit == gymnasium.make(spec).unwrapped.max_steps, task
            assert (task in adapter.LIMITS) == (limit != own), task


def test_navix_batched_scan_compiles_once():
    scanned.played(Batched(adapter.Navix("Navix-Dynamic-Obstacles-5x5-v0", max_steps=20), COPIES), 30)


def test_navix_playground_has_no_success_and_memory_has_no_target():
    assert set(envs.make_jax("navix:Playground").obs_space) == {*adapter.CLASSES, "direction"}
    memory = envs.make_jax("navix:MemoryS7").obs_space
    assert set(memory) == {*adapter.CLASSES, "direction", "log/success"}


def test_canonical_navix_names_are_completed_and_suggested():
    assert envs.canonical("navix:DoorKey-5x5") == "navix:Navix-DoorKey-5x5-v0"
    assert envs.canonical("navix:Navix-FourRooms-v0") == "navix:Navix-FourRooms-v0"
    with pytest.raises(envs.UnknownTask, match="did you mean DoorKey-5x5"):
        envs.make("navix:DoorKy-5x5")


def test_navix_state_has_no_key_no_picture_and_no_weak_types():
    state, _ = envs.make_jax("navix:Empty-5x5").reset(key=jax.random.key(0))
    leaves = jax.tree.leaves(state)
    assert not any(x.weak_type for x in leaves) and sum(x.nbytes for x in leaves) < 500
    assert not any(jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in leaves)


def test_navix_unsupported_version_raises_with_install_command(monkeypatch):
    assert next(suite.by_hand for suite in SUITES if suite.name == "navix") == adapter.INSTALL
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: "0.7.4")
        with pytest.raises(
            envs.MissingExtra, match="need navix 4 and Python 3.12, but navix 0.7.4 and Python"
        ):
            envs.make("navix:DoorKey-5x5")

    def missing(name):
        raise ModuleNotFoundError("No module named 'rlax'", name="rlax")

    monkeypatch.setattr(adapter.importlib, "import_module", missing)
    with pytest.raises(envs.MissingExtra, match="need rlax too: pip install"):
        adapter.load()
