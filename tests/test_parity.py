"""The comparison with the reference: its files are read, its flags say what ours say, its worlds are ours."""

import json
from dataclasses import asdict
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import envs
from experiments.parity import launch, outcome, picture
from experiments.parity.__main__ import Options, programs, train
from experiments.parity.settings import Settings, our_flags, reference_flags


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_reference_episodes_scores_file_gives_slots_and_returns(tmp_path):
    lines(
        tmp_path / "scores.jsonl", [{"step": 40, "episode/score": 9.0}, {"step": 61, "episode/score": 20.0}]
    )
    assert outcome.reference_episodes(tmp_path) == [(40, 9.0), (61, 20.0)]


def test_our_episodes_environment_steps_become_slots_by_hand(tmp_path):
    """Two copies: o0 a b(last) | o0' c d, and o0 a b c d(last): the ends are at slots 6 and 10."""
    lines(tmp_path / "episodes.jsonl", [{"env_steps": 4, "return": 2.0}, {"env_steps": 7, "return": 4.0}])
    assert outcome.our_episodes(tmp_path, num_envs=2) == [(6, 2.0), (10, 4.0)]


@pytest.mark.parametrize("text", [None, "", '{"step": 3}\n', "no JSON\n", "3\n"])
def test_reference_episodes_nothing_to_read_names_the_file(tmp_path, text):
    if text is not None:
        (tmp_path / "scores.jsonl").write_text(text)
    with pytest.raises(outcome.RunError, match=r"scores\.jsonl"):
        outcome.reference_episodes(tmp_path)


def test_last_half_is_the_mean_of_episodes_after_the_middle():
    episodes = [outcome.Episode(*e) for e in ((10, 1.0), (50, 2.0), (51, 3.0), (100, 5.0), (101, 99.0))]
    assert outcome.last_half(episodes, 100) == 4.0


def test_last_half_without_episodes_says_so():
    with pytest.raises(outcome.RunError, match="between step 50 and 100"):
        outcome.last_half([outcome.Episode(50, 1.0)], 100)


def test_of_side_two_constant_seeds_give_their_curves_and_mean():
    runs = [[outcome.Episode(slot, score) for slot in range(1, 101)] for score in (1.0, 3.0)]
    side = outcome.of_side(runs, 100)
    assert (side["last_half"], side["mean"], side["episodes"]) == ([1.0, 3.0], 2.0, [100, 100])
    assert [curve[-1] for curve in side["curves"]] == [1.0, 3.0]
    assert side["interval"] == (1.0, 3.0)  # of two values a quarter of the resamples are all of one


def test_difference_by_hand_has_sign_interval_and_p():
    gap = outcome.difference([3.0, 4.0], [1.0, 2.0])
    assert gap["ours_minus_reference"] == 2.0
    assert gap["interval"][0] < 2.0 < gap["interval"][1]
    assert gap["permutation_p"] == pytest.approx(2 / 6)


def test_difference_one_seed_has_no_interval_and_no_p():
    gap = outcome.difference([3.0], [1.0])
    assert gap == {"ours_minus_reference": 2.0, "interval": None, "permutation_p": None}


@pytest.mark.parametrize("seeds", [1, 2])
def test_draw_any_number_of_seeds_gives_a_picture(tmp_path, seeds):
    episodes = [outcome.Episode(slot, float(slot)) for slot in range(1, 101)]
    side = outcome.of_side([episodes] * seeds, 100)
    content = {"ours": side, "reference": side, "settings": asdict(Settings())}
    gap = outcome.difference(side["last_half"], side["last_half"])
    picture.draw(content | {"difference": gap}, tmp_path / "parity.png")
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_flags_shared_settings_have_equal_values_on_both_sides(tmp_path):
    settings = Settings(lr=1e-3, warmup=7, imag_last=3, horizon=50, entropy=0.5, rec=2.0, batch_length=9)
    theirs, ours = reference_flags(settings, 4, tmp_path), our_flags(settings, 4, tmp_path)
    theirs, ours = (dict(zip(f[::2], f[1::2], strict=True)) for f in (theirs, ours))
    names = {
        **{"task": "task", "seed": "seed", "run.steps": "steps", "run.envs": "loop.num-envs"},
        **{"batch_size": "loop.batch-size", "batch_length": "loop.batch-length"},
        **{"run.train_ratio": "loop.train-ratio", "agent.opt.lr": "agent.optim.lr"},
        **{"agent.opt.warmup": "agent.optim.warmup", "agent.imag_last": "agent.behavior.imag-last"},
        **{"agent.imag_length": "agent.behavior.imag-length", "agent.horizon": "agent.behavior.horizon"},
        **{"agent.imag_loss.actent": "agent.behavior.entropy", "agent.loss_scales.rec": "agent.loss.rec"},
        **{"agent.loss_scales.repval": "agent.loss.replay-value"},
    }
    assert {theirs[f"--{a}"] for a in names} == {ours[f"--{b}"] for b in names.values()}
    assert all(theirs[f"--{a}"] == ours[f"--{b}"] for a, b in names.items())


def test_our_flags_are_options_of_dreamer_train(tmp_path, capsys):
    """All are understood: what is refused is the number of steps, which is checked last."""
    from experiments.cli import main

    assert main(["train", "dreamerv3", *our_flags(Settings(steps=0), 0, tmp_path / "run")])
    assert "steps must be a whole number of at least 1" in capsys.readouterr().err


def test_by_position_arguments_reach_jit_by_name():
    seen = {}
    compiled = launch.by_position(lambda function, **named: seen.update(named) or function)
    compiled(abs, None, "out", (2,), None, [0], keep_unused=True)
    assert seen == {
        "out_shardings": "out",
        "static_argnums": (2,),
        "donate_argnums": [0],
        "keep_unused": True,
    }


@pytest.fixture
def elements(monkeypatch):
    """Stands in for the reference's package of spaces."""
    space = lambda dtype, shape=(), low=None, high=None: SimpleNamespace(
        dtype=dtype, shape=shape, low=low, high=high
    )
    monkeypatch.setitem(__import__("sys").modules, "elements", SimpleNamespace(Space=space))


def test_world_cartpole_plays_what_our_copy_plays(elements):
    """The third copy of a run with seed 5, over several episodes and their resets."""
    world, ours = launch.World("gymnasium:CartPole-v1", 5, 2), envs.make("gymnasium:CartPole-v1", 3, seed=5)
    step = ours.reset()
    reset, rng = True, np.random.default_rng(0)
    action = np.zeros(3, np.int32)
    for _ in range(100):
        theirs = world.step({"action": action[2], "reset": reset})
        np.testing.assert_array_equal(theirs["vector"], step.obs["vector"][2])
        for key in ("reward", "is_first", "is_last", "is_terminal"):
            assert theirs[key] == getattr(step, key)[2]
        reset, action = theirs["is_last"], rng.integers(2, size=3).astype(np.int32)
        step = ours.step({"action": action})
    assert ours.episodes[2] > 2


def test_world_time_limit_is_last_but_not_terminal(elements, monkeypatch):
    short = partial(envs.make, max_episode_steps=3)
    monkeypatch.setattr(envs, "make", short)
    world = launch.World("gymnasium:CartPole-v1", 0, 0)
    world.step({"action": 0, "reset": True})
    steps = [world.step({"action": i % 2, "reset": False}) for i in range(3)]
    assert [s["is_last"] for s in steps] == [False, False, True]
    assert not steps[-1]["is_terminal"]


def test_world_symbolic_view_is_a_vector_of_categories(elements):
    world = launch.World("minigrid:DoorKey-5x5", 0, 0)
    first = world.step({"action": 0, "reset": True})
    for key in first.keys() - {"reward", "is_first", "is_last", "is_terminal"}:
        space = world.obs_space[key]
        assert first[key].shape == space.shape and first[key].ndim <= 1
        assert (first[key] >= space.low).all() and (first[key] < space.high).all()


def test_train_finished_run_is_not_repeated_and_other_settings_are_refused(tmp_path):
    folder, log = tmp_path / "ours" / "seed0", tmp_path / "count"
    program = ["bash", "-c", f"mkdir -p {folder}; echo $0 >> {log}"]
    first = train("ours", program, ["--lr"], folder, {})
    assert train("ours", program, ["--lr"], folder, {}) == first
    assert log.read_text() == "--lr\n"
    with pytest.raises(SystemExit, match="other settings"):
        train("ours", program, ["--warmup"], folder, {})


def test_train_failure_names_the_log(tmp_path):
    with pytest.raises(SystemExit, match=r"exit status 3: see .*seed0\.log"):
        train("ours", ["bash", "-c", "exit 3"], [], tmp_path / "ours" / "seed0", {})


def test_programs_missing_reference_or_python_is_named(tmp_path):
    options = Options(Settings(), reference=tmp_path, python=tmp_path / "python")
    with pytest.raises(SystemExit, match=r"has no dreamerv3/main\.py"):
        programs(options)
    (tmp_path / "dreamerv3").mkdir()
    (tmp_path / "dreamerv3" / "main.py").touch()
    with pytest.raises(SystemExit, match=r"--python .*python is missing"):
        programs(options)
