"""Runs that earlier versions wrote load, go on and hold what they held (`tests/formats/README.md`)."""

import hashlib
import json
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

import dreamer
from dreamer import config
from dreamer.checkpoint import VERSION, CheckpointStore
from dreamer.migrations import MIGRATIONS, renamed
from experiments.training import session
from experiments.training.run import train

pytestmark = pytest.mark.usefixtures("compilation_cache")

FORMATS = Path(__file__).parent / "formats"
STATES = json.loads((FORMATS / "states.json").read_text())


@pytest.fixture(params=STATES)
def run(request, tmp_path):
    """A run folder of format 2, unpacked."""
    with tarfile.open(FORMATS / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / request.param


def state_of(run: Path):
    """The whole learner of the newest checkpoint, of all members."""
    store = CheckpointStore(run / "checkpoints")
    member = run / "members" / "000"
    agent = dreamer.load(member if member.is_dir() else run).agent
    init = jax.vmap(agent.init) if member.is_dir() else agent.init
    keys = jax.random.split(jax.random.key(0), 2) if member.is_dir() else jax.random.key(0)
    return store.load(jax.eval_shape(init, keys), replay=False)[1]


def digest(tree) -> str:
    """Of every leaf and its path."""
    found, leaves = hashlib.sha256(), jax.tree_util.tree_leaves_with_path(tree)
    for name, leaf in sorted(
        (jax.tree_util.keystr(p, simple=True, separator="/"), leaf) for p, leaf in leaves
    ):
        found.update(name.encode())
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


def test_load_run_of_format_2_restores_every_part(run):
    state = state_of(run)
    assert STATES[run.name] == {
        "params": digest(state.params),
        "slow/value": digest(state.slow["value"]),
        "stats/returns": digest(state.stats["returns"]),
        "opt": digest(state.opt),
        "updates": int(np.ravel(state.updates)[0]),
    }


def test_train_run_of_format_2_continues_and_saves_the_current_format(run):
    longer = config.load_toml(run / "config.toml")
    train(config.from_dict({"steps": longer.steps + 100}, longer), run)
    store = CheckpointStore(run / "checkpoints")
    assert store.steps()[-1] >= longer.steps + 100 and not store.faults()
    assert int(np.ravel(state_of(run).updates)[0]) > STATES[run.name]["updates"]
    session.check_folder(run, config.load_toml(run / "config.toml"), ())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("slow_value/out/bias", "slow/value/out/bias"),
        ("returns/low", "stats/returns/low"),
        ("params/value/out/bias", "params/value/out/bias"),
        ("loop/returns", "loop/returns"),
    ],
)
def test_renamed_leaf_of_format_2_returns_the_new_name(old, new):
    assert renamed(old, 2) == renamed(old, 1) == new
    assert renamed(new, 3) == new


def test_migrations_all_entries_are_older_than_the_current_version():
    assert all(last < VERSION for last in MIGRATIONS)
