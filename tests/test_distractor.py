"""Noise moves behind the scene: the scene stays as it is, and the noise follows from the seed alone."""

import re

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gym

import envs
from dreamer import config, schema
from dreamer.config import Config, EnvConfig
from dreamer.schema import ConfigError
from envs import pinpad
from envs.api import FIRST_TRAINING_SEED, UnsupportedSpace
from envs.distractor import DARKEST, PATCH, Distractor, Moving, background
from experiments.compare.contestants import Run
from experiments.evaluate import elsewhere
from experiments.training.session import check_folder

TASK = "minigrid:DoorKey-6x6"
TILE = 8
UNSEEN, EMPTY = 0, 1
FORWARD, LEFT = 2, 0
BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
NOISE = {"obs": "rgb", "distractor": "noise"}


def play(seeds=(0,), actions=(LEFT, FORWARD, LEFT, FORWARD) * 5, task=TASK, **world):
    """The steps of an episode of each seed."""
    env = envs.make(task, len(seeds), **world)
    act = lambda action: {"action": np.full(len(seeds), action, np.int32)}
    try:
        return [env.reset(seeds), *(env.step(act(action), seeds) for action in actions)]
    finally:
        env.close()


def cells(images):
    """[T, 7, 7, TILE, TILE, 3] of the pictures of the first copy, by row and column."""
    pictures = np.stack([step.obs["image"][0] for step in images])
    return pictures.reshape(-1, 7, TILE, 7, TILE, 3).swapaxes(2, 3)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.fixture(scope="module")
def plays():
    """One episode as it is observed with noise, without, and in symbols."""
    return play(**NOISE), play(obs="rgb"), play()


def test_moving_at_shifts_every_texture_by_its_velocity():
    textures = np.zeros((2, 4, 5, 1), np.uint8)
    textures[0, 3, 0], textures[1, 0, 1] = 100, 27
    moving = Moving(textures, np.array([[1.0, -0.5], [0.0, 2.0]]))
    expected = np.zeros((4, 5, 1), np.uint8)
    expected[0, 4], expected[0, 3] = 100, 27  # the first wrapped around twice
    np.testing.assert_array_equal(moving.at(0)[..., 0], textures.sum(0)[..., 0])
    np.testing.assert_array_equal(moving.at(1), expected)
    assert moving.at(1).dtype == np.uint8


def test_moving_drawn_is_smooth_across_edges_and_has_contrast():
    noise = Moving.drawn(np.random.default_rng(0), (48, 64, 3)).at(0).astype(int)
    for axis in (0, 1):
        assert abs(noise - np.roll(noise, 1, axis)).max() <= 255 / PATCH + 2  # two layers are rounded
    assert DARKEST <= noise.min() < 90 and noise.max() > 225 and noise.std() > 30


@pytest.mark.parametrize("seed", range(5))
def test_moving_consecutive_frames_differ_but_correlate(seed):
    moving, other = (Moving.drawn(np.random.default_rng(s), (56, 56, 3)) for s in (seed, seed + 100))
    frames = [moving.at(t) for t in range(40)]
    near = [correlation(a, b) for a, b in zip(frames, frames[1:], strict=False)]
    assert all((a != b).any() for a, b in zip(frames, frames[2:], strict=False))
    assert min(near) > 0.7 > correlation(frames[0], frames[20])
    assert abs(correlation(frames[0], other.at(0))) < 0.5


def test_background_is_the_plain_part_of_whole_tiles():
    tile = np.array([[RED, RED], [BLACK, WHITE]], np.uint8)
    scene = np.array([[RED, RED, RED, RED], [BLACK, WHITE, BLACK, BLACK]], np.uint8)
    plain = np.array([[[True, True], [False, False]]])
    expected = [[True, True, False, False], [False] * 4]
    np.testing.assert_array_equal(background(scene, tile[None], plain)[..., 0], expected)
    of_pixels = background(scene, np.full((1, 1, 1, 3), BLACK, np.uint8), np.ones((1, 1, 1), bool))
    np.testing.assert_array_equal(of_pixels[..., 0], (scene == BLACK).all(-1))


def test_distractor_minigrid_changes_empty_cells_only(plays):
    noisy, scene, symbols = plays
    empty = np.stack([step.obs["object"][0].T <= EMPTY for step in symbols])  # its first axis is x
    empty[:, 6, 3] = False  # the agent
    changed = (cells(noisy) != cells(scene)).any(-1)
    np.testing.assert_array_equal(changed.any((3, 4)), empty)
    assert 0.2 < empty.mean() < 0.9 and UNSEEN in symbols[0].obs["object"]
    assert changed[empty].mean((0,))[1:, 1:].min() > 0.9
    assert not changed[..., 0, :].any() and not changed[..., 0].any()  # lines, which say what is in view


def test_distractor_changes_neither_rewards_nor_endings(plays):
    solved = dict(actions=(FORWARD,) * 2 + (1,) + (FORWARD,) * 2, task="minigrid:Empty-5x5")
    for noisy, scene in ((plays[0], plays[1]), (play(**solved, **NOISE), play(**solved, obs="rgb"))):
        for ours, theirs in zip(noisy, scene, strict=True):
            for name in ("reward", "is_first", "is_last", "is_terminal"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert noisy[-1].is_terminal[0] and noisy[-1].reward[0] > 0.9
    assert noisy[-1].obs["log/success"][0] == 1


def test_distractor_noise_follows_from_the_seed_of_the_episode():
    first, second = play(seeds=(3, 4), **NOISE), play(seeds=(3, 3), **NOISE)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.obs["image"][0], b.obs["image"][0])
        np.testing.assert_array_equal(b.obs["image"][0], b.obs["image"][1])
    empty = dict(task="minigrid:Empty-16x16", actions=())  # looks the same whatever the seed
    (step,), (scene,) = play(seeds=(3, 4), **empty, **NOISE), play(seeds=(3, 4), **empty, obs="rgb")
    noise, where = step.obs["image"], (scene.obs["image"][0] != step.obs["image"][0]).any(-1)
    np.testing.assert_array_equal(scene.obs["image"][0], scene.obs["image"][1])
    assert (noise[0][where] != noise[1][where]).any(-1).mean() > 0.95


def test_distractor_noise_does_not_depend_on_actions():
    empty = dict(task="minigrid:Empty-16x16", actions=(LEFT,) * 4)
    turned = play(**empty, **NOISE)[-1].obs["image"][0]  # a full turn
    stayed = play(**empty | {"actions": (6,) * 4}, **NOISE)[-1].obs["image"][0]
    np.testing.assert_array_equal(turned, stayed)


def test_distractor_next_episode_has_other_noise_that_follows_from_the_last_seed():
    def episodes():
        env = Distractor(pinpad.PinPad("three"), np.full((1, 1, 1, 3), WHITE, np.uint8))
        return [env.reset(seed=seed)[0]["image"] for seed in (1, None, None)]

    first, again = episodes(), episodes()
    np.testing.assert_array_equal(first, again)
    pixels = [image[20:30, 30:40] for image in first]  # floor
    assert (pixels[1] != pixels[0]).any() and (pixels[2] != pixels[1]).any()


def test_distractor_pinpad_changes_white_floor_only():
    world = dict(task="pinpad:six", actions=(1, 2, 3, 4) * 5)
    for ours, theirs in zip(play(**world, distractor="noise"), play(**world), strict=True):
        noisy, scene = ours.obs["image"][0], theirs.obs["image"][0]
        changed, white = (noisy != scene).any(-1), (scene == 255).all(-1)
        assert not changed[~white].any() and changed[white].mean() > 0.95
        dark = (noisy < DARKEST).all(-1)
        np.testing.assert_array_equal(dark, (scene == 0).all(-1))  # the square
        assert dark.sum() == 16


class Still(gymnasium.Env):
    """A picture that is all there is to observe."""

    def __init__(self, shape=(16, 16, 3), dtype=np.uint8):
        self.observation_space = gym.Box(0, 255, shape, dtype)
        self.action_space = gym.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.observation_space.shape, np.uint8), {}


def test_distractor_takes_a_lone_picture():
    tiles = np.zeros((1, 4, 4, 3), np.uint8)
    assert len(np.unique(Distractor(Still(), tiles).reset(seed=0)[0])) > 50


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (Still((16, 16)), "a distractor needs an observation 'image' of uint8 [height, width, channels]"),
        (Still(dtype=np.float32), "a distractor needs an observation 'image' of uint8"),
        (Still((18, 16, 3)), "tiles of [4, 4, 3], of which the picture [18, 16, 3] is not made"),
        (Still((16, 16, 1)), "tiles of [4, 4, 3], of which the picture [16, 16, 1] is not made"),
    ],
)
def test_distractor_without_fitting_picture_raises_unsupported_space(env, sentence):
    with pytest.raises(UnsupportedSpace, match=re.escape(sentence)):
        Distractor(env, np.zeros((1, 4, 4, 3), np.uint8))


@pytest.mark.parametrize(("task", "obs"), [(TASK, "rgb"), (TASK, "full"), ("pinpad:three", "")])
def test_check_passes_with_distractor(task, obs):
    findings = envs.check(task, 40, elsewhere=False, obs=obs, distractor="noise")
    assert len(findings) > 8 and [f for f in findings if f.status == "fail"] == []


@pytest.mark.parametrize(
    ("task", "world", "sentence"),
    [
        (TASK, {}, "shows none with env.obs symbolic: choose --env.obs rgb or --env.obs full"),
        (
            TASK,
            {"obs": "privileged"},
            "6x6-v0 shows none with env.obs privileged: choose --env.obs rgb",
        ),
        (TASK, {"obs": "rgb", "distractor": "video"}, "no distractor 'video'; the only one is 'noise'"),
        ("grid:DoorKey-5x5", {}, "none of their observations (symbolic, privileged) is a picture whose"),
        ("gymnasium:CartPole-v1", {}, "minigrid tasks (with env.obs rgb or full) and pinpad tasks take one"),
    ],
)
def test_make_distractor_without_background_raises_unknown_task(task, world, sentence):
    with pytest.raises(envs.UnknownTask, match=re.escape(sentence)):
        envs.make(task, **{"distractor": "noise", **world})


def test_make_jax_with_distractor_is_refused():
    with pytest.raises(envs.UnknownTask, match="grid tasks take no distractor"):
        envs.make_jax("grid:DoorKey-5x5", distractor="noise")


def test_env_config_distractor_is_part_of_every_world(tmp_path):
    cfg = Config(TASK, 1000, env=EnvConfig(obs="rgb", distractor="noise", levels=1))
    path = tmp_path / "config.toml"
    path.write_text(schema.dump_toml(cfg))
    assert config.load_toml(path) == cfg and cfg.env.changed["distractor"] == "noise"
    training = envs.make(TASK, 1, **cfg.env.training, **cfg.env.copies, **cfg.env.world)
    evaluation = envs.make(TASK, 1, **cfg.env.copies, **cfg.env.world)
    seed = FIRST_TRAINING_SEED  # the only level there is
    try:
        seen = training.reset().obs["image"], evaluation.reset([seed]).obs["image"]
    finally:
        training.close()
        evaluation.close()
    np.testing.assert_array_equal(*seen)
    (scene,) = play(seeds=(seed,), actions=(), obs="rgb")
    assert (seen[0] != scene.obs["image"]).mean() > 0.2


def test_elsewhere_keeps_the_distractor_within_a_suite(tmp_path):
    cfg = Config(TASK, 1000, env=EnvConfig(obs="rgb", distractor="noise"))
    assert elsewhere(cfg, "minigrid:Empty-5x5").env.world == cfg.env.world
    assert elsewhere(cfg, "pinpad:three").env.distractor == ""
    assert Run("run:a", tmp_path)._world("minigrid:Empty-5x5", cfg) == NOISE
    assert Run("run:a", tmp_path)._world("pinpad:three", cfg) == {}


def test_check_folder_changed_distractor_is_refused(tmp_path):
    cfg = Config(TASK, 1000, env=EnvConfig(obs="rgb"))
    (tmp_path / "config.toml").write_text(schema.dump_toml(cfg))
    changed = schema.replace_path(cfg, "env.distractor", "noise")
    with pytest.raises(ConfigError, match="env.distractor was '', now 'noise'"):
        check_folder(tmp_path, changed, ())
