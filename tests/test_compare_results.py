"""Numbers of a comparison, from transcripts made by hand."""

import csv
import io

import pytest

from experiments import statistics
from experiments.compare import figures, results
from experiments.compare.page import _break_even as break_even
from experiments.compare.page import published
from experiments.compare.transcript import Played, seconds

TOKENS = {"input": 10, "output": 2, "cached": 4, "written": None, "reasoning": 1}
FINE = dict.fromkeys(results.SLIPS, False)


def call(usage=None, usd=None, **other):
    plain = {"content": "x", "model": "m-1", "latency": 0.5, "failures": [], "replayed": False}
    return plain | {"usage": usage, "usd": usd} | other


def decision(step, *calls, **slips):
    line = {"step": step, "reward": 0.0, "action": "go"}
    return line | {"calls": list(calls), "rung": "json"} | FINE | slips if calls else line | {"seconds": 0.25}


def episode(seed, success, return_=0.0, *lines, cut=False):
    result = {"seed": seed, "return": return_, "length": 3, "success": success, "cut": cut, "seconds": 1.0}
    return Played(seed, lines, result, None)


def errored(seed, *lines, error="it broke"):
    return Played(seed, lines, None, error)


def test_summary_mixed_episodes_scores_finished_and_sums_cost_of_all():
    played = [
        episode(0, True, 1.0, decision(0, call(TOKENS, 0.1), call(TOKENS, 0.2), invalid=True, reasked=True)),
        episode(1, False, 0.0, decision(0, call(TOKENS, 0.3), empty=True, defaulted=True)),
        errored(2, decision(0, call(TOKENS, 0.4))),
        Played(3, (decision(0, call(TOKENS, 0.5)),), None, None),
    ]
    row = results.summary(9, played)
    assert (row["planned"], row["finished"], row["errored"]) == (9, 2, 1)
    assert (row["success_rate"], row["return_mean"], row["length_mean"]) == (0.5, 0.5, 3)
    assert row["success_interval"] == list(statistics.wilson(1, 2))
    assert (row["tokens_in"], row["tokens_out"], row["calls"], row["decisions"]) == (50, 10, 5, 4)
    assert (row["tokens_cached"], row["tokens_reasoning"]) == (20, 5)
    assert row["usd"] == pytest.approx(1.5)
    assert (row["invalid"], row["empty"], row["reasked"], row["defaulted"]) == (1, 1, 1, 1)
    assert row["errors"] == {"it broke": 1}


def test_summary_truncated_episodes_are_counted():
    row = results.summary(3, [episode(0, None, cut=True), episode(1, None), errored(2)])
    assert row["truncated_by_limit"] == 1
    assert results.summary(3, [])["truncated_by_limit"] == 0


def test_summary_repeated_replies_are_counted_and_take_no_time():
    again = call(TOKENS | {"input": 0, "output": 0}, repeated=True, replayed=True)
    played = [episode(0, True, 1.0, decision(0, call(TOKENS)), decision(1, again))]
    row = results.summary(1, played)
    assert (row["decisions"], row["calls"], row["repeated"], row["tokens_in"]) == (2, 2, 1, TOKENS["input"])
    timed = results.timing(played, {}, 3600.0)
    assert (timed["decisions_per_second"], timed["policy_seconds"]) == (2.0, 0.5)
    assert timed["energy_wh_estimate"] == pytest.approx(0.5)


def test_summary_unreported_usage_is_none_instead_of_zero():
    row = results.summary(1, [episode(0, None, 0.0, decision(0, call(TOKENS, None), call(None, 0.1)))])
    assert row["tokens_in"] is row["tokens_out"] is row["usd"] is row["success_rate"] is None
    without = results.summary(1, [episode(0, None, 0.0, decision(0))])
    assert (without["tokens_in"], without["usd"]) == (0, None)


def test_summary_without_episodes_has_no_scores():
    row = results.summary(5, [])
    assert row["success_rate"] is row["return_mean"] is row["return_interval"] is row["length_mean"] is None


def test_judged_truncated_episode_is_failure_if_task_reports_success():
    told = {"a": [episode(0, True)], "b": [episode(0, None, cut=True), episode(1, None), errored(2)]}
    judged = results.judged(told)["b"]
    assert [p.result and p.result["success"] for p in judged] == [False, None, None]
    untold = results.judged({"b": told["b"]})["b"]
    assert untold[0].result["success"] is None


def test_difference_uses_seeds_finished_by_both():
    ours = [episode(0, True, 1.0), episode(1, False, 0.5), errored(2)]
    theirs = [episode(0, False, 0.0), errored(1), episode(2, True, 1.0)]
    gap = results.difference(ours, theirs)
    assert gap["pairs"] == 1
    assert gap["success"]["mean"] == gap["return"]["mean"] == 1.0
    assert results.difference(ours, [errored(0)]) == {"pairs": 0, "success": None, "return": None}


def test_paired_rates_newcombe_example_matches_published_interval():
    # Newcombe (1998), table II: 36 both, 12 only the first, 2 only the second, 0 neither.
    pairs = [(True, True)] * 36 + [(True, False)] * 12 + [(False, True)] * 2
    mean, low, high = results.paired_rates(pairs)
    assert mean == pytest.approx(0.2)
    assert (round(low, 4), round(high, 4)) == (0.0569, 0.3404)


def test_paired_rates_interval_is_never_degenerate_and_is_antisymmetric():
    mean, low, high = results.paired_rates([(True, False)] * 8)
    assert mean == high == 1.0 and 0 < low < 1
    pairs = [(True, True), (True, False), (True, False), (False, False), (False, True)]
    there, back = results.paired_rates(pairs), results.paired_rates([(b, a) for a, b in pairs])
    assert there == pytest.approx((-back.mean, -back.high, -back.low))


def test_timing_counts_decisions_and_estimates_energy_only_locally():
    played = [episode(0, None, 0.0, decision(0), decision(1, call(failures=["HTTP 500"]), call()))]
    assert [seconds(line) for line in played[0].decisions] == [0.25, 1.0]
    here = results.timing(played, {"training_seconds": 3600}, watts=10)
    assert here["policy_seconds"] == 1.25 and here["decisions_per_second"] == pytest.approx(1.6)
    assert here["training_energy_wh_estimate"] == pytest.approx(10)
    assert here["faults"] == {"HTTP 500": 1}
    away = results.timing(played, {"remote": True}, watts=10)
    assert away["energy_wh_estimate"] is None
    assert results.timing([], {}, 0)["decisions_per_second"] is None


def test_as_csv_unknown_values_are_empty():
    row = results.summary(2, [episode(0, None, 0.5)]) | {"parameters": None, "training_steps": 7}
    (told,) = csv.DictReader(io.StringIO(results.as_csv({"t": {"a": row}})))
    assert (told["task"], told["agent"], told["usd"], told["success_low"]) == ("t", "a", "", "")
    assert (told["return_mean"], told["training_steps"]) == ("0.5", "7")


@pytest.mark.parametrize(
    ("score", "level", "step"),
    [
        ([0, 1, 0, 1, 1], 0.5, 30),
        ([1, 1], 0.5, 0),
        ([0, 1, 0], 0.5, None),
        ([], 0.5, None),
        ([0, 0], 0.0, None),
    ],
)
def test_passes_score_curve_returns_step_where_it_stays_above_level(score, level, step):
    assert figures.passes([10 * i for i in range(len(score))], score, level) == step


def test_break_even_known_costs_matches_hand_computed_value():
    rows = {"run:x": {"finished": 10, "usd": None}, "llm:y": {"finished": 10, "usd": 2.0}}
    times = {"run:x": {"training_seconds": 7200, "policy_seconds": 36}, "llm:y": {"training_seconds": None}}
    (even,) = break_even(rows, times, usd_per_hour=1.0)
    # 2 dollars of training; an episode costs 0.2 against 0.001.
    assert even["episodes"] == 11 and even["training"] == pytest.approx(2.0)
    assert break_even(rows, times, usd_per_hour=0.0) == []
    rows["llm:y"]["usd"] = 0.001
    assert break_even(rows, times, usd_per_hour=1.0)[0]["episodes"] is None


def test_published_task_returns_figures_of_its_benchmark():
    assert published("minigrid:BabyAI-GoToLocal")["title"] == "BALROG, BabyAI"
    assert published("grid:Catch") is None


def test_brief_long_name_is_shortened():
    assert figures.brief("run:runs/quickstart-seed0") == "run:runs/quickstart-seed0"
    long = figures.brief("ppo:/a/very/long/way/to/the/folder/of/an/agent")
    assert long.startswith("ppo:…") and long.endswith("folder/of/an/agent") and len(long) <= 33
