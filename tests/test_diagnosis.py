"""Every rule speaks where its cause is, is silent beside it, and a run that learned has no finding."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny

from dreamer import schema
from dreamer.config import AgentConfig, Config, LoopConfig, OptimConfig
from dreamer.ops.optim import learning_rate
from experiments.baselines.ppo.presets import PPOConfig
from experiments.cli import main
from experiments.diagnosis import summary
from experiments.diagnosis.diagnosis import UNEXPLAINED, diagnose
from experiments.diagnosis.finding import rounded
from experiments.diagnosis.rules import RULES

CFG = Config(
    "grid:Catch",
    20_000,
    agent=AgentConfig(optim=OptimConfig(lr=1e-3, warmup=100)),
    loop=LoopConfig(prefill=1_000),
)
METRICS = {
    "loss": (50.0, 5.0),
    "loss/rec/board": (40.0, 2.0),
    "loss/dyn": 1.5,
    "opt/grad_norm": 1.0,
    "opt/param_norm": (50.0, 60.0),
    "randomness/action": 0.5,
    "advantage_std": 0.5,
    "return_range": 1.0,
    "value": 0.1,
}
"""Of an agent that learned what it saw, but not what to do; pairs are of the first and the last row."""
CARD = {
    "prediction_skill": 0.9,
    "reward_skill": 0.8,
    "action_ratio": 2.0,
    "value_skill": 0.8,
    "cont_error": 0.1,
    "latents_used": 0.9,
}


def share(rate: float, episodes: int) -> list[float]:
    """As many ones among zeros, spread evenly."""
    return [float(math.floor((i + 1) * rate) > math.floor(i * rate)) for i in range(episodes)]


def played(
    success: float | None = 0.1, length: float = 9.0, cut: int = 0, return_: float | None = None
) -> dict:
    """An evaluation of 100 episodes."""
    mean = success if return_ is None else return_
    assert mean is not None
    around = lambda x, width: [x - width, x + width]
    return {
        "episodes": 100,
        "success_rate": success,
        "success_interval": None if success is None else around(success, 0.06),
        "return_mean": mean,
        "return_interval": around(mean, 0.06),
        "length_mean": length,
        "truncated_by_limit": cut,
    }


def episodes(
    values: list[float], steps: tuple[int, int], updates: tuple[int, int], length: Any, success: bool
) -> list[dict[str, Any]]:
    """Rows of episodes whose returns these are, at even distances."""
    lengths = length if isinstance(length, list) else [length] * len(values)
    at = lambda ends, i: int(ends[0] + (ends[1] - ends[0]) * (i + 1) / len(values))
    return [
        {
            "env_steps": at(steps, i),
            "updates": at(updates, i),
            "return": value,
            "length": lengths[i],
            "success": value > 0 if success else None,
        }
        for i, value in enumerate(values)
    ]


def run(
    start: list[float] = share(0.1, 100),
    after: list[float] = share(0.1, 300),
    *,
    updates: int = 5_000,
    env_steps: int = 20_000,
    lengths: tuple[Any, Any] = (9, 9),
    success: bool = True,
    metrics: dict[str, Any] | None = None,
    card: dict[str, float] | None = CARD,
    result: dict[str, Any] | None = None,
    greedy: dict[str, Any] | None = None,
    sampled: dict[str, Any] | None = None,
    config: Config | PPOConfig | None = None,
    **fields: Any,
) -> summary.Summary:
    """The summary of a run that did not learn, without a visible cause, and with these changes."""
    if config is None:
        config = schema.replace_paths(CFG, {k.replace("__", "."): v for k, v in fields.items()})
    prefill = config.loop.prefill if isinstance(config, Config) else 0
    rows = episodes(start, (0, min(prefill, env_steps)), (0, 0), lengths[0], success)
    rows += episodes(after, (prefill, env_steps), (0, updates), lengths[1], success) if after else []
    values = METRICS | (metrics or {})
    pair = lambda value: value if isinstance(value, tuple) else (value, value)
    measured = [
        {"env_steps": env_steps * (i + 1) // 20, "updates": updates * (i + 1) // 20}
        | {k: a + (b - a) * i / 19 for k, v in values.items() if v is not None for a, b in [pair(v)]}
        for i in range(20)
    ]
    ended = {"env_steps": env_steps, "updates": updates} | (greedy or {}) | {"sampled": sampled}
    return summary.summarize(
        Path("runs/x"),
        "grid:Catch",
        config,
        measured if updates else [],
        rows,
        ended if result is None else result,
        {} if card is None else {"updates": updates, "numbers": card},
    )


def names(**changes: Any) -> list[str]:
    """The rules that have findings about a run with these changes."""
    return list(diagnose(run(**changes)).findings)


def text(rule: str, **changes: Any) -> str:
    """Everything that a rule says."""
    finding = diagnose(run(**changes)).findings[rule]
    return f"{finding.sentence} {finding.evidence} {finding.change} {finding.advice}"


LEARNED = {"after": share(0.1, 100) + share(1.0, 300), "greedy": played(1.0), "sampled": played(0.98)}
LOST = {"after": share(0.1, 100) + share(0.9, 200) + share(0.1, 300)}
RETURNS = {"success": False, "start": [float(i % 10) for i in range(100)]}
"""A task that does not report success; random actions earn 4.5."""


def test_diagnose_run_that_learned_has_no_finding():
    diagnosed = diagnose(run(**LEARNED))
    assert diagnosed.run.outcome == "learned" and not diagnosed.findings and diagnosed.command == ""
    curve = "success 10% at the start, 100% in the last 100 training episodes, 100% in the evaluation"
    assert diagnosed.headline == f"Nothing found, it learned: {curve}."
    better = {**RETURNS, "after": [float(i % 10) + 9 for i in range(300)]}
    assert names(**better) == [] and run(**better).outcome == "learned"
    assert names(**LEARNED, result={"env_steps": 20_000, "updates": 5_000, "solved": True}) == []


def test_outcome_of_success_goes_by_the_evaluation():
    noisy = {"after": share(0.5, 300), "sampled": played(0.5)}
    assert run(**noisy, greedy=played(0.95)).outcome == "learned"
    assert run(**noisy, greedy=played(0.85)).outcome == "improved"
    assert run(start=share(0.95, 100), after=share(0.95, 300)).outcome == "learned"


def test_outcome_of_returns_needs_more_than_a_significant_rise():
    slightly = RETURNS | {"after": [float(i % 10) + 3 for i in range(300)]}
    assert run(**slightly).outcome == "improved"
    assert names(**slightly, updates=900)[0] == "few_updates"
    assert run(**RETURNS, after=[float(i % 10) + 5 for i in range(300)]).outcome == "learned"


def test_diagnose_settings_of_a_run_that_learned_are_no_cause():
    unusual = {"agent__optim__warmup": 4_000, "agent__behavior__horizon": 1.5, "loop__train_ratio": 0.1}
    assert names(**LEARNED, **unusual, updates=300, metrics={"randomness/action": 0.01}, card=None) == []


def test_diagnose_without_cause_says_so():
    diagnosed = diagnose(run())
    assert list(diagnosed.findings) == [UNEXPLAINED] and diagnosed.run.outcome == "not learned"
    assert diagnosed.headline.startswith("It did not learn: success 10% at the start, 11% in the last 75")
    assert diagnosed.command == "dreamer train --run runs/x --steps 40000"


COLLAPSED = {"tokens_rank": 3.0, "tokens_rank_kept": 0.24, "tokens_live": 0.5, "tokens_live_kept": 0.5}
CONTROL = {**RETURNS, "after": [float(i % 10) for i in range(300)]}
WAITING = {
    "start": share(0.5, 100),
    "after": share(0.01, 300),
    "lengths": ([9] * 90 + [40] * 10, 40),
}
RULED = [
    ("not_finite", {"metrics": {"diverged": 1.0}}, {}),
    ("no_update", {"updates": 0, "after": [], "env_steps": 1_000, "steps": 1_000}, {}),
    ("no_episode", {"start": [], "after": [], "updates": 50}, {}),
    ("loss_off", {"agent__loss__reward": 0.0}, {"agent__loss__reward": 0.1}),
    ("loss_off", {"agent__loss__rec": 0.0}, {"agent__loss__rec": 0.0, "agent__objective": "none"}),
    (
        "constant_return",
        {"start": [0.0] * 10, "after": [0.0] * 40},
        {"start": [0.0] * 10, "after": [0.0, 1.0] * 20},
    ),
    ("few_episodes", {"start": share(0.1, 100), "after": share(0.5, 19)}, {"after": share(0.1, 20)}),
    ("avoids_ending", WAITING, {**WAITING, "lengths": (9, [40] * 260 + [9] * 40)}),
    ("avoids_ending", WAITING, {**WAITING, "lengths": (40, 40)}),
    ("forgot", LOST, {"after": share(0.1, 100) + share(0.9, 200) + share(0.6, 300)}),
    ("forgot", LOST, {**LOST, "greedy": played(0.9), "sampled": played(0.9)}),
    (
        "rare_reward",
        {"start": [0.0] * 100, "after": share(0.019, 300)},
        {"start": [0.0] * 50, "after": share(0.03, 300)},
    ),
    ("prefill", {"loop__prefill": 11_000, "updates": 900}, {"loop__prefill": 10_000, "updates": 900}),
    ("prefill", {"loop__prefill": 11_000, "updates": 900}, {"loop__prefill": 11_000, "updates": 1_000}),
    ("train_ratio", {"loop__train_ratio": 15.0, "updates": 999}, {"loop__train_ratio": 16.0, "updates": 999}),
    (
        "train_ratio",
        {"loop__train_ratio": 15.0, "updates": 999},
        {"loop__train_ratio": 15.0, "updates": 1_000},
    ),
    ("warmup", {"agent__optim__warmup": 2_600}, {"agent__optim__warmup": 2_500}),
    ("warmup", {"agent__optim__warmup": 101, "updates": 200}, {"agent__optim__warmup": 100, "updates": 199}),
    (
        "low_rate",
        {"agent__optim__lr": 4e-5, "updates": 5_000},
        {"agent__optim__lr": 4.1e-5, "updates": 5_000},
    ),
    (
        "high_rate",
        {"metrics": {"opt/param_norm": (10.0, 130.0)}},
        {"metrics": {"opt/param_norm": (10.0, 90.0)}},
    ),
    ("high_rate", {"agent__optim__lr": 0.011}, {"agent__optim__lr": 0.01}),
    ("entropy_weight", {"agent__behavior__entropy": 0.2}, {"agent__behavior__entropy": 0.16}),
    (
        "entropy_weight",
        {"agent__behavior__entropy": 0.2},
        {"agent__behavior__entropy": 0.01, "metrics": {"advantage_std": 0.0}},
    ),
    ("discount_reach", {"agent__behavior__horizon": 2.4}, {"agent__behavior__horizon": 2.6}),
    ("few_updates", {"updates": 999}, {"updates": 1_000}),
    (
        "collapsed_tokens",
        {"card": CARD | COLLAPSED},
        {"card": CARD | COLLAPSED | {"tokens_rank_kept": 0.26}},
    ),
    (
        "collapsed_tokens",
        {"card": CARD | COLLAPSED | {"tokens_rank_kept": 1.0, "tokens_live_kept": 0.09}},
        {"card": CARD | COLLAPSED | {"tokens_rank_kept": 1.0, "tokens_live_kept": 0.11}},
    ),
    ("collapsed_tokens", {"metrics": {"tokens/rank": (9.0, 1.0)}}, {"metrics": {"tokens/rank": (9.0, 3.0)}}),
    ("collapsed_tokens", {"metrics": {"tokens/rank": (9.0, 1.0)}}, {"metrics": {"tokens/rank": 0.0}}),
    ("collapsed_latents", {"card": CARD | {"latents_used": 0.24}}, {"card": CARD | {"latents_used": 0.26}}),
    ("world_model", {"card": CARD | {"prediction_skill": 0.49}}, {"card": CARD | {"prediction_skill": 0.51}}),
    ("world_model", {"card": None, "metrics": {"loss/rec/board": (4.0, 3.0)}}, {"card": None}),
    ("ignored_actions", {"card": CARD | {"action_ratio": 1.1}}, {"card": CARD | {"action_ratio": 1.3}}),
    ("reward_model", {"card": CARD | {"reward_skill": 0.4}}, {"card": {}}),
    ("endings_model", {"card": CARD | {"cont_error": 0.3}}, {"card": CARD | {"cont_error": 0.2}}),
    ("critic", {"card": CARD | {"value_skill": 0.4}}, {"card": CARD | {"value_skill": 0.6}}),
    ("critic", {"metrics": {"value": 2.1}}, {"metrics": {"value": 1.9}}),
    ("entropy_collapsed", {"metrics": {"randomness/action": 0.09}}, {"metrics": {"randomness/action": 0.11}}),
    (
        "entropy_never_fell",
        {"metrics": {"randomness/action": 0.91}},
        {"metrics": {"randomness/action": 0.89}},
    ),
    ("imagination_reach", {"agent__behavior__imag_length": 4}, {"agent__behavior__imag_length": 5}),
    ("sequence_reach", {"lengths": (257, 257)}, {"lengths": (256, 256)}),
    ("clipped_gradients", {"metrics": {"opt/grad_norm": 19.0}}, {"metrics": {"opt/grad_norm": 15.0}}),
    (
        "greedy_differs",
        {"greedy": played(0.1), "sampled": played(0.3)},
        {"greedy": played(0.1), "sampled": played(0.18)},
    ),
    ("still_rising", {"after": share(0.1, 200) + share(0.4, 100)}, {"after": share(0.4, 300)}),
]


@pytest.mark.parametrize(
    ("rule", "cause", "beside"), RULED, ids=[f"{i}-{rule}" for i, (rule, *_) in enumerate(RULED)]
)
def test_diagnose_cause_comes_first_and_not_beside_its_limit(rule, cause, beside):
    assert names(**cause)[0] == rule
    assert rule not in names(**beside)


def test_rules_are_all_tested():
    of_dreamer = {rule.name for rule in RULES if rule.of_dreamer}
    assert of_dreamer - {rule for rule, *_ in RULED} == {"reward_scale", "generalisation"}


def test_reward_scale_of_tiny_rewards_names_the_limit():
    tiny_rewards = {**CONTROL, "start": [x / 1e4 for x in RETURNS["start"]]}
    tiny_rewards["after"] = [x / 1e4 for x in CONTROL["after"]]
    metrics = {"advantage_std": 1e-4, "randomness/action": 0.99, "value": 0.0}
    assert names(**tiny_rewards, metrics=metrics)[0] == "reward_scale"
    assert "agent.behavior.return_limit to 9e-05" in text("reward_scale", **tiny_rewards, metrics=metrics)
    assert "reward_scale" not in names(**CONTROL, metrics=metrics)
    assert "reward_scale" not in names(**tiny_rewards, metrics=metrics | {"advantage_std": 1e-3})


@pytest.mark.parametrize(
    ("objective", "change"),
    [
        ("cdp", "agent.cdp.factors to encoder=0.05,rssm=10,objective=10"),
        ("sigreg", "agent.sigreg.weight to 34"),
        ("value_equivalent+visreg", "agent.visreg.share to 0.967"),
        ("none", "agent.objective to barlow"),
        ("value_equivalent", "agent.objective to value_equivalent+barlow"),
        ("none+infonce", "agent.loss.infonce to 10"),
        ("reconstruction", "agent.loss.rec to 10"),
    ],
)
def test_collapsed_tokens_names_the_field_of_the_objective(objective, change):
    fields = {"agent__objective": objective, "card": CARD | COLLAPSED}
    said = text("collapsed_tokens", **fields)
    assert change in said and "effective rank 3, 24% of that of an untrained encoder" in said
    assert ("costs most" in said) == (objective not in ("none+infonce", "reconstruction"))


@pytest.mark.parametrize(
    ("factors", "change"),
    [(("encoder=10", "rssm=2"), "encoder=0.15,rssm=2"), (("rssm=2",), "rssm=2,encoder=0.15")],
)
def test_collapsed_tokens_of_cdp_never_ask_for_an_encoder_faster_than_usual(factors, change):
    fields = {"agent__objective": "cdp", "agent__cdp__factors": factors, "card": CARD | COLLAPSED}
    assert f"agent.cdp.factors to {change} " in text("collapsed_tokens", **fields)


def test_collapsed_tokens_are_a_cause_before_there_are_episodes():
    early = {"after": [], "metrics": {"tokens/rank": (9.0, 1.0)}}
    assert run(**early).outcome == "unclear" and names(**early)[0] == "collapsed_tokens"


def test_loss_off_names_the_loss_of_the_objective():
    assert "agent.loss.barlow = 0" in text("loss_off", agent__objective="barlow", agent__loss__barlow=0.0)
    assert "loss_off" not in names(agent__objective="barlow", agent__loss__rec=0.0)


def test_generalisation_gap_names_the_levels():
    learned = {"after": share(1.0, 300), "sampled": played(0.5), "greedy": played(0.5)}
    assert "env.levels to 0" in text("generalisation", **learned, env__levels=20)
    assert "See what differs there" in text("generalisation", **learned)
    assert "dreamer eval RUN --actor gumbel" in text("generalisation", **learned, loop__actor="gumbel")
    assert "30 of 100 episodes were cut short" in text(
        "generalisation", **learned | {"greedy": played(0.5, cut=30)}
    )
    assert "generalisation" not in names(**learned | {"sampled": played(0.9), "greedy": played(0.5)})


def test_avoids_ending_greedy_agent_alone_is_enough():
    """The training episodes end, by chance; with the most likely actions none does."""
    changes = {"start": share(0.5, 100), "after": share(0.5, 300), "sampled": played(0.5)}
    changes |= {"lengths": ([9] * 95 + [40] * 5, 9)}
    waits = text("avoids_ending", **changes, greedy=played(0.0, length=40.0))
    assert "40 of at most 40 steps, 11 at the start; success 50% at the start, 0% now" in waits
    assert "agent.behavior.horizon to 20" in waits
    assert "avoids_ending" not in names(**changes, greedy=played(0.0, length=20.0))
    assert "avoids_ending" not in names(**changes, greedy=played(0.5, length=40.0))


def test_avoids_ending_survival_that_pays_is_no_fault():
    """As in Cart-pole: the return is the length."""
    longer = {"success": False, "start": [float(9 + i % 9) for i in range(100)], "after": [200.0] * 300}
    assert names(**longer, lengths=([int(x) for x in longer["start"]], 200)) == []


def test_forgot_names_replay_where_it_was_overwritten():
    assert "replay.capacity to 40,000" in text("forgot", **LOST, replay__capacity=10_000)
    assert "agent.optim.lr to 0.00033" in text("forgot", **LOST)
    returns = RETURNS | {"after": [float(i % 10) + 9 * (100 <= i < 300) for i in range(600)]}
    assert names(**returns)[0] == "forgot"
    assert "forgot" not in names(**RETURNS, after=[float(i % 10) for i in range(3000)])


def test_greedy_differs_speaks_of_sampled_actions_where_they_are_worse():
    worse = {**LEARNED, "greedy": played(0.99), "sampled": played(0.7)}
    assert "training looks worse than the agent is" in text("greedy_differs", **worse)
    returns = RETURNS | {"after": [float(i % 10) + 9 for i in range(300)]}
    evaluated = {"greedy": played(None, return_=13.5), "sampled": played(None, return_=11.3)}
    assert names(**returns, **evaluated) == []
    assert names(**returns, **evaluated | {"sampled": played(None, return_=11.2)}) == ["greedy_differs"]
    evaluated = {"sampled": played(None, return_=13.5), "greedy": played(None, return_=12.7)}
    assert names(**returns, **evaluated) == []
    assert names(**returns, **evaluated | {"greedy": played(None, return_=12.5)}) == ["greedy_differs"]


def test_constant_return_that_is_not_zero_has_another_sentence():
    same = {"success": False, "start": [4.0] * 20, "after": [4.0] * 40}
    assert "Every episode earned exactly the same" in text("constant_return", **same)
    assert "60 episodes, return 4 in each" in text("constant_return", **same)
    assert "loop.prefill to 10,000, agent.behavior.entropy to 0.003, steps to 40,000" in text(
        "constant_return", **same
    )


def test_no_update_says_which_setting_left_none():
    none = {"updates": 0, "after": []}
    assert "loop.prefill to 50" in text("no_update", **none, env_steps=500, steps=500)
    late = text("no_update", **none, env_steps=1_010, steps=1_010)
    assert "ended before one was due" in late and "0.3 updates by loop.train_ratio = 32" in late
    waiting = text("no_update", **none, env_steps=500, result={})
    assert "Learning has not begun" in waiting and " to " not in waiting.partition("experience.")[2]


def test_no_episode_of_a_running_run_is_no_reason_to_change_anything():
    nothing = {"start": [], "after": [], "updates": 50}
    assert "Let it run" in text("no_episode", **nothing, result={})
    assert "env.max_episode_steps to 1,000" in text("no_episode", **nothing)


def test_diagnose_paper_preset_on_a_small_task_names_the_warmup():
    from experiments import presets

    changed = {"agent.optim.lr": 4e-5, "agent.optim.warmup": 1_000, "steps": 30_000}
    config = schema.replace_paths(presets.build("dreamerv3"), changed)
    diagnosed = diagnose(run(config=config, updates=906, env_steps=30_000))
    first = next(iter(diagnosed.findings.values()))
    assert first.sentence.startswith("The run is too short for its warm-up")
    assert "906 updates, and the warm-up takes 1,000; the mean rate was 1.8e-05 of 4e-05" in first.evidence
    assert first.change == "agent.optim.lr to 0.001, agent.optim.warmup to 100"
    changes = "--agent.optim.lr 0.001 --agent.optim.warmup 100"
    assert diagnosed.command == f"dreamer train --config runs/x/config.toml --run runs/x-2 {changes}"


def test_diagnose_a_field_is_changed_once():
    """Certain too early asks for more entropy; that chance is needed to get anywhere asks for less."""
    evaluated = {"greedy": played(0.1), "sampled": played(0.3)}
    findings = diagnose(run(metrics={"randomness/action": 0.05}, **evaluated)).findings
    assert list(findings) == ["entropy_collapsed", "greedy_differs"]
    assert findings["entropy_collapsed"].changes == {"agent.behavior.entropy": 0.003}
    assert findings["greedy_differs"].changes == {"steps": 40_000}


def test_diagnose_with_a_cause_symptoms_are_only_consequences():
    metrics = {"randomness/action": 1.0, "value": 0.0}
    diagnosed = diagnose(run(start=[0.0] * 100, after=[0.0] * 100, metrics=metrics))
    assert list(diagnosed.findings) == ["constant_return"]
    assert list(diagnosed.consequences) == ["entropy_never_fell"]


def test_diagnose_unfinished_run_asks_for_no_more_steps_than_it_will_take():
    diagnosed = diagnose(run(updates=900, env_steps=9_000, steps=500_000, result={}))
    assert list(diagnosed.findings) == ["few_updates"] and not diagnosed.findings["few_updates"].changes
    assert diagnosed.notes[0].startswith("The run has not ended (9,000 of 500,000 steps)")


def test_diagnose_notes_say_what_is_missing():
    assert any("no evaluation" in note for note in diagnose(run(card=None)).notes)
    assert any("no report card" in note for note in diagnose(run(card=None)).notes)
    assert diagnose(run(greedy=played(), sampled=played())).notes == ()


def test_travel_is_the_sum_of_the_rates_of_the_optimiser():
    for schedule in ("const", "linear", "cosine"):
        optim = {"agent__optim__warmup": 20, "agent__optim__schedule": schedule, "agent__optim__anneal": 60}
        rates = [float(learning_rate(i, 1e-3, 20, 60, schedule)) for i in range(80)]
        assert run(updates=80, **optim).travel == pytest.approx(sum(rates), rel=1e-4)


@pytest.mark.parametrize(
    ("x", "value"), [(12_345, 12_000), (0.00033333, 0.00033), (7.0, 7), (1.26e6, 1_300_000)]
)
def test_rounded_keeps_two_digits(x, value):
    assert rounded(x) == value and type(rounded(x)) is type(value)


def test_still_rising_ends_where_there_is_no_more_to_earn():
    rising = RETURNS | {"after": [float(i % 10) + 9 * (i >= 200) for i in range(300)]}
    assert names(**rising) == ["still_rising"]
    assert names(**rising, greedy=played(None, return_=18.0)) == []
    assert names(**RETURNS, after=[float(i % 10) for i in range(200)] + [18.0] * 100) == []


# Runs of other kinds.


def test_diagnose_ppo_run_gets_rules_and_fields_of_ppo():
    config = PPOConfig(steps=20_000)
    metrics = {"clipped": 0.4, "explained_variance": 0.0, "randomness/action": None}
    diagnosed = diagnose(run(config=config, metrics=metrics, card=None))
    assert list(diagnosed.findings) == ["ppo_steps", "ppo_critic"] and diagnosed.command == ""
    assert diagnosed.findings["ppo_steps"].changes == {"lr": pytest.approx(3.3e-4)}
    nothing = diagnose(run(config=config, start=[0.0] * 20, after=[0.0] * 90, card=None)).findings
    assert nothing["constant_return"].changes == {"entropy": 0.03}


def test_summarize_evaluation_from_before_a_resume_is_left_out():
    old = {"env_steps": 10_000, "updates": 2_000} | played(1.0)
    resumed = run(result=old)
    assert resumed.greedy is None and not resumed.is_finished
    assert run(result=old | {"env_steps": 20_000}).greedy is not None


@pytest.mark.parametrize("row", [{}, {"episodes": 3}, {**played(), "return_interval": None}, None, [], "x"])
def test_played_incomplete_evaluation_is_none(row):
    assert summary.Played.of(row) is None


# Folders.


def written(folder: Path, **files: str) -> Path:
    """A run folder with these files, and a configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(schema.dump_toml(CFG))
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder


def test_doctor_damaged_records_are_read_as_far_as_possible(tmp_path, capsys):
    rows = [json.dumps(row) for row in episodes(share(0.1, 200), (0, 20_000), (0, 900), 9, True)]
    rows[7], rows[150] = rows[7][:11], '{"env_steps": "x", "return": null}'
    metrics = '{"env_steps": 20000, "updates": 900, "loss": 1.0, "value": "high"}\nnonsense\n[1]\n'
    damaged = {"metrics_jsonl": metrics, "result_json": "{", "card_json": '{"updates": 900, "numbers": [1]}'}
    folder = written(tmp_path / "run", episodes_jsonl="\n".join(rows), **damaged)
    assert main(["doctor", "--run", str(folder), "--json"]) == 0
    printed, err = capsys.readouterr()
    diagnosed = json.loads(printed)
    assert diagnosed["findings"][0]["rule"] == "few_updates" and diagnosed["updates"] == 900
    assert "result.json is damaged" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--run none", "there is no run folder none"),
        ("--run .", ". is not a run folder (it has no config.toml)"),
        ("--run many", "many is a population, and every member learns by itself: name one, as in"),
        ("--run run --task grid:Catch", "--run is about a run that there is, --task about one to come"),
        ("--run broken", "broken/config.toml"),
    ],
)
def test_doctor_run_invalid_folder_is_one_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    written(Path("run"))
    written(Path("broken"), config_toml="task = 3")
    many = schema.replace_path(CFG, "population.seeds", 2)
    written(Path("many"), config_toml=schema.dump_toml(many))
    assert main(["doctor", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and len(err.splitlines()) == 1


def test_doctor_run_without_records_says_that_nothing_was_learned(tmp_path, capsys):
    assert main(["doctor", "--run", str(written(tmp_path / "run"))]) == 0
    out = capsys.readouterr().out
    assert "It is too early to say" in out and "1. Learning has not begun" in out


def test_command_for_a_member_is_a_new_run_in_a_free_folder(tmp_path):
    rows = episodes(share(0.1, 200), (0, 20_000), (0, 900), 9, True)
    logged = {"episodes_jsonl": "\n".join(map(json.dumps, rows))}
    folder = written(tmp_path / "many" / "members" / "001", **logged)
    (tmp_path / "many-001-2").mkdir()
    words = diagnose(summary.read(folder)).command.split()
    assert words[:4] == ["dreamer", "train", "--config", str(folder / "config.toml")]
    assert words[4:6] == ["--run", str(tmp_path / "many-001-3")] and words[6] == "--steps"


def test_summarize_loss_that_was_not_finite_is_null_in_the_log():
    rows = [{"env_steps": 9, "updates": 2, "loss": 1.0, "opt/grad_norm": None}]
    assert summary.summarize(Path("x"), "", CFG, rows, [], {}, {}).is_diverged
    rows[0] |= {"opt/grad_norm": 1.0, "report/value_skill": None}
    assert not summary.summarize(Path("x"), "", CFG, rows, [], {}, {}).is_diverged


# Real runs.


@pytest.fixture(scope="module")
def trained(tmp_path_factory, compilation_cache) -> Path:
    """A run of two seconds that chose its action well, and one whose learning rate is far too small."""
    from experiments.training import run as training

    folder = tmp_path_factory.mktemp("runs")
    base = schema.replace_paths(tiny.RUN, {"log.every": 0.5, "loop.train_ratio": 16})
    slow = {"agent.optim.lr": 1e-7, "agent.optim.warmup": 1_000}
    for name, changes in (("chosen", {"steps": 300}), ("slow", slow)):
        assert training.train(schema.replace_paths(base, changes), folder / name) == 0
    return folder


def diagnosed(folder: Path, capsys) -> dict[str, Any]:
    assert main(["doctor", "--run", str(folder), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_doctor_real_run_that_learned_has_no_finding(trained, capsys):
    result = diagnosed(trained / "chosen", capsys)
    assert result["outcome"] == "learned" and result["findings"] == []
    assert main(["doctor", "--run", str(trained / "chosen")]) == 0
    assert "\nNothing found, it learned: return 0." in capsys.readouterr().out


def test_doctor_real_run_that_is_too_short_for_its_warmup_says_so(trained, capsys):
    result = diagnosed(trained / "slow", capsys)
    first = result["findings"][0]
    assert result["outcome"] == "not learned" and first["rule"] == "warmup"
    assert (
        first["field"] == "agent.optim.lr" and "120 updates, and the warm-up takes 1,000" in first["evidence"]
    )
