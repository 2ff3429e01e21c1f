"""Text worlds: from the words of a step the agent's observation can be put together again."""

import hashlib
import re

import gymnasium
import numpy as np
import pytest

import envs
from envs.adapters import minigrid as adapter
from envs.api import Space, UnsupportedSpace
from envs.rollout import Random
from envs.text import text_world
from envs.text.grids import ACTIONS, COLORS, DIRECTIONS, MISSIONS, OBJECTS, STATES, named, rules
from envs.text.layout import rows, runs

CHANNELS = ("object", "color", "state")
CELLS = {
    named((o, c, s)): (o, c, s)
    for o in range(len(OBJECTS))
    for c in range(len(COLORS))
    for s in range(len(STATES))
}
GRIDS = (
    *("minigrid:Empty-5x5", "minigrid:DoorKey-5x5", "minigrid:FourRooms", "minigrid:MemoryS7"),
    *("minigrid:KeyCorridorS3R3", "minigrid:BabyAI-GoTo", "minigrid:BabyAI-PickupLoc"),
    *("minigrid:LavaCrossingS9N2", "minigrid:ObstructedMaze-1Dlhb", "minigrid:BabyAI-GoToSeq"),
    *("minigrid:GoToDoor-5x5", "minigrid:Playground"),
)


def play(env, steps, *, seed=0, choices=None):
    """Observations of one copy under random actions, a new world every 40 steps."""
    policy = Random(env.act_space)
    step = env.reset([seed])
    for t in range(steps):
        yield {key: value[0] for key, value in step.obs.items()}
        if t % 40 == 39:
            step = env.reset([seed + t])
            continue
        action, _ = policy.act(None, step, key=t)
        if choices:
            action = {"action": np.array([choices[int(action["action"][0]) % len(choices)]])}
        step = env.step(action, [seed + t])


# From words to observations


def place(ahead, side):
    """Column and row in a view of [7, 7] from "2 steps ahead", "1 step left"."""
    far, offset = int(ahead or 0), int((side or "0").split()[0])
    return 3 + (-offset if (side or "").endswith("left") else offset), 6 - far


def fill(board, text, *, key):
    """Cells of the layout: lines such as "0 to 2 ahead: wall 3 left, floor 2 left to 1 right."."""
    ground = {"floor": CELLS["free cell"], "wall": CELLS["wall"], "lava": CELLS["lava"], "door": None}
    for line in text.splitlines():
        where, _, what = line.rstrip(".").partition(": ")
        first, last = (re.findall(r"\d+", where) * 2)[:2]
        for run in what.split(", "):
            name, _, columns = run.partition(" ")
            ends = [key(c) for c in columns.removeprefix("x ").split(" to ")]
            for j in range(int(first), int(last) + 1):
                for i in range(ends[0], ends[-1] + 1):
                    if ground[name]:
                        board[i, j] = ground[name]


def cell(words):
    return CELLS[re.sub("^an? ", "", words)]


def mission_tokens(text, length):
    found = re.search(r"^Mission: (.*)\.$", text, re.M)
    words = found[1].split() if found else []
    return [adapter.VOCABULARY.index(word) for word in words] + [0] * (length - len(words))


def observed(told, spaces):
    """The observation that a text tells."""
    lasting, (before, _, layout) = told.lasting, told.passing.partition("Layout:\n")
    view = np.zeros((7, 7, 3), np.uint8)
    flipped = np.zeros_like(view)
    side = lambda c: 3 + int(c.split()[0]) * (-1 if c.endswith("left") else 1)
    fill(flipped, layout, key=side)
    view[:] = flipped[:, ::-1]
    facing, carried = re.match(r"You face (\w+) and carry ([^.]+)\.", lasting).groups()
    things = re.search(r"You see (.*)\.$", lasting)[1]
    for thing in [] if things == "no things" else things.split("; "):
        pattern = r"(.+?)(?: (\d+) steps? ahead)?(?: and)?(?: (\d+) steps? (left|right))?$"
        name, ahead, n, where = re.match(pattern, thing).groups()
        view[place(ahead, f"{n} {where}" if n else None)] = cell(name)
    view[3, 6] = CELLS["free cell"] if carried == "nothing" else cell(carried)
    obs = {key: view[..., i] for i, key in enumerate(CHANNELS)}
    obs["direction"] = DIRECTIONS.index(facing)
    if "mission" in spaces:
        obs["mission"] = np.array(mission_tokens(before, spaces["mission"].size))
    return obs


def everything(told, size):
    """The whole world that a privileged text tells."""
    things, _, layout = told.passing.partition("Layout:\n")
    x, y = re.match(r"You are at x (\d+), y (\d+),", told.lasting).groups()
    world = np.zeros((*size, 3), np.uint8)
    fill(world, layout, key=int)
    for thing in things.splitlines()[0].rstrip(".").removeprefix("The world has ").split("; "):
        if thing != "no things":
            name, i, j = re.match(r"(.+) at x (\d+), y (\d+)$", thing).groups()
            world[int(i), int(j)] = cell(name)
    return {f"log/{key}": world[..., k] for k, key in enumerate(CHANNELS)} | {
        "log/position": [int(x), int(y)]
    }


def test_named_every_cell_has_unique_words():
    assert len(CELLS) == 11 * 6 * 3
    assert named((4, 4, 2)) == "locked yellow door" and named((8, 1, 0)) == "green goal"


def test_words_colors_states_and_objects_are_those_of_minigrid():
    assert {v: k for k, v in enumerate(COLORS)} == adapter.COLOR_TO_IDX
    assert {v: k for k, v in enumerate(STATES)} == adapter.STATE_TO_IDX
    ours = dict(zip(range(11), OBJECTS, strict=True))
    others = {0: "unseen", 1: "empty", 3: "floor"}
    assert {others.get(k, name): k for k, name in ours.items()} == adapter.OBJECT_TO_IDX


@pytest.mark.parametrize("task", GRIDS)
def test_tell_grid_observation_can_be_reconstructed(task):
    env = envs.make(task)
    world = text_world(env)
    lengths = []
    for obs in play(env, 160):
        told = world.tell(obs)
        lengths.append(len(told.lasting) + len(told.passing))
        again = observed(told, env.obs_space)
        for key, value in again.items():
            assert np.array_equal(value, obs[key]), (key, told)
    assert np.mean(lengths) < 550 and max(lengths) < 1000


@pytest.mark.parametrize("name", ["DoorKey-6x6", "LavaCrossingS9N2"])
def test_tell_device_grid_view_and_whole_can_be_reconstructed(name):
    env = envs.make(f"grid:{name}", obs="privileged")
    seen, whole = text_world(env), text_world(env, privileged=True)
    for obs in play(env, 80, choices=(0, 1, 2, 3, 5)):
        again = observed(seen.tell(obs), env.obs_space)
        again |= everything(whole.tell(obs), env.obs_space["log/object"].shape)
        assert all(np.array_equal(again[key], obs[key]) for key in again)
        assert ahead_in_both(obs)
    assert seen.rules == text_world(envs.make(f"minigrid:{name}")).rules


def ahead_in_both(obs):
    """Whether the cell ahead in the whole world is the one ahead in the view."""
    dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[int(obs["direction"])]
    x, y = obs["log/position"]
    return all(obs[f"log/{key}"][x + dx, y + dy] == obs[key][3, 5] for key in CHANNELS)


def any_view(rng, length):
    """A view of anything, with a mission of any words."""
    obs = {k: rng.integers(n, size=(7, 7)) for k, n in zip(CHANNELS, (11, 6, 3), strict=True)}
    words = int(rng.integers(1, length + 1))
    mission = np.where(np.arange(length) < words, rng.integers(1, len(adapter.VOCABULARY), length), 0)
    return obs | {"direction": rng.integers(4), "mission": mission}


def test_tell_random_view_can_be_reconstructed():
    rng = np.random.default_rng(0)
    env = envs.make("minigrid:BabyAI-GoToSeq")
    world = text_world(env)
    for _ in range(20):
        obs = any_view(rng, env.obs_space["mission"].size)
        again = observed(world.tell(obs), env.obs_space)
        assert all(np.array_equal(again[key], obs[key]) for key in obs)


@pytest.mark.parametrize("task", ["minigrid:KeyCorridorS3R3", "minigrid:Playground"])
def test_tell_privileged_text_reconstructs_the_whole_world(task):
    env = envs.make(task, obs="privileged")
    world = text_world(env, privileged=True)
    assert world.privileged and world.version == "minigrid-1-privileged" and "whole" in world.sees
    size = env.obs_space["log/object"].shape
    for obs in play(env, 80):
        again = everything(world.tell(obs), size)
        assert all(np.array_equal(again[key], obs[key]) for key in again)
        assert ahead_in_both(obs)


def test_tell_with_privileged_observation_keeps_the_agent_view():
    ours, theirs = envs.make("minigrid:DoorKey-5x5", obs="privileged"), envs.make("minigrid:DoorKey-5x5")
    for a, b in zip(play(ours, 20), play(theirs, 20), strict=True):
        assert all(np.array_equal(a[key], b[key], equal_nan=True) for key in b)
    assert text_world(ours).tell(a) == text_world(theirs).tell(b)
    assert not text_world(ours).privileged


# What a person reads


def test_tell_view_is_described_in_known_words():
    env = envs.make("minigrid:DoorKey-5x5")
    kind, color, state = (np.zeros((7, 7), np.uint8) for _ in range(3))
    kind[2:6, 5:] = kind[3, 3:5] = 1  # floor: two rows, and two cells further ahead
    kind[1, 5:], color[1, 5:] = 2, 5  # a wall two steps to the left
    kind[3, 2], color[3, 2], state[3, 2] = 4, 4, 2  # a locked door four steps ahead
    kind[5, 5], color[5, 5] = 6, 0  # a red ball
    kind[3, 6], color[3, 6] = 5, 4  # a yellow key in the hand
    told = text_world(env).tell({"object": kind, "color": color, "state": state, "direction": np.int32(3)})
    assert told.lasting == (
        "You face north and carry a yellow key. Ahead: 3 free steps, then a locked yellow door."
        " Left: 1 free step, then a wall. Right: 2 free steps, then a hidden cell."
        " You see a red ball 1 step ahead and 2 steps right; a locked yellow door 4 steps ahead."
    )
    assert told.passing == (
        "Layout:\n"
        "0 to 1 ahead: wall 2 left, floor 1 left to 2 right.\n"
        "2 to 3 ahead: floor 0.\n"
        "4 ahead: door 0."
    )


def test_layout_equal_rows_are_grouped_and_hidden_cells_omitted():
    span = lambda a, b: f"{a}-{b}"
    assert runs(["", "a", "a", "b"], span) == "a 1-2, b 3-3"
    assert rows([["a"], ["a"], [""], ["b"]], span, span) == "0-1: a 0-0.\n3-3: b 0-0."


def test_rules_constant_mission_is_stated():
    newest = [n for n in adapter._registered() if "WFC" not in n and n[:-1] + "1" not in gymnasium.registry]
    newest += [n for n in adapter._registered() if n.endswith("-v1")]
    points = {gymnasium.registry[n].entry_point: n for n in newest}
    registered = {p: n for p, n in points.items() if str(p).startswith("minigrid.")}  # not those of tests
    told = set()
    for name in registered.values():
        raw = adapter.make(name, "symbolic")
        if "mission" not in raw.observation_space.spaces:
            raw.reset(seed=0)
            mission = raw.unwrapped.mission
            sentence = f"Your mission: {mission}." if mission else "There is no mission."
            spaces = dict.fromkeys(raw.observation_space.spaces)
            assert sentence in rules(name.removeprefix("MiniGrid-"), spaces, (), privileged=False)
            told.add(mission)
    assert told == {mission for start, mission in MISSIONS if start != "WFC"} | {""}


def test_tell_changing_mission_is_in_the_observation():
    env = envs.make("minigrid:BabyAI-GoToRedBall")
    world = text_world(env)
    obs = {key: value[0] for key, value in env.reset([0]).obs.items()}
    assert "Mission: go to the red ball.\n" in world.tell(obs).passing
    assert "red ball" not in world.rules and "told with every observation" in world.rules


def test_act_actions_are_named_in_the_order_of_their_space():
    env = envs.make("minigrid:DoorKey-5x5")
    world = text_world(env)
    assert world.actions == ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
    assert [int(world.act(name)["action"]) for name in ACTIONS] == list(range(7))
    assert world.default == "done" and world.act("done")["action"].shape == ()
    assert all(f"- {name}: " in world.rules for name in world.actions) and "- done:" not in world.rules
    with pytest.raises(ValueError, match="there is no action 'fly'; the actions are turn left"):
        world.act("fly")


def test_text_world_task_that_needs_done_offers_it():
    world = text_world(envs.make("minigrid:GoToDoor-5x5"))
    assert world.actions[-1] == "done" and world.default == "drop" and "say done" in world.rules


def test_text_world_offers_only_actions_of_the_task():
    world = text_world(envs.make("minigrid:Dynamic-Obstacles-5x5"))
    assert world.actions == ("turn left", "turn right", "go forward") and world.default in world.actions


def test_text_world_default_action_of_a_grid_changes_nothing():
    env = envs.make("minigrid:DoorKey-5x5")
    world = text_world(env)
    before = env.reset([0])
    after = env.step({k: v[None] for k, v in world.act(world.default).items()})
    assert all(np.array_equal(before.obs[key], after.obs[key]) for key in (*CHANNELS, "direction"))


# Numbers and boards


@pytest.mark.parametrize("task", ["CartPole-v1", "MountainCar-v0", "Acrobot-v1"])
def test_tell_classic_control_numbers_can_be_reconstructed(task):
    env = envs.make(f"gymnasium:{task}")
    world = text_world(env)
    for obs in play(env, 100):
        told = world.tell(obs)
        values = np.array([part.rpartition(": ")[2] for part in told.lasting.split(", ")], np.float32)
        assert np.array_equal(values, obs["vector"]) and not told.passing
    assert len(world.actions) == env.act_space["action"].classes
    assert [int(world.act(name)["action"]) for name in world.actions] == list(range(len(world.actions)))


def test_tell_cartpole_observation_is_described_in_known_words():
    world = text_world(envs.make("gymnasium:CartPole-v1"))
    told = world.tell({"vector": np.array([0.1, -1.5, 0, 1e-7], np.float32)})
    assert told.lasting == (
        "cart position: 0.1, cart velocity: -1.5, pole angle: 0.0, pole angular velocity: 1e-07"
    )


def test_text_world_unnamed_values_and_actions_are_numbered():
    world = text_world(envs.make("probe:chosen"))
    told = world.tell({"vector": np.array([0.25, -1], np.float32)})
    assert told.lasting == "value 0: 0.25, value 1: -1.0"
    assert world.actions == ("action 0", "action 1") and world.default == "action 0"


def test_tell_catch_board_can_be_reconstructed():
    env = envs.make("grid:Catch")
    world = text_world(env)
    for obs in play(env, 40):
        told = world.tell(obs).lasting
        board = np.zeros((10, 5), np.uint8)
        falling = re.match(r"The ball is in row (\d+), column (\d+); ", told)
        if falling:
            board[int(falling[1]) - 1, int(falling[2]) - 1] = 1
            told = told[falling.end() :]
        for column in re.findall(r"\d+", told):
            board[9, int(column) - 1] = 1
        assert np.array_equal(board, obs["board"])
    assert int(world.act("right")["action"]) == 2 and world.default == "stay"


class Shows:
    """As much of an environment as a text world asks for."""

    num_envs = 1

    def __init__(self, task, obs, act=Space((), "int32", 2)):
        self.task, self.obs_space, self.act_space = task, obs, {"action": act}


def shown(task):
    """A text world and what it tells of fixed observations."""
    if task == "grid:Catch":
        falling, landed = np.zeros((2, 10, 5), np.uint8)
        falling[3, 1] = falling[9, 2] = landed[9, 1] = landed[9, 3] = 1
        world = text_world(Shows(task, {"board": Space((10, 5), "uint8", 2)}, Space((), "int32", 3)))
        return world, [{"board": falling}, {"board": landed}]
    world = text_world(envs.make(task))
    if task.startswith("gymnasium"):
        return world, [{"vector": np.linspace(-1, 1, 6, dtype=np.float32)}]
    rng = np.random.default_rng(3)
    views = [any_view(rng, 5) for _ in range(3)]
    return world, views


@pytest.mark.parametrize(
    ("task", "version", "digest"),
    [
        ("minigrid:DoorKey-5x5", "minigrid-1", "2847bdb4465d"),
        ("minigrid:BabyAI-GoTo", "minigrid-1", "7dae31c90bd7"),
        ("gymnasium:Acrobot-v1", "fields-1", "0e6062b22308"),
        ("grid:Catch", "catch-1", "c6ee44708343"),
    ],
)
def test_text_world_changed_text_requires_a_new_version(task, version, digest):
    world, seen = shown(task)
    text = "\n".join([world.rules, *(part for obs in seen for part in world.tell(obs))])
    assert (world.version, hashlib.sha256(text.encode()).hexdigest()[:12]) == (version, digest)


# What cannot be told


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (Shows("x:Y", {"image": Space((8, 8, 3), "uint8")}), "x:Y cannot be told in words: its observation"),
        (Shows("x:Y", {"vector": Space((65,), "float32")}), "x:Y .* has 65 numbers without names"),
        (Shows("x:Y", {"board": Space((3, 3), "uint8", 2)}), "'board' is a board of the shape"),
        (Shows("x:Y", {"vector": Space((2,), "float32")}, Space((1,), "float32")), "its action has numbers"),
        (Shows("x:Y", {"vector": Space((2,), "float32")}, Space((2,), "int32", 3)), "has several choices"),
        (Shows("minigrid:Z", {"image": Space((56, 56, 3), "uint8")}), "make it with obs='symbolic'"),
    ],
)
def test_text_world_unsupported_space_is_refused_with_a_reason(env, sentence):
    with pytest.raises(UnsupportedSpace, match=sentence):
        text_world(env)


def test_text_world_pendulum_is_refused():
    with pytest.raises(UnsupportedSpace, match="gymnasium:Pendulum-v1 cannot be played in words"):
        text_world(envs.make("gymnasium:Pendulum-v1"))


def test_text_world_privileged_without_support_is_refused():
    with pytest.raises(UnsupportedSpace, match="make it with obs='privileged'"):
        text_world(envs.make("minigrid:Empty-5x5"), privileged=True)
    with pytest.raises(UnsupportedSpace, match="gymnasium:CartPole-v1 has no privileged text"):
        text_world(envs.make("gymnasium:CartPole-v1"), privileged=True)
    with pytest.raises(envs.UnknownTask, match="sees all there is"):
        envs.make("grid:Catch", obs="privileged")
