"""A folder is known by the file that says what it is."""

import pytest

from experiments.board import rows
from experiments.board.files import Listing


@pytest.mark.parametrize(
    ("path", "files", "folders", "kind"),
    [
        ("runs/a", ["config.toml"], [], "run"),
        ("runs/a", ["config.toml", "report.html"], ["checkpoints"], "run"),
        ("runs/a", ["config.toml"], ["members"], "population"),
        ("runs/a/members/000", ["config.toml"], [], "member"),
        ("members", ["config.toml"], [], "run"),
        ("runs/a", ["metrics.jsonl", "episodes.jsonl"], [], "run"),
        ("ppo", ["ppo.json", "metrics.jsonl", "episodes.jsonl"], [], "ppo"),
        ("sweep", ["sweep.toml", "report.html"], ["trials"], "sweep"),
        ("dmc", ["benchmark.toml", "benchmark.html"], ["runs"], "benchmark"),
        ("comparison", ["compare.json", "report.html"], [], "comparison"),
        ("", ["report.html"], [], "page"),
        ("docs", ["index.html", "pyproject.toml"], ["src"], ""),
        ("docs", ["metrics.jsonl"], [], ""),
    ],
)
def test_kind_of_a_folder_follows_from_its_names(path, files, folders, kind):
    assert rows.kind(path, Listing(frozenset(files), tuple(folders))) == kind


def test_page_of_a_benchmark_is_its_report():
    assert rows.page(Listing(frozenset({"benchmark.html", "benchmark.toml"}), ())) == "benchmark.html"
    assert rows.page(Listing(frozenset({"other.html"}), ())) == ""
