"""experiments.benchmark.bsuite: scores equal those of the package for its own logs of the same episodes."""

import csv
import json

import benchmark_runs
import numpy as np
import pytest
from benchmark_runs import store

import envs
from envs.adapters import bsuite as adapter
from envs.api import ended
from experiments.benchmark import bsuite as scoring
from experiments.benchmark import page, report
from experiments.benchmark.runs import prepare

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
        rows.append({"return": total, "length": length, "log": ended(step.obs, 0)[1]})
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


def rows(regret, episodes):
    """Episodes of catch or bandit with a regret each: 0 is perfect."""
    return [{"return": 1 - regret, "length": 9, "log": {"total_regret": regret}}] * episodes


def test_summary_of_two_seeds_is_their_mean_and_counts_what_all_played_to_the_end():
    first = {"catch/0": rows(0.0, 10_000), "catch/1": rows(0.0, 10_000)}
    second = {"catch/0": rows(2.0, 10_000), "catch/1": rows(2.0, 700)}
    both = scoring.summary([first, second])
    assert both["experiments"] == {"catch": {"mean": 0.5, "scores": [1.0, 0.0]}}
    assert both["tags"]["basic"] == both["tags"]["credit_assignment"] == {"mean": 0.5, "scores": [1.0, 0.0]}
    assert both["settings"] == {"catch": {"finished": 1, "there": 20, "begun": 2}}
    assert both["short"] == {"catch/1": {"episodes": 700, "needed": 10_000}}


def test_summary_setting_that_a_seed_lacks_was_not_played_to_the_end():
    both = scoring.summary([{"catch/0": rows(0.0, 10_000)}, {"catch/0": []}])
    assert both["experiments"]["catch"]["scores"] == [1.0]
    assert both["settings"]["catch"]["finished"] == 0 and both["short"]["catch/0"]["episodes"] == 0


def test_summary_without_a_run_is_empty():
    assert scoring.summary([]) == {"experiments": {}, "tags": {}, "settings": {}, "short": {}}


def test_tags_are_those_of_the_package():
    assert set(scoring.TAGS) == summary_analysis.ALL_TAGS and list(scoring.TAGS) == sorted(scoring.TAGS)


def benched(folder, regret, *, episodes=10_000, tasks=("bsuite:catch/0", "bsuite:catch/1")):
    """A benchmark whose finished runs had a regret in every episode; the last task has none."""
    bench = prepare(folder, benchmark_runs.plan("bsuite", *tasks, "bsuite:memory_len/0", steps=90_000))
    for part in bench.parts[: len(tasks)]:
        played = [row | {"env_steps": 9 * i} for i, row in enumerate(rows(regret, episodes), 1)]
        store(part, played)
    return report.read(folder)


def test_write_shows_radar_tables_and_what_was_not_played_to_the_end(tmp_path):
    low, high = benched(tmp_path / "low", 1.0), benched(tmp_path / "high", 0.0, episodes=400)
    told = page.write([low, high], tmp_path / "out")
    analysed = told["bsuite"]["variants"]
    assert analysed["low"]["tags"]["basic"]["mean"] == pytest.approx(low_score())
    assert analysed["high"]["experiments"]["catch"]["mean"] == pytest.approx(1.0)
    html = (tmp_path / "out" / "benchmark.html").read_text()
    assert "catch/0 (400 of 10,000 episodes), catch/1 (400 of 10,000 episodes)" in html
    assert "2 of 20" in html and "0 of 20" in html and "credit assignment" in html
    assert html.count('class="legend"') == 2  # of the radar and the curves
    assert html.count("not played<") == 5  # of seven tags, catch has two
    table = list(csv.DictReader((tmp_path / "out" / "bsuite.csv").read_text().splitlines()))
    catch = {row["variant"]: row for row in table if row["name"] == "catch"}
    assert float(catch["high"]["score"]) == 1.0 and catch["low"]["settings_finished"] == "2"
    assert catch["high"]["settings_finished"] == "0" and catch["high"]["settings_begun"] == "2"
    assert {row["name"] for row in table if row["kind"] == "tag"} == {"basic", "credit_assignment"}
    said = "\n".join(report.lines(told))
    assert "high, scores by tag: basic 1, credit assignment 1" in said
    assert "high, not played to the end: catch/0 (400 of 10,000 episodes)" in said and "low, not" not in said
    numbers = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert numbers["bsuite"]["variants"]["low"]["settings"]["catch"]["finished"] == 2


def low_score():
    """The package's: the mean regret of an episode over that of a policy that is always wrong."""
    return summary_analysis.BSUITE_INFO["catch"].score(scoring.table({"catch/0": rows(1.0, 10_000)}))


def test_results_without_the_package_say_what_to_install(tmp_path, monkeypatch):
    variant = benched(tmp_path / "a", 0.0)
    monkeypatch.setattr(type(envs.suites()[0]), "installed", False)
    told = report.results([variant])
    assert (
        told["bsuite"]["why"]
        == "its analysis needs the package bsuite: pip install 'dreamer-toolkit[bsuite]'"
    )
    assert report.lines(told)[0].startswith("no scores of bsuite: its analysis needs")


def test_results_of_other_suites_have_no_analysis_of_bsuite(tmp_path):
    benchmark_runs.made(tmp_path / "a", benchmark_runs.plan("dmc", benchmark_runs.WALKER), lambda part: 1.0)
    assert report.results([report.read(tmp_path / "a")])["bsuite"] is None
