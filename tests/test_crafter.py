"""crafter: the package's own worlds, with episodes that follow from their seeds. Small areas are quick."""

import numpy as np
import pytest

import envs
from envs.adapters import UnknownTask
from envs.adapters import crafter as adapter
from envs.api import Space, ended

crafter = pytest.importorskip("crafter")

SMALL = {"area": 24}
NOOP, PLACE_PLANT = 0, 10


@pytest.fixture
def env():
    return adapter.make("reward", "", kwargs=SMALL)


def test_achievements_are_those_of_the_package():
    assert adapter.achievements("reward") == tuple(sorted(crafter.constants.achievements))
    assert len(crafter.constants.items) == adapter.ITEMS


def test_crafter_spaces_are_image_and_seventeen_actions():
    env = envs.make("crafter:reward", kwargs=SMALL)
    assert env.obs_space["image"] == Space((64, 64, 3), "uint8") and env.obs_space["image"].is_image
    assert env.obs_space["log/achievements"].shape == (22,) and "log/return" not in env.obs_space
    assert env.act_space["action"].classes == 17
    larger = envs.make("crafter:reward", kwargs={**SMALL, "size": [96, 128]})
    assert larger.reset([0]).obs["image"].shape == (1, 128, 96, 3)


def test_crafter_world_of_a_seed_is_that_of_the_package():
    ours, theirs = adapter.make("reward", ""), crafter.Env(seed=7)
    ours.reset(seed=3)
    np.testing.assert_array_equal(ours.reset(seed=7)[0]["image"], theirs.reset())
    # Until step 10, when the package first looks into its sets.
    for action in np.random.default_rng(0).integers(0, 17, 9):
        obs, reward, terminated, truncated, info = ours.step(action)
        image, expected, done, told = theirs.step(action)
        np.testing.assert_array_equal(obs["image"], image)
        assert (reward, terminated or truncated) == (expected, done)
        assert info["inventory"] == told["inventory"]


def test_crafter_checked_passes_environment_contract():
    findings = envs.check("crafter:reward", steps=30, kwargs=SMALL, max_episode_steps=13)
    assert not [f for f in findings if f.status == "fail"], findings
    assert "deterministic" in {f.name for f in findings}


def test_crafter_episode_does_not_depend_on_where_objects_lie(env, monkeypatch):
    cow = crafter.objects.Cow

    def survivors(sign):
        """Cows left of a crowd of which chance removes some, where a set has them in this order."""
        monkeypatch.setattr(cow, "__hash__", lambda self: sign * self.rank % 1009)
        monkeypatch.setattr(cow, "rank", 0, raising=False)
        env.reset(seed=0)
        world = env._env._world
        for rank, x in enumerate(range(12)):
            thing = cow(world, (x, 0))
            thing.rank = rank + 1
            world._mat_map[x, 0] = world._mat_ids["grass"]
            if world[(x, 0)][1] is None:
                world.add(thing)
        for _ in range(150):
            env.step(NOOP)
        return [(thing.rank, *thing.pos) for thing in world.objects if isinstance(thing, cow)]

    left = survivors(1)
    assert left == survivors(-1)
    assert 0 < sum(rank > 0 for rank, *_ in left) < 12


def test_crafter_death_is_terminal_and_the_limit_is_not():
    env = adapter.make("reward", "", kwargs=SMALL, max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step(NOOP)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    for steps in (0, 2):  # before the limit and at it
        env.reset(seed=0)
        for _ in range(steps):
            env.step(NOOP)
        env._env._player.health = 0
        assert env.step(NOOP)[2:4] == (True, False)


def test_crafter_limit_by_default_is_ten_thousand_steps(env):
    env.reset(seed=0)
    env._env._step = 9_998
    assert [env.step(NOOP)[2:4] for _ in range(2)] == [(False, False), (False, True)]


def test_crafter_achievement_is_marked_from_the_step_that_unlocks_it(env):
    place = adapter.ACHIEVEMENTS.index("place_plant")
    obs, _ = env.reset(seed=0)
    assert not obs["log/achievements"].any()
    env._env._player.inventory["sapling"] = 2
    obs, reward, *_ = env.step(PLACE_PLANT)
    assert reward == 1.0 and np.flatnonzero(obs["log/achievements"]).tolist() == [place]
    obs, reward, *_ = env.step(NOOP)
    assert reward == 0.0 and obs["log/achievements"][place] == 1
    assert not env.reset(seed=1)[0]["log/achievements"].any()


def test_crafter_noreward_hides_rewards_and_tells_people_their_sum():
    env = envs.make("crafter:noreward", kwargs=SMALL, max_episode_steps=2)
    env.reset([0])
    player = env.worlds()[0].unwrapped._env._player
    player.inventory["sapling"], player.health = 1, 7
    player._last_health = 7
    env.step({"action": np.array([PLACE_PLANT])})  # 1 for the plant, -0.2 for the health
    step = env.step({"action": np.array([NOOP])})
    assert step.is_last[0] and step.reward[0] == 0
    success, recorded = ended(step.obs, 0)
    assert success is None and recorded["return"] == pytest.approx(0.8)
    assert sum(recorded["achievements"]) == 1 and len(recorded["achievements"]) == 22
    assert not env.step({"action": np.array([NOOP])}).obs["log/return"][0]


@pytest.mark.parametrize(
    ("task", "world", "sentence"),
    [
        ("crafter:rewards", {}, "there is no task crafter:rewards; did you mean reward"),
        ("crafter:survive", {}, "there are reward, noreward"),
        ("crafter:reward", {"kwargs": {"sice": 64}}, "takes no argument 'sice'; did you mean size"),
        ("crafter:reward", {"kwargs": {"size": "big"}}, "'size' is 'big'; it takes a whole number"),
        ("crafter:reward", {"kwargs": {"size": [64, 64, 3]}}, "or a pair of them"),
        ("crafter:reward", {"kwargs": {"size": 9}}, "'size' is (9, 9), less than two pixels for each"),
        ("crafter:reward", {"kwargs": {"view": 3}}, "16 items fill 6 of its rows: it takes at least 7"),
        ("crafter:reward", {"kwargs": {"length": 9}}, "takes no argument 'length'"),
    ],
)
def test_crafter_wrong_name_or_argument_raises_unknown_task(task, world, sentence):
    with pytest.raises(UnknownTask) as error:
        envs.make(task, **world)
    assert sentence in str(error.value)


def test_ordered_keeps_the_order_of_additions():
    things = adapter.Ordered()
    for thing in (3, 1, 2, 1):
        things.add(thing)
    things.remove(3)
    things.add(3)
    assert list(things) == [1, 2, 3] and len(things) == 3
