"""Scripted players: shortest ways, the bot of BabyAI, the catcher, and demonstrations by them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_gridworld import as_state

import envs
from dreamer.schema import ConfigError
from envs import gridworld
from envs.api import FIRST_TRAINING_SEED, EnvError, Step
from envs.gridworld import DOOR, EMPTY, FORWARD, GOAL, KEY, LEFT, LOCKED, PICKUP, RIGHT, TOGGLE, WALL, YELLOW
from envs.rollout import rollout
from experiments.baselines.scripted import demonstrations, scripted
from experiments.baselines.scripted.planner import Planner, of_grid, of_minigrid, read, shortest
from experiments.baselines.scripted.player import GaveUp

SYMBOLS = {"#": WALL, ".": EMPTY, "G": GOAL, "K": KEY + YELLOW, "L": DOOR + YELLOW + LOCKED}
RIGHTWARDS = 0
CHUNK = 64
"""Worlds that brute force tries at once."""

BOT_SOLVES = (
    *("GoToRedBallNoDists", "GoToRedBallGrey", "GoToLocal", "GoToObjMazeS4", "PickupLoc", "PickupDist"),
    *("OpenDoor", "OpenDoorsOrderN4", "PutNextLocal", "PutNextS5N2", "UnlockLocal", "BlockedUnlockPickup"),
    *("ActionObjDoor", "MiniBossLevel"),
)


@functools.lru_cache
def made(task, copies=10):
    """The same copies for every test: the worlds of the device are compiled once."""
    return envs.make(task, copies)


def play(task, seeds, copies=10):
    env = made(task, copies)
    return rollout(scripted(env), env, seeds)


def world(*rows, at, direction=RIGHTWARDS, **ends):
    cells = np.array([[SYMBOLS[symbol] for symbol in row] for row in rows]).T
    return read(cells, at, direction, EMPTY, **ends)


def brute_force(grid, state):
    """The fewest actions to success: the true rules, all seven actions, from every world not met before."""
    after = expansion(grid.task.removeprefix("grid:"))
    frontier, met = jax.tree.map(lambda x: np.asarray(x)[None], state), set()
    for depth in range(1, grid.max_steps):
        following = []
        for i in range(0, len(frontier.steps), CHUNK):
            some = jax.tree.map(lambda x, i=i: np.resize(x[i : i + CHUNK], (CHUNK, *x.shape[1:])), frontier)
            states, is_last, success = jax.device_get(after(some))
            if (success == 1).any():
                return depth
            flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), states)
            what = (flat.cells, *(x[:, None] for x in (flat.position, flat.direction, flat.carrying)))
            names = [row.tobytes() for row in np.concatenate(what, 1)]
            first = dict(zip(reversed(names), reversed(range(len(names))), strict=True))
            kept = [i for name, i in first.items() if name not in met and not is_last.flat[i]]
            met.update(names)
            following.append(jax.tree.map(lambda x, kept=kept: x[kept], flat))
        frontier = jax.tree.map(lambda *x: np.concatenate(x), *following)
    raise AssertionError("there is no way")


@functools.lru_cache
def expansion(name):
    """[CHUNK] worlds to what every action makes of each, [CHUNK, 7]; what is seen there is not computed."""
    grid = gridworld.TASKS[name]()

    def act(state, action):
        state, step = grid.step(state, {"action": action}, key=jax.random.key(0))
        return state, step.is_last, step.obs["log/success"]

    return jax.jit(jax.vmap(lambda state: jax.vmap(functools.partial(act, state))(jnp.arange(7))))


# The planner


def test_shortest_straight_hall_matches_hand_computation():
    straight = world("#####", "#..G#", "#####", at=(1, 1))
    assert shortest(straight) == (FORWARD, FORWARD)
    assert shortest(straight._replace(direction=3)) == (RIGHT, FORWARD, FORWARD)
    assert shortest(straight._replace(direction=1)) == (LEFT, FORWARD, FORWARD)


def test_shortest_locked_door_takes_the_key_first():
    rooms = ("#######", "#.K.LG#", "#######")
    assert shortest(world(*rooms, at=(1, 1))) == (PICKUP, FORWARD, FORWARD, TOGGLE, FORWARD, FORWARD)
    without = tuple(row.replace("K", ".") for row in rooms)
    assert shortest(world(*without, at=(1, 1))) is None


def test_shortest_wrong_end_is_avoided():
    hall = world("#####", "#...#", "#...#", "#####", at=(1, 1), right_end=(3, 1), wrong_end=(2, 1))
    assert shortest(hall) == (RIGHT, FORWARD, LEFT, FORWARD, FORWARD, LEFT, FORWARD)


@pytest.mark.parametrize(
    "name", ["Empty-5x5", "DoorKey-5x5", "DoorKey-8x8", "FourRooms", "MemoryS7", "LavaCrossingS9N3"]
)
def test_shortest_grid_tasks_equal_brute_force_length(name):
    grid = gridworld.TASKS[name]()
    for seed in range(3):
        state, _ = jax.device_get(grid.reset(key=jax.random.key(seed)))
        assert len(shortest(of_grid(state))) == brute_force(grid, state)


@pytest.mark.parametrize("name", gridworld.TASKS)
def test_of_minigrid_and_of_grid_equal_states_give_equal_worlds(name):
    env = envs.make(f"minigrid:{name}")
    for seed in range(5):
        env.reset([seed])
        (theirs,) = env.worlds()
        assert of_minigrid(theirs) == of_grid(jax.device_get(as_state(theirs.unwrapped)))


@pytest.mark.parametrize("suite", ["grid", "minigrid"])
@pytest.mark.parametrize("name", gridworld.TASKS)
def test_planner_grid_tasks_always_succeed_with_the_expected_return(suite, name):
    limit = gridworld.TASKS[name]().max_steps
    for episode in play(f"{suite}:{name}", range(50)):
        assert episode.success and episode.discount == 0
        assert episode.return_ == pytest.approx(1 - 0.9 * episode.length / limit)


@pytest.mark.parametrize(
    "name",
    [
        *("Empty-Random-6x6", "DoorKey-16x16", "MemoryS13Random", "MultiRoom-N2-S4", "MultiRoom-N6"),
        *("LockedRoom", "SimpleCrossingS9N3", "LavaCrossingS9N2", "LavaGapS7", "DistShift1"),
    ],
)
def test_planner_other_minigrid_tasks_always_succeed(name):
    assert all(episode.success for episode in play(f"minigrid:{name}", range(10)))


def test_scripted_grid_task_returns_a_privileged_planner():
    player = scripted(made("grid:MemoryS7"))
    assert isinstance(player, Planner) and player.privileged and player.sees == "the full state of the world"


def test_scripted_number_of_copies_does_not_change_the_results():
    for task in ("minigrid:MemoryS7", "minigrid:BabyAI-GoToLocal"):
        results = [[(e.return_, e.length) for e in play(task, range(7), n)] for n in (1, 3)]
        assert results[0] == results[1]


def test_planner_unreachable_goal_raises_gave_up():
    env = envs.make("minigrid:Empty-5x5")
    player = scripted(env)
    step = env.reset([0])
    env.worlds()[0].unwrapped.grid.wall_rect(0, 0, 5, 5)
    env.worlds()[0].unwrapped.grid.set(3, 3, None)
    with pytest.raises(GaveUp, match="MiniGrid-Empty-5x5-v0: no way leads to the goal"):
        player.act(player.init(1), step, key=0)


# The catcher


def test_catcher_every_ball_is_caught():
    episodes = play("grid:Catch", range(50))
    assert {(e.success, e.return_, e.length) for e in episodes} == {(True, 1.0, 9)}


def test_catcher_board_alone_determines_the_action():
    board = np.zeros((2, 10, 5), np.uint8)
    board[0, 3, 0] = board[0, 9, 2] = board[1, 0, 4] = board[1, 9, 4] = 1
    no = np.zeros(2, bool)
    player = scripted(made("grid:Catch"))
    action, _ = player.act(player.init(2), Step({"board": board}, np.zeros(2), no, no, no), key=0)
    assert action["action"].tolist() == [0, 1] and not player.privileged


# The bot of BabyAI


@pytest.mark.parametrize("name", BOT_SOLVES)
def test_bot_solvable_babyai_tasks_always_succeed(name):
    assert all(episode.success for episode in play(f"minigrid:BabyAI-{name}", range(20)))


def test_bot_wrong_door_ending_the_episode_fails_sometimes():
    """What it cannot do is said, not hidden: it does not know that a wrong door ends these episodes."""
    episodes = play("minigrid:BabyAI-OpenDoorsOrderN2Debug", range(20))
    assert 0.1 < np.mean([e.success for e in episodes]) < 0.6


def test_bot_circular_plan_gives_up_that_episode_only():
    env = envs.make("minigrid:BabyAI-UnlockToUnlock")
    player = scripted(env)
    with pytest.raises(GaveUp, match=r"UnlockToUnlock-v0: .* at step 1: its plan goes in circles"):
        rollout(player, env, [4])
    (episode,) = rollout(player, env, [0])
    assert episode.success


def test_bot_internal_error_raises_gave_up_with_one_sentence():
    env = envs.make("minigrid:BabyAI-GoToLocal")
    player = scripted(env)
    step = env.reset([0])
    env.worlds()[0].unwrapped.instrs = None
    with pytest.raises(GaveUp, match="gave up at step 0: unknown instruction type"):
        player.act(player.init(1), step, key=0)


# For which tasks


@pytest.mark.parametrize(
    "task",
    [
        *("probe:chosen", "jax:my_jax_env:Counting"),
        *("minigrid:Fetch-5x5-N2", "minigrid:Dynamic-Obstacles-5x5"),
        *("minigrid:BabyAI-KeyInBox", "minigrid:BabyAI-PutNextS5N2Carrying"),
    ],
)
def test_scripted_unsupported_task_raises_listing_the_supported_ones(task):
    env = envs.make(task)
    with pytest.raises(ConfigError, match=f"no scripted player for {env.task}; there is one for grid:"):
        scripted(env)


def test_scripted_copies_in_processes_raise_env_error():
    env = envs.make("minigrid:Empty-5x5", parallel=True)
    try:
        with pytest.raises(EnvError, match="leave out parallel"):
            scripted(env)
    finally:
        env.close()


def test_env_worlds_after_a_step_are_the_current_ones():
    for task in ("grid:DoorKey-5x5", "minigrid:DoorKey-5x5"):
        env = made(task)
        look = of_grid if task.startswith("grid") else of_minigrid
        env.reset(range(10))
        before = [look(world) for world in env.worlds()]
        env.step({"action": np.array([LEFT, RIGHT] * 5)})
        after = [look(world) for world in env.worlds()]
        turned = [(b.direction - a.direction) % 4 for a, b in zip(before, after, strict=True)]
        assert turned == [3, 1] * 5 and before[0].keys == after[0].keys


# Demonstrations


@pytest.mark.parametrize("task", ["minigrid:BabyAI-GoToLocal", "grid:DoorKey-5x5", "grid:Catch"])
def test_demonstrations_replayed_actions_succeed(task):
    env = made(task)
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 5)
    shown = demonstrations(env, seeds, 2)
    assert len(shown) == 2
    for seed, pairs in zip(seeds, shown, strict=False):
        step = env.reset([seed] * 10)
        for seen, action in pairs:
            assert set(seen) == set(env.obs_space)
            for key, value in seen.items():
                np.testing.assert_array_equal(value, step.obs[key][0])
            step = env.step({k: np.stack([v] * 10) for k, v in action.items()})
        assert step.is_last[0] and step.obs["log/success"][0] == 1


def test_demonstrations_failed_episodes_are_omitted():
    env = envs.make("minigrid:BabyAI-OpenDoorsOrderN2Debug")
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 20)
    won = [e.success for e in rollout(scripted(env), env, seeds)]
    assert not all(won) and len(demonstrations(env, seeds, sum(won))) == sum(won)
    with pytest.raises(ConfigError, match=f"shows {sum(won)} episodes of {env.task}, not {sum(won) + 1}"):
        demonstrations(env, seeds, sum(won) + 1)


def test_demonstrations_evaluation_seed_is_refused():
    with pytest.raises(ConfigError, match="seed 7 belongs to evaluation; training starts at 1073741824"):
        demonstrations(made("grid:Catch"), [7], 1)
