"""EnvPool's MiniGrid beside the original, which is put into its worlds and played with the same actions."""

import numpy as np
import pytest

import envs
from envs import engine
from envs.adapters import minigrid

envpool = pytest.importorskip("envpool")

from worlds_of_envpool import put_into  # noqa: E402

SAME = (
    *("Empty-Random-5x5", "DoorKey-5x5", "FourRooms", "SimpleCrossingS9N1", "LavaGapS5", "MemoryS7"),
    *("Fetch-5x5-N2", "GoToDoor-5x5", "PutNear-6x6-N2", "RedBlueDoors-6x6", "Unlock", "ObstructedMaze-2Dlh"),
    *(
        "BabyAI-GoToLocal",
        "BabyAI-PickupLoc",
        "BabyAI-PutNextLocal",
        "BabyAI-GoToSeqS5R2",
        "BabyAI-BossLevel",
    ),
    *("BabyAI-OpenDoorsOrderN4", "BabyAI-OneRoomS8", "BabyAI-ActionObjDoor"),
)
LIMITED = ("DoorKey-5x5", "GoToDoor-5x5", "BabyAI-GoToLocal", "BabyAI-OpenDoorLoc")
WITHOUT = ("MiniGrid-MultiRoom-N4-S5-v1", "MiniGrid-WFC")
"""What EnvPool does not have, and what needs another package here."""


def play(name, copies=3, slots=200, **how):
    """Play a task in both, compare every slot, and count how episodes end: (successes, failures, limits)."""
    pool = envs.make(f"minigrid:{name}", copies, engine="envpool", **how)
    ours = [minigrid.make(name, "symbolic", **how) for _ in range(copies)]
    rng, ends = np.random.default_rng(0), np.zeros(3, int)
    seen, then = [{}] * copies, [(0.0, False, False, {})] * copies
    step = pool.reset(range(copies))
    for _ in range(slots):
        for i, env in enumerate(ours):
            if step.is_first[i]:
                env.reset(seed=0)
                seen[i] = put_into(env, pool._copies._pool.debug_states()[i])
                then[i] = 0.0, False, False, {}
            reward, terminal, truncated, info = then[i]
            assert step.reward[i] == pytest.approx(reward, abs=1e-6)
            assert step.is_last[i] == (terminal or truncated)
            # EnvPool does not say of a failure in the step of the limit that nothing follows.
            assert step.is_terminal[i] == (terminal and not (truncated and reward <= 0))
            success = info.get("success", np.nan)
            assert np.array_equal(step.obs["log/success"][i], np.float32(success), equal_nan=True)
            assert all(np.array_equal(step.obs[key][i], seen[i][key]) for key in seen[i])
            if step.is_last[i]:
                ends[0 if success else 1 if terminal else 2] += 1
        actions = rng.choice(pool.act_space["action"].num_classes, copies, p=[0.1, 0.1, 0.4, *[0.1] * 4])
        for i in np.flatnonzero(~step.is_last):
            seen[i], *then[i] = ours[i].step(actions[i])
        step = pool.step({"action": actions})
    pool.close()
    return tuple(ends.tolist())


@pytest.mark.parametrize("name", SAME)
def test_pool_minigrid_equals_minigrid_in_every_slot(name):
    ends = play(name)
    if name in ("Empty-Random-5x5", "Fetch-5x5-N2", "GoToDoor-5x5", "BabyAI-GoToLocal"):
        assert ends[0]


@pytest.mark.parametrize("name", LIMITED)
def test_pool_minigrid_max_episode_steps_is_that_of_the_adapter(name):
    assert play(name, slots=60, max_episode_steps=9)[2]


def test_pool_minigrid_every_task_has_the_spaces_limits_and_missions_of_the_adapter():
    refused = (*minigrid.NOT_OF_ENVPOOL, *WITHOUT)
    of_envpool = set(envpool.list_all_envs())  # other tests register worlds of their own
    names = [n for n in minigrid._registered() if n in of_envpool and not n.startswith(refused)]
    assert len(names) == 167
    for name in names:
        recipe, own = minigrid.pool(name, "symbolic"), minigrid.make(name, "symbolic")
        pool, first = engine.started(recipe, [5])
        (state,) = pool.debug_states()
        world = own.unwrapped
        assert recipe.observation.contains(recipe.read(engine.of(first, 0), 0.0)), name
        assert pool.action_space.n == own.action_space.n, name
        assert (world.width, world.height) == (state.width, state.height), name
        assert name.startswith("BabyAI") or world.max_steps == state.max_steps, name
        if "mission" not in own.observation_space.spaces:
            own.reset(seed=0)
            assert world.mission == state.mission, name
        pool.close()
