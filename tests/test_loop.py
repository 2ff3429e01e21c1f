"""Both loops are a `Loop`: the type checker and the running program agree on what that is."""

import inspect
import threading
from concurrent.futures import Future

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_fused
import test_members
import test_source
import test_types

from dreamer import schema
from dreamer.loops.clocks import Progress
from dreamer.loops.fused import CompiledLoop, FusedLoop
from dreamer.loops.host import HostLoop
from dreamer.loops.loop import Loop, LoopCheckpoint, ReplayFiles
from dreamer.loops.members import Members
from dreamer.placement import SINGLE
from envs import watchdog
from envs.watchdog import Interrupted

copied = test_types.copied

pytestmark = pytest.mark.usefixtures("compilation_cache")

MEMBERS = sorted(name for name in vars(Loop) | Loop.__annotations__ if not name.startswith("_"))


def host(tmp_path) -> HostLoop:
    return test_source.recorded_loop(tmp_path, updates=5)


def device(tmp_path) -> FusedLoop:
    return test_fused.loop(steps=80)


def members() -> Members:
    return Members(
        CompiledLoop(test_fused.functions()), SINGLE, test_members.numbers(), np.arange(3), 80, Progress()
    )


def every(tmp_path) -> list[Loop]:
    """One of each kind, which the type checker reads as well."""
    return [host(tmp_path), device(tmp_path), members()]


def test_loop_every_kind_implements_the_protocol(tmp_path):
    assert {"progress", "outputs", "state", "checkpoint", "restore", "template"} <= set(MEMBERS)
    for loop in every(tmp_path):
        assert [name for name in MEMBERS if name not in dir(loop)] == []
        for name in MEMBERS:
            wanted, own = inspect.getattr_static(Loop, name, None), inspect.getattr_static(loop, name, None)
            if inspect.isfunction(wanted):
                assert inspect.isfunction(own)
                assert list(inspect.signature(own).parameters) == list(inspect.signature(wanted).parameters)


@pytest.mark.parametrize("name", ["host", "fused"])
def test_loop_without_flush_is_reported_by_the_type_checker(copied, name):
    path = copied / "dreamer" / "loops" / f"{name}.py"
    text = path.read_text()
    try:
        path.write_text(text.replace("def flush", "def flsh"))
        places = test_types.found(copied)
    finally:
        path.write_text(text)
    assert any(place.startswith("experiments/") for place in places)


def test_loop_misspelt_method_call_is_reported_by_the_type_checker(copied):
    sources = {path: path.read_text() for path in (copied / "experiments").rglob("*.py")}
    path, text = next((path, text) for path, text in sources.items() if "self.loop.flush()" in text)
    try:
        path.write_text(text.replace("self.loop.flush()", "self.loop.flsh()"))
        places = test_types.found(copied)
    finally:
        path.write_text(text)
    assert any(place.startswith(str(path.relative_to(copied))) for place in places)


def restored(loop: Loop, saved: LoopCheckpoint, meta: dict, files: ReplayFiles) -> Loop:
    """A loop that was built as if for a new run, at a checkpoint."""
    matching = jax.tree.map(
        lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype), loop.template, saved.arrays
    )
    assert all(jax.tree.leaves(matching))
    loop.restore(jax.tree.map(jnp.array, saved.arrays), meta, files)
    return loop


@pytest.mark.parametrize("build", [host, device])
def test_loop_restored_from_its_checkpoint_continues_bitwise(tmp_path, build):
    """On the device as if it had not been stopped; on the host posteriors in flight are not in the files."""
    whole = build(tmp_path)
    outputs = whole.outputs()
    while whole.progress.updates < 2:
        next(outputs)
    whole.check_finite()
    saved = whole.checkpoint()
    saved = saved._replace(arrays=jax.tree.map(np.array, saved.arrays))
    files = ReplayFiles(tmp_path / "replay", saved.files(tmp_path / "replay") if saved.files else [])
    ratio = {"train_ratio": 4.0, "batch_size": 4, "batch_length": 4}
    meta = {**saved.meta, "progress": vars(whole.progress).copy(), "config": {"loop": ratio}}
    list(outputs)
    whole.flush()

    loops = [restored(build(tmp_path), saved, meta, files) for _ in range(2)]
    assert all(loop.progress == Progress(**meta["progress"]) for loop in loops)
    assert test_fused.same(loops[0].checkpoint().arrays, saved.arrays)
    for loop in loops:
        list(loop.outputs())
        loop.flush()
        assert loop.progress.updates == whole.progress.updates > 2
    assert test_fused.same(loops[0].state, loops[1].state)
    assert build is host or test_fused.same(loops[0].state, whole.state)


@pytest.mark.parametrize("build", [host, device])
def test_loop_set_params_starts_from_them_with_a_fresh_optimizer(tmp_path, build):
    loop = build(tmp_path)
    before = jax.tree.map(np.array, loop.state)
    value = jax.tree.map(lambda x: np.array(x) + 1, before.params["value"])
    loop.set_params({"value": value})
    after = loop.state
    assert test_fused.same(after.params, {**before.params, "value": value})
    assert test_fused.same(after.slow["value"], value)
    assert test_fused.same((after.opt, after.updates), (before.opt, before.updates))
    next(iter(loop.outputs()))


@pytest.mark.parametrize("limit", [3, 5])
def test_compiled_loop_update_limit_ends_with_the_round_that_reaches_it(limit):
    cfg = schema.replace_paths(test_fused.CFG, {"updates": limit, "train_ratio": 8.0})
    loop = test_fused.loop(cfg=cfg, steps=10_000)
    list(loop.outputs())
    assert loop.fused.round == (1, 2)
    assert loop.done and loop.progress.updates == limit + limit % 2


@pytest.fixture
def log_compiles():
    jax.config.update("jax_log_compiles", True)  # in all threads
    yield
    jax.config.update("jax_log_compiles", False)


@pytest.mark.usefixtures("log_compiles")
def test_host_loop_compiles_both_halves_of_an_update_once_and_ahead(tmp_path, caplog):
    loop = host(tmp_path)
    outputs, waited = loop.outputs(), 0
    with caplog.at_level("WARNING"):
        while loop.progress.updates == 0:
            waited += len(next(outputs).metrics)
            if loop._compiled is not None:
                loop._compiled.result()
        before = len(caplog.records)
        assert len([*outputs]) > 0 and waited == 0 and loop.progress.updates == 5
    logged = [record.getMessage() for record in caplog.records]
    for name in ("jit(_gradient)", "jit(_apply_fn)"):
        assert sum(text.startswith(f"Compiling {name}") for text in logged) == 1, logged
        assert not any(name in text for text in logged[before:] if text.startswith("Compiling"))


def test_host_loop_that_cannot_compile_says_why_at_the_first_update(tmp_path):
    loop = host(tmp_path)
    loop._gradient = jax.jit(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(loop.outputs())


def test_host_loop_asked_to_stop_while_it_compiles_keeps_what_was_collected(tmp_path, monkeypatch):
    loop = host(tmp_path)
    never, rows = Future(), []
    monkeypatch.setattr(loop, "_compile", lambda: never)
    stopper = threading.Timer(1.0, lambda: watchdog.interrupt(Interrupted()))
    monkeypatch.setattr(never, "result", lambda: stopper.start() or Future.result(never, timeout=60))
    with pytest.raises(Interrupted):
        rows.extend(loop.outputs())
    assert loop.progress.updates == 0 and loop.flush() == [] and len(loop.replay) > 0
    assert loop.checkpoint().meta["replay"]["inserted"] == loop.replay.inserted
