"""A checkpoint comes back bit by bit, or it is as if it had never been written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from test_processes import free_port

from dreamer import checkpoint, pieces
from dreamer.checkpoint import CheckpointError, CheckpointStore, NoCheckpoint
from dreamer.processes import meet


class Learner(NamedTuple):
    params: dict
    step: jax.Array


def learner(seed=0):
    rng = np.random.default_rng(seed)
    return Learner(
        params={
            "encoder/w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
            "half": jnp.asarray(rng.normal(size=(5,)), jnp.bfloat16),
            "odd": jnp.asarray([np.nan, -np.inf, -0.0, 1e-45], jnp.float32),
            "list": [jnp.arange(3), jnp.asarray([True, False])],
            "empty": jnp.zeros((0, 2)),
            "none": None,
        },
        step=jnp.asarray(seed, jnp.int32),
    )


def bits(state):
    return [(x.shape, str(x.dtype), np.asarray(x).tobytes()) for x in jax.tree.leaves(state)]


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)


@pytest.fixture
def notices():
    return []


@pytest.fixture
def store(tmp_path, notices):
    return CheckpointStore(tmp_path / "checkpoints", notice=notices.append, owner=True)


def saved(store, *steps, **kwargs):
    for step in steps:
        store.save(step, learner(step), {"seconds": step / 2}, **kwargs)
    store.wait()
    return store


def folder_of(store, step):
    return store.folder / f"step-{step:012d}"


def test_store_saved_state_is_loaded_bit_identical(store):
    state = learner(7)
    store.save(7, state, {"seconds": 1.5, "names": ["a"]})
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)
    jax.block_until_ready(overwrite(state))  # what is being saved is a copy
    store.wait()
    step, found, meta = store.load(abstract(learner(7)))
    assert (step, meta) == (7, {"seconds": 1.5, "names": ["a"]})
    assert bits(found) == bits(learner(7))
    assert jax.tree.structure(found) == jax.tree.structure(learner(7))
    assert all(isinstance(x, jax.Array) and not x.weak_type for x in jax.tree.leaves(found))


def test_store_numpy_and_python_numbers_keep_their_types(store):
    state = {"rows": np.arange(3, dtype=np.int64), "bits": np.ones(2, ml_dtypes.bfloat16), "n": 3}
    given = {**jax.tree.map(np.copy, state), "n": 3, "x": 0.5}
    store.save(0, given, {})
    given["rows"] += 1  # what is being saved is a copy
    store.wait()
    _, found, _ = store.load({**state, "x": 0.0})
    assert found["n"] == 3 and type(found["n"]) is int and found["x"] == 0.5
    assert found["rows"].dtype == np.int64 and isinstance(found["rows"], np.ndarray)
    assert bits([found["rows"], found["bits"]]) == bits([state["rows"], state["bits"]])


def test_store_load_places_state_on_devices_of_template(store):
    first, second = jax.devices()[:2]
    store.save(0, {"x": jax.device_put(jnp.ones(2), first)}, {})
    store.wait()
    _, found, _ = store.load({"x": jax.device_put(jnp.zeros(2), second)})
    assert found["x"].devices() == {second}


def test_store_keeps_newest_checkpoints_and_reads_meta_alone(store):
    assert store.steps() == []
    saved(store, 1, 2, 3)
    assert store.steps() == [2, 3]
    assert store.meta() == {"seconds": 1.5} and store.meta(2) == {"seconds": 1.0}
    assert store.load(learner())[0] == 3
    assert bits(store.load(learner(), step=2)[1]) == bits(learner(2))
    with pytest.raises(CheckpointError, match=r"no checkpoint 1 in .*; there is 2, 3"):
        store.load(learner(), step=1)
    assert {path.name for path in store.folder.iterdir()} == {folder_of(store, step).name for step in (2, 3)}


def test_store_written_callback_is_called_after_every_save(tmp_path):
    heard = []
    store = CheckpointStore(tmp_path, written=lambda: heard.append(store.steps()))
    saved(store, 1)
    assert heard == [[1]]


def test_store_second_save_at_same_step_replaces_first(store):
    saved(store, 5)
    store.save(5, learner(6), {})
    store.wait()
    assert bits(store.load(learner())[1]) == bits(learner(6))
    assert store.steps() == [5]


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda s: s._replace(step=jnp.zeros((), jnp.uint32)), r"int32\[\] at 'step', but uint32"),
        (lambda s: s._replace(step=jnp.zeros(2, jnp.int32)), r"int32\[\] at 'step', but int32\[2\]"),
        (
            lambda s: s._replace(params={**s.params, "half": jnp.zeros(5, jnp.float16)}),
            r"bfloat16\[5\] at 'params/half', but float16\[5\]",
        ),
        (
            lambda s: s._replace(params={**s.params, "new": jnp.zeros(5)}),
            r"nothing at 'params/new', but float32\[5\]",
        ),
        (
            lambda s: s._replace(params={"half": s.params["half"]}),
            r"at 'params/e.*', but nothing is expected",
        ),
    ],
)
def test_store_load_other_structure_raises_with_first_difference(store, notices, change, sentence):
    saved(store, 1, 2)
    with pytest.raises(CheckpointError, match=sentence):
        store.load(change(learner()))
    assert store.steps() == [1, 2] and notices == [], "that is no damage"


def test_store_save_unsupported_leaf_raises_checkpoint_error(store):
    with pytest.raises(CheckpointError, match="key is a PRNGKeyArray"):
        store.save(0, {"key": jax.random.key(0)}, {})
    with pytest.raises(CheckpointError, match="name is a str"):
        store.save(0, {"name": "x"}, {})
    with pytest.raises(CheckpointError, match="same path"):
        store.save(0, {"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, {})


def damage_file(path, how):
    content = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 16
        path.write_bytes(content)


def test_store_damage_to_any_file_is_detected_and_older_one_loaded(store, notices, tmp_path):
    saved(store, 1, 2)
    shutil.copytree(store.folder, tmp_path / "sound")
    files = [path for path in sorted(folder_of(store, 2).rglob("*")) if path.is_file()]
    assert len(files) > 5
    for path in files:
        for how in ("flip", "truncate", "delete"):
            if how != "delete" and path.stat().st_size == 0:
                continue
            damage_file(path, how)
            step, state, _ = store.load(learner())
            assert step == 1 and bits(state) == bits(learner(1)), (path.name, how)
            assert store.steps() == [1]
            assert len(notices) == 1 and "step-000000000002 is damaged" in notices.pop()
            shutil.rmtree(store.folder)
            shutil.copytree(tmp_path / "sound", store.folder)


def with_loop():
    return {"params": {"w": np.ones(3)}, "loop": {"ring": np.arange(1000.0)}}


def test_store_load_without_loop_part_does_not_read_loop_files(store, notices, monkeypatch):
    store.save(1, with_loop(), {})
    store.wait()
    read, load = [], checkpoint._load_arrays
    monkeypatch.setattr(
        checkpoint, "_digest", lambda f, digest=checkpoint._digest: read.append(f) or digest(f)
    )
    monkeypatch.setattr(
        checkpoint, "_load_arrays", lambda path, kinds: read.append(path) or load(path, kinds)
    )
    _, found, _ = store.load({"params": with_loop()["params"]})
    assert np.array_equal(found["params"]["w"], np.ones(3))
    assert read and not [path for path in read if "loop" in path.relative_to(folder_of(store, 1)).parts]
    _, found, _ = store.load(with_loop())
    assert np.array_equal(found["loop"]["ring"], np.arange(1000.0))

    for file in (folder_of(store, 1) / "loop").rglob("*"):
        if file.is_file() and file.stat().st_size:
            damage_file(file, "flip")
    assert store.load({"params": with_loop()["params"]})[0] == 1 and not notices
    with pytest.raises(CheckpointError, match="checkpoint 1 in .* is damaged: loop/"):
        store.load(with_loop(), step=1)


def test_store_load_version_1_checkpoint_succeeds(store, monkeypatch):
    with monkeypatch.context() as then:
        then.setattr(checkpoint, "WHOLE", 1)
        then.setattr(checkpoint, "_parts", lambda leaves: {"arrays": leaves})
        store.save(1, with_loop(), {})
        store.wait()
    assert not (folder_of(store, 1) / "loop").exists()
    assert np.array_equal(store.load(with_loop())[1]["loop"]["ring"], np.arange(1000.0))
    assert "loop" not in store.load({"params": with_loop()["params"]})[1]


def test_store_without_valid_checkpoint_raises_no_checkpoint(store, notices, tmp_path):
    saved(store, 1, 2)
    damage_file(folder_of(store, 1) / "manifest.json", "flip")
    next((folder_of(store, 2) / "arrays").rglob("_METADATA")).unlink()
    with pytest.raises(CheckpointError, match="checkpoint 2 in .* is damaged: .*is missing"):
        store.load(learner(), step=2)
    for _ in (1, 2):  # nothing takes their place, so both stay where they are
        with pytest.raises(NoCheckpoint, match="no checkpoint in .* can be used .*2: arrays.*1: manifest"):
            store.load(learner())
    assert not notices and not (store.folder / "quarantine").exists()
    assert list(store.faults()) == ["step-000000000001"]
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        CheckpointStore(tmp_path / "nowhere").load(learner())


def kept(folder):
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_store_reader_with_symlinked_files_loads_and_moves_nothing(store, notices, tmp_path):
    """As hub caches and DVC keep large files: in a store of their own, with links to them."""
    saved(store, 1, 2)
    (tmp_path / "store").mkdir()
    for number, file in enumerate(path for path in store.folder.rglob("*") if path.is_file()):
        shutil.move(file, tmp_path / "store" / str(number))
        file.symlink_to(tmp_path / "store" / str(number))
    before, reader = kept(store.folder), CheckpointStore(store.folder, notice=notices.append)
    assert reader.load(learner())[0] == 2 and not notices
    files = [path for path in folder_of(store, 2).rglob("*") if path.is_file()]
    array = max(files, key=lambda path: path.stat().st_size)
    damage_file(array, "flip")  # what the link leads to
    assert reader.load(learner())[0] == 1 and "is damaged and an older one is used" in notices.pop()
    os.rename(tmp_path / "store", tmp_path / "away")
    with pytest.raises(NoCheckpoint, match="can be used .*behind the link"):
        reader.load(learner())
    with pytest.raises(CheckpointError, match="cannot be read now: .*behind the link"):
        store.load(learner())
    assert kept(store.folder) == before and not notices


def test_store_without_permission_reader_uses_older_one_and_owner_raises(store, notices, monkeypatch):
    saved(store, 1, 2)
    digest, before = checkpoint._digest, kept(store.folder)

    def refused(file):
        if folder_of(store, 2) in file.parents:
            raise PermissionError(13, "Permission denied")
        return digest(file)

    monkeypatch.setattr(checkpoint, "_digest", refused)
    assert CheckpointStore(store.folder, notice=notices.append).load(learner())[0] == 1
    assert "step-000000000002 cannot be read now and an older one is used" in notices.pop()
    with pytest.raises(CheckpointError, match=r"step-000000000002 cannot be read now: .*Permission denied"):
        store.load(learner())
    assert kept(store.folder) == before and not notices


def test_store_checkpoint_deleted_while_reading_loads_newer_one(store, notices, monkeypatch, capfd):
    """The process that trains deletes old ones at any moment, also in the middle of being read."""
    saved(store, 1)
    reader, restore = CheckpointStore(store.folder, notice=notices.append), checkpoint._restore

    def overtaken(path, *rest):
        if path == folder_of(store, 1):
            saved(store, 2)
            shutil.rmtree(path)
        return restore(path, *rest)

    monkeypatch.setattr(checkpoint, "_restore", overtaken)
    assert reader.load(learner())[0] == 2 and not notices
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["a[b]", "back\\slash", os.fsdecode(b"no\xfftext")])
def test_check_name_unsupported_by_orbax_raises_checkpoint_error(tmp_path, name):
    with pytest.raises(CheckpointError, match="choose another name"):
        checkpoint.check_name(tmp_path / name / "checkpoints")
    checkpoint.check_name(tmp_path / "plain, (ü?) [ *")


def test_store_damage_without_notice_callback_emits_warning(tmp_path):
    store = saved(CheckpointStore(tmp_path), 1, 2)
    (folder_of(store, 2) / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="is damaged and an older one is used: manifest.json is missing"):
        assert store.load(learner())[0] == 1


def test_store_foreign_folder_or_newer_format_raises_and_is_untouched(store, tmp_path):
    foreign = tmp_path / "foreign"
    (foreign / "1000" / "state").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="holds no checkpoint of dreamer-toolkit"):
        CheckpointStore(foreign).load(learner())
    assert [path.name for path in foreign.iterdir()] == ["1000"]

    path = folder_of(saved(store, 1), 1) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["seal"]
    manifest["version"] = 99
    path.write_text(json.dumps({**manifest, "seal": checkpoint._seal(manifest)}))
    with pytest.raises(CheckpointError, match="dreamer-checkpoint 99, but .* up to 4: upgrade"):
        store.load(learner())
    assert path.exists()


def segment(name, content):
    def write(folder):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        return sorted(path.name for path in folder.iterdir())[-2:]

    return write


def test_store_replay_files_are_shared_then_deleted_when_unused(store, notices):
    for step in range(1, 6):
        store.save(step, learner(step), {}, segment(f"replay-{step}", bytes([step]) * 100))
    store.wait()
    assert store.steps() == [4, 5]
    assert store.replay_files() == ["replay-4", "replay-5"]
    assert store.replay_files(4) == ["replay-3", "replay-4"]
    assert {path.name for path in store.replay_folder.iterdir()} == {f"replay-{step}" for step in (3, 4, 5)}


def test_store_replay_file_is_hashed_once_and_verified_on_load(store, notices, monkeypatch):
    hashed = []
    digest = checkpoint._digest
    monkeypatch.setattr(checkpoint, "_digest", lambda file: hashed.append(file.name) or digest(file))
    for step in (1, 2, 3):
        store.save(step, learner(step), {}, segment("replay-1", b"x") if step == 1 else listing)
        store.wait()
    assert hashed.count("replay-1") == 1
    fresh = CheckpointStore(store.folder, notice=notices.append)
    damage_file(store.replay_folder / "replay-1", "flip")
    with pytest.raises(CheckpointError, match="the learner is whole but the replay is not"):
        fresh.load(learner())
    assert fresh.steps() == [2, 3], "every checkpoint needs that file: none is put aside"
    assert bits(fresh.load(learner(), replay=False)[1]) == bits(learner(3))


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_store_damaged_replay_file_of_newest_loads_older_checkpoint(store, notices):
    store.save(1, learner(1), {}, segment("replay-1", b"one"))
    store.save(2, learner(2), {}, segment("replay-2", b"two"))
    store.wait()
    (store.replay_folder / "replay-2").unlink()
    assert CheckpointStore(store.folder, notice=notices.append).load(learner())[0] == 1
    assert "replay-2 is missing" in notices[0]


def test_store_replay_name_outside_folder_raises_checkpoint_error(store):
    store.save(1, learner(1), {}, lambda folder: ["../../secret"])
    with pytest.raises(CheckpointError, match="could not be written"):
        store.wait()


def test_store_no_space_or_folder_raises_and_keeps_old_checkpoint(store, monkeypatch, tmp_path, notices):
    saved(store, 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    with pytest.raises(CheckpointError, match="needs 4 MB and 1 MB are free"):
        store.save(2, learner(2), {})
    monkeypatch.undo()
    assert store.load(learner())[0] == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written .*Not a directory"):
        CheckpointStore(tmp_path / "file" / "x").save(1, learner(), {})


def run(script, *args):
    code = textwrap.dedent(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_store_full_disk_loses_one_save_only(tmp_path):
    """A file size limit stands in for the disk: the same error path, without filling one."""
    script = """
        import json, resource, sys
        import numpy as np
        from dreamer.checkpoint import CheckpointError, CheckpointStore

        rng, said, messages = np.random.default_rng(0), [], []
        store = CheckpointStore(sys.argv[1], notice=said.append)
        states = [{"w": rng.random(100_000)} for _ in range(5)]
        store.save(0, states[0], {})
        store.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
        store.save(1, states[1], {})
        store.save(2, states[2], {})   # the failure of 1 is a notice
        try:
            store.wait()               # the failure of 2 an exception
        except CheckpointError as error:
            messages.append(str(error))
        try:
            store.save(3, {}, {}, lambda f: (f.mkdir(exist_ok=True), (f / "r").write_bytes(bytes(200_000))))
        except CheckpointError as error:
            messages.append(str(error))
        step, state, _ = store.load(states[0])
        good = step == 0 and (state["w"] == states[0]["w"]).all()
        litter = [p.name for p in store.folder.iterdir() if p.name.startswith(".tmp")]
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        store.save(4, states[4], {})
        store.wait()
        print(json.dumps([said, messages, bool(good), litter, store.steps()]))
    """
    process = run(script, tmp_path / "c")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert len(err.splitlines()) == 0, "no log of hundreds of lines"
    said, messages, good, litter, steps = json.loads(out)
    assert good and litter == [] and steps == [0, 4]
    assert len(said) == 1 and "checkpoint 1 could not be written" in said[0]
    assert "checkpoint 2 could not be written" in messages[0]
    assert "checkpoint 3 could not be written" in messages[1]
    assert all("File too large; earlier ones are as they were" in text for text in said + messages)


def test_store_process_killed_at_any_moment_leaves_whole_checkpoints(tmp_path):
    script = """
        import sys, itertools
        import numpy as np
        from dreamer.checkpoint import CheckpointStore

        def replay(step):
            def write(folder):
                folder.mkdir(exist_ok=True)
                (folder / f"replay-{step}").write_bytes(bytes([step % 256]) * 10_000)
                return [f"replay-{s}" for s in (step - 1, step) if s > 0]
            return write

        store = CheckpointStore(sys.argv[1])
        for step in itertools.count(1):
            state = {"w": np.full((200, 200), step, np.float32), "n": np.full(7, step)}
            store.save(step, state, {"step": step}, replay(step))
            if step == 2:
                print("ready", flush=True)
    """
    folders = [tmp_path / str(index) for index in range(3)]
    processes = [run(script, folder) for folder in folders]
    for process, delay in zip(processes, (0.0, 0.04, 0.11), strict=True):
        assert process.stdout.readline() == "ready\n", process.communicate()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
    like = {"w": np.zeros((200, 200), np.float32), "n": np.zeros(7, np.int64)}
    for folder in folders:
        store = CheckpointStore(folder, notice=pytest.fail)
        step, state, meta = store.load(like)
        assert meta == {"step": step} and step >= 1
        assert (state["w"] == step).all() and (state["n"] == step).all()
        store.save(step + 1, state, {}, lambda folder: [])
        store.wait()
        assert not list(store.folder.glob(".tmp-*")), "the litter of the killed process is gone"
        assert step + 1 in store.steps()


def test_store_saves_at_one_step_are_ordered_by_updates(store):
    """As of a loop whose environment steps stand still; the oldest goes first, whatever its name."""
    for updates in range(1, 6):
        store.save(40, learner(updates), {"progress": {"env_steps": 40, "updates": updates}})
        store.wait()
        step, state, meta = store.load(learner(0))
        assert (step, meta["progress"]["updates"]) == (40, updates)
        assert bits(state) == bits(learner(updates))
    assert sorted(path.name for path in store.folder.glob("step-*")) == [
        "step-000000000040-3",
        "step-000000000040-4",
    ]
    assert store.steps() == [40]


def test_store_at_updates_returns_newest_checkpoint_name(store):
    with pytest.raises(NoCheckpoint, match="no checkpoint folder"):
        store.at(3)
    for steps, updates in ((40, 3), (50, 3), (60, 4)):
        store.keep = 9
        store.save(steps, learner(steps), {"progress": {"env_steps": steps, "updates": updates}})
        store.wait()
    assert store.at(3) == folder_of(store, 50).name
    assert store.load(learner(0), store.at(3))[0] == 50
    with pytest.raises(NoCheckpoint, match="made after 5 updates; there are checkpoints after 3, 4"):
        store.at(5)


# Several processes.


@pytest.fixture
def pair():
    """Two connected processes, both in this one."""
    port = free_port()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(meet, i, 2, "127.0.0.1", port, lambda code, why: None) for i in range(2)]
        both = [future.result()[0] for future in both]
        yield lambda act: [f.result(60) for f in [pool.submit(act, us) for us in both]]
        for future in [pool.submit(us.line.close) for us in both]:
            future.result()


def files_of(us, *names):
    def write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / f"{name}-{us.index}").write_text(name)
        return [f"{name}-{us.index}" for name in names]

    return write


def test_store_processes_save_one_checkpoint_with_the_files_of_all(tmp_path, pair, monkeypatch):
    """Saves follow each other at once, and no one collects what the next one of another process has begun."""
    state, collect = learner(), CheckpointStore._collect
    monkeypatch.setattr(CheckpointStore, "_collect", lambda store: (time.sleep(0.2), collect(store)))

    def act(us):
        store = CheckpointStore(tmp_path, processes=us, owner=us.is_first)
        for step in (1, 2, 3):
            store.save(step, state, {"by": us.index}, files_of(us, "a", f"b{step}"))

    pair(act)
    store = CheckpointStore(tmp_path)
    step, loaded, meta = store.load(abstract(state))
    assert (step, meta) == (3, {"by": 0}) and bits(loaded) == bits(state)
    assert store.replay_parts() == [["a-0", "b3-0"], ["a-1", "b3-1"]]
    assert sorted(store.replay_files()) == ["a-0", "a-1", "b3-0", "b3-1"]
    assert store.steps() == [2, 3]  # two are kept, with their files
    names = {path.name for path in store.replay_folder.iterdir()}
    assert names == {f"{name}-{i}" for name in ("a", "b2", "b3") for i in range(2)}
    (store.replay_folder / "b3-1").write_text("damaged")
    assert CheckpointStore(tmp_path, notice=lambda text: None).load(abstract(state))[0] == 2


@pytest.mark.parametrize("failing", [0, 1])
def test_store_process_that_cannot_write_fails_the_save_of_all(tmp_path, pair, failing):
    def full(folder):
        raise OSError(28, "No space left on device")

    def act(us):
        store = CheckpointStore(tmp_path, processes=us)
        store.save(1, learner(), {}, files_of(us, "a"))
        with pytest.raises(CheckpointError, match=f"process {failing}: No space left on device"):
            store.save(2, learner(1), {}, full if us.index == failing else files_of(us, "a"))
        store.save(3, learner(2), {}, files_of(us, "a"))

    pair(act)
    store = CheckpointStore(tmp_path)
    assert store.steps() == [1, 3] and not list(tmp_path.glob(".tmp-*"))
    assert bits(store.load(abstract(learner(2)))[1]) == bits(learner(2))


def test_store_missing_piece_is_damage(tmp_path):
    state = {"w": np.arange(12.0).reshape(3, 4), "n": np.int32(3)}
    path = tmp_path / "step-000000000001"
    path.mkdir()
    checkpoint._save_arrays(path / "arrays", {"n": np.asarray(state["n"])})
    for i, rows in enumerate((slice(0, 1), slice(1, 3))):
        pieces.write(path / pieces.name_of(i), {f"w@{i}": state["w"][rows].copy()})
    index = [{f"w@{i}": {"leaf": "w", "start": [i, 0]}} for i in range(2)]
    manifest = {
        "version": checkpoint.VERSION,
        "step": 1,
        "leaves": {name: checkpoint._kind(array) for name, array in state.items()},
        "files": checkpoint._digests(path),
        "replay": {},
        "parts": [[], []],
        "pieces": {pieces.name_of(i): index[i] for i in range(2)},
        "meta": {},
    }
    store = CheckpointStore(tmp_path, notice=lambda text: None)
    store._publish(path, path, manifest)
    _, loaded, _ = store.load(state)
    np.testing.assert_array_equal(loaded["w"], state["w"])
    assert loaded["n"] == 3
    (path / pieces.name_of(1)).unlink()
    with pytest.raises(NoCheckpoint, match=r"pieces-1.safetensors is missing"):
        store.load(state)
