"""Every example runs to its last line, with few steps and a tiny agent, and does what it says."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import envs
from dreamer import schema
from dreamer.agent import Agent
from dreamer.ops import dists
from dreamer.player import Player, load
from dreamer.records import Latent, Observed
from envs.api import Space
from experiments import cli, machine
from experiments.cli import main
from experiments.commands import COMMANDS
from experiments.presets import PRESETS
from experiments.sweep import estimate, spec

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "look_inside_a_world_model.ipynb"
STEPS = 160
DOORS = "grid:DoorKey-5x5"
COSTS = ("without_key", "door_open", "lava_ahead")

pytestmark = pytest.mark.usefixtures("compilation_cache", "tiny_preset")


@pytest.fixture(scope="module")
def tiny_preset():
    """The preset of all examples is a run of two seconds; their modules are found as from their folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quickstart", lambda: tiny.RUN)
        patch.syspath_prepend(str(ROOT))
        yield


def execute(name: str, *words: object) -> dict:
    """Run an example as a program with these words; its names afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, words)])
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run as `train.py` leaves it, which other examples start from, but untrained."""
    return tiny.untrained(tmp_path_factory.mktemp("runs") / "example", DOORS)


def test_examples_are_all_tested():
    tested = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name not in tested] == []


def test_train_rerun_resumes_and_plays_worlds_of_its_own(tmp_path, capsys):
    words = ["--task", "probe:chosen", "--run", tmp_path / "run"]
    execute("train.py", *words, "--steps", STEPS)
    assert load(tmp_path / "run").counters["env_steps"] == STEPS
    execute("train.py", *words, "--steps", STEPS + 40)
    out, err = capsys.readouterr()
    assert f"probe:chosen after {STEPS + 40} steps" in out and f"at {STEPS} environment steps" in err
    out = out.partition(f"after {STEPS + 40}")[2]
    assert re.findall(r"^world (\d+): return", out, re.M) == ["5000", "5001", "5002", "5003", "5004"]


def test_own_env_keeps_the_contract_trains_and_reports_success(tmp_path, capsys):
    names = execute("own_env.py", "--steps", STEPS, "--run", tmp_path / "run")
    assert re.search(r"delivered \d+% \[\d+%, \d+%\] of 8 parcels", capsys.readouterr().out)
    assert not [finding for finding in envs.check(names["TASK"], elsewhere=False) if finding.status == "fail"]


def test_own_env_delivers_when_steered_to_the_address():
    courier = runpy.run_path(str(EXAMPLES / "own_env.py"))["Courier"]()
    for seed in range(3):
        (place, parcel, address), _ = courier.reset(seed=seed)
        to = lambda start, end: [1 if end > start else 0] * abs(end - start)
        ways = [*to(int(place), int(parcel)), 2, *to(int(parcel), int(address)), 3]
        *before, last = [courier.step(action)[1:3] for action in ways]
        assert last == (1.0, True) and all(step == (0.0, False) for step in before)


def test_own_jax_env_keeps_the_contract_and_trains_every_seed(tmp_path, capsys):
    names = execute("own_jax_env.py", "--steps", STEPS, "--seeds", 2, "--run", tmp_path / "run")
    out = capsys.readouterr().out
    assert re.findall(r"seed (\d): [\d.]+ apples", out) == ["0", "1"] and "all seeds:" in out
    assert not [finding for finding in envs.check(names["TASK"], elsewhere=False) if finding.status == "fail"]


def test_own_objective_trains_logs_and_is_evaluated_by_name(tmp_path, monkeypatch, capsys):
    execute("own_objective.py", "--task", "probe:chosen", "--steps", STEPS, "--run", tmp_path / "run")
    assert "examples.own_objective:Decorrelated: return" in capsys.readouterr().out
    assert '"objective/agreement"' in (tmp_path / "run" / "metrics.jsonl").read_text()
    monkeypatch.delitem(sys.modules, "examples.own_objective")
    assert main(["eval", str(tmp_path / "run"), "--episodes", "2"]) == 0
    assert "importing the module 'examples.own_objective', which a file names" in capsys.readouterr().err


def test_own_objective_of_constant_tokens_is_not_cheap():
    kind = runpy.run_path(str(EXAMPLES / "own_objective.py"))["Decorrelated"]
    objective = kind(tiny.OBS, tiny.ACT, 6, tiny.CFG, init=tiny.initializer())
    rng, rssm = np.random.default_rng(0), tiny.CFG.rssm
    deter = jnp.asarray(rng.normal(size=(tiny.B, tiny.T, rssm.deter)), jnp.float32)
    latent = Latent(deter, jnp.zeros((tiny.B, tiny.T, rssm.stoch, rssm.classes)))
    agreeing = objective.project(latent.feat)

    def loss(tokens):
        seen = Observed(tokens, latent, jnp.zeros(()))
        return float(objective.loss(None, tiny.batch(), seen, {}, None).losses["rec/tokens"])

    assert loss(jnp.ones_like(agreeing)) == pytest.approx(6.0)
    assert loss(agreeing) < 1.0


def test_own_planner_of_one_step_takes_the_best_expected_action():
    kind = runpy.run_path(str(EXAMPLES / "own_planner.py"))["BestDream"]
    act, rng = {"action": Space((), "int32", 3)}, np.random.default_rng(0)
    chance = lambda noise: dists.RANDOM if noise.ndim == 1 else dists.GREEDY  # in actions, not in the world
    categorical = lambda noise, probs: chance(noise).categorical(noise, probs)
    agent = Agent(tiny.OBS, act, tiny.CFG, dists.RANDOM._replace(categorical=categorical))
    shake = lambda p: p + jnp.asarray(rng.normal(0, 0.3, p.shape), p.dtype)
    params = jax.tree.map(shake, jax.jit(agent.init)(jax.random.key(0)).params)
    player = Player(agent, params, tiny.NUMBERS, actor=kind(horizon=1, dreams=64))
    step = envs.Step(tiny.observation(rng, 5), np.zeros(5, np.float32), *np.zeros((3, 5), bool))
    action, carry = player.act(player.init(5), step)

    def expected(choice):
        world = agent.world(params, tiny.NUMBERS)
        taken = {"action": jnp.full(5, choice, jnp.int32)}
        feat = world.step(carry.latent, taken, key=jax.random.key(0)).feat
        return world.reward(feat) + world.discount(feat) * world.value(feat)

    scores = [jax.jit(expected)(choice) for choice in range(3)]
    np.testing.assert_array_equal(action["action"], np.argmax(scores, 0))
    assert len(set(action["action"].tolist())) > 1


def test_costs_say_what_the_agent_carries_and_sees(run, capsys):
    from envs.gridworld import CLOSED, DOOR, EMPTY, KEY, LAVA, OPEN, STATE

    costs = runpy.run_path(str(EXAMPLES / "costs.py"))
    look = lambda: {name: jnp.full((4, 7, 7), value) for name, value in (("object", EMPTY), ("state", 0))}
    at = lambda seen, name, n, x, y, value: seen | {name: seen[name].at[n, x, y].set(value)}
    seen = at(look(), "object", 1, 3, 6, KEY)  # carried by the second one
    seen = at(seen, "object", 2, 3, 5, LAVA)  # before the third one
    for n, state in ((0, OPEN), (3, CLOSED)):
        seen = at(at(seen, "object", n, 2, 4, DOOR), "state", n, 2, 4, state // STATE)
    held = {name: costs[name](None, None, seen).astype(int).tolist() for name in COSTS}
    assert held == {"without_key": [1, 0, 1, 1], "door_open": [1, 0, 0, 0], "lava_ahead": [0, 0, 1, 0]}
    words = ["eval", str(run), "--episodes", "2", "--max-steps", "5", "--cost"]
    assert main([*words, *(f"{EXAMPLES}/costs.py:{name}" for name in COSTS)]) == 0
    assert "costs.py:door_open: 0 [0, 0] a situation" in capsys.readouterr().out


def test_own_planner_is_compared_with_the_policy(run, capsys):
    execute("own_planner.py", run, "--episodes", 2, "--horizon", 2, "--dreams", 2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["greedy", "sampled", "planner"]
    assert all("over 2 episodes" in line for line in lines)


def test_dream_edit_draws_three_dreams(run, tmp_path, capsys):
    execute("dream_edit.py", run, "--out", tmp_path / "edit.png")
    rows = capsys.readouterr().out.splitlines()[1:4]
    assert [row.split("  ")[0] for row in rows] == ["as it was", "another action", "edited"]
    assert (tmp_path / "edit.png").read_bytes()[:4] == b"\x89PNG"


def test_dream_edit_paints_the_key_in_front_of_the_agent_and_nowhere_else():
    paint = runpy.run_path(str(EXAMPLES / "dream_edit.py"))["with_key_ahead"]
    obs = {key: np.ones((1, 2, 7, 7), np.uint8) for key in ("object", "color", "state")}
    obs["object"][0, :, 2, 2] = 5
    edited = paint(obs)
    assert np.argwhere(edited["object"] == 5).tolist() == [[0, 0, 3, 5], [0, 1, 2, 2]]
    assert [int(edited[key][0, 0, 3, 5]) for key in obs] == [5, 4, 0]
    assert [int(edited[key][0, 0, 2, 2]) for key in obs] == [1, 0, 0]


def test_act_in_your_loop_plays_an_exported_agent(run, capsys):
    assert main(["export", str(run)]) == 0
    capsys.readouterr()
    execute("act_in_your_loop.py", run / "agent.safetensors", "--episodes", 2)
    assert re.findall(r"^episode (\d): return", capsys.readouterr().out, re.M) == ["0", "1"]


def test_sweep_toml_dry_run_lists_what_would_be_tried(monkeypatch, capsys):
    monkeypatch.setattr(estimate, "measure", lambda spec, workers: estimate.Cost(60.0, 12, 720.0))
    assert main(["sweep", str(EXAMPLES / "sweep.toml"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "grid:Empty-5x5, 12,000 steps" in out and "each of 12 runs" in out
    assert set(spec.load(EXAMPLES / "sweep.toml").space) == {"agent.optim.lr", "agent.behavior.imag_length"}


def test_compare_sh_compares_with_what_follows_it(run, tmp_path, monkeypatch, capsys):
    shim = tmp_path / "dreamer"
    shim.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    shim.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", str(EXAMPLES / "compare.sh"), "--episodes", "2", "--max-steps", "20"]
    monkeypatch.setenv("PATH", path)
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = [f"run:{run}" if word == "run:runs/example" else word for word in out.splitlines()]
    assert words[:1] == ["compare"] and {"ppo", "scripted", "random"} <= set(words)
    words.remove("ppo")  # tests/test_ppo.py trains it
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0
    assert (tmp_path / "comparison" / "report.html").is_file()


def test_compare_sh_language_model_line_is_a_valid_command():
    text = (EXAMPLES / "compare.sh").read_text()
    (line,) = re.findall(r"^#   sh examples/compare.sh (--agents .*)$", text, re.M)
    kinds = {path: f.type for path, f in schema.paths(COMMANDS["compare"].options).items()}
    _, values = cli.parse(shlex.split(line), kinds, "dreamer compare")
    assert schema.replace_paths(COMMANDS["compare"].options(), values).max_usd == 2


# The notebook is look_inside_a_world_model.ipynb.


def test_notebook_is_small_and_shows_outputs():
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert NOTEBOOK.stat().st_size < 1_000_000 and all(cell.outputs for cell in code)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client", "ignore::DeprecationWarning:zmq")
def test_notebook_runs_to_its_end_and_draws(run, compilation_cache, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    variables = {"DREAMER_RUN": run, machine.CACHE: compilation_cache, "PYTHONPATH": ROOT}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # Pictures that come later than iopub_timeout after the end of their cell are lost: 4 s by default.
    NotebookClient(notebook, timeout=300, iopub_timeout=60, kernel_name="python3").execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    assert sum("image/png" in out.get("data", {}) for out in outputs) == 7
