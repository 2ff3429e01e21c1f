"""What is said of the package in several places is the same everywhere, and scripts that are named exist."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_version_is_the_same_in_every_file():
    version = PROJECT["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_python_versions_of_workflow_and_classifiers_agree():
    listed = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["python"] == listed
    assert PROJECT["project"]["requires-python"] == f">={listed[0]}"
    assert set(WORKFLOW["jobs"]["wheel"]["strategy"]["matrix"]["python"]) <= set(listed)


def test_workflow_runs_scripts_and_extras_that_exist():
    commands = "\n".join(step.get("run", "") for step in STEPS)
    scripts = re.findall(r"\.ci/\w+", commands)
    assert set(scripts) == {".ci/run", ".ci/wheel"}
    assert all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize("package", ["dreamer", "envs", "experiments"])
def test_package_declares_its_annotations(package):
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][package]


@pytest.mark.parametrize("package", ["envs", "experiments", "dreamer"])
def test_package_data_patterns_match_files(package):
    for pattern in PROJECT["tool"]["setuptools"]["package-data"][package]:
        assert list((ROOT / package).glob(pattern)), f"{package}: {pattern}"


def test_dockerfile_names_extras_that_exist():
    extras = re.findall(r"EXTRAS=([\w ]+)", (ROOT / "Dockerfile").read_text())
    assert {name for words in extras for name in words.split()} <= set(
        PROJECT["project"]["optional-dependencies"]
    )
    assert extras
