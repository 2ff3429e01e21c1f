"""The true state of a grid is read as it is, its agent sees the same as without, other worlds say nothing."""

import numpy as np
import pytest
import tiny

import envs
from dreamer import schema
from experiments.report import states
from experiments.report.recording import record

LEFT, FORWARD, PICKUP, TOGGLE = 0, 2, 3, 5


class Script:
    """Takes these actions, in all copies."""

    def __init__(self, actions):
        self.actions = actions

    def init(self, batch):
        return 0

    def act(self, carry, step, *, key):
        action = self.actions[min(carry, len(self.actions) - 1)]
        return {"action": np.full(step.is_first.shape, action, np.int32)}, carry + 1


def opened(task, **env):
    changes = {f"env.{k}": v for k, v in env.items()}
    return states.opened(schema.replace_paths(tiny.RUN, {"task": task, **changes}), 1)


@pytest.mark.parametrize("task", ["grid:DoorKey-5x5", "minigrid:MiniGrid-DoorKey-5x5-v0"])
def test_of_door_key_follows_the_agent_the_key_and_the_door(task):
    env = opened(task)
    _, episodes = record(Script([LEFT] * 3), env, [3], max_steps=4)
    env.close()
    found = states.of(episodes.obs)
    assert list(found) == [
        *("agent x", "agent y", "agent direction", "carries something", "a door is open", "key x", "key y")
    ]
    assert all(variable.values.shape == (1, 5) and variable.known.all() for variable in found.values())
    turns = found["agent direction"].values[0]
    np.testing.assert_array_equal(np.diff(turns)[:3] % 4, [3, 3, 3])
    for name in ("agent x", "agent y", "key x", "key y"):
        assert np.ptp(found[name].values) == 0 and 1 <= found[name].values[0, 0] <= 3
    assert not found["carries something"].values.any() and not found["a door is open"].values.any()
    places = [(found[f"{who} x"].values[0, 0], found[f"{who} y"].values[0, 0]) for who in ("agent", "key")]
    assert places[0] != places[1]
    cells = episodes.obs["log/object"][0, 0]
    assert cells[int(places[1][0]), int(places[1][1])] == 5


def test_of_hand_written_world_knows_key_and_door():
    cells = np.ones((1, 3, 4, 4), np.uint8)
    cells[0, :, 2, 1] = 4
    cells[0, 0, 1, 3] = 5
    door = np.zeros_like(cells)
    door[0, :2, 2, 1] = [2, 1]
    view = np.ones((1, 3, 7, 7), np.uint8)
    view[0, 1:, 3, 6] = 5
    obs = {"object": view, "log/object": cells, "log/state": door, "log/position": np.ones((1, 3, 2), int)}
    found = states.of(obs)
    assert found["carries something"].values.tolist() == [[0, 1, 1]]
    assert found["a door is open"].values.tolist() == [[0, 0, 1]]
    assert found["key x"].known.tolist() == [[True, False, False]]
    assert (found["key x"].values[0, 0], found["key y"].values[0, 0]) == (1, 3)


def test_of_world_without_state_is_empty():
    assert states.of({"vector": np.zeros((1, 3, 4))}) == {}


@pytest.mark.parametrize(
    "task", ["grid:DoorKey-5x5", "grid:LavaCrossingS9N1", "minigrid:MiniGrid-DoorKey-5x5-v0"]
)
def test_opened_agent_sees_the_same(task):
    ours, plain = opened(task), envs.make(task, 1)
    seen = {k: s for k, s in ours.obs_space.items() if not k.startswith("log/")}
    assert seen == {k: s for k, s in plain.obs_space.items() if not k.startswith("log/")}
    a, b = ours.reset([5]), plain.reset([5])
    for key in seen:
        np.testing.assert_array_equal(a.obs[key], b.obs[key])
    ours.close(), plain.close()


@pytest.mark.parametrize(
    ("task", "env"),
    [
        ("probe:chosen", {}),
        ("grid:Catch", {}),
        ("minigrid:MiniGrid-Empty-5x5-v0", {"obs": "rgb"}),
    ],
)
def test_opened_world_that_does_not_say_it_is_as_always(task, env):
    ours = opened(task, **env)
    assert ours.obs_space == envs.make(task, 1, **env).obs_space
    ours.close()
