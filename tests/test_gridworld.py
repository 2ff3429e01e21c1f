"""Grid worlds: the same as MiniGrid, layout by layout and step by step."""

import gymnasium
import jax
import jax.numpy as jnp
import minigrid  # noqa: F401
import numpy as np
import pytest

from envs import gridworld
from envs.gridworld import TASKS

IDS = {name: f"MiniGrid-{name}-v0" for name in TASKS}


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


@pytest.mark.parametrize("name", TASKS)
def test_gridworld_same_state_and_actions_match_minigrid_steps(name):
    ours, theirs = TASKS[name](), gymnasium.make(IDS[name], disable_env_checker=True).unwrapped
    run, rng, ends = follow(ours), np.random.default_rng(0), set()
    for seed in range(8):
        raw, _ = theirs.reset(seed=seed)
        actions = wanderer(rng, 400)
        shown, (told, cells) = jax.device_get(run(as_state(theirs), actions))
        for key, array in observed(raw).items():
            np.testing.assert_array_equal(shown[key], array)
        for t, action in enumerate(actions):
            raw, reward, terminated, truncated, _ = theirs.step(int(action))
            for key, array in observed(raw).items():
                np.testing.assert_array_equal(told.obs[key][t], array, err_msg=f"{key}, seed {seed}")
            assert told.obs["direction"][t] == raw["direction"]
            np.testing.assert_allclose(told.reward[t], reward, rtol=1e-6)
            assert (told.is_terminal[t], told.is_last[t]) == (terminated, terminated or truncated)
            np.testing.assert_array_equal(cells[t].reshape(ours.size, -1), encode(theirs))
            if terminated or truncated:
                ends.add((terminated, truncated))
                break
    assert ends, "no episode ended"


@pytest.mark.parametrize("name", TASKS)
def test_gridworld_reset_layouts_match_minigrid_distribution(name):
    """Where the worlds of a task are few, both make all of them; else what both put where agrees."""
    ours, theirs = TASKS[name](), gymnasium.make(IDS[name], disable_env_checker=True).unwrapped
    count = 300
    begin = jax.jit(jax.vmap(lambda key: ours.reset(key=key)[0]))
    states = jax.device_get(begin(jax.random.split(jax.random.key(0), count)))
    mine, real = np.zeros((2, ours.size**2, 3 * gridworld.STATE))
    for i in range(count):
        theirs.reset(seed=i)
        x, y = theirs.agent_pos
        worlds = (states.cells[i], states.position[i]), (encode(theirs).ravel(), y * ours.size + x)
        for table, (cells, position) in zip((mine, real), worlds, strict=True):
            table[np.arange(ours.size**2), cells] += 1
            table[position, gridworld.UNSEEN] += 1  # marks the agent
    assert ((mine > 0) == (real > 0)).mean() > 0.99
    assert np.abs(mine - real).max() / count < 0.16
