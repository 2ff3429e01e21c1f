"""`dreamer imagine`: a run whose behaviour learns on in dreams, as a file that everything can load."""

import json

import jax
import numpy as np
import pytest
import tiny

import dreamer
from dreamer import schema
from experiments.cli import main
from experiments.imagine import imagine
from experiments.imagine.options import ImagineOptions
from experiments.training import run

pytestmark = pytest.mark.usefixtures("compilation_cache")


@pytest.fixture(scope="module", params=["probe:chosen", "grid:Catch"])
def trained(request, tmp_path_factory):
    """A short run of the loop of the host, and of that of the device."""
    folder = tmp_path_factory.mktemp("imagine") / "run"
    cfg = schema.replace_paths(tiny.RUN, {"task": request.param, "eval.episodes": 0})
    assert run.train(cfg, folder) == 0
    return folder


def test_imagine_writes_agent_with_other_behavior_and_same_world_model(trained, tmp_path, capsys):
    out = tmp_path / "agent.safetensors"
    words = ["imagine", str(trained), "--updates", "3", "--cost", "ending=2", "--out", str(out), "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["updates"] == 3 and result["complete"] and result["wanted"]["wishes"] == ["ending=2"]
    assert json.loads((tmp_path / "agent.safetensors.json").read_text()) == result
    before, after = dreamer.load(trained), dreamer.load(out)
    assert after.counters == {**before.counters, "imagined_updates": 3}
    same = lambda name: all(
        map(np.array_equal, *(jax.tree.leaves(p.everything[name]) for p in (before, after)))
    )
    assert {name for name in before.everything if not same(name)} == {"policy", "value"}
    assert main(["eval", str(out), "--episodes", "2"]) == 0


def test_imagine_repeats_by_seed_and_refuses_to_overwrite(trained, tmp_path, capsys):
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors")]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        assert main(["imagine", str(trained), "--updates", "2", "--seed", str(seed), "--out", str(file)]) == 0
    first, second, other = ([np.asarray(x) for x in jax.tree.leaves(dreamer.load(f).params)] for f in files)
    assert all(map(np.array_equal, first, second)) and not all(map(np.array_equal, first, other))
    assert main(["imagine", str(trained), "--updates", "2", "--out", str(files[0])]) == 2
    assert "exists already" in capsys.readouterr().err


def test_imagine_interrupted_keeps_what_was_learned(trained, tmp_path, monkeypatch, capsys):
    out = tmp_path / "agent.safetensors"
    sampler = imagine.recorded.sampler

    def interrupted(*args):
        sample, count = sampler(*args), iter([0, 1])

        def draw(key):
            if next(count, None) is None:
                raise KeyboardInterrupt
            return sample(key)

        return draw

    monkeypatch.setattr(imagine.recorded, "sampler", interrupted)
    assert imagine.imagine(trained, ImagineOptions(updates=5, out=str(out))) == 0
    assert "interrupted after 2 of 5 updates" in capsys.readouterr().err
    assert dreamer.load(out).counters["imagined_updates"] == 2


def test_imagine_interrupted_before_it_learned_writes_nothing(trained, tmp_path, monkeypatch, capsys):
    def interrupted(key):
        raise KeyboardInterrupt

    monkeypatch.setattr(imagine.recorded, "sampler", lambda *args: interrupted)
    assert main(["imagine", str(trained), "--out", str(tmp_path / "agent.safetensors")]) == 130
    assert capsys.readouterr().err.endswith("dreamer: interrupted\n") and not list(tmp_path.iterdir())


def test_imagine_never_replaces_other_files_or_learns_what_it_cannot_write(trained, tmp_path, capsys):
    (tmp_path / "agent.safetensors.json").write_text("{}")
    (tmp_path / "file").write_text("")
    for out, sentence in (
        ("agent.safetensors", "agent.safetensors.json exists already"),
        ("file/agent.safetensors", "agent.safetensors cannot be written"),
    ):
        assert main(["imagine", str(trained), "--out", str(tmp_path / out)]) == 2
        assert sentence in capsys.readouterr().err
    assert (tmp_path / "agent.safetensors.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("file.safetensors", "is a file, but dreams start from the replay of a run"),
        ("members/000", "is a member of a population"),
        ("nothing", "There is no run folder"),
    ],
)
def test_imagine_without_run_is_refused(tmp_path, capsys, place, sentence):
    if place.startswith("file"):
        (tmp_path / place).write_text("")
    assert main(["imagine", str(tmp_path / place)]) == 2
    assert sentence in capsys.readouterr().err


def test_imagine_loss_that_is_no_number_is_refused_and_writes_nothing(trained, tmp_path, capsys):
    out = tmp_path / "agent.safetensors"
    (tmp_path / "wish.py").write_text(
        "def nan(world, latent, decoded):\n    return latent.deter[:, 0] * float('nan')\n"
    )
    words = [
        "imagine",
        str(trained),
        "--cost",
        f"{tmp_path}/wish.py:nan",
        "--out",
        str(out),
        "--updates",
        "2",
    ]
    assert main(words) == 2
    assert "a loss is not finite after" in capsys.readouterr().err and not out.exists()
