"""`dreamer plan-report`: the same episodes for every actor, what they took, a sentence for every mistake."""

import csv
import json
from dataclasses import dataclass

import jax
import numpy as np
import pytest
import tiny

import dreamer
import envs
from dreamer import actors, costs, export
from dreamer.actors import ACTORS, model_steps, named
from dreamer.actors.charged import Charged
from dreamer.actors.uniform import Random
from dreamer.agent import Agent
from dreamer.config import Config
from dreamer.player import Player
from dreamer.schema import ConfigError
from envs.api import Space
from envs.rollout import Episode
from experiments import statistics
from experiments.cli import main
from experiments.costs import reading, summary
from experiments.plans import contenders, page, plans, results, timing
from experiments.plans.options import PlanReportOptions

TASK = "probe:chosen"
CEM = "categorical_cem:horizon=2,samples=8,elites=4,proposals=2,iterations=1"
CHOICE, FORCE = {"move": Space((), "int32", 3)}, {"steer": Space((2,), "float32")}
COST = {"ms": 2.0, "ms_quartiles": [1.0, 3.0], "timed": 30, "compile_seconds": 0.5}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run of `TASK`, untrained."""
    return tiny.untrained(tmp_path_factory.mktemp("plans") / "run", TASK)


def rows(*returns, success=False, steps=0, costs=(), imagined=None, **changes):
    """The row of an actor with these returns."""
    episodes = [
        Episode(i, float(x), 3, bool(x > 0) if success else None, 0.0, 0.1) for i, x in enumerate(returns)
    ]
    return results.row(episodes, 100, COST | changes, steps, dict(costs), imagined)


def content(wanted=None, **of):
    """Results of actors with these rows."""
    asked = {"task": TASK, "episodes": 1, "seed": 0, "step_limit": 100}
    asked |= {"checkpoint": {"updates": 40, "env_steps": 160}, "wanted": wanted or {}}
    session = {"cpus": 2, "devices": ["cpu"], "command": "dreamer <plan-report>", "time": "", "host": "here"}
    session |= {"platform": "", "python": "3", "commit": None, "versions": {"jax": "1"}}
    return results.results("runs/a", asked, of, {}, session)


# Which actors.


@pytest.mark.parametrize(
    ("act_space", "critics", "expected"),
    [
        (CHOICE, 1, ["categorical_cem", "categorical_cem:proposals=0", "gumbel"]),
        (FORCE, 1, ["mppi", "mppi:proposals=0", "icem", "gumbel"]),
        (FORCE, 3, ["mppi", "mppi:proposals=0", "icem", "gumbel", "mppi:end_value=mean"]),
        (CHOICE | FORCE, 1, ["gumbel"]),
        (CHOICE | FORCE, 2, ["gumbel", "gumbel:end_value=mean"]),
    ],
)
def test_usual_actors_fit_actions_and_critics(act_space, critics, expected):
    chosen = contenders.usual(act_space, critics)
    assert chosen == ("greedy", "sampled", *expected)
    for text in chosen:
        if not text.startswith("gumbel"):
            named(text)(act_space)


def test_contenders_options_that_a_comma_separated_are_of_one_actor():
    options = main_options("--actors mppi:horizon=3,proposals=0,end_value=mean greedy gumbel,greedy")
    assert options.actors == ("mppi:horizon=3,proposals=0,end_value=mean", "greedy", "gumbel", "greedy")


def main_options(line):
    """The options of a command line."""
    from dreamer import schema
    from experiments.cli import parse

    kinds = {path: f.type for path, f in schema.paths(PlanReportOptions).items()}
    return schema.replace_paths(PlanReportOptions(), parse(line.split(), kinds, "dreamer plan-report")[1])


def test_contenders_without_mctx_leave_gumbel_out_unless_named(monkeypatch):
    def absent(act_space):
        raise ConfigError("the actor gumbel needs mctx")

    monkeypatch.setitem(ACTORS, "gumbel", absent)
    lines = []
    chosen = contenders.contenders((), CHOICE, 1, lines.append)
    assert list(chosen) == ["greedy", "sampled", "categorical_cem", "categorical_cem:proposals=0"]
    assert lines == ["gumbel is left out: the actor gumbel needs mctx"]
    with pytest.raises(ConfigError, match="needs mctx"):
        contenders.contenders(("gumbel",), CHOICE, 1, lines.append)


@pytest.mark.parametrize(
    ("text", "act_space", "steps"),
    [
        ("greedy", CHOICE, 0),
        ("random", FORCE, 0),
        ("categorical_cem:horizon=2,samples=8,elites=4,proposals=3,iterations=5", CHOICE, 2 * (8 * 5 + 3)),
        ("mppi:horizon=3,samples=10,elites=4,proposals=0,iterations=2", FORCE, 3 * (10 * 2 + 1)),
        ("cem", FORCE, 5 * (64 * 3 + 8 + 1)),
        ("icem", FORCE, 5 * (64 * 3 + 8)),
    ],
)
def test_model_steps_of_actor_count_every_plan(text, act_space, steps):
    assert model_steps(named(text)(act_space)) == steps


def test_model_steps_of_gumbel_are_its_simulations():
    pytest.importorskip("mctx")
    assert model_steps(named("gumbel:simulations=5")(CHOICE)) == 5


def test_model_steps_actor_without_the_property_has_none():
    class Mine:
        modules = ()

    assert actors.model_steps(Mine()) == 0


@pytest.mark.parametrize("text", ["mppi:horizon=2,samples=4,elites=2,proposals=2,iterations=3"])
def test_model_steps_are_those_that_the_world_is_asked_for(text, monkeypatch):
    """Counted as rows of actions that pass through the model, without running it."""
    from dreamer.world import World

    agent = Agent(tiny.OBS, FORCE, tiny.CFG)
    params = agent.init(jax.random.key(0)).params
    taken, rollout, imagine = [], World.rollout, World.imagine

    def counted(world, start, plans, **options):
        taken.append(np.prod(jax.tree.leaves(plans)[0].shape[:2]))
        return rollout(world, start, plans, **options)

    def proposed(world, start, choose, horizon, **options):
        taken.append(horizon * len(start.deter))
        return imagine(world, start, choose, horizon, **options)

    monkeypatch.setattr(World, "rollout", counted)
    monkeypatch.setattr(World, "imagine", proposed)
    actor = named(text)(FORCE)
    carry = agent.init_carry(1, actor)
    act = lambda latent: actor.act(
        agent.world(params, tiny.NUMBERS), latent, carry.memory, np.ones(1, bool), key=jax.random.key(0)
    )
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        jax.eval_shape(act, carry.latent)
    mean, proposals, each = sorted(set(taken))  # the scan over iterations may be traced several times
    assert (mean, proposals, each) == (2, 4, 8) and model_steps(actor) == mean + proposals + 3 * each


# What is said.


def test_compared_verdicts_follow_intervals_of_the_paired_difference():
    base = np.tile([0.0, 10.0], 10)
    noise = np.random.default_rng(0).normal(0, 1, 20)
    compared = results.compared(
        {
            "greedy": rows(*base),
            "up": rows(*(base + 1), steps=64, ms=50.0),
            "down": rows(*(base - 1), steps=64),
            "drawn": rows(*(base - 1)),
            "even": rows(*(base + noise - noise.mean()), steps=64),
        }
    )
    assert {name: row["verdict"] for name, row in compared.items()} == {
        "greedy": "",
        "up": "better",
        "down": "worse",
        "drawn": "worse",
        "even": "no difference",
    }
    assert compared["up"]["difference"] == {"success": None, "return": {"mean": 1.0, "interval": [1.0, 1.0]}}
    expected = "up is better than greedy (return +1 [+1, +1]); a decision takes 25 times as long"
    assert compared["up"]["sentence"] == expected
    assert compared["down"]["sentence"].startswith("down is worse than greedy, search hurts (return -1")
    assert compared["drawn"]["sentence"] == "drawn is worse than greedy (return -1 [-1, -1])"
    assert (
        "even: no difference to greedy that 95% intervals can tell (return " in compared["even"]["sentence"]
    )


def test_compared_success_decides_where_the_task_tells_it():
    compared = results.compared(
        {"greedy": rows(*[0, 5] * 20, success=True), "a": rows(*[1] * 40, success=True, steps=2)}
    )
    gap = compared["a"]["difference"]["success"]
    assert gap["mean"] == 0.5 and 0.3 < gap["interval"][0] < 0.5 < gap["interval"][1] < 0.7
    assert compared["a"]["verdict"] == "better" and compared["a"]["difference"]["return"]["mean"] == -1.5


def test_compared_planner_worse_than_another_planner_is_no_search_that_hurts():
    compared = results.compared({"deep": rows(*[1.0] * 12, steps=9), "flat": rows(*[0.0] * 12, steps=3)})
    assert compared["flat"]["verdict"] == "worse" and not compared["flat"]["hurts"]
    assert compared["flat"]["sentence"].startswith("flat is worse than deep (return -1")


@pytest.mark.parametrize("success", [False, True])
def test_compared_few_episodes_are_no_evidence(success):
    compared = results.compared({"greedy": rows(0, success=success), "a": rows(1, success=success, steps=2)})
    assert compared["a"]["verdict"] == "no difference"
    assert ("10 episodes are needed to tell" in compared["a"]["sentence"]) != success


def test_page_and_table_say_where_search_hurts(tmp_path):
    shown = content(greedy=rows(*[1.0] * 12), plan=rows(*[0.0] * 12, steps=64), sampled=rows(*[1.0] * 12))
    page.write(shown, tmp_path)
    html = (tmp_path / "plans.html").read_text()
    assert html.count("search hurts") == 2 and "Search hurts this agent." in html
    assert "<svg" in html and "&lt;plan-report&gt;" in html and "difference to greedy" in html
    last = page.lines(shown)[-1]
    assert last == "search hurts this agent: greedy is better than plan"
    assert [cell for cell in page.shown(shown).columns[-1].cells if "hurts" in cell] == [
        "worse: search hurts"
    ]
    lines = list(csv.DictReader((tmp_path / "plans.csv").read_text().splitlines()))
    assert [line["verdict"] for line in lines] == ["", "worse", "no difference"]
    assert lines[0]["difference"] == lines[0]["success_rate"] == "" and lines[1]["difference_high"] == "-1.0"
    page.write(content(greedy=rows(1.0), sampled=rows(1.0)), tmp_path)
    assert "earch hurts" not in (tmp_path / "plans.html").read_text()


def test_page_of_successes_shows_both(tmp_path):
    shown = content(greedy=rows(*[0, 1] * 6, success=True), plan=rows(*[1] * 12, success=True, steps=64))
    page.write(shown, tmp_path)
    html = (tmp_path / "plans.html").read_text()
    assert '<th class="n">success</th><th class="n">failed</th><th class="n">return</th>' in html
    greedy, plan = zip(*(column.cells for column in page.shown(shown).columns[1:4]), strict=True)
    assert greedy[0].startswith("50% [") and greedy[1:] == ("50%", "0.5") and plan[1:] == ("0%", "1")
    assert "What situations cost" not in html


def test_row_failed_are_endings_without_success_and_not_those_cut_short():
    ends = [(True, 0.0), (False, 0.0), (False, 1.0), (False, 0.0)]
    row = results.row([Episode(i, 0.0, 3, s, d, 0.1) for i, (s, d) in enumerate(ends)], 100, COST, 0)
    assert row["failed"] == 0.5 and row["failed_interval"] == list(statistics.wilson(2, 4))
    unknown = rows(1.0, 0.0)
    assert unknown["failed"] is unknown["failed_interval"] is None


def paid(*means):
    """Costs of episodes: in all of them the same at every situation."""
    return summary.summary([{"wish, a=2": {"mean": x, "least": x, "largest": x}} for x in means])


def test_page_and_tables_say_what_situations_cost(tmp_path):
    wanted = {"wishes": ["wish, a=2"], "reward_weight": 0.5, "files": {}}
    dreamt = {"file": "dreamt.safetensors", "updates": 1500, "fingerprint": "ab"}
    shown = content(
        wanted,
        greedy=rows(*[1.0] * 12, costs=paid(1, 1, 1, 0)),
        plan=rows(*[0.0] * 12, steps=64, costs=paid(0, 0, 0, 0)),
        imagined=rows(*[1.0] * 12, costs=paid(0, 0, 0, 0), imagined=dreamt),
    )
    page.write(shown, tmp_path)
    html = (tmp_path / "plans.html").read_text()
    assert "<code>wish, a=2</code>" in html and "0.5 times the task" in html
    assert "imagined is the greedy policy of dreamt.safetensors" in html and "1,500 updates" in html
    assert "earch hurts" not in html and shown["actors"]["plan"]["verdict"] == "worse"
    columns = [list(column.cells) for column in page.shown_costs(shown).columns]
    assert columns[0] == ["greedy", "plan", "imagined"] and set(columns[1]) == {"wish, a=2"}
    assert columns[2][0].startswith("0.75 [") and columns[3][0].startswith("75% [")
    assert columns[4][0].startswith("25% [") and columns[4][1].startswith("100% [")
    assert all(cell in html for column in columns for cell in column)
    line, other, _ = csv.DictReader((tmp_path / "plans.csv").read_text().splitlines())
    assert line["wish, a=2 mean"] == "0.75" and other["wish, a=2 ever_spared"] == "1.0"
    assert float(line["wish, a=2 ever_paid_low"]) < 0.75 < float(line["wish, a=2 ever_paid_high"])


# Time.


class Clock:
    """Decisions of known lengths on a clock that only they move."""

    def __init__(self, seconds):
        self.now, self.left, self.seen = 0.0, list(seconds), []

    def perf_counter(self):
        return self.now

    def init(self, batch):
        assert batch == 1

    def act(self, carry, step, *, key=0):
        self.seen.append(step)
        self.now += self.left.pop(0) if self.left else 1.0
        return {}, carry


def test_decisions_median_leaves_compiling_out(monkeypatch):
    clock = Clock([20.0, *[0.1] * 10, *[0.3] * 20])
    monkeypatch.setattr(timing, "time", clock)
    took = timing.decisions(clock, ["a", "b"])
    assert took["ms"] == pytest.approx(300) and took["timed"] == 30
    assert took["ms_quartiles"] == pytest.approx([100, 300])
    assert took["compile_seconds"] == pytest.approx(19.7)
    assert clock.seen[:4] == ["a", "b", "a", "b"]


def test_decisions_time_that_a_cache_saved_counts_as_compiling(monkeypatch):
    clock = Clock([1.5])
    monkeypatch.setattr(timing, "time", clock)
    act = clock.act

    def cached(carry, step, *, key=0):
        if not clock.seen:
            jax.monitoring.record_event_duration_secs(timing.SAVED, 7.0)
        return act(carry, step, key=key)

    clock.act = cached
    assert timing.decisions(clock, ["a"])["compile_seconds"] == pytest.approx(7.5)


def test_observed_steps_are_of_one_environment_of_the_task():
    env = envs.make(TASK, 3)
    steps = timing.observed(env, 5, 4)
    env.close()
    assert len(steps) == 4 and steps[0].is_first.tolist() == [True]
    for step in steps:
        assert {len(x) for x in jax.tree.leaves(step)} == {1}


# The command.


@pytest.fixture
def quick(monkeypatch):
    """Planners compile in the test's own settings, and no decision is timed for long."""
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        yield


def command(run, out, *words):
    return main(["plan-report", str(run), "--out", str(out), "--episodes", "12", "--num-envs", "1", *words])


def test_report_plays_every_actor_on_the_same_seeds_and_writes_its_files(stored, tmp_path, quick, capsys):
    assert command(stored, tmp_path / "x", "--json", "--actors", "greedy", CEM) == 0
    shown = capsys.readouterr()
    content = json.loads(shown.out)
    assert list(content["actors"]) == ["greedy", CEM]
    for row in content["actors"].values():
        assert row["episodes"] == len(row["returns"]) == 12 and row["ms"] > 0 and row["timed"] >= 30
    assert content["actors"][CEM]["model_steps"] == 20 and content["actors"][CEM]["verdict"]
    assert content["session"]["versions"]["jax"] == jax.__version__ and content["session"]["command"]
    assert content["actors"][CEM]["sentence"] in shown.err and "ms" in shown.err
    assert {p.name for p in (tmp_path / "x").iterdir()} == {"plans.html", "plans.csv", "plans.json"}
    assert json.loads((tmp_path / "x" / "plans.json").read_text()) == content


@dataclass(frozen=True)
class Interrupted(Random):
    """Random until Ctrl-C is pressed."""

    def init(self, batch):
        raise KeyboardInterrupt


def test_report_interrupted_keeps_actors_and_measures_only_new_ones(
    stored, tmp_path, quick, capsys, monkeypatch
):
    monkeypatch.setitem(ACTORS, "stopped", Interrupted)
    assert command(stored, tmp_path, "--actors", "greedy", "stopped", "random") == 130
    before = json.loads((tmp_path / "plans.json").read_text())
    assert list(before["actors"]) == ["greedy"] and (tmp_path / "plans.html").exists()
    capsys.readouterr()

    assert command(stored, tmp_path, "--actors", "random", "greedy") == 0
    assert "greedy: measured before" in capsys.readouterr().err
    after = json.loads((tmp_path / "plans.json").read_text())
    kept = lambda content: {key: content["actors"]["greedy"][key] for key in ("returns", "ms", "timed")}
    assert kept(after) == kept(before) and list(after["actors"]) == ["random", "greedy"]

    assert command(stored, tmp_path, "--actors", "greedy") == 0
    assert list(json.loads((tmp_path / "plans.json").read_text())["others"]) == ["random"]
    capsys.readouterr()
    assert command(stored, tmp_path, "--actors", "random", "--seed", "1") == 0
    assert "measured before" not in capsys.readouterr().err


def test_report_with_costs_plans_with_them_and_adds_them_up(stored, tmp_path, quick, capsys):
    words = ["--json", "--actors", "greedy", CEM, "--cost", "ending=2", "--reward-weight", "0.5"]
    assert command(stored, tmp_path, *words) == 0
    shown = capsys.readouterr()
    content = json.loads(shown.out)
    assert content["asked"]["wanted"]["wishes"] == ["ending=2"]
    for row in content["actors"].values():
        cost = row["costs"]["ending=2"]
        assert 0 < cost["mean"] < 1 and cost["interval"][0] <= cost["mean"] <= cost["interval"][1]
        assert f"{cost['ever_paid']:.0%} [" in shown.err
    assert "a situation" in shown.err and "costs change nothing" not in shown.err
    # Without these costs nothing of it counts, and of policies alone it says so.
    assert command(stored, tmp_path, "--actors", "greedy") == 0
    assert "measured before" not in capsys.readouterr().err
    assert command(stored, tmp_path, "--actors", "greedy", "--cost", "ending") == 0
    assert "no actor here plans: costs change nothing" in capsys.readouterr().err


def test_report_planner_gets_the_costs_of_its_options(stored, quick):
    options = PlanReportOptions(actors=("greedy", CEM), cost=("ending=2",), reward_weight=0.5)
    player = dreamer.load(stored)
    terms = reading.read(options, player)
    players = plans._players(player, terms, options, print)
    charged = players[CEM].actor
    assert isinstance(charged, Charged) and charged.reward_weight == 0.5
    assert charged.cost.terms == ((costs.ending, 2.0),) and not isinstance(players["greedy"].actor, Charged)


@pytest.fixture(scope="module")
def dreamt(stored, tmp_path_factory):
    """Files of agents of the same spaces, as `dreamer imagine` writes them, and one of other spaces."""
    folder, agent = tmp_path_factory.mktemp("imagined"), dreamer.load(stored).agent
    other = Agent(agent.obs_space, CHOICE, tiny.CFG)
    for name, one, seed in (("a", agent, 1), ("b", agent, 2), ("other", other, 1)):
        cfg = Config(task=TASK, steps=1000, agent=one.cfg)
        counters = {"env_steps": 160, "updates": 40, "imagined_updates": 7}
        params = one.init(jax.random.key(seed)).params
        player = Player(one, params, tiny.NUMBERS, config=cfg, counters=counters)
        export.save(player, folder / f"{name}.safetensors")
    return folder


def test_report_imagined_agent_has_a_row_that_its_parameters_decide(stored, dreamt, tmp_path, quick, capsys):
    ask = lambda name: command(
        stored, tmp_path, "--actors", "greedy", "--imagined", str(dreamt / f"{name}.safetensors")
    )
    row = lambda: json.loads((tmp_path / "plans.json").read_text())["actors"]["imagined"]
    assert ask("a") == 0
    first = row()
    assert first["imagined"]["updates"] == 7 and first["imagined"]["file"].endswith("a.safetensors")
    assert first["sentence"] and first["model_steps"] == 0
    capsys.readouterr()
    (dreamt / "a.safetensors").rename(dreamt / "moved.safetensors")
    assert ask("moved") == 0
    assert "imagined: measured before" in capsys.readouterr().err
    assert row()["imagined"]["file"].endswith("moved.safetensors") and row()["ms"] == first["ms"]
    assert ask("b") == 0
    error = capsys.readouterr().err
    assert "greedy: measured before" in error and "imagined: 12 episodes" in error
    assert row()["imagined"]["fingerprint"] != first["imagined"]["fingerprint"]


def test_report_imagined_agent_of_other_spaces_is_one_sentence(stored, dreamt, tmp_path, capsys):
    mistakes = {"other.safetensors": "was trained with other spaces", "none": "no exported file"}
    for file, sentence in mistakes.items():
        words = ["--out", str(tmp_path / "x"), "--imagined", str(dreamt / file)]
        assert main(["plan-report", str(stored), *words]) == 2
        error = capsys.readouterr().err.strip()
        assert sentence in error and len(error.splitlines()) == 1 and not (tmp_path / "x").exists()


def test_usable_rows_are_those_of_equal_circumstances():
    known = content(greedy=rows(1.0)) | {"others": {"random": rows(2.0)}}
    assert list(results.usable(known, known["asked"])) == ["random", "greedy"]
    assert results.usable(known, known["asked"] | {"seed": 1}) == {} == results.usable({}, known["asked"])


def test_usable_row_of_dreams_is_that_of_equal_parameters():
    of = lambda mark: {"file": "a.safetensors", "updates": 3, "fingerprint": mark}
    known = content(greedy=rows(1.0), imagined=rows(2.0, imagined=of("ab")))
    names = lambda imagined: list(results.usable(known, known["asked"], imagined))
    assert names(of("ab")) == names(None) == ["greedy", "imagined"] and names(of("cd")) == ["greedy"]


def test_fingerprint_depends_on_values_and_names():
    ones = {"a": {"w": np.ones(2)}}
    marks = [results.fingerprint(x) for x in (ones, {"a": {"w": np.zeros(2)}}, {"b": {"w": np.ones(2)}})]
    assert len(set(marks)) == 3 and results.fingerprint({"a": {"w": np.ones(2)}}) == marks[0]


def test_home_of_a_checkpoint_or_file_is_the_folder_of_its_run(tmp_path):
    (tmp_path / "checkpoints" / "0000").mkdir(parents=True)
    (tmp_path / "agent.safetensors").touch()
    for place in (".", "checkpoints/0000", "agent.safetensors"):
        assert plans.home(tmp_path / place).resolve() == tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--actors xyz", "there is no actor 'xyz'"),
        ("--actors greedy mppi:horizont=2", "the actor mppi has no option 'horizont'"),
        ("--actors mppi", "the actor mppi plans continuous actions, but 'action' is discrete"),
        ("--actors greedy:horizon=2", "the actor greedy has no options"),
        ("--episodes 0", "episodes"),
        ("--cost endin", "--cost names 'endin'; did you mean ending"),
        ("--reward-weight 0", "add --cost or --goal"),
        ("--horizon 3", "dreamer plan-report has no option --horizon"),
        ("--max-steps -1", "max_steps"),
    ],
)
def test_report_mistake_is_one_sentence_and_leaves_nothing(words, message, stored, tmp_path, capsys):
    assert main(["plan-report", str(stored), "--out", str(tmp_path / "x"), *words.split()]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "x").exists() and not (stored / "plans").exists()


def test_report_without_run_is_one_sentence(tmp_path, capsys):
    for words, message in (
        ([str(tmp_path / "none")], "no run folder"),
        ([], "plan-report needs the folder of a run"),
    ):
        assert main(["plan-report", *words]) == 2
        assert message in capsys.readouterr().err
