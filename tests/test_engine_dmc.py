"""EnvPool's DeepMind Control beside dm_control, which is put into its start states and moved alike."""

import dataclasses

import numpy as np
import pytest

import envs
from envs import engine
from envs.adapters import dmc

pytest.importorskip("dm_control")
envpool = pytest.importorskip("envpool")


def angles(sines, cosines):
    """Of joints one after the other, from the directions of their links."""
    turned = np.diff(np.arctan2(sines, cosines), prepend=0.0)
    return (turned + np.pi) % (2 * np.pi) - np.pi


def of_walker(seen):
    cosines, sines = seen["orientations"].reshape(-1, 2).T
    torso, right, left = np.arctan2(sines, cosines)[0], slice(1, 4), slice(4, 7)
    legs = [torso - np.arctan2(sines, cosines)[side] for side in (right, left)]
    joints = [np.diff(leg, prepend=0.0) for leg in legs]
    wrapped = (np.concatenate(joints) + np.pi) % (2 * np.pi) - np.pi
    return [seen["height"] - 1.3, 0, torso, *wrapped]


POSITIONS = {
    "acrobot": lambda seen: angles(*seen["orientations"].reshape(2, 2)),
    "ball-in-cup": lambda seen: seen["position"],
    "cartpole": lambda seen: [seen["position"][0], *angles(*seen["position"][1:].reshape(-1, 2).T[::-1])],
    "cheetah": lambda seen: [0, *seen["position"]],
    "hopper": lambda seen: [0, *seen["position"]],
    "humanoid": lambda seen: seen["position"],
    "pendulum": lambda seen: angles(*seen["orientation"][::-1, None]),
    "point-mass": lambda seen: seen["position"],
    "walker": of_walker,
}
"""From what EnvPool observes at the start to the positions of the joints; places along the way are free."""

SAME = (
    *("acrobot-swingup", "ball-in-cup-catch", "cartpole-balance", "cartpole-swingup-sparse"),
    *("cartpole-three-poles", "cheetah-run", "hopper-hop", "humanoid-run-pure-state", "pendulum-swingup"),
    *("point-mass-easy", "walker-walk"),
)


def start(name, copies=1, **how):
    """A pool of a task, its first step, and what EnvPool itself observes then, with all digits."""
    pool, raw = envs.make(f"dmc:{name}", copies, engine="envpool", **how), []
    recipe = pool._copies._recipe

    def read(seen, so_far):
        raw.append({key: np.array(value) for key, value in seen.items()})
        return recipe.read(seen, so_far)

    pool._copies._recipe = dataclasses.replace(recipe, read=read)
    return pool, pool.reset([3]), raw[0]


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("name", SAME)
def test_pool_dmc_equals_dm_control_from_its_start_state(name, repeat):
    kwargs = {"action_repeat": repeat}
    pool, step, seen = start(name, kwargs=kwargs)
    own = dmc.make(name, "proprio", kwargs=kwargs)
    own.reset(seed=0)
    physics = own.world.physics
    with physics.reset_context():
        physics.data.qpos[:] = next(of(seen) for start, of in POSITIONS.items() if name.startswith(start))
        physics.data.qvel[:] = seen["velocity"]
    low, high, rng = own.action_space.low, own.action_space.high, np.random.default_rng(0)
    for _ in range(30):
        action = np.float32(rng.uniform(-1, 1, own.action_space.shape))
        step = pool.step({"action": action[None]})
        obs, reward, *_ = own.step((low + high) / 2 + action.astype(float) * (high - low) / 2)
        for key, value in obs.items():
            np.testing.assert_allclose(step.obs[key][0], value, rtol=1e-5, atol=1e-5, err_msg=key)
        assert step.reward[0] == pytest.approx(reward, abs=1e-5)
    pool.close()


@pytest.mark.parametrize(("repeat", "limit"), [(1, 0), (3, 0), (2, 7)])
def test_pool_dmc_ends_where_the_adapter_does(repeat, limit):
    how = {"kwargs": {"action_repeat": repeat}, "max_episode_steps": limit}
    pool, _, _ = start("cartpole-balance", **how)
    length = dmc.make("cartpole-balance", "proprio", **how).spec.max_episode_steps
    nothing = {"action": np.zeros((1, 1), np.float32)}
    for t in range(1, 2 * length + 2):
        step = pool.step(nothing)
        assert bool(step.is_last[0]) == (t in (length, 2 * length + 1)) and not step.is_terminal[0]
        assert bool(step.is_first[0]) == (t == length + 1)
    pool.close()


@pytest.mark.slow  # all models are loaded
def test_pool_dmc_every_task_has_the_spaces_and_limits_of_the_adapter():
    for name in dmc.ids():
        if name.startswith(dmc.REBUILT):
            continue
        recipe, own = dmc.pool(name, "proprio"), dmc.make(name, "proprio")
        pool, first = engine.started(recipe, [5])
        assert own.observation_space.contains(recipe.read(engine.of(first, 0), 0.0)), name
        assert pool.action_space == own.action_space == recipe.action, name
        assert recipe.options["max_episode_steps"] == own.spec.max_episode_steps == 1000, name
        assert pool.spec.config.frame_skip == own._begin(0)._n_sub_steps, name
        pool.close(), own.close()
