"""procgen: games by name, their limits, and scores; the games themselves where EnvPool and Qt are there."""

import numpy as np
import pytest

import envs
from envs.adapters import MissingExtra, UnknownTask, procgen
from experiments import presets
from experiments.benchmark import published, scores, suites


@pytest.fixture
def game():
    """Skip where the games cannot be played."""
    pytest.importorskip("envpool")
    try:
        envs.make("procgen:coinrun").close()
    except MissingExtra as error:
        pytest.skip(str(error))


def test_ids_are_the_games_of_published_scores():
    assert len(procgen.ids()) == 16
    assert set(published.names("procgen")) == set(procgen.ids())


def test_canonical_other_spelling_is_the_name_of_procgen():
    assert procgen.canonical("CoinRun") == "coinrun"
    with pytest.raises(UnknownTask, match="Procgen has no game 'conrun'; did you mean coinrun"):
        procgen.canonical("conrun")


def test_published_scores_have_their_steps_and_bounds():
    known = published.of("procgen:coinrun")
    assert (known.random, known.human, known.unit) == (5.0, 10.0, "return")
    assert known.scores["dreamerv3"].mean == 9.862 and known.scores["dreamerv3"].steps == 50_000_000
    assert set(known.scores) == {"dreamerv3", "ppg", "ppo_fixhp"}


def test_score_is_normalised_by_lowest_and_highest_return():
    rows = [{"env_steps": 100 * t, "return": 7.5} for t in range(1, 11)]
    assert scores.of("procgen:coinrun", rows, 1000) == {"return": 7.5, "normalized": 0.5}
    assert scores.on_common_scale("procgen:coinrun", 7.5, published.of("procgen:coinrun")) == 0.5
    assert scores.of("procgen:coinrun", [], 1000) == {}


def test_preset_is_the_published_protocol():
    cfg = presets.build("procgen")
    assert (cfg.task, cfg.steps, cfg.loop.num_envs, cfg.loop.train_ratio) == (
        "procgen:coinrun",
        110_000_000,
        16,
        64,
    )


def test_benchmark_has_all_games_and_the_preset(game):
    assert suites.tasks("procgen", ()) == tuple(f"procgen:{name}" for name in procgen.ids())
    assert suites.preset("procgen", ()) == "procgen"


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (
            {"kwargs": {"distribution": "memory"}},
            "has the distributions hard, easy, exploration, not 'memory'",
        ),
        ({"kwargs": {"distribution": 3}}, "takes one of hard, easy, extreme, memory, exploration for"),
        ({"kwargs": {"level": 3}}, "takes no argument 'level'; did you mean levels"),
        ({"kwargs": {"levels": -1}}, "a whole number from 0 on for 'levels', not -1"),
        ({"kwargs": {"backgrounds": 1}}, "takes true or false for 'backgrounds', not 1"),
        ({"max_episode_steps": 2000}, "ends an episode after 1000 steps, so no limit can be 2000"),
    ],
)
def test_make_wrong_argument_raises_with_what_is_right(game, how, sentence):
    with pytest.raises(UnknownTask, match=sentence):
        envs.make("procgen:coinrun", **how)


def test_check_procgen_passes(game):
    findings = envs.check("procgen:coinrun", steps=20, max_episode_steps=8)
    assert not [f for f in findings if f.status == "fail"], findings


def test_spaces_of_adapter_and_engine_are_the_same(game):
    single, pool = envs.make("procgen:maze"), envs.make("procgen:maze", 2, engine="envpool")
    assert single.obs_space == pool.obs_space and single.act_space == pool.act_space
    assert single.obs_space["image"] == envs.Space((64, 64, 3), "uint8")
    assert single.act_space["action"].classes == 15


@pytest.mark.parametrize("engine", ["", "envpool"])
def test_limit_of_the_game_is_no_termination(game, engine):
    env = envs.make("procgen:maze", engine=engine)
    step, still = env.reset([3]), {"action": np.array([4])}
    for _ in range(procgen.LIMITS["maze"]):
        assert not step.is_last[0]
        step = env.step(still)
    assert step.is_last[0] and not step.is_terminal[0]


def test_limits_are_those_of_envpool(game):
    import envpool

    for name, limit in procgen.LIMITS.items():
        assert envpool.make_spec(f"{name.capitalize()}Hard-v0").config.max_episode_steps == limit


def test_levels_are_as_many_as_were_asked_for(game):
    one = envs.make("procgen:coinrun", kwargs={"levels": 1, "first_level": 7})
    first, second = one.reset([1]).obs["image"], one.reset([2]).obs["image"]
    assert np.array_equal(first, second)
    any_number = envs.make("procgen:coinrun")
    assert not np.array_equal(any_number.reset([1]).obs["image"], any_number.reset([2]).obs["image"])
