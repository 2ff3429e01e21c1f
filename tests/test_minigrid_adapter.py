"""MiniGrid and BabyAI: observations, missions and success."""

import importlib.util

import gymnasium
import numpy as np
import pytest

import envs
from envs.adapters import MissingExtra
from envs.adapters import minigrid as adapter
from envs.api import EnvError, Space

LEFT, RIGHT, FORWARD = 0, 1, 2


def test_minigrid_symbolic_observation_equals_the_minigrid_image():
    env = envs.make("minigrid:DoorKey-5x5")
    assert env.obs_space == {
        "object": Space((7, 7), "uint8", 11),
        "color": Space((7, 7), "uint8", 6),
        "state": Space((7, 7), "uint8", 3),
        "direction": Space((), "int32", 4),
        "log/success": Space((), "float32"),
    }
    assert env.act_space == {"action": Space((), "int32", 7)}
    raw = gymnasium.make("MiniGrid-DoorKey-5x5-v0")
    obs, _ = raw.reset(seed=7)
    step = env.reset([7])
    for action in (LEFT, FORWARD, RIGHT, FORWARD, 3):
        for i, key in enumerate(("object", "color", "state")):
            assert np.array_equal(step.obs[key][0], obs["image"][..., i])
        assert step.obs["direction"][0] == obs["direction"]
        obs, *_ = raw.step(action)
        step = env.step({"action": np.array([action])})


@pytest.mark.parametrize(("obs", "shape"), [("rgb", (56, 56, 3)), ("full", (40, 40, 3))])
def test_minigrid_image_observation_has_declared_shape_and_changes(obs, shape):
    env = envs.make("minigrid:Empty-5x5", obs=obs)
    assert set(env.obs_space) == {"image", "log/success"}
    assert env.obs_space["image"] == Space(shape, "uint8")
    first = env.reset([0]).obs["image"]
    assert first.any() and not np.array_equal(first, env.step({"action": np.array([1])}).obs["image"])


def test_minigrid_goal_is_success_and_time_limit_is_failure():
    env = envs.make("minigrid:Empty-5x5", 2)
    env.reset([0, 0])
    # The agent starts in a corner facing right, the goal is in the opposite one.
    for action in (FORWARD, FORWARD, RIGHT, FORWARD):
        step = env.step({"action": np.array([action, LEFT])})
        assert np.isnan(step.obs["log/success"]).all()
    step = env.step({"action": np.array([FORWARD, LEFT])})
    assert step.is_terminal.tolist() == [True, False]
    assert step.reward[0] == np.float32(1 - 0.9 * 5 / 100) and step.obs["log/success"][0] == 1
    while not step.is_last[1]:
        step = env.step({"action": np.array([LEFT, LEFT])})
    assert step.obs["log/success"][1] == 0 and not step.is_terminal[1]


def test_minigrid_death_is_failure():
    env = envs.make("minigrid:LavaGapS5")
    step = env.reset([0])
    rng = np.random.default_rng(0)
    while not (step.is_terminal.any() and step.reward == 0):
        step = env.step({"action": rng.integers(0, 3, 1)})
    assert step.obs["log/success"][0] == 0


def test_minigrid_constant_mission_is_omitted():
    for task in ("DoorKey-5x5", "Empty-5x5", "LavaGapS5", "FourRooms", "MemoryS7"):
        assert "mission" not in envs.make(f"minigrid:{task}").obs_space


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("GoToDoor-5x5", 5),  # go to the C door
        ("Fetch-5x5-N2", 6),  # you must fetch a C T
        ("PutNear-6x6-N2", 8),  # put the C T near the C T
        ("LockedRoom", 17),  # get the C key from the C room, unlock the C door and go to the goal
        ("BabyAI-GoToLocal", 5),
        ("BabyAI-OpenDoorLoc", 7),
        ("BabyAI-PutNextLocal", 9),
        ("BabyAI-MoveTwoAcrossS5N2", 19),
        ("BabyAI-PickupLoc", 9),
        ("BabyAI-GoToSeq", 24),  # two of "go to D and go to D"
        ("BabyAI-BossLevel", 72),
    ],
)
def test_minigrid_mission_length_is_that_of_the_longest_mission(task, words):
    env = envs.make(f"minigrid:{task}")
    assert env.obs_space["mission"] == Space((words,), "int32", len(adapter.VOCABULARY))


def test_minigrid_mission_tokens_spell_the_mission():
    env = envs.make("minigrid:BabyAI-GoToLocal")
    raw = gymnasium.make("BabyAI-GoToLocal-v0")
    for seed in range(5):
        mission = raw.reset(seed=seed)[0]["mission"]
        tokens = env.reset([seed]).obs["mission"][0]
        assert " ".join(adapter.VOCABULARY[t] for t in tokens if t) == mission


def test_tokenize_text_is_padded_marks_unknown_and_refuses_too_long():
    the, then = adapter.VOCABULARY.index("the"), adapter.VOCABULARY.index("then")
    assert adapter.tokenize("the, then", 4).tolist() == [the, then, 0, 0]
    assert adapter.tokenize("the wug", 3).tolist() == [the, adapter.UNKNOWN, 0]
    with pytest.raises(EnvError, match="has 3 words, expected up to 2"):
        adapter.tokenize("the the the", 2)


def test_vocabulary_words_are_unique():
    assert len(set(adapter.VOCABULARY)) == len(adapter.VOCABULARY)
    assert adapter.VOCABULARY[adapter.PADDING] == "<pad>"
    assert adapter.VOCABULARY[adapter.UNKNOWN] == "<unk>"


@pytest.mark.filterwarnings("ignore:.*out of date")
def test_minigrid_every_task_uses_only_vocabulary_words():
    spoken = 0
    for name in adapter.ids():
        if name.startswith("WFC"):  # these need another package
            continue
        env = adapter.make(name, "symbolic")
        obs, _ = env.reset(seed=0)
        assert env.observation_space.contains(obs), name
        if "mission" in obs:
            spoken += 1
            assert adapter.UNKNOWN not in obs["mission"], name
        else:
            first = env.unwrapped.mission
            assert all(env.reset(seed=s) and env.unwrapped.mission == first for s in (1, 2)), name
    assert spoken > 100


def test_make_wfc_task_without_its_packages_raises_missing_extra():
    if importlib.util.find_spec("imageio") and importlib.util.find_spec("networkx"):
        pytest.skip("the packages of the WFC tasks are installed")
    with pytest.raises(MissingExtra, match=r"minigrid\[wfc\]"):
        envs.make("minigrid:WFC-MazeSimple")


def test_minigrid_reset_prints_nothing(capsys):
    env = envs.make("minigrid:BabyAI-GoToLocal")
    for seed in range(20):  # some of these layouts are rejected, which BabyAI would print
        env.reset([seed])
    assert capsys.readouterr().out == ""


# Worlds of one's own, arguments, limits.

MINE = "minigrid:my_minigrid"


@pytest.mark.parametrize("name", ["MyMaze-v0", "MyMaze", "MyDoorKey-v0", "Mine", "MiniGrid-Mine-v0"])
def test_minigrid_custom_world_has_the_spaces_of_a_builtin_one(name):
    env = envs.make(f"{MINE}:{name}")
    assert env.task.startswith(f"{MINE}:M") and env.task.endswith("-v0")
    theirs = envs.make("minigrid:Empty-5x5")
    assert (env.obs_space, env.act_space) == (theirs.obs_space, theirs.act_space)
    assert env.reset([0]).obs["object"].shape == (1, 7, 7)


def test_minigrid_custom_world_passes_the_check():
    assert not [f for f in envs.check(f"{MINE}:MyMaze-v0", 20) if f.status == "fail"]


@pytest.mark.parametrize("obs", ["rgb", "full", "privileged"])
def test_minigrid_custom_world_supports_every_observation(obs):
    env = envs.make(f"{MINE}:MyMaze-v0", obs=obs, kwargs={"size": 5})
    assert env.obs_space == envs.make("minigrid:Empty-5x5", obs=obs).obs_space


def test_minigrid_custom_world_declared_missions_are_tokenized():
    env = envs.make(f"{MINE}:MyTold-v0")
    assert env.obs_space["mission"] == Space((5,), "int32", len(adapter.VOCABULARY))  # get the pale old oak
    known = [adapter.VOCABULARY.index(word) for word in ("get", "the")]
    for seed in range(4):
        assert env.reset([seed]).obs["mission"][0, :2].tolist() == known


def test_minigrid_custom_world_unknown_words_are_reported_once(capsys):
    adapter._say.cache_clear()
    envs.make(f"{MINE}:MyTold-v0", 3)
    envs.make(f"{MINE}:MyMaze-v0")
    assert capsys.readouterr().err == (
        "missions of Told have words that are not in MiniGrid's vocabulary and look the same to an agent: "
        "oak, old, pale\n"
    )


def test_minigrid_custom_world_undeclared_missions_are_sampled():
    env = envs.make(f"{MINE}:MySecretive-v0")
    assert env.obs_space["mission"].shape == (5,)
    missions = {tuple(env.reset([seed]).obs["mission"][0].tolist()) for seed in range(8)}
    assert {len([t for t in mission if t]) for mission in missions} == {2, 5}


def test_minigrid_mission_longer_than_any_sampled_is_truncated(monkeypatch):
    monkeypatch.setattr(adapter, "PROBED", 2)
    env = envs.make(f"{MINE}:MyRambling-v0")
    (longest,) = env.obs_space["mission"].shape
    lengths = [np.count_nonzero(env.reset([seed]).obs["mission"]) for seed in range(20)]
    said = [len(env.worlds()[0].unwrapped.mission.split()) for seed in range(20) if env.reset([seed])]
    assert max(said) > longest == max(lengths)


def test_minigrid_custom_babyai_level_has_a_mission():
    assert envs.make(f"{MINE}:MyLevel-v0").obs_space["mission"].shape == (5,)  # go to the red ball


def test_flat_mission_sampling_leaves_the_random_state_unchanged():
    raw = gymnasium.make("MySecretive-v0")
    envs.Flat(raw)
    assert raw.unwrapped._np_random is None


def test_flat_custom_world_gives_the_observations_of_make():
    raw = gymnasium.make("MyMaze-v0")
    env, ours = envs.Flat(raw), envs.make(f"{MINE}:MyMaze-v0")
    obs, _ = env.reset(seed=3)
    step = ours.reset([3])
    assert all(np.array_equal(obs[key], step.obs[key][0]) for key in obs)
    assert set(obs) == {"object", "color", "state", "direction"}


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (
            "gymnasium:my_minigrid:MyMaze-v0",
            "a world of MiniGrid; did you mean minigrid:my_minigrid:MyMaze-v0?",
        ),
        ("gymnasium:my_minigrid:MiniGrid-Mine-v0", "did you mean minigrid:my_minigrid:MiniGrid-Mine-v0?"),
        (
            "minigrid:my_minigrid:CartPole-v1",
            "no world of MiniGrid; did you mean gymnasium:my_minigrid:CartPole",
        ),
        (
            "minigrid:CartPole-v1",
            "'CartPole-v1' is no world of MiniGrid; did you mean gymnasium:CartPole-v1?",
        ),
        ("minigrid:my_minigrid:MyMze-v0", "my_minigrid registers no task 'MyMze-v0'; did you mean MyMaze-v0"),
        ("minigrid:absent:MyMaze-v0", "there is no module 'absent' here"),
        ("minigrid:my_minigrid:MyMaze-v1", "registers no task 'MyMaze-v1'; did you mean MyMaze-v0"),
    ],
)
def test_make_wrong_name_of_a_custom_world_never_suggests_a_wrong_one(task, sentence):
    import my_minigrid  # noqa: F401

    with pytest.raises(envs.UnknownTask) as error:
        envs.make(task)
    assert sentence in str(error.value)


def test_make_world_without_mission_is_a_plain_environment():
    assert list(envs.make("gymnasium:my_minigrid:WrappedAway-v0").obs_space) == ["token", "log/success"]
    wrappers = ["minigrid.wrappers:ImgObsWrapper"]
    assert list(envs.make(f"{MINE}:MyMaze-v0", wrappers=wrappers).obs_space) == ["token", "log/success"]
    with pytest.raises(envs.UnknownTask, match="choose what is seen, and leave no observation 'rgb'"):
        envs.make(f"{MINE}:MyMaze-v0", wrappers=wrappers, obs="rgb")


def test_make_wrapper_is_applied_before_the_observation_is_encoded():
    env = envs.make("minigrid:Empty-5x5", wrappers=["minigrid.wrappers:FullyObsWrapper"])
    assert env.obs_space["object"].shape == (5, 5)


@pytest.mark.parametrize(
    "task", ["minigrid:GoToDoor-5x5", f"{MINE}:Mine", f"{MINE}:MyMaze-v0", "minigrid:GoToObj"]
)
@pytest.mark.parametrize("limit", [3, 70])
def test_make_max_episode_steps_truncates_even_beyond_the_own_limit(task, limit):
    env = envs.make(task, max_episode_steps=limit)
    step, turn = env.reset([1]), {"action": np.array([LEFT])}
    for length in range(1, limit + 1):
        step = env.step(turn)
        assert bool(step.is_last[0]) == (length == limit) and not step.is_terminal[0]


def test_make_kwargs_of_a_builtin_task_are_passed_and_checked():
    env = envs.make("minigrid:DoorKey-5x5", kwargs={"size": 6, "agent_view_size": 5})
    assert env.obs_space["object"].shape == (5, 5) and env.worlds()[0].unwrapped.width == 6
    with pytest.raises(envs.UnknownTask, match="takes no argument 'sise'; did you mean size"):
        envs.make("minigrid:DoorKey-5x5", kwargs={"sise": 6})


def test_minigrid_sets_are_levels_that_exist():
    sets = adapter.sets()
    assert next(iter(sets)) == "table-12" and len(set(sets["table-12"])) == 12
    for name, tasks in sets.items():
        assert set(tasks) <= set(adapter.ids()) and len(set(tasks)) == len(tasks), name
    assert len(sets["babyai-one-room"] + sets["babyai-mazes"]) == 18


@pytest.mark.parametrize(("name", "rooms"), [("babyai-one-room", 1), ("babyai-mazes", 3)])
def test_minigrid_set_of_babyai_has_levels_of_its_size(name, rooms):
    worlds = [gymnasium.make(f"{task}-v0").unwrapped for task in adapter.sets()[name]]
    assert all((world.num_rows, world.num_cols) == (rooms, rooms) for world in worlds)


@pytest.mark.parametrize("task", adapter.sets()["table-12"])
def test_minigrid_level_of_the_table_is_built_and_played(task):
    env = envs.make(f"minigrid:{task}")
    env.reset([0])
    assert not env.step({"action": np.array([LEFT])}).is_first[0]


@pytest.mark.parametrize("name", ["babyai:GoToLocal", "babyai:BabyAI-GoToLocal-v0"])
def test_babyai_name_is_the_level_of_minigrid(name):
    assert envs.canonical(name) == "minigrid:BabyAI-GoToLocal-v0"
    mine, theirs = envs.make(name).reset([3]), envs.make("minigrid:BabyAI-GoToLocal").reset([3])
    assert all(np.array_equal(mine.obs[k], theirs.obs[k], equal_nan=True) for k in theirs.obs)


def test_babyai_wrong_name_raises_unknown_task_with_close_matches():
    with pytest.raises(envs.UnknownTask, match="did you mean BabyAI-GoToLocal"):
        envs.make("babyai:GoToLocl")
    with pytest.raises(envs.UnknownTask, match="no suite 'babai'; did you mean babyai"):
        envs.make("babai:GoToLocal")
