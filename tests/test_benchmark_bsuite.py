"""experiments.benchmark.bsuite: scores equal those of the package for its own logs of the same episodes."""

import numpy as np
import pytest

import envs
from envs.adapters import bsuite as adapter
from envs.api import ended
from experiments.benchmark import bsuite as scoring

bsuite = pytest.importorskip("bsuite")
pd = pytest.importorskip("pandas")

from bsuite.experiments import summary_analysis  # noqa: E402
from bsuite.logging import csv_load, csv_logging  # noqa: E402
from bsuite.utils.wrappers import _logarithmic_logging  # noqa: E402

PLAYED = {
    "catch/0": 120,
    "catch_scale/1": 40,
    "bandit_noise/6": 120,
    "bandit/2": 120,
    "cartpole/1": 12,
    "cartpole_swingup/0": 2,
    "mountain_car/1": 2,
    "deep_sea/0": 100,
    "deep_sea_stochastic/1": 100,
    "discounting_chain/3": 10,
    "memory_len/0": 60,
    "umbrella_distract/1": 20,
}
"""Episodes of each setting, by random actions."""


def _ours(name, episodes):
    """Rows of episodes as a run records them."""
    env, rng, rows = envs.make(f"bsuite:{name}"), np.random.default_rng(0), []
    for seed in range(episodes):
        step, total, length = env.reset([seed]), 0.0, 0
        while not step.is_last[0]:
            step = env.step({"action": rng.integers(env.act_space["action"].num_classes, size=1)})
            total, length = total + float(step.reward[0]), length + 1
        rows.append({"return": total, "length": length, "log": ended(step.obs, 0, env.obs_space)[1]})
    return rows


def _theirs(name, episodes, folder):
    """The package's log of the same episodes: one environment of its own, with the chance of ours in each."""
    raw = bsuite.load(name.partition("/")[0], bsuite.sweep.SETTINGS[name])
    env = csv_logging.wrap_environment(raw, name, str(folder), overwrite=True)
    rng = np.random.default_rng(0)
    for seed in range(episodes):
        for world, ours in _layers(raw, adapter.build(name, seed)):
            if "_rng" in vars(ours):
                world._rng = ours._rng
        timestep = env.reset()
        while not timestep.last():
            timestep = env.step(int(rng.integers(env.action_spec().num_values, size=1)[0]))


def _layers(world, other):
    inner = vars(world).get("_env"), vars(other).get("_env")
    return [(world, other), *(_layers(*inner) if inner[0] is not None else [])]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Rows of all settings, and the package's table of its logs."""
    folder = tmp_path_factory.mktemp("bsuite")
    for name, episodes in PLAYED.items():
        _theirs(name, episodes, folder)
    return {name: _ours(name, n) for name, n in PLAYED.items()}, csv_load.load_bsuite(str(folder))[0]


INPLACE = pytest.mark.filterwarnings("ignore:The inplace keyword")
"""Of the package's code, in pandas 3.1."""


@pytest.fixture
def old_pandas(monkeypatch):
    """With `Series.append`, which the package calls and pandas 2 took away."""
    append = lambda series, other: pd.concat([series, other])
    monkeypatch.setattr(pd.Series, "append", append, raising=False)


@INPLACE
def test_score_equals_the_packages_own_scores_of_its_csv_logs(both, old_pandas):
    ours, theirs = both
    scores = scoring.score(ours)
    frame = summary_analysis.bsuite_score(theirs)
    expected = dict(zip(frame["bsuite_env"], frame["score"], strict=True))
    assert scores.experiments == pytest.approx(expected, abs=1e-6)
    assert len(expected) == len(PLAYED) and 0 < scores.experiments["catch"] < 1
    tags = summary_analysis.ave_score_by_tag(frame, [])
    assert scores.tags == pytest.approx(dict(zip(tags["tag"], tags["score"], strict=True)), abs=1e-6)


def test_table_equals_the_packages_csv_logs(both):
    ours, theirs = scoring.table(both[0]), both[1].drop(columns=["results_dir", "agent_name"])
    assert set(ours.columns) == set(theirs.columns)
    order = ["bsuite_id", "episode"]
    ours, theirs = (t.sort_values(order).reset_index(drop=True)[sorted(t.columns)] for t in (ours, theirs))
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, rtol=1e-5, atol=1e-5)


def test_package_still_needs_series_append_of_old_pandas(both):
    # When this fails, `_deep_sea` can be the package's own.
    theirs = both[1]
    with pytest.raises(AttributeError, match="append"):
        summary_analysis.BSUITE_INFO["deep_sea"].score(theirs[theirs["bsuite_env"] == "deep_sea"])


@INPLACE
@pytest.mark.parametrize(("experiment", "solved"), [("deep_sea", 4), ("deep_sea_stochastic", 3)])
def test_deep_sea_score_equals_the_packages_where_sizes_are_solved_or_not(experiment, solved, old_pandas):
    # Which episodes of a setting are good. Size 10 is solved too late: 2^10 + 100 < 2000. The last one is
    # good until episode 20 only, which counts where the first 100 episodes do.
    good = [range(2000, 10_000), range(900, 10_000), range(10_000), range(0), range(60, 10_000), range(20)]
    log = lambda bad: {"total_bad_episodes": float(bad), "denoised_return": 0.0}
    rows = {
        f"{experiment}/{i}": [{"return": 0.0, "length": 9, "log": log(n not in of)} for n in range(10_000)]
        for i, of in enumerate(good)
    }
    scores = scoring.score(rows)
    expected = summary_analysis.BSUITE_INFO[experiment].score(scoring.table(rows))
    assert scores.experiments[experiment] == pytest.approx(expected) == pytest.approx(solved / 6)
    assert scores.settings[experiment] == (6, 21)


def test_score_before_deep_sea_stochastic_can_be_scored_leaves_it_out():
    log = {"total_bad_episodes": 0.0, "denoised_return": 1.0}
    row = {"return": 1.0, "length": 12, "log": log}
    scores = scoring.score({"deep_sea_stochastic/1": [row] * 99, "deep_sea/1": [row] * 99})
    assert scores.experiments == {"deep_sea": 1.0} and scores.tags == {"exploration": 1.0}


def test_logged_episodes_are_those_of_the_package():
    assert [n for n in range(1, 10_001) if n in scoring.LOGGED] == [
        n for n in range(1, 10_001) if _logarithmic_logging(n)
    ]


def test_logged_adds_counts_up_and_takes_the_best():
    rows = [
        {"return": 1.0, "length": 2, "log": {"raw_return": 3.0, "best_episode": 3.0}},
        {"return": 5.0, "length": 4, "log": {"raw_return": 1.0, "best_episode": 1.0}},
    ]
    assert scoring.logged(rows)[-1] == {
        "steps": 6,
        "episode": 2,
        "total_return": 6.0,
        "episode_len": 4,
        "episode_return": 5.0,
        "raw_return": 4.0,
        "best_episode": 3.0,
    }


def test_score_of_the_best_possible_episodes_is_one_and_of_the_worst_is_zero():
    rows = lambda regret: [{"return": 1 - regret, "length": 9, "log": {"total_regret": regret}}] * 10_001
    best, worst = (scoring.score({"catch/3": rows(regret)}) for regret in (0.0, 2.0))
    assert best.experiments == {"catch": 1.0} and worst.experiments == {"catch": 0.0}
    assert best.tags == {"basic": 1.0, "credit_assignment": 1.0}
    assert best.settings["catch"] == (1, 20) and best.settings["bandit"] == (0, 20)


def test_score_without_episodes_or_of_unknown_setting_raises_value_error():
    with pytest.raises(ValueError, match="no episode of any setting"):
        scoring.score({"catch/0": []})
    with pytest.raises(ValueError, match="no setting 'catch/20'"):
        scoring.score({"catch/20": []})
