"""The report says what a representation holds: ranks, a collapse, probes, what is seen through a probe."""

import html
import json
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

import dreamer
import envs
from dreamer.agent import Agent, size
from dreamer.inspection import Episodes
from dreamer.player import Player
from dreamer.records import Latent
from experiments.cli import main
from experiments.compare.expectation import Expectation
from experiments.decoding import PROBE
from experiments.dream.env import DreamEnv
from experiments.export import sentence
from experiments.play.adviser import Adviser
from experiments.play.session import Session
from experiments.report import representation
from experiments.report.meanings import REPRESENTATION

pytestmark = pytest.mark.usefixtures("compilation_cache")
GRID = "grid:DoorKey-5x5"
N, T, E = 4, 30, 8
rng = np.random.default_rng(0)
SAID = rng.normal(size=(N, T, E)).astype(np.float32)


def held(trained, untrained=SAID, decoder=""):
    """Measured of an encoder that says these tokens [N, T, E] of the observations, and said others."""
    both = {True: trained.reshape(-1, E), False: untrained.reshape(-1, E)}
    inspector = SimpleNamespace(
        tokens=lambda obs, *, is_trained: both[is_trained][obs["index"]],
        agent=SimpleNamespace(decoder=decoder),
    )
    episodes = Episodes(
        {"index": np.arange(N * T).reshape(N, T)}, {}, np.zeros((N, T)), None, np.full(N, T, np.int32)
    )
    latent = Latent(rng.normal(size=(N, T, 5)).astype(np.float32), np.zeros((N, T, 2, 3), np.float32))
    return representation.measure(inspector, episodes, latent)


def test_measure_independent_tokens_use_all_directions():
    found = held(SAID)
    assert found.numbers["tokens_rank"] == pytest.approx(E, rel=0.15)
    assert found.numbers["tokens_rank_kept"] == found.numbers["tokens_live"] == 1
    assert found.numbers["features_rank"] == pytest.approx(5, rel=0.15)
    assert found.numbers["state_read"] is None and not found.alarm
    assert found.summary.startswith(f"No collapse: the {E} tokens vary over ")


def test_measure_tokens_along_one_direction_are_a_collapse():
    found = held(SAID[..., :1] * np.ones(E, np.float32))
    assert found.numbers["tokens_rank"] == pytest.approx(1) and found.numbers["tokens_live"] == 1
    assert "has collapsed" in found.alarm and "effective rank 1, " in found.alarm
    assert found.summary == found.alarm


def test_measure_constant_tokens_are_a_collapse_but_not_in_a_constant_world():
    constant = np.ones_like(SAID)
    assert "0% of the tokens are live" in held(constant).alarm
    world = held(constant, constant)
    assert not world.alarm and world.numbers["tokens_rank_kept"] is None
    assert world.summary.startswith("The observations never change")


def test_measure_world_of_few_directions_is_no_collapse():
    few = SAID[..., :2] @ rng.normal(size=(2, E)).astype(np.float32)
    assert not held(SAID[..., :1] * np.ones(E, np.float32), few).alarm


def test_objective_losses_give_the_last_row_with_floor_and_constant():
    rows = [
        {"loss/barlow": 9.0, "barlow/floor": 1.0},
        {"loss/barlow": 4.0, "barlow/floor": 1.5, "loss/rec/a": 1.0, "loss/rec/b": 2.0, "loss/reward": 7.0},
        {"report/surprise": 1.0},
        {"loss/barlow": None},
    ]
    rec, barlow = representation.objective_losses("reconstruction+barlow", rows)
    assert rec == ("rec", 3.0, None, None) and rec.sentence == "The loss rec was last 3."
    assert barlow.sentence == "The loss barlow was last 4; its floor, a perfect prediction, is 1.5."
    row = {"loss/cdp": 0.1, "cdp/floor": 0.0, "cdp/constant": 0.4}
    (cdp,) = representation.objective_losses("cdp", [row])
    assert cdp.sentence.endswith("is 0, and a prediction that says the same of everything costs 0.4.")
    assert representation.objective_losses("none", rows) == []
    (mine,) = representation.objective_losses("my_module:Mine", rows)
    assert mine.last == 3


# An agent with a probe decoder, from its run folder to the page.


@pytest.fixture(scope="module")
def run(tmp_path_factory, compilation_cache):
    """The folder of an agent that has learned nothing, with its report."""
    env = envs.make(GRID, 1)
    agent = Agent(env.obs_space, env.act_space, tiny.config(objective="barlow", probe_decoder=True))
    state = jax.jit(agent.init)(jax.random.key(0))
    changes = dict(task=GRID, report__episodes=6, report__max_steps=20, report__horizon=3)
    folder = tiny.store(tmp_path_factory.mktemp("runs") / "run", state, agent, **changes)
    row = {"env_steps": 1, "updates": 1, "loss/barlow": 4.0, "barlow/floor": 1.5, "tokens/rank": 3.0}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["report", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def player(run):
    return dreamer.load(run)


def test_report_of_probed_agent_labels_everything_decoded(run):
    page = (run / "report.html").read_text()
    assert f"Without looking, {PROBE}</h3>" in page
    assert "The loss barlow was last 4; its floor" in page
    data = {
        name: json.loads(re.search(rf'<script id="{name}"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
        for name in ("episodes", "clip-data")
    }
    assert {story["caption"] for story in data["episodes"]} == {f"expected by the model, {PROBE}"}
    assert all("expected" in story for story in data["episodes"])
    assert {clip["caption"] for clip in data["clip-data"]} == {f"model, {PROBE}"}


def test_report_representation_is_on_the_page_and_in_the_card(run):
    page, card = (run / "report.html").read_text(), json.loads((run / "card.json").read_text())
    section = page.partition('<h3 id="representation">')[2].partition("<h3")[0]
    assert re.findall(r'<tr data-name="(\w+)"', section) == list(REPRESENTATION)
    details = card["representation"]
    assert details["decoder"] == "probe" and details["alarm"] == ""
    assert details["objective"]["barlow"] == {"name": "barlow", "last": 4.0, "floor": 1.5, "constant": None}
    assert details["error"].keys() == {"object", "color", "state", "direction"}
    assert all(len(errors) == 3 for errors in details["error"].values())
    rows = re.findall(r"<tr><td>([^<]+)</td><td>(accuracy|R2)</td>", section)
    assert dict(rows) == {name: probe["kind"] for name, probe in details["probes"].items()}
    assert {"agent y", "agent direction"} <= details["probes"].keys()
    assert card["numbers"]["tokens_rank"] > 1 and 0 <= card["numbers"]["state_read"] <= 1
    sentence = re.search(r'<p id="collapse">.*?</span> (.*?)</p>', section)
    assert sentence and html.unescape(sentence[1]).startswith("No collapse: ")


def test_report_of_probed_agent_counts_parameters_without_the_probe(run, player):
    everything = sum(x.size for x in jax.tree.leaves(player.everything))
    assert size(player.everything) < everything
    assert f"<b>{size(player.everything):,}</b><span>parameters" in (run / "report.html").read_text()


def test_export_of_probed_agent_holds_the_probe_and_counts_it_apart(run, player, tmp_path, capsys):
    file, probe = tmp_path / "a.safetensors", sum(x.size for x in jax.tree.leaves(player.everything["probe"]))
    assert main(["export", str(run), str(file), "--hub-card", "--json"]) == 0
    summary, text = json.loads(capsys.readouterr().out), (tmp_path / "README.md").read_text()
    assert (summary["parameters"], summary["probe_parameters"]) == (size(player.everything), probe)
    assert f"{size(player.everything):,}, stored as" in text and f"{probe:,} parameters more" in text
    assert f"{probe:,} of a probe decoder" in sentence(summary)
    loaded = dreamer.load(file)
    assert loaded.agent.decoder == "probe"
    jax.tree.map(np.testing.assert_array_equal, loaded.everything["probe"], player.everything["probe"])


def test_play_and_compare_of_probed_agent_say_so(player):
    session = Session(envs.make(GRID, 1), Adviser(player, "greedy"), 0)
    shown = session.state()["dream"]
    assert shown["title"] == f"Dream, {PROBE}" and "frame" in shown
    assert Expectation(player).caption == f"expected by the model, {PROBE}"


def test_dream_env_of_probed_agent_warns_and_shows_observations(player):
    latents = player.init(2).latent
    with pytest.warns(UserWarning, match=rf"the observations of these dreams are {PROBE}: .*"):
        env = DreamEnv(player, starts=latents)
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    obs, reward, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(obs) and np.isfinite(reward)


def test_decoded_of_reconstruction_has_no_probe_label():
    agent = tiny.agent()
    player = Player(agent, tiny.state().params, tiny.NUMBERS)
    assert Expectation(player).caption == "expected by the model"
