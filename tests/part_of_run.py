# ruff: noqa: E402
"""One of several processes that train a small agent with the host loop; started by `test_processes.py`.

    python part_of_run.py INDEX COUNT PORT FOLDER MESH SPLIT_FROM PARTS

It writes losses, and parameters before and after 20 updates, to FOLDER/COUNT.npz, and saves a checkpoint in
FOLDER/COUNT. A single process (COUNT is 1) has its replay in as many PARTS as several would have.
"""

import dataclasses
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

from dreamer.processes import ALONE, become, meet

if __name__ == "__main__":  # before anything of JAX runs
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    INDEX, COUNT, PORT = map(int, sys.argv[1:4])
    US = ALONE
    if COUNT > 1:
        US, _ = meet(INDEX, COUNT, "127.0.0.1", PORT, lambda code, why: os._exit(code))
        jax.distributed.initialize(f"127.0.0.1:{PORT + 1}", COUNT, INDEX)

import numpy as np
import tiny

import envs
from dreamer import numbers
from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent
from dreamer.checkpoint import CheckpointStore
from dreamer.config import LoopConfig
from dreamer.loops.clocks import Progress
from dreamer.loops.collector import Collector
from dreamer.loops.host import HostLoop
from dreamer.placement import Sharding
from dreamer.replay.host import HostReplay

ENVS, UPDATES = 4, 20
BEHAVIOR = ("loss/policy", "loss/replay_value", "loss/value")
CFG = LoopConfig(num_envs=ENVS, batch_size=8, batch_length=4, prefill=0, train_ratio=8)
NUMBERS = numbers.replace(tiny.NUMBERS, {"optim.lr": np.float32(4e-5)})  # the default rate


class Parts:
    """The replay of one process that draws as several do: a part of a batch from each of their parts."""

    def __init__(self, make, count):
        self.parts, self.count = [make() for _ in range(count)], count

    def add(self, step, action, latent):
        action, latent = jax.device_get((dict(action), dict(latent)))
        for i, part in enumerate(self.parts):
            part.add(*jax.tree.map(lambda x, i=i: x[i :: self.count], (step, action, latent)))

    def can_sample(self, batch, length):
        return self.parts[0].can_sample(batch // self.count, length)

    def sample(self, key, batch, length, **options):
        keys = [jax.random.fold_in(jax.random.clone(key), i) for i in range(self.count)]
        drawn = [
            part.sample(key, batch // self.count, length, **options)
            for part, key in zip(self.parts, keys, strict=True)
        ]
        return jax.tree.map(lambda *x: np.concatenate(x), *[b for b, _ in drawn]), [w for _, w in drawn]

    def refresh(self, where, latent):
        rows = jax.tree.map(lambda x: np.split(np.asarray(x), self.count), dict(latent))
        for i, part in enumerate(self.parts):
            part.refresh(where[i], {name: value[i] for name, value in rows.items()})


def build(us, mesh="", split_from=2**18, parts=1, updates=UPDATES):
    cfg = dataclasses.replace(CFG, updates=updates)
    numbers_ = range(us.index, ENVS, us.count)
    env = envs.make("probe:chosen", len(numbers_), seed=0, numbers=numbers_)
    agent = Agent(env.obs_space, env.act_space, tiny.CFG)
    make = lambda: HostReplay(
        400 * (ENVS // us.count // parts),
        ENVS // us.count // parts,
        env.obs_space,
        env.act_space,
        agent.entries,
    )
    replay = Parts(make, parts) if parts > 1 else make()
    source = Collector(agent, env, replay, NUMBERS, 0, actor=SAMPLED, processes=us)
    shape = dict(entry.split("=") for entry in filter(None, mesh.split(",")))
    shape = {axis: int(length) for axis, length in shape.items()}
    devices = [next(d for d in jax.devices() if d.process_index == i) for i in range(us.count)]
    sharding = Sharding.over(shape, devices, split_from) if shape else None
    options = dict(actor=SAMPLED, sharding=sharding, processes=us)
    return HostLoop(agent, source, replay, cfg, NUMBERS, None, Progress(), 0, **options)


def run(loop):
    """Train to the limit of updates: losses [updates, K], those of behaviour last, and parameters, whole."""
    rows = []
    for output in loop.outputs():
        rows += output.metrics
        if loop.progress.updates >= loop.cfg.updates:
            break
    rows += loop.flush()
    names = [name for name in sorted(rows[0]) if name.startswith("loss/") and name not in BEHAVIOR]
    losses = np.array([[row[name] for name in (*names, *BEHAVIOR)] for row in rows])
    return losses, flat(loop.gather_params())


def flat(params):
    """Of the world model: policy and value learn otherwise once rounding has turned a draw of a dream."""
    kept = {name: x for name, x in params.items() if name not in ("policy", "value")}
    return np.concatenate([x.ravel() for x in jax.tree.leaves(jax.device_get(kept))])


def assert_same(ours, theirs, updates=UPDATES):
    """World models to 1e-5, and behaviour for three updates, in which hardly ever a draw is turned."""
    (losses, a), (expected, b) = ours, theirs
    assert losses.shape == expected.shape and len(losses) == updates
    np.testing.assert_allclose(losses[:, :-3], expected[:, :-3], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(losses[:3], expected[:3], rtol=1e-5, atol=2e-6)  # that of the policy is near 0
    assert np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def main(us, folder, mesh, split_from, parts):
    become(us)
    loop = build(us, mesh, int(split_from), int(parts))
    before = flat(loop.gather_params())
    losses, params = run(loop)
    if us.is_first:
        np.savez(folder / f"{us.count}.npz", losses=losses, params=params, before=before)
    if not us.are_several:
        rows = [{k: v[:, : part.inserted] for k, v in part._ring.items()} for part in loop.replay.parts]
        np.savez(folder / "rows.npz", **{f"{k} {i}": v for i, row in enumerate(rows) for k, v in row.items()})
        return
    store = CheckpointStore(folder / str(us.count), processes=us)
    saved = loop.checkpoint()
    meta = dict(saved.meta, progress=vars(loop.progress), config={"loop": dataclasses.asdict(CFG)})
    store.save(1, saved.arrays, meta, saved.files)
    us.gather("done")
    jax.distributed.shutdown()
    us.line.close()


if __name__ == "__main__":
    main(US, Path(sys.argv[4]), *sys.argv[5:])
