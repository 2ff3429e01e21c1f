"""An exported agent is the agent of the run, and a file that is anything else is refused in one sentence."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tiny

import dreamer
from dreamer import export
from dreamer.checkpoint import CheckpointError
from dreamer.player import Player
from envs.api import Step
from experiments import cli
from experiments import export as command

ROOT = Path(dreamer.__file__).resolve().parents[1]

pytestmark = pytest.mark.usefixtures("compilation_cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Of an agent with a discrete and a continuous action."""
    folder = tiny.store(tmp_path_factory.mktemp("runs") / "run", tiny.state(), tiny.agent())
    export.save(dreamer.load(folder), folder / "agent.safetensors")
    return folder


@pytest.fixture
def file(run, tmp_path) -> Path:
    """A file of one's own, to be damaged."""
    return Path(shutil.copy(run / "agent.safetensors", tmp_path))


def play(player: Player, batch: int | None) -> list[dict[str, list]]:
    """The actions of three steps, as lists."""
    rng, carry, actions = np.random.default_rng(0), player.init(batch), []
    shape = () if batch is None else (batch,)
    for t in range(3):
        flags = np.full(shape, t == 0)
        obs = tiny.observation(rng, *shape)
        step = Step(obs, np.zeros(shape, np.float32), flags, ~flags, ~flags)
        action, carry = player.act(carry, step, key=t)
        actions.append({k: v.tolist() for k, v in action.items()})
    return actions


def size_of_arrays(file: Path) -> int:
    content = file.read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")


# The same agent.


@pytest.mark.parametrize("batch", [None, 3])
def test_export_loaded_agent_acts_as_run(batch, run):
    assert play(dreamer.load(run / "agent.safetensors"), batch) == play(dreamer.load(run), batch)


def test_export_loaded_agent_has_identical_parameters_and_metadata(run):
    ours, theirs = dreamer.load(run / "agent.safetensors"), dreamer.load(run)
    assert jax.tree.structure(ours.everything) == jax.tree.structure(theirs.everything)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (ours.everything, theirs.everything))))
    assert ours.config == theirs.config and ours.counters == theirs.counters
    assert (ours.agent.obs_space, ours.agent.act_space) == (tiny.OBS, tiny.ACT)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_export_half_precision_halves_size_and_loads_as_float32(dtype, run, tmp_path):
    whole, half = run / "agent.safetensors", tmp_path / "half"
    export.save(dreamer.load(whole), half, dtype=np.dtype(dtype).name)
    assert 2 * size_of_arrays(half) == size_of_arrays(whole)
    leaves = zip(*(jax.tree.leaves(dreamer.load(p).everything) for p in (half, whole)), strict=True)
    for ours, theirs in leaves:
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, np.asarray(theirs).astype(dtype).astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_export_column_major_arrays_write_identical_file(dtype, run, tmp_path):
    """safetensors 0.8 writes an array as it lies in memory, and says nothing of its order."""
    player = dreamer.load(run)
    export.save(player, tmp_path / "rows", dtype=dtype)
    player.everything |= jax.tree.map(np.asfortranarray, jax.device_get(player.everything))
    assert not all(leaf.flags.c_contiguous for leaf in jax.tree.leaves(player.everything))
    export.save(player, tmp_path / "columns", dtype=dtype)
    assert (tmp_path / "columns").read_bytes() == (tmp_path / "rows").read_bytes()
    dreamer.load(tmp_path / "columns")


def test_export_float16_overflow_raises_checkpoint_error(run, tmp_path):
    player = dreamer.load(run)
    player.everything["value"] = jax.tree.map(lambda x: x + 1e5, player.everything["value"])
    with pytest.raises(CheckpointError, match="float16 cannot hold the largest number of 'value.*bfloat16"):
        export.save(player, tmp_path / "x", dtype="float16")
    export.save(player, tmp_path / "x", dtype="bfloat16")


def test_export_loaded_alone_in_new_process_acts_as_run(run, tmp_path):
    obs = tiny.observation(np.random.default_rng(0))
    player = dreamer.load(run)
    expected, _ = player.act(player.init(), obs)
    moved, alone = tmp_path / "run", tmp_path / "elsewhere" / "x.safetensors"
    shutil.copytree(run, moved)
    (moved / "agent.safetensors").unlink()
    assert cli.main(["export", str(moved), str(alone)]) == 0
    shutil.rmtree(moved)
    script = """
import json, sys, dreamer
agent = dreamer.load(sys.argv[1])
action, _ = agent.act(agent.init(), json.loads(sys.argv[2]))
print(json.dumps({k: v.tolist() for k, v in action.items()}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, alone, json.dumps({k: v.tolist() for k, v in obs.items()})],
        cwd=alone.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout or "{}") == {k: v.tolist() for k, v in expected.items()}, done.stderr


# What is refused.


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        dreamer.load(path)
    text = str(error.value)
    assert "\n" not in text and text.startswith(str(path))
    return text


def npz() -> bytes:
    np.savez(buffer := io.BytesIO(), x=np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"a text, which is no agent at all", npz()], ids=["empty", "json", "text", "npz"]
)
def test_load_foreign_file_raises_checkpoint_error(content, file):
    file.write_bytes(content)
    assert refused(file).endswith("is not a file that `dreamer export` wrote")


@pytest.mark.parametrize("said", [None, {"dreamer": "hello"}, {"dreamer": '{"format": "x", "version": 1}'}])
def test_load_foreign_safetensors_file_raises_checkpoint_error(said, file):
    safetensors.numpy.save_file({"x": np.zeros(3)}, file, said)
    assert refused(file).endswith("is a safetensors file, but not one that `dreamer export` wrote")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_load_truncated_file_raises_checkpoint_error(share, file):
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert refused(file).endswith("is damaged or incomplete: copy or export it again")


def test_load_file_with_flipped_bit_raises_checkpoint_error(file):
    content = file.read_bytes()
    for place in range(0, len(content), len(content) // 97):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        refused(file)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "is damaged: it does not have the digest" in refused(file)


def test_load_file_with_changed_config_value_raises_checkpoint_error(file):
    content = file.read_bytes()
    assert content.count(rb"\"min_std\": 0.1,") == 1
    file.write_bytes(content.replace(rb"\"min_std\": 0.1,", rb"\"min_std\": 0.2,"))
    assert "is damaged: it does not have the digest" in refused(file)


def rewrite(path: Path, change) -> None:
    """Change what a file says or holds, as another writer would, with the digest of that."""
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "np") as opened:
        meta = json.loads(opened.metadata()["dreamer"])
    del meta["sha256"]
    change(meta, arrays)
    meta["sha256"] = export._digest(meta, arrays)
    safetensors.numpy.save_file(arrays, path, {"dreamer": json.dumps(meta)})


NAME = "policy.out.move.kernel"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda meta, arrays: meta.update(version=2),
            "has the format dreamer-agent 2, but this version of dreamer-toolkit reads dreamer-agent up to 1",
        ),
        (lambda meta, arrays: arrays.pop(NAME), f"lacks the parameters '{NAME}'"),
        (
            lambda meta, arrays: arrays.update(extra=np.zeros(2, np.float32)),
            "holds 'extra', which is not a parameter of its agent",
        ),
        (
            lambda meta, arrays: arrays.update({NAME: arrays[NAME][:-1]}),
            f"holds the shape [7, 3] at '{NAME}', but [8, 3] is expected there",
        ),
        (
            lambda meta, arrays: arrays.update({NAME: arrays[NAME].astype(np.int32)}),
            f"holds I32 at '{NAME}', but parameters are float32, bfloat16, float16",
        ),
        (lambda meta, arrays: meta["act_space"]["move"].pop("classes"), "incomplete header"),
        (lambda meta, arrays: meta.pop("config"), "has an incomplete header (KeyError: 'config')"),
        (lambda meta, arrays: meta["obs_space"]["vector"].update(shape="wide"), "a wrong header"),
        (lambda meta, arrays: meta["obs_space"]["vector"].update(shape=[10**400]), "a wrong header"),
        (lambda meta, arrays: meta["obs_space"]["vector"].update(shape=[2**20] * 3), "a wrong header"),
        (lambda meta, arrays: meta["obs_space"]["vector"].update(dtype="<U9"), "a wrong header"),
        (
            lambda meta, arrays: meta["config"]["agent"]["rssm"].update(deter=10**400),
            "a number of 401 digits",
        ),
        (lambda meta, arrays: meta["counters"].update(env_steps="many"), "a wrong header"),
        (lambda meta, arrays: meta["counters"].update(env_steps=10**400), "a wrong header"),
        (
            lambda meta, arrays: arrays.update({NAME: arrays[NAME] * np.nan}),
            f"holds numbers that are not finite at '{NAME}'",
        ),
    ],
)
def test_load_inconsistent_file_raises_with_reason(change, sentence, file):
    rewrite(file, lambda meta, arrays: None)
    dreamer.load(file)
    rewrite(file, change)
    assert sentence in refused(file)


def test_load_file_of_later_version_names_unknown_field(file):
    def change(meta, arrays):
        meta["toolkit"] = "9.0"
        meta["config"]["agent"]["rssm"]["depth"] = 3

    rewrite(file, change)
    assert "was written by dreamer-toolkit 9.0, this is" in refused(file)
    assert "agent.rssm.depth is not a configuration field" in refused(file)


def test_export_incomplete_agent_raises_checkpoint_error(tmp_path):
    params = {k: tiny.state().params[k] for k in ("encoder", "rssm", "policy")}
    config = dreamer.Config(task="probe:chosen", steps=1, agent=tiny.CFG)
    with pytest.raises(CheckpointError, match="the agent lacks the parameters 'cont"):
        export.save(Player(tiny.agent(), params, tiny.NUMBERS, config=config), tmp_path / "x")
    with pytest.raises(CheckpointError, match="without the configuration of a run"):
        export.save(Player(tiny.agent(), tiny.state().params, tiny.NUMBERS), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_flat_colliding_parameter_paths_raises_checkpoint_error():
    with pytest.raises(CheckpointError, match="the same dotted path"):
        export._flat({"a.b": np.zeros(1), "a": {"b": np.zeros(1)}})


# The file and the command.


def test_export_failed_write_keeps_existing_file(run, file, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    player, before = dreamer.load(run), file.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"agent.safetensors could not be written: No space left"):
        export.save(player, file, force=True)
    assert [p.name for p in file.parent.iterdir()] == ["agent.safetensors"] and file.read_bytes() == before
    with pytest.raises(CheckpointError, match="could not be written"):
        export.save(player, file / "in" / "a" / "file")


def test_export_command_writes_loadable_file_and_refuses_overwriting(tmp_path, capsys):
    run = tiny.store(tmp_path / "run", tiny.state(), tiny.agent())
    assert cli.main(["export", str(run)]) == 0
    told, last = capsys.readouterr().out.splitlines()
    path = run / "agent.safetensors"
    assert told.startswith(f"{path}: 0.0 MB, ") and told.endswith("after 160 environment steps")
    assert last == f'In Python: agent = dreamer.load("{path}")'
    assert dreamer.load(path).counters == {"env_steps": 160, "updates": 40}

    assert cli.main(["export", str(run)]) == 2
    refusal = capsys.readouterr().err
    assert refusal == f"dreamer: {path} exists already: name another file, or use --force\n"
    assert cli.main(["export", str(run), "--force", "--dtype", "bfloat16", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    parameters = sum(x.size for x in jax.tree.leaves(dreamer.load(run).everything))
    assert told == {
        "file": str(path),
        "bytes": path.stat().st_size,
        "parameters": parameters,
        "probe_parameters": 0,
        "env_steps": 160,
    }
    assert cli.main(["export", str(tmp_path / "nothing")]) == 2
    assert "There is no run folder" in capsys.readouterr().err
    assert cli.main(["export", str(run), str(run)]) == 2
    assert capsys.readouterr().err == f"dreamer: {run} exists already: name another file\n"


def test_default_file_of_run_or_checkpoint_is_in_run_folder(run, monkeypatch):
    assert command.default_file(run) == run / "agent.safetensors"
    checkpoint = run / "checkpoints" / "step-000000000160"
    assert command.default_file(checkpoint) == run / "agent.safetensors"
    assert command.default_file(run / "agent.safetensors") == run / "agent.safetensors"
    monkeypatch.chdir(checkpoint.parent)
    assert command.default_file(Path(checkpoint.name)) == run / "agent.safetensors"
