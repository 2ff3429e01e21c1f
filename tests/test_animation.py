"""The moving picture shows the episode, the dream of it and their difference, each step in its place."""

import jax
import numpy as np
import oracle
import pytest
import tiny
from oracle import Oracle, Still
from PIL import Image

import envs
from dreamer.agent import Agent
from dreamer.schema import ConfigError
from envs.api import Space
from experiments import animation, figures

IMAGE = {"image": Space((8, 8, 3), "uint8")}
CONTEXT = 3


@pytest.fixture(scope="module")
def known():
    return oracle.episodes((9,), IMAGE)


def compared(known, kind=Oracle, context=CONTEXT):
    return animation._compare(kind(known, IMAGE), IMAGE, known, context)


def test_compare_oracle_dreams_the_truth(known):
    film = compared(known)
    assert len(film.truth) == len(film.model) == 9 and film.context == CONTEXT
    assert film.truth[0].shape == (animation.SIDE, animation.SIDE, 3)
    np.testing.assert_array_equal(film.truth, film.model)
    np.testing.assert_allclose(film.reward, known.reward[0])
    np.testing.assert_allclose(film.predicted, known.reward[0])
    assert set(film.wrong) == {"0.0%"}


def test_compare_model_without_change_is_right_only_in_the_context(known):
    film = compared(known, Still)
    right = [np.array_equal(a, b) for a, b in zip(film.truth, film.model, strict=True)]
    assert right == [True] * CONTEXT + [False] * 6
    np.testing.assert_array_equal(film.model[CONTEXT:], [film.truth[CONTEXT - 1]] * 6)
    gap = np.abs(known.obs["image"][0, 5].astype(float) - known.obs["image"][0, CONTEXT - 1]).mean() / 255
    assert film.wrong[5] == f"{gap:.1%}"


@pytest.mark.parametrize("context", [0, 9, 20])
def test_compare_context_as_long_as_the_episode_is_refused(known, context):
    with pytest.raises(ConfigError, match="the episode has 9 steps and the context .*: it must be 1 to 8"):
        compared(known, context=context)


def test_compare_objective_without_decoder_is_refused(known):
    class Blind(Oracle):
        def dreamt(self, latent, action, reached):
            return None

    with pytest.raises(ConfigError, match="predicts no observations"):
        compared(known, Blind)


def test_amiss_grid_counts_cells():
    space = Space((2, 3), "int32", 5)
    spaces = dict.fromkeys(animation.GRID, space)
    truth = {k: np.zeros((2, 3), int) for k in spaces}
    model = {k: v.copy() for k, v in truth.items()}
    assert animation._amiss(truth, model, spaces) == "0 of 6 cells"
    model["object"][0, 1] = model["color"][0, 1] = model["state"][1, 2] = 1
    assert animation._amiss(truth, model, spaces) == "2 of 6 cells"


@pytest.mark.parametrize("suffix", animation.FORMATS)
def test_save_frames_keep_their_order_and_durations(known, tmp_path, suffix):
    film = compared(known, Still)
    images = animation.frames(film)
    path = tmp_path / f"dream{suffix}"
    durations = animation.durations(film)
    assert durations == [animation.SEEING] * 3 + [animation.DREAMING] * 5 + [animation.ENDING]
    animation.save(images, durations, path)
    with Image.open(path) as stored:
        assert stored.n_frames == 9 and stored.info["loop"] == 0
        for t in range(9):
            stored.seek(t)
            shown = np.asarray(stored.convert("RGB"), int)
            gaps = [np.abs(shown - np.asarray(image, int)).mean() for image in images]
            assert np.argmin(gaps) == t and gaps[t] < 5  # random colours, from a palette of 256
            if suffix == ".gif":
                assert stored.info["duration"] == durations[t]


def test_save_unknown_format_is_refused(known, tmp_path):
    with pytest.raises(ConfigError, match=r"dream.mp4 must end with .gif or .webp"):
        animation.save(animation.frames(compared(known)), [1] * 9, tmp_path / "dream.mp4")
    assert not list(tmp_path.iterdir())


def test_frame_shows_whether_the_model_dreams(known):
    film = compared(known)
    blue = animation.ImageColor.getrgb(animation.DREAM)
    shown = [bool((np.asarray(image) == blue).all(-1).any()) for image in animation.frames(film)]
    assert shown == [False] * CONTEXT + [True] * 6


@pytest.mark.usefixtures("compilation_cache")
def test_dream_command_on_a_run_writes_an_animation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(animation, "LONGEST", 6)
    env = envs.make("minigrid:DoorKey-5x5")
    agent = Agent(env.obs_space, env.act_space, tiny.CFG)
    state = jax.jit(agent.init)(jax.random.key(0))
    run = tiny.store(tmp_path / "run", state, agent, task="minigrid:DoorKey-5x5")
    path = tmp_path / "dream.gif"
    figures.main(["dream", str(run), "--out", str(path), "--seed", "5", "6", "--context", "2"])
    assert f"{path}: " in capsys.readouterr().out
    with Image.open(path) as stored:
        assert stored.n_frames == 2 * 7  # the first observation and six steps, of two episodes


@pytest.mark.usefixtures("compilation_cache")
def test_dream_command_on_numbers_says_that_they_have_no_picture(tmp_path):
    env = envs.make("probe:constant")
    agent = Agent(env.obs_space, env.act_space, tiny.CFG)
    state = jax.jit(agent.init)(jax.random.key(0))
    run = tiny.store(tmp_path / "run", state, agent, task="probe:constant")
    with pytest.raises(SystemExit, match="probe:constant shows numbers, which have no picture"):
        figures.main(["dream", str(run), "--out", str(tmp_path / "dream.gif")])


def test_dream_command_on_no_run_says_so_in_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="There is no run folder"):
        figures.main(["dream", str(tmp_path / "nothing"), "--out", str(tmp_path / "dream.gif")])
