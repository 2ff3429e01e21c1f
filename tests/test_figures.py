"""The README's figures draw what the result files hold, and say how it compares."""

import json

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from dreamer.schema import ConfigError
from experiments import figures, results_table

VARIANT = {"preset": "dmc-proprio-small", "steps": 30_000, "seeds": 1, "train_ratio": 128.0}
TASKS = ["dmc:cartpole-balance", "dmc:reacher-easy", "dmc:walker-stand", "dmc:ball-in-cup-catch"]


def content(tasks, variants=(VARIANT,)):
    return {"variants": list(variants), "tasks": dict.fromkeys(tasks, {})}


def rows(tasks):
    return [
        {"task": task, "env_steps": str(at), "return": str(100.0 * i)}
        for task in tasks
        for i, at in enumerate((8000, 8000, 16000))
    ]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    saved = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda f, *a, **k: (saved.append(f), save(f, *a, **k))
    )
    return saved


@pytest.mark.parametrize(("count", "panels"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2))])
def test_curves_one_panel_for_each_task_with_episodes(tmp_path, drawn, count, panels):
    figures.curves(content(TASKS), rows(TASKS[:count]), tmp_path / "curves.png")
    axes = drawn[0].axes
    assert [ax.get_title(loc="left") for ax in axes] == TASKS[:count]
    assert axes[0].get_gridspec().get_geometry() == panels
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > 500


def test_curves_draw_means_of_episodes_that_ended_together_before_the_published_ones(tmp_path, drawn):
    figures.curves(content(TASKS[:1]), rows(TASKS[:1]), tmp_path / "curves.png")
    grey, ours = drawn[0].axes[0].get_lines()
    np.testing.assert_allclose(ours.get_xydata(), [(8000, 50), (16000, 200)])
    assert grey.get_color() == figures.QUIET and grey.get_xydata()[2].tolist() == [30_000, 370.7]
    title = drawn[0].get_suptitle()
    assert "one seed" in title and "30,000 steps" in title and "1/8 of the published updates" in title


@pytest.mark.parametrize("case", [(content(TASKS), []), (content(TASKS, (VARIANT, VARIANT)), rows(TASKS))])
def test_curves_of_nothing_or_of_several_variants_are_refused(tmp_path, case):
    with pytest.raises(ConfigError, match="one variant with finished runs can be drawn"):
        figures.curves(*case, tmp_path / "curves.png")


def test_benchmark_stored_results_are_drawn_beside_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    stored = results_table.RESULTS / "benchmarks" / "dmc-proprio-small"
    for suffix in (".json", "-episodes.csv"):
        (folder / f"small{suffix}").write_text(stored.with_name(stored.name + suffix).read_text())
    figures.main(["curves", "small"])
    assert str(folder / "small.png") in capsys.readouterr().out
    shown = json.loads((folder / "small.json").read_text())["tasks"]
    assert shown and (folder / "small.png").read_bytes().startswith(b"\x89PNG")
