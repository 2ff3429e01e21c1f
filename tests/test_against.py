"""Two programs are timed in turns, and what one of them says when it fails is shown."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dreamer.schema import ConfigError
from experiments import machine
from experiments.bench import against, reference, turns

HERE = Path(turns.__file__).parent
SIDE = """
import sys, time
sys.path.insert(0, {place!r})
import turns
def build():
    calls = []
    def update():
        calls.append(time.sleep({first} if not calls else {later}))
        print("noise on standard output")
    update.about = {{"dtype": "float32"}}
    return update
turns.serve(build)
"""


@pytest.fixture
def sides(tmp_path, monkeypatch):
    """Ours takes 0.01 s and the reference 0.03 s; they compile for 0.1 and 0.3 s."""
    repository = tmp_path / "dreamerv3"
    (repository / "dreamerv3").mkdir(parents=True)
    (repository / against.NEEDED).touch()
    for name, first, later in (("ours", 0.11, 0.01), ("reference", 0.33, 0.03)):
        (tmp_path / f"{name}.py").write_text(SIDE.format(place=str(HERE), first=first, later=later))
    monkeypatch.setattr(against, "REFERENCE", tmp_path / "reference.py")
    monkeypatch.setattr(
        machine, "command", lambda module, *words: [sys.executable, str(tmp_path / "ours.py"), *words]
    )
    return repository


def test_run_two_programs_gives_medians_of_ratios(sides, capsys):
    code = against.run(Path(sys.executable), sides, ["1m"], ["vector"], 2, 3, pairs=4, json=True)
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert code == 0 and set(row) == set(against.COLUMNS)
    assert row["wall"] == pytest.approx(1 / 3, rel=0.3) and row["compile"] == pytest.approx(1 / 3, rel=0.3)
    assert row["ours_ms"] < row["reference_ms"] and 0.5 < row["memory"] < 2


def test_run_program_that_fails_is_shown_by_its_last_words(sides, tmp_path, capsys):
    (tmp_path / "reference.py").write_text("import nothing_like_that")
    assert against.run(Path(sys.executable), sides, ["1m"], ["vector"], 2, 3, pairs=2) == 1
    assert (
        "1m vector could not be measured: ModuleNotFoundError: No module named 'nothing_like_that'"
        in " ".join(capsys.readouterr().err.split())
    )


@pytest.mark.parametrize(("python", "folder"), [("nowhere", "dreamerv3"), (sys.executable, "nowhere")])
def test_run_place_that_is_not_there_is_one_sentence(sides, tmp_path, python, folder):
    places = tmp_path / python if python == "nowhere" else Path(python), tmp_path / folder
    with pytest.raises(ConfigError, match="give --against its Python and --reference its folder"):
        against.run(*places, ["1m"], ["vector"], 2, 3, pairs=2)


def test_turns_first_of_a_pair_changes():
    order = []
    side = lambda name: SimpleNamespace(update=lambda: order.append(name) or {"name": name})
    pairs = list(against.turns(side("ours"), side("reference"), 3))
    assert order == ["ours", "reference", "reference", "ours", "ours", "reference"]
    assert [(a["name"], b["name"]) for a, b in pairs] == [("ours", "reference")] * 3


def test_serve_update_that_knows_its_compilation_is_believed(capsys, monkeypatch):
    class Update:
        about = {"compile_s": 12.5, "dtype": "bfloat16"}  # noqa: RUF012

        def __call__(self):
            pass

    monkeypatch.setattr(sys, "stdin", iter(["\n", "\n"]))
    turns.serve(Update)
    first, *rows, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"compile_s": 12.5, "dtype": "bfloat16"} and len(rows) == 2 and last["peak_mb"] > 1


def test_noise_reference_space_has_shape_dtype_and_range():
    rng, make = (
        np.random.default_rng(0),
        lambda shape, dtype, high: SimpleNamespace(shape=shape, dtype=dtype, high=high),
    )
    image = reference.noise(rng, make((4, 4, 3), np.uint8, 255), (2, 3))
    assert image.shape == (2, 3, 4, 4, 3) and image.dtype == np.uint8 and image.max() > 100
    action = reference.noise(rng, make((), np.int32, reference.ACTIONS), (50,))
    assert set(action) == set(range(reference.ACTIONS))
    assert reference.noise(rng, make((8,), np.float32, np.inf), (50,)).std() > 0.5
    assert not reference.noise(rng, make((), np.dtype(bool), True), (50,)).any()
    assert not reference.noise(rng, make((), np.int32, 2**31 - 1), (50,)).any()


def test_reference_spaces_are_those_of_ours():
    from experiments.bench.bench import ACT, OBS

    ours = {key: (space.shape, np.dtype(space.dtype).type) for key, space in OBS.items()}
    assert ours == reference.OBS and ACT["action"].num_classes == reference.ACTIONS
