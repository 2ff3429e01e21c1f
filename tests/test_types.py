"""The type checker finds misspelt names wherever a variant may come: typos are planted in a copy."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECKER = Path(sys.executable).with_name("pyrefly")
TYPOS = [
    ("dreamer/agent.py", "frozen.imagine(", "frozen.imagin("),
    ("dreamer/agent.py", "batch.reward.shape", "batch.rewrad.shape"),
    ("dreamer/agent.py", "key=observe_key", "kye=observe_key"),
    ("dreamer/agent.py", "world.policy_head, critic", "world.policy_haed, critic"),
    ("dreamer/actors/charged.py", "world.with_cost(", "world.with_costs("),
    ("dreamer/ops/optim.py", "numbers.rate_factors", "numbers.rate_factrs"),
    ("dreamer/ops/optim.py", "cfg.lr, cfg.warmup", "cfg.lrr, cfg.warmup"),
    ("experiments/training/agents.py", "self.loop.flush()", "self.loop.flsh()"),
    ("dreamer/behavior/actor_critic.py", "cfg.return_rate", "cfg.retrun_rate"),
    ("dreamer/ops/optim.py", "cfg.weight_decay", "cfg.weight_decai"),
    (
        "dreamer/inspection.py",
        "world.rollout(latent, action, key=key))",
        "world.rolout(latent, action, key=key))",
    ),
    ("dreamer/world.py", "self.numbers.loss.free_nats", "self.numbers.loss.free_nat"),
    (
        "dreamer/rssm.py",
        "weights = self.core.weights(), posterior",
        "weights = self.core.weight(), posterior",
    ),
    ("dreamer/replay/device.py", "self.layout.steps(", "self.layout.stps("),
]
"""File, what stands there, and what stands there with a typo."""


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the packages to plant typos in."""
    if not CHECKER.exists():
        pytest.skip("pyrefly is not installed")
    folder = tmp_path_factory.mktemp("copy")
    for name in ("dreamer", "envs", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    for name in ("dreamer_cli.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def found(folder: Path) -> set[str]:
    """{FILE:LINE} of every error."""
    command = [CHECKER, "check", "--python-interpreter-path", sys.executable]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    return set(re.findall(r"ERROR [^\n]*\n\s*--> ([^\s:]+:\d+)", said.stdout + said.stderr))


def test_types_planted_typos_are_found(copied):
    assert found(copied) == set(), "the copy is as right as what it was copied from"
    planted = set()
    for name, right, wrong in TYPOS:
        path = copied / name
        text = path.read_text()
        assert text.count(right) == 1, f"{name}: {right}"
        planted.add(f"{name}:{text[: text.index(right)].count(chr(10)) + 1}")
        path.write_text(text.replace(right, wrong))
    assert planted <= found(copied)


CALL = """
from jax import Array

from dreamer.records import Latent
from dreamer.world import World


def reached(world: World, latent: Latent, action: dict[str, Array], key: Array) -> Latent:
    return world.step(latent, action, kye=key)
"""


def test_type_checker_wrong_keyword_of_world_step_is_found(copied):
    (copied / "dreamer" / "planted.py").write_text(CALL)
    line = CALL.split("\n").index("    return world.step(latent, action, kye=key)") + 1
    assert f"dreamer/planted.py:{line}" in found(copied)


def test_type_checker_objective_without_decode_is_found(copied):
    path = copied / "dreamer" / "objectives" / "reconstruction.py"
    path.write_text(path.read_text().replace("def decode", "def decoed"))
    assert any(place.startswith("dreamer/objectives/__init__.py") for place in found(copied))


def test_type_checker_actor_without_init_is_found(copied):
    path = copied / "dreamer" / "actors" / "uniform.py"
    path.write_text(path.read_text().replace("def init", "def inti"))
    assert any(place.startswith("dreamer/actors/__init__.py") for place in found(copied))
