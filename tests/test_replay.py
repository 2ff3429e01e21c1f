"""The host replay against a list: what lives, what is sampled, what survives on disk."""

import itertools
from functools import cache

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer.replay import host, layout, segments
from dreamer.replay.device import DeviceReplay
from dreamer.replay.host import HostReplay
from dreamer.replay.layout import ReplayError, compact_dtype
from dreamer.replay.sampling import choose
from envs.api import Space, Step

D, S = 3, 2
OBS = {
    "id": Space((), "int32"),
    "cells": Space((2, 2), "int64", classes=11),
    "log/success": Space((), "float32"),
}
ENTRIES = {"deter": Space((D,), "bfloat16"), "stoch": Space((S,), "uint8")}
ACT = {"move": Space((2,), "float32"), "turn": Space((), "int32", classes=4)}

SIZES = st.integers(1, 5).flatmap(
    lambda length: st.tuples(st.integers(1, 4), st.integers(length + 1, 3 * length + 4), st.just(length))
)
"""(num_envs, capacity_per_env, length)."""


def build(num_envs=2, capacity_per_env=12, online=True):
    return HostReplay(num_envs * capacity_per_env, num_envs, OBS, ACT, ENTRIES, online)


def record(row, num_envs, episode=7):
    """Row `row` of a run whose environments end an episode every few steps, at different times."""
    env = np.arange(num_envs)
    name = (row * num_envs + env).astype(np.int32)
    phase = (row + env) % episode
    step = Step(
        obs={
            "id": name,
            "cells": np.broadcast_to((name % 11)[:, None, None], (num_envs, 2, 2)),
            "log/success": np.zeros(num_envs, np.float32),
        },
        reward=name.astype(np.float32) / 2,
        is_first=phase == 0,
        is_last=phase == episode - 1,
        is_terminal=(phase == episode - 1) & (name % 2 == 0),
    )
    action = {
        "move": np.stack([name, -name], -1).astype(np.float32),
        "turn": (name % 4).astype(np.int32),
    }
    return step, action, latent_of(name)


def latent_of(name, version=0):
    name = np.asarray(name)
    deter = np.stack([name % 128, name // 128, name * 0 + version], -1)
    stoch = np.stack([name % 5, name % 7], -1).astype(np.uint8)
    return {"deter": deter.astype(ml_dtypes.bfloat16), "stoch": stoch}


def fill(replay, rows):
    for row in range(replay.inserted, replay.inserted + rows):
        replay.add(*record(row, replay.num_envs))
    return replay


def valid_starts(replay, length):
    """Every (env, context row) whose whole sequence lives, the slow way."""
    living = range(max(0, replay.inserted - replay.capacity_per_env), replay.inserted)
    rows = [row for row in living if row + length in living]
    return {(env, row) for env in range(replay.num_envs) for row in rows}


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_sample_ring_with_one_sequence_returns_it(key):
    replay = fill(build(num_envs=1, capacity_per_env=4), 4)
    batch, (env, first) = replay.sample(key, 1, 3)
    assert (env.tolist(), first.tolist()) == ([0], [1])
    assert batch.obs["id"].tolist() == [[1, 2, 3]]
    assert batch.reward.tolist() == [[0.5, 1.0, 1.5]]
    assert batch.action["move"].tolist() == [[[1, -1], [2, -2], [3, -3]]]
    assert batch.context_action["turn"].tolist() == [0]
    same(batch.context_latent, latent_of([0]))
    assert env.dtype == first.dtype == np.int64
    assert set(batch.obs) == {"id", "cells"}, "log/ keys are not stored"


@settings(deadline=None, max_examples=60)
@given(sizes=SIZES, rows=st.integers(0, 40), seed=st.integers(0, 99))
def test_sample_sequences_are_consecutive_stored_rows(sizes, rows, seed):
    num_envs, capacity_per_env, length = sizes
    replay = fill(build(num_envs, capacity_per_env), rows)
    valid = valid_starts(replay, length)
    assert len(replay) == num_envs * min(rows, capacity_per_env)
    assert replay.can_sample(1, length) == len(valid)
    if not valid:
        return
    size = 4 if len(valid) >= 4 else 1
    batch, (env, first) = replay.sample(jax.random.key(seed), size, length)
    for b, (e, row) in enumerate(zip(env, first, strict=True)):
        assert (e, row - 1) in valid
        step, action, latent = record(row - 1, num_envs)
        ended = step.is_last[e]
        same({k: v[b] for k, v in batch.context_latent.items()}, {k: v[e] for k, v in latent.items()})
        for k in ACT:
            same(batch.context_action[k][b], action[k][e] * (not ended))
        for t in range(length):
            step, action, _ = record(row + t, num_envs)
            same({k: batch.obs[k][b, t] for k in batch.obs}, {k: step.obs[k][e] for k in batch.obs})
            for flag in ("reward", "is_first", "is_last", "is_terminal"):
                same(getattr(batch, flag)[b, t], getattr(step, flag)[e])
            for k in ACT:
                same(batch.action[k][b, t], action[k][e] * (not step.is_last[e]))


@pytest.mark.parametrize("rows", [5, 11, 12, 13, 29])
def test_choose_many_samples_reach_exactly_the_valid_starts(rows, key):
    replay = fill(build(num_envs=2, capacity_per_env=12, online=False), rows)
    replay_starts = valid_starts(replay, 3)
    counters = {"inserted": rows, "online_taken": 0}
    env, start, _ = choose(
        key, **counters, capacity_per_env=12, num_envs=2, batch=2000, length=3, online=False
    )
    assert set(zip(env.tolist(), start.tolist(), strict=True)) == replay_starts


def test_choose_starts_are_uniformly_distributed(key):
    env, start, _ = choose(
        key,
        inserted=33,
        online_taken=0,
        capacity_per_env=20,
        num_envs=4,
        batch=40_000,
        length=5,
        online=False,
    )
    counts = np.bincount(np.asarray(env) * 15 + np.asarray(start) - 13, minlength=60)
    assert counts.size == 4 * 15
    chi2 = np.sum((counts - counts.mean()) ** 2 / counts.mean())
    assert chi2 < 98.3, "59 degrees of freedom exceed 98.3 once in a thousand"


@settings(deadline=None, max_examples=60)
@given(sizes=SIZES, plan=st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_sample_online_sequences_come_first_once_and_in_order(sizes, plan):
    """`plan` alternates adding that many rows with one sample of 4 sequences."""
    num_envs, capacity_per_env, length = sizes
    replay = build(num_envs, capacity_per_env)
    queue, since = [], [0] * num_envs
    for index, rows in enumerate(plan):
        for row in range(replay.inserted, replay.inserted + rows):
            replay.add(*record(row, num_envs))
            for env in range(num_envs):
                since[env] += 1
                if since[env] == length + 1:
                    queue.append((env, row - length))
                    since[env] = 0
        if not replay.can_sample(4, length):
            continue
        _, (env, first) = replay.sample(jax.random.key(index), 4, length)
        got = list(zip(env.tolist(), (first - 1).tolist(), strict=True))
        oldest = max(0, replay.inserted - capacity_per_env)
        queue = [(e, row) for e, row in queue if row >= oldest]
        fresh, queue = queue[:4], queue[4:]
        assert got[: len(fresh)] == fresh
        assert set(got) <= valid_starts(replay, length)


def test_sample_without_online_leaves_the_queue_unchanged(key):
    replay = fill(build(), 8)
    replay.sample(key, 4, 2, online=False)
    _, (env, first) = replay.sample(jax.random.key(1), 4, 3)
    assert list(zip(env.tolist(), first.tolist(), strict=True)) == [(0, 1), (1, 1), (0, 5), (1, 5)]


def test_sample_equal_key_and_counters_gives_equal_sequences():
    one, other = fill(build(), 30), fill(build(), 30)
    same(one.sample(jax.random.key(3), 4, 3), other.sample(jax.random.key(3), 4, 3))
    _, first = one.sample(jax.random.key(3), 4, 3)
    _, second = one.sample(jax.random.key(4), 4, 3)
    assert not all(map(np.array_equal, first, second))


def test_choose_changing_counters_does_not_recompile():
    replay = fill(build(), 10)
    replay.sample(jax.random.key(0), 4, 3)
    before = choose._cache_size()
    for seed in range(1, 30):
        fill(replay, 1).sample(jax.random.key(seed), 4, 3)
    assert choose._cache_size() == before


def test_sample_interrupted_stream_is_marked_in_the_returned_batch_only(key):
    replay = build(num_envs=1, capacity_per_env=6)
    for row in range(6):
        step, action, latent = record(row, 1, episode=100)
        replay.add(step._replace(is_first=np.array([row in (0, 3)])), action, latent)
    batch, _ = replay.sample(key, 1, 5)
    assert batch.is_first.tolist() == [[False, False, True, False, False]]
    assert batch.is_last.tolist() == [[False, True, False, False, False]]
    assert not batch.is_terminal.any()
    assert batch.action["turn"].tolist() == [[1, 2, 3, 0, 1]], "that action was carried out"
    assert not replay._ring["is_last"].any()


@settings(deadline=None, max_examples=40)
@given(sizes=SIZES, before=st.integers(6, 30), between=st.integers(0, 14), seed=st.integers(0, 9))
def test_refresh_after_more_rows_updates_exactly_the_sampled_live_rows(sizes, before, between, seed):
    num_envs, capacity_per_env, length = sizes
    replay = fill(build(num_envs, capacity_per_env), before)
    if not replay.can_sample(4, length):
        return
    _, where = replay.sample(jax.random.key(seed), 4, length)
    fill(replay, between)
    env, first = where
    rows = first[:, None] + np.arange(length)
    replay.refresh(where, latent_of(rows * num_envs + env[:, None], version=1))
    refreshed = {(e, r) for e, seq in zip(env, rows, strict=True) for r in seq}
    for row in range(replay._oldest, replay.inserted):
        for e in range(num_envs):
            slot = row % capacity_per_env
            expected = latent_of(row * num_envs + e, version=int((e, row) in refreshed))
            same({k: replay._ring[k][e, slot] for k in expected}, expected)


@settings(deadline=None, max_examples=25)
@given(sizes=SIZES, plan=st.lists(st.integers(0, 17), min_size=1, max_size=6), seed=st.integers(0, 9))
def test_load_incremental_saves_restores_the_whole_ring(tmp_path_factory, sizes, plan, seed):
    num_envs, capacity_per_env, length = sizes
    folder = tmp_path_factory.mktemp("replay")
    replay = build(num_envs, capacity_per_env)
    contents = {}
    for index, rows in enumerate(plan):
        fill(replay, rows)
        if replay.can_sample(4, length):
            replay.sample(jax.random.key(index), 4, length)
        names = replay.save(folder)
        assert all((folder / name).read_bytes() == old for name, old in contents.items())
        contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    spans = [segments.span(name) for name in names]
    assert all(last > replay._oldest for _, last in spans), "evicted files are not needed"
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))

    copy = build(num_envs, capacity_per_env)
    copy.load(folder, names, replay.counters)
    assert copy.counters == replay.counters and len(copy) == len(replay)
    assert copy.save(folder) == names, "nothing is due"
    fill(copy, 3), fill(replay, 3)
    if replay.can_sample(4, length):
        key = jax.random.key(seed)
        same(copy.sample(key, 4, length), replay.sample(key, 4, length))


def test_save_large_ring_is_split_and_a_smaller_ring_loads_a_part(tmp_path, monkeypatch):
    replay = fill(build(num_envs=2, capacity_per_env=12), 15)
    monkeypatch.setattr(host, "SEGMENT_BYTES", 5 * replay.nbytes // 12)
    names = replay.save(tmp_path)
    assert [segments.span(name) for name in names] == [(3, 8), (8, 13), (13, 15)]
    smaller = build(num_envs=2, capacity_per_env=6)
    smaller.load(tmp_path, names, replay.counters)
    assert sorted(smaller._ring["obs/id"][0].tolist()) == [2 * row for row in range(9, 15)]
    larger = build(num_envs=2, capacity_per_env=20)
    with pytest.raises(ReplayError, match="lack row 0 of the rows 0 to 15"):
        larger.load(tmp_path, names, replay.counters)


def dealt(parts, rows, streams=12):
    """The parts of a replay of `streams` environments whose rows say which one they are of."""
    replays = [build(streams // parts, capacity_per_env=8) for _ in range(parts)]
    for row in range(rows):
        whole = record(row, streams)
        for i, replay in enumerate(replays):
            replay.add(*jax.tree.map(lambda x, i=i: np.asarray(x)[i::parts], whole))
    return replays


@pytest.mark.parametrize("rows", [5, 13])
@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1), (4, 2), (2, 4), (3, 2), (2, 2)])
def test_load_dealt_streams_are_those_of_a_replay_in_other_parts(before, now, rows, tmp_path):
    saved = dealt(before, rows)
    names = [replay.save(tmp_path) for replay in saved]
    for i, expected in enumerate(dealt(now, rows)):
        loaded = build(12 // now, capacity_per_env=8)
        loaded.load_dealt(tmp_path, names, saved[0].counters, i, now)
        assert loaded.inserted == expected.inserted
        for name, ring in expected._ring.items():
            same(loaded._ring[name], ring)
        # What it saves next is all that another one needs, together with what follows.
        files, other = loaded.save(tmp_path), build(12 // now, capacity_per_env=8)
        assert (i < before and set(files) == set(names[i])) == (before == now)
        other.load(tmp_path, files, loaded.counters)
        for name, ring in expected._ring.items():
            same(other._ring[name], ring)


def test_load_dealt_unequal_parts_are_refused(tmp_path):
    with pytest.raises(ReplayError, match="12 streams were not saved in 5 equal parts"):
        build(12).load_dealt(tmp_path, [[]] * 5, {"inserted": 0, "online_taken": 0})


def test_load_missing_damaged_or_foreign_file_is_refused(tmp_path):
    replay = fill(build(), 4)
    replay.save(tmp_path)
    names = fill(replay, 4).save(tmp_path)
    with pytest.raises(ReplayError, match="lack row 0"):
        build().load(tmp_path, names[1:], replay.counters)
    with pytest.raises(ReplayError, match="written with num_envs 2, this replay has 3"):
        build(num_envs=3).load(tmp_path, names, replay.counters)
    other = HostReplay(24, 2, {**OBS, "id": Space((4,), "float32")}, ACT, ENTRIES)
    with pytest.raises(ReplayError, match=r"stores obs/id as int32\[\], this replay as float32\[4"):
        other.load(tmp_path, names, replay.counters)
    with pytest.raises(ReplayError, match="not the name of a replay file"):
        build().load(tmp_path, ["../escape.npz"], replay.counters)
    path = tmp_path / names[0]
    whole = path.read_bytes()
    for damaged in (b"", whole[:-40], whole[: len(whole) // 2], b"x" * 300):
        path.write_bytes(damaged)
        with pytest.raises(ReplayError, match="cannot be read"):
            build().load(tmp_path, names, replay.counters)
    path.unlink()
    with pytest.raises(ReplayError, match="cannot be read"):
        build().load(tmp_path, names, replay.counters)


def test_save_after_a_failed_save_writes_everything(tmp_path):
    replay = fill(build(), 6)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(OSError):
        replay.save(blocked / "replay")
    names = replay.save(tmp_path / "replay")
    assert [segments.span(name) for name in names] == [(0, 6)]
    assert [path.name for path in (tmp_path / "replay").iterdir()] == names


@pytest.mark.parametrize(
    "dtype, classes, expected",
    [
        ("uint8", 256, "uint8"),
        ("int64", 127, "int8"),
        ("int64", 128, "int8"),
        ("int32", 129, "int16"),
        ("int32", 256, "int16"),
        ("uint32", 256, "uint8"),
        ("uint16", 257, "uint16"),
        ("int64", 40_000, "int32"),
        ("int8", 100, "int8"),
        ("bool", 2, "bool"),
        ("float32", None, "float32"),
        ("int64", None, "int64"),
    ],
)
def test_compact_dtype_classes_get_the_smallest_dtype_that_holds_them(dtype, classes, expected):
    found = compact_dtype(Space((2,), dtype, classes))
    assert found == np.dtype(expected)
    if classes is not None and found.kind in "iu":
        assert np.iinfo(found).max >= classes - 1
        assert found.kind == "u" or np.iinfo(found).min <= -1


def test_host_replay_larger_than_memory_is_refused_with_its_size(monkeypatch):
    row = 4 + 4 + 2 * 4 + 1 + 4 + 3 + 2 * D + S
    assert layout.bytes_needed(25, 2, OBS, ACT, ENTRIES) == 24 * row
    assert build().nbytes == sum(ring.nbytes for ring in build()._ring.values())
    available = host.available_memory()
    assert available is None or available > 2**20
    monkeypatch.setattr(host, "available_memory", lambda: 2**30)
    with pytest.raises(ReplayError, match=r"1,000,000,000 steps needs .* GiB when full, but 1.0 GiB"):
        HostReplay(10**9, 2, OBS, ACT, ENTRIES)
    with pytest.raises(ReplayError, match="must lie between 8 and"):
        HostReplay(7, 8, OBS, ACT, ENTRIES)


def test_host_replay_misuse_raises_naming_the_error(key):
    replay = fill(build(num_envs=2, capacity_per_env=6), 3)
    with pytest.raises(ReplayError, match="holds 6 steps, too few for 4 sequences of 4"):
        replay.sample(key, 4, 3)
    with pytest.raises(ReplayError, match="set replay.capacity to at least 18"):
        replay.can_sample(1, 8)
    step, action, latent = record(3, 2)
    with pytest.raises(ReplayError, match="lacks the key 'turn'"):
        replay.add(step, {"move": action["move"]}, latent)
    with pytest.raises(ReplayError, match=r"reward has the shape \(2, 1\)"):
        replay.add(step._replace(reward=np.zeros((2, 1))), action, latent)
    with pytest.raises(ReplayError, match="lacks the key 'stoch'"):
        replay.add(step, action, {"deter": latent["deter"]})
    assert len(replay) == 6, "nothing was added by halves"


@pytest.mark.parametrize("kind", [HostReplay, DeviceReplay])
def test_replay_wrong_shapes_are_refused(kind, key):
    """By the ring of the device while it is traced."""
    replay, at = kind(12, 2, OBS, ACT, ENTRIES), ()
    if kind is DeviceReplay:
        at = (replay.init(),)
    step, action, latent = record(0, 2)
    for wrong, message in [
        ((step._replace(reward=np.zeros(3)), action, latent), r"reward has the shape \(3,\)"),
        ((step, action | {"move": np.zeros((2, 3))}, latent), r"action/move .* stores \(2, 2\)"),
        ((step, action, latent | {"deter": np.zeros((2, D + 1))}), r"deter .* stores \(2, 3\)"),
    ]:
        with pytest.raises(ReplayError, match=message):
            replay.add(*at, *wrong)
    where = np.zeros(4, int), np.ones(4, int)
    new = latent_of(np.zeros((4, 3), int))
    for wrong, message in [
        ({"deter": new["deter"]}, "has the columns deter, but this replay stores deter, stoch"),
        (new | {"stoch": np.zeros((4, 2, S), np.uint8)}, r"stoch .* \(4, 2, 2\), but .* stores \(4, 3, 2\)"),
        (jax.tree.map(lambda x: x[:3], new), r"stores \(4, 3, 3\)"),
        (jax.tree.map(lambda x: x[:, 0, 0], new), "has the shape"),
    ]:
        with pytest.raises(ReplayError, match=message):
            replay.refresh(*at, where, wrong)


def test_device_replay_sample_longer_than_the_ring_is_refused(key):
    replay = DeviceReplay(12, 2, OBS, ACT, ENTRIES)
    with pytest.raises(ReplayError, match="keeps 6 steps of each environment, but a sequence needs 7"):
        replay.sample(replay.init(), 4, 6, key=key)


@cache
def compiled(num_envs, capacity_per_env, length, online):
    """A device ring and its functions, compiled once for every shape."""
    replay = DeviceReplay(num_envs * capacity_per_env, num_envs, OBS, ACT, ENTRIES, online)
    sample = jax.jit(lambda ring, key: replay.sample(ring, 4, length, key=key))
    return replay, jax.jit(replay.add), sample, jax.jit(replay.refresh)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.sampled_from([(1, 2, 1), (2, 7, 2), (3, 9, 4), (4, 19, 5)]),
    plan=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    online=st.booleans(),
)
def test_device_replay_same_operations_equal_the_host_ring(sizes, plan, online):
    """`plan` alternates adding that many rows with a sample of 4 sequences that is then refreshed."""
    num_envs, capacity_per_env, length = sizes
    host_ring = build(num_envs, capacity_per_env, online)
    replay, add, sample, refresh = compiled(*sizes, online)
    assert replay.layout.nbytes == host_ring.nbytes
    ring = replay.init()
    for index, rows in enumerate(plan):
        for row in range(host_ring.inserted, host_ring.inserted + rows):
            host_ring.add(*record(row, num_envs))
            ring = add(ring, *record(row, num_envs))
        if not host_ring.can_sample(4, length):
            continue
        key = jax.random.key(index)
        expected, where = host_ring.sample(key, 4, length)
        ring, batch, there = sample(ring, key)
        same(batch, expected)
        same(there, where)
        latent = latent_of(where[1][:, None] + np.arange(length), version=index)
        host_ring.refresh(where, latent)
        ring = refresh(ring, there, latent)
        deter = host_ring._ring["deter"].view(np.uint16)
        same(ring.columns, {**host_ring._ring, "deter": deter})
    assert (int(ring.inserted), int(ring.online_taken)) == tuple(host_ring.counters.values())


def test_device_replay_larger_than_memory_is_refused():
    with pytest.raises(ReplayError, match="set replay.capacity to at most 27"):
        DeviceReplay(1000, 2, OBS, ACT, ENTRIES, available=layout.bytes_needed(31, 2, OBS, ACT, ENTRIES))
