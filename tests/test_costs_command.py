"""Costs that a command names: read, refused in a sentence, and added up over episodes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import dreamer
from dreamer import costs
from dreamer.actors.charged import Charged
from dreamer.schema import ConfigError
from envs.api import Step
from experiments.cli import main
from experiments.costs import reading, summary
from experiments.costs.ledger import Ledger
from experiments.costs.options import CostOptions

TASK = "probe:chosen"
FILE = """
import jax.numpy as jnp

NUMBER = 3


def last(world, latent, decoded):
    return decoded["obs"][..., -1] > 0


def broken(world, latent, decoded):
    wrong = decoded["obs"]
    return decoded["door"]


def scalar(world, latent, decoded):
    return 1.0
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run of `TASK`, untrained."""
    return tiny.untrained(tmp_path_factory.mktemp("costs") / "run", TASK)


@pytest.fixture(scope="module")
def player(stored):
    return dreamer.load(stored)


@pytest.fixture
def file(tmp_path, player):
    (name,) = player.agent.obs_space
    path = tmp_path / "wishes.py"
    path.write_text(FILE.replace('"obs"', repr(name)))
    return path


def read(player, *words, **options):
    return reading.read(CostOptions(cost=words, **options), player)


def test_read_names_functions_and_weights(player, file):
    terms = read(player, "ending", "failure=5", f"{file}:last=-0.5")
    assert [weight for _, weight in terms.values()] == [1.0, 5.0, -0.5]
    assert terms["ending"][0] is costs.ending and terms["failure=5"][0] is costs.failure
    name, space = next(iter(player.agent.obs_space.items()))
    seen = {name: jnp.asarray(np.eye(2, *space.shape).reshape(2, *space.shape), space.dtype)}
    assert terms[f"{file}:last=-0.5"][0](None, None, seen).shape == (2, *space.shape[:-1])


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("endin", "--cost names 'endin'; did you mean ending, or a function as FILE.py:function"),
        ("ending=much", "should be NAME=WEIGHT, but 'much' is no finite number"),
        ("ending=nan", "'nan' is no finite number"),
        ("{file}:lost", "has no function 'lost'; it has last, broken, scalar"),
        ("{file}:NUMBER", "has no function 'NUMBER'"),
        ("nowhere.py:last", "there is no file nowhere.py"),
        ("{file}:broken", "cannot be used: it fails in line 13 with KeyError: 'door'; decoded has"),
        ("{file}:scalar", r"one number for each of N states, \[N\], but of 2 it is \(\)"),
        ("no_such_module:last", "no_such_module"),
    ],
)
def test_read_cost_that_cannot_be_used_is_refused(player, file, word, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(player, word.format(file=file))


def test_read_file_that_fails_is_refused(player, tmp_path):
    (tmp_path / "wrong.py").write_text("import nothing_of_that_name")
    with pytest.raises(ConfigError, match=r"wrong.py fails with ModuleNotFoundError: No module named"):
        read(player, f"{tmp_path / 'wrong.py'}:last")


def test_read_goal_from_file(player, tmp_path):
    (name, space), *_ = player.agent.obs_space.items()
    np.savez(tmp_path / "goal.npz", **{name: np.ones(space.shape)})
    np.save(tmp_path / "goal.npy", np.ones(space.shape))
    for goal in (f"{tmp_path / 'goal.npz'}=2", str(tmp_path / "goal.npy")):
        ((cost, weight),) = read(player, goal=goal).values()
        assert weight == (2 if "=" in goal else 1) and cost.distance == "latent"
        np.testing.assert_array_equal(cost.obs[name], np.ones(space.shape))
    (tmp_path / "text.npz").write_text("goal")
    for goal in ("text.npz", "none.npz"):
        with pytest.raises(ConfigError, match=r"cannot be read .*: numpy.savez"):
            read(player, goal=str(tmp_path / goal))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"reward_weight": 0.0}, "add --cost or --goal"),
        ({"goal_distance": "embedding"}, "add --goal FILE.npz"),
        ({"cost": ("ending", "ending")}, "--cost names ending twice"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        CostOptions(**options)


def test_described_says_words_weight_and_digests_of_files(file, tmp_path, monkeypatch):
    assert CostOptions().described == {}
    wanted = CostOptions(cost=(f"{file}:last=2", "ending"), reward_weight=0.5).described
    assert wanted["wishes"] == [f"{file}:last=2", "ending"] and wanted["reward_weight"] == 0.5
    before = wanted["files"]
    assert list(before) == [str(file)]
    file.write_text(file.read_text() + "\n")
    assert CostOptions(cost=(f"{file}:last=2",)).described["files"] != before
    monkeypatch.chdir(tmp_path)
    assert list(CostOptions(cost=("wishes.py:last",)).described["files"]) == ["wishes.py"]


def test_charged_only_planners(player):
    terms = read(player, "ending")
    space = player.agent
    assert isinstance(reading.charged("gumbel", space, terms, 1.0), Charged)
    for name in ("greedy", "sampled", "random"):
        assert not isinstance(reading.charged(name, space, terms, 1.0), Charged)
    assert not isinstance(reading.charged("gumbel", space, {}, 1.0), Charged)


# Added up.


def test_ledger_of_costs_by_hand(player):
    (name, space), *_ = player.agent.obs_space.items()
    seen = lambda world, latent, decoded: decoded[name].reshape(len(decoded[name]), -1)[:, 0]
    ledger = Ledger(player, {"seen": (seen, 7.0)})
    carry = ledger.init(2)
    rounds = [([0.0, 1.0], [0, 1]), ([1.0, 1.0], [0, 1]), ([0.5, 9.0], [0, -1])]
    for t, (values, index) in enumerate(rounds):
        obs = {name: np.zeros((2, *space.shape), space.dtype)}
        obs[name].reshape(2, -1)[:, 0] = values
        flags = np.zeros(2, bool)
        step = Step(obs, np.zeros(2, np.float32), flags | (t == 0), flags, flags)
        action, carry = ledger.act(carry, step, key=t)
        ledger.on_step(step, action, np.array(index))
    exact = obs[name].dtype.kind == "f"
    expected = {"mean": 0.5 if exact else 1 / 3, "least": 0.0, "largest": 1.0}
    assert ledger.rows()[0]["seen"] == pytest.approx(expected)
    assert ledger.rows()[1]["seen"] == {"mean": 1.0, "least": 1.0, "largest": 1.0}


def test_summary_counts_episodes_that_ever_paid_and_that_were_ever_spared():
    row = lambda mean, least, largest: {"door": {"mean": mean, "least": least, "largest": largest}}
    of = summary.summary([row(0.0, 0, 0), row(0.5, 0, 1), row(1.0, 1, 1), row(0.5, 0, 1)])["door"]
    assert of["mean"] == 0.5 and of["ever_paid"] == 0.75 and of["ever_spared"] == 0.75
    (line,) = summary.sentences({"door": of})
    assert line.startswith("cost door: 0.5 [") and "above 1/2 at some time in 75.0% [" in line


# The command.


def test_eval_with_cost_adds_it_up_and_writes_it(stored, file, tmp_path, capsys):
    out = tmp_path / "episodes.jsonl"
    words = f"eval {stored} --episodes 3 --cost ending {file}:last=2 --out {out} --json".split()
    actor = ["--actor", "gumbel:simulations=2", "--reward-weight", "0"]
    with jax.debug_key_reuse(False):
        assert main(words + actor) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(result["costs"]) == ["ending", f"{file}:last=2"]
    assert result["wanted"]["reward_weight"] == 0 and 0 <= result["costs"]["ending"]["mean"] <= 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 3 and all(set(row["costs"]) == set(result["costs"]) for row in rows)


def test_eval_of_policy_with_cost_says_that_it_changes_nothing(stored, capsys):
    assert main(f"eval {stored} --episodes 2 --cost ending".split()) == 0
    heard = capsys.readouterr()
    assert "the actor greedy does not plan: costs change nothing" in heard.err
    assert "cost ending:" in heard.out


def test_eval_with_wrong_cost_is_one_sentence(stored, capsys):
    assert main(f"eval {stored} --cost endless".split()) == 2
    sentence = "dreamer: --cost names 'endless'; there are ending, failure, or a function as FILE.py:function"
    assert capsys.readouterr().err.startswith(sentence)
