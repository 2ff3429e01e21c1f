"""Published figures are read with their source, and all steps count decisions."""

import pytest

from experiments.benchmark import published


@pytest.mark.parametrize("task", ["dmc:walker-walk", "dmc:walker_walk", "dmc:Walker-Walk"])
def test_of_any_spelling_returns_the_same_task(task):
    assert published.of(task).scores["dreamerv3"].mean == 935.752
    assert published.of(task, "image").scores["dreamerv3"].mean == 959.969


def test_of_atari_steps_are_a_quarter_of_the_frames():
    pong = published.of("atari100k:Pong")
    assert pong.curve is not None
    assert pong.curve.steps[0] == 10_000 and pong.curve.steps[-1] <= 100_000
    assert pong.scores["dreamerv3"].steps == 100_000 and pong.scores["dreamerv3"].seeds == 5
    assert (pong.random, pong.human, pong.unit) == (-20.7, 14.6, "score")
    assert published.of("atari:Pong").scores["muzero"].steps <= 50_000_000


def test_of_crafter_scores_have_error_source_and_reference_players():
    crafter = published.of("crafter:reward")
    assert (crafter.random, crafter.human, crafter.curve) == (1.6, 50.5, None)
    dreamer = crafter.scores["dreamerv3"]
    assert (dreamer.mean, dreamer.error, dreamer.steps) == (14.5, 1.6, 1_000_000)
    assert "danijar/crafter" in dreamer.source and dreamer.verified
    assert not {"random", "human"} & set(crafter.scores)


def test_of_craftax_figures_are_marked_unverified():
    told = published.of("craftax:Craftax-Classic")
    assert told.scores and not any(score.verified for score in told.scores.values())


@pytest.mark.parametrize("task", ["minigrid:MiniGrid-Empty-5x5-v0", "dmc:dog-run", "nothing"])
def test_of_unpublished_task_is_empty(task):
    assert published.of(task) == published.NOTHING


@pytest.mark.parametrize(
    ("suite", "count"), [("dmc_proprio", 18), ("dmc_vision", 20), ("atari100k", 26), ("atari57", 57)]
)
def test_names_every_suite_is_complete(suite, count):
    assert len(published.names(suite)) == count


def test_every_score_has_a_method_and_a_source():
    for suite in ("dmc_proprio", "dmc_vision", "atari100k", "atari57"):
        start = {"dmc_proprio": "dmc:", "dmc_vision": "dmc:", "atari100k": "atari100k:", "atari57": "atari:"}[
            suite
        ]
        for name in published.names(suite):
            told = published.of(start + name, "image" if suite == "dmc_vision" else "")
            assert "dreamerv3" in told.scores and all("danijar" in s.source for s in told.scores.values())
            assert (told.human is not None) == suite.startswith("atari")


def test_curve_at_is_linear_between_points_and_unknown_outside():
    curve = published.Curve(*published.np.array([[10.0, 20.0], [1.0, 3.0], [0.0, 0.0]]))
    assert [curve.at(x) for x in (9, 10, 15, 20, 21)] == [None, 1.0, 2.0, 3.0, None]
    walker = published.of("dmc:walker-walk").curve
    assert walker is not None and len(walker.steps) == len(walker.mean) == len(walker.std)
    assert walker.at(5_000) is None and walker.at(10_000) == walker.mean[0]
