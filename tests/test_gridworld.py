"""Grid worlds: the same as MiniGrid, layout by layout and step by step."""

import functools

import gymnasium
import jax
import jax.numpy as jnp
import minigrid  # noqa: F401
import numpy as np
import pytest

from envs import gridworld
from envs.gridworld import EMPTY, FORWARD, GOAL, GREEN, LAVA, LEFT, TASKS
from experiments.baselines.scripted.planner import of_minigrid, shortest

IDS = {name: f"MiniGrid-{name}-v0" for name in TASKS}
CROSSINGS = {name: int(name[-1]) for name in TASKS if name.startswith("LavaCrossing")}
"""Rivers of each task with lava."""
WORLDS = 300
"""How many of each task are compared."""


def original(name):
    return gymnasium.make(IDS[name], disable_env_checker=True).unwrapped


def encode(theirs):
    """Their grid as [y, x] cells."""
    parts = theirs.grid.encode().astype(np.int32)
    return (parts * (1, gridworld.COLOR, gridworld.STATE)).sum(-1).T


def as_state(theirs):
    """Our state of their world at its beginning."""
    size = theirs.width
    cell = lambda at: at[1] * size + at[0]
    ends = [cell(getattr(theirs, end, (-1, 0))) for end in ("success_pos", "failure_pos")]
    return gridworld.start(jnp.asarray(encode(theirs)), cell(theirs.agent_pos), theirs.agent_dir, *ends)


def observed(raw):
    image = raw["image"]
    return {"object": image[..., 0], "color": image[..., 1], "state": image[..., 2]}


def wanderer(rng, steps):
    """Random actions that walk on and use things often enough to get somewhere."""
    return rng.choice(7, steps, p=[0.15, 0.15, 0.35, 0.12, 0.06, 0.15, 0.02])


def follow(ours):
    """What a world shows first, then every step and its cells under [T] actions, as one program."""

    def run(state, actions):
        def step(state, action):
            state, told = ours.step(state, {"action": action}, key=jax.random.key(0))
            return state, (told, state.cells)

        return ours.observe(state, 0.0), jax.lax.scan(step, state, actions)[1]

    return jax.jit(run)


def careful(theirs, action):
    """The action, or a turn in the place of a step into lava."""
    ahead = theirs.grid.get(*theirs.front_pos)
    return LEFT if action == FORWARD and ahead is not None and ahead.type == "lava" else action


def homeward(theirs, action):
    """The first action of a shortest way to the goal."""
    return shortest(of_minigrid(theirs))[0]


def lockstep(name, seeds, steps, act=lambda theirs, action: action):
    """How episodes end that both play with the same actions, once all that they show has been compared."""
    ours, theirs = TASKS[name](), original(name)
    run, rng, ends = follow(ours), np.random.default_rng(0), set()
    for seed in seeds:
        raw, _ = theirs.reset(seed=seed)
        state, actions, results = as_state(theirs), wanderer(rng, steps), []
        for t in range(steps):
            actions[t] = act(theirs, actions[t])
            results.append((*theirs.step(int(actions[t]))[:4], encode(theirs)))
            if True in results[-1][2:4]:
                ends.add(results[-1][2:4])
                break
        shown, (told, cells) = jax.device_get(run(state, actions))
        for key, array in observed(raw).items():
            np.testing.assert_array_equal(shown[key], array)
        for t, (raw, reward, terminated, truncated, grid) in enumerate(results):
            for key, array in observed(raw).items():
                np.testing.assert_array_equal(told.obs[key][t], array, err_msg=f"{key}, seed {seed}")
            assert told.obs["direction"][t] == raw["direction"]
            np.testing.assert_allclose(told.reward[t], reward, rtol=1e-6)
            assert (told.is_terminal[t], told.is_last[t]) == (terminated, terminated or truncated)
            np.testing.assert_array_equal(cells[t].reshape(ours.size, -1), grid)
    return ends


@pytest.mark.parametrize("name", TASKS)
def test_gridworld_same_state_and_actions_match_minigrid_steps(name):
    assert lockstep(name, range(8), 400), "no episode ended"


@functools.lru_cache
def drawn(name):
    """Worlds of ours at their beginning."""
    return jax.device_get(jax.jit(jax.vmap(lambda key: TASKS[name]().reset(key=key)[0]))(keys()))


def keys():
    """Of those worlds; an array of keys is used once."""
    return jax.random.split(jax.random.key(0), WORLDS)


@functools.lru_cache
def originals(name):
    """As many worlds of theirs: [WORLDS, size, size] cells, and [WORLDS, 2] x and y of the agent."""
    theirs, worlds = original(name), []
    for seed in range(WORLDS):
        theirs.reset(seed=seed)
        worlds.append((encode(theirs), theirs.agent_pos))
    return tuple(np.stack(parts) for parts in zip(*worlds, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_gridworld_reset_layouts_match_minigrid_distribution(name):
    """Where the worlds of a task are few, both make all of them; else what both put where agrees."""
    states, (grids, places) = drawn(name), originals(name)
    size = grids.shape[-1]
    mine, real = np.zeros((2, size**2, 3 * gridworld.STATE))
    for i in range(WORLDS):
        x, y = places[i]
        worlds = (states.cells[i], states.position[i]), (grids[i].ravel(), y * size + x)
        for table, (cells, position) in zip((mine, real), worlds, strict=True):
            table[np.arange(size**2), cells] += 1
            table[position, gridworld.UNSEEN] += 1  # marks the agent
    assert ((mine > 0) == (real > 0)).mean() > 0.99
    assert np.abs(mine - real).max() / WORLDS < 0.16


# Rivers of lava


@pytest.mark.parametrize("name", ["LavaCrossingS9N2", "LavaCrossingS11N5"])
@pytest.mark.parametrize(("act", "end"), [(careful, (False, True)), (homeward, (True, False))])
def test_lava_crossing_walks_to_time_limit_and_goal_match_minigrid_steps(name, act, end):
    assert end in lockstep(name, range(4), TASKS[name]().max_steps, act)


def test_lava_crossing_only_a_step_into_lava_ends_the_episode_as_a_terminal_failure():
    ours = TASKS["LavaCrossingS9N1"]()
    cells = gridworld.walls(9)
    cells[1, 2] = LAVA
    state = gridworld.start(jnp.asarray(cells), 9 + 1, 0)
    act = jax.vmap(lambda action: ours.step(state, {"action": action}, key=jax.random.key(0)))
    after, step = jax.device_get(jax.jit(act)(jnp.arange(7)))
    steps_in = np.arange(7) == FORWARD
    np.testing.assert_array_equal(step.is_terminal, steps_in)
    np.testing.assert_array_equal(step.is_last, steps_in)
    np.testing.assert_array_equal(step.obs["log/success"], np.where(steps_in, 0, np.nan))
    np.testing.assert_array_equal(after.position, np.where(steps_in, 9 + 2, 9 + 1))
    assert not step.reward.any() and (after.cells == cells.ravel()).all()


class Dealt:
    """Uniform numbers in the place of MiniGrid's generator: each choice takes the next one."""

    def __init__(self, numbers):
        self._numbers = iter(numbers)

    def shuffle(self, items):
        order = np.argsort([next(self._numbers) for _ in items], kind="stable")
        items[:] = [items[i] for i in order]

    def choice(self, options):
        return options[int(next(self._numbers) * len(options))]


@pytest.mark.parametrize("name", CROSSINGS)
def test_lava_crossing_same_numbers_make_the_world_of_minigrid(name):
    states, theirs = drawn(name), original(name)
    theirs.reset(seed=0)
    size = theirs.width
    count = size - 3 + 2 * CROSSINGS[name]  # rivers there could be, then crossings and openings
    numbers = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys()))
    for i in range(WORLDS):
        theirs.np_random = Dealt(numbers[i])
        theirs._gen_grid(size, size)
        np.testing.assert_array_equal(states.cells[i].reshape(size, size), encode(theirs))
        assert (states.position[i], states.direction[i]) == (size + 1, theirs.agent_dir)


def rivers(cells):
    """Which columns, and which rows, are rivers: [n, 2, size] bool from [n, size, size] cells."""
    lava = cells == LAVA
    return np.stack([lava.sum(1), lava.sum(2)], 1) == cells.shape[-1] - 3  # all but walls and an opening


@pytest.mark.parametrize("name", CROSSINGS)
def test_lava_crossing_goal_can_be_reached_and_every_river_has_one_opening(name):
    states = drawn(name)
    size = TASKS[name]().size
    cells = states.cells.reshape(-1, size, size)
    dry = (cells == EMPTY) | (cells == GOAL + GREEN)
    reached = np.zeros_like(dry)
    reached[:, 1, 1] = True
    for _ in range(size**2):
        beside = [np.roll(reached, shift, axis) for shift in (-1, 1) for axis in (1, 2)]
        reached = dry & np.logical_or.reduce([reached, *beside])
    assert reached[:, -2, -2].all()
    columns, rows = rivers(cells).sum(-1).T
    assert (columns + rows == CROSSINGS[name]).all()
    one_opening_each = (columns + rows) * (size - 3) - columns * rows
    np.testing.assert_array_equal((cells == LAVA).sum((1, 2)), one_opening_each)


@pytest.mark.parametrize("name", CROSSINGS)
def test_lava_crossing_rivers_are_as_frequent_as_in_minigrid(name):
    states, (grids, _) = drawn(name), originals(name)
    mine, real = rivers(states.cells.reshape(grids.shape)), rivers(grids)
    assert np.abs(mine.mean(0) - real.mean(0)).max() < 0.12
    vertical = [np.bincount(some[:, 0].sum(-1), minlength=6) / WORLDS for some in (mine, real)]
    assert np.abs(vertical[0] - vertical[1]).max() < 0.12
