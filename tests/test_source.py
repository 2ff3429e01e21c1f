"""A source fills the replay; another one than environments is one class, and the loop stays as it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import test_fused
import tiny

import envs
from dreamer import schema
from dreamer.actors.policy import SAMPLED
from dreamer.agent import Agent, Params, acting_params
from dreamer.config import LoopConfig
from dreamer.loops.clocks import Progress
from dreamer.loops.collector import Collector
from dreamer.loops.host import HostLoop
from dreamer.loops.source import Collected, Source
from dreamer.replay.host import HostReplay
from dreamer.replay.layout import ReplayError
from envs.api import Step

TASK, ENVS, ROWS = "probe:chosen", 2, 24
CFG = LoopConfig(num_envs=ENVS, batch_size=4, batch_length=4, prefill=0, train_ratio=4.0)

pytestmark = pytest.mark.usefixtures("compilation_cache")


class Recorded:
    """Replays what another replay holds, row by row; nobody acts.

    Args:
      replay: what is filled.
      stored: the rows, as a replay that was saved.
      counted: whether its steps count as steps of the run.
    """

    def __init__(self, replay: HostReplay, stored: HostReplay, *, counted: bool):
        self._replay, self._stored, self._counted, self._next = replay, stored, counted, 0

    def rows(self, progress: Progress) -> Iterator[Collected]:
        while self._next < self._stored.inserted:
            row = {name: column[:, self._next] for name, column in self._stored._ring.items()}
            obs = {key: row[f"obs/{key}"] for key in self._stored.layout.obs_keys}
            action = {key: row[f"action/{key}"] for key in self._stored.layout.act_keys}
            step = Step(obs, row["reward"], row["is_first"], row["is_last"], row["is_terminal"])
            self._replay.add(step, action, {name: row[name] for name in self._stored.layout.entries})
            self._next += 1
            progress.slots += 1
            progress.env_steps += self._counted * int((~row["is_first"]).sum())
            yield Collected([], progress.env_steps)

    def set_params(self, params: Params) -> None:
        """Nobody acts."""

    @property
    def meta(self) -> dict[str, Any]:
        return {"recorded": self._next}

    def restore(self, meta: Mapping[str, Any]) -> None:
        self._next = meta["recorded"]


def agent_and_env():
    env = envs.make(TASK, ENVS)
    return Agent(env.obs_space, env.act_space, tiny.CFG), env


def empty_replay(agent: Agent, capacity: int = 200) -> HostReplay:
    return HostReplay(capacity, ENVS, agent.obs_space, agent.act_space, agent.entries)


def recorded(folder: Path, rows: int = ROWS) -> tuple[Path, list[str], dict[str, int]]:
    """Files of a replay that a collector filled with so many rows."""
    agent, env = agent_and_env()
    replay = empty_replay(agent)
    source = Collector(agent, env, replay, tiny.NUMBERS, seed=0, actor=SAMPLED)
    source.set_params(acting_params(jax.jit(agent.init)(jax.random.key(0)).params, SAMPLED))
    stream = source.rows(Progress())
    for _ in range(rows + 1):
        next(stream)
    return folder / "data", replay.save(folder / "data"), replay.counters


def recorded_loop(folder: Path, *, counted: bool = False, rows: int = ROWS, state=None, **limits) -> HostLoop:
    agent, _ = agent_and_env()
    replay, stored = empty_replay(agent), empty_replay(agent)
    stored.load(*recorded(folder, rows))
    source: Source = Recorded(replay, stored, counted=counted)
    cfg = schema.replace_paths(CFG, limits)
    state = state or jax.jit(agent.init)(jax.random.key(0))
    return HostLoop(agent, source, replay, cfg, tiny.NUMBERS, state, Progress(), seed=0, actor=SAMPLED)


def test_source_of_records_trains_while_env_steps_stay_zero(tmp_path):
    loop = recorded_loop(tmp_path, updates=7)
    before = jax.tree.map(np.array, loop.state.params)
    outputs = list(loop.outputs())
    metrics = [row for output in outputs for row in output.metrics] + loop.flush()
    assert (loop.progress.env_steps, loop.progress.updates, loop.progress.slots) == (0, 7, ROWS)
    assert len(loop.replay) == ROWS * ENVS
    assert len(metrics) == 7 and all(np.isfinite(row["loss"]) for row in metrics)
    assert not test_fused.same(before, loop.state.params)


def test_source_of_counted_records_trains_at_the_ratio_then_every_turn(tmp_path):
    loop = recorded_loop(tmp_path, counted=True, updates=40)
    at_the_end_of_data = None
    for _ in loop.outputs():
        if loop.progress.slots == ROWS and at_the_end_of_data is None:
            at_the_end_of_data = loop.progress.updates
    steps = loop.progress.env_steps - loop.progress.learning_since
    assert at_the_end_of_data == int(steps * CFG.train_ratio / 16)
    assert loop.progress.updates == 40 and loop.progress.env_steps <= ROWS * ENVS


def test_source_ending_before_a_full_batch_raises_replay_error(tmp_path):
    loop = recorded_loop(tmp_path, rows=3, updates=7)
    with pytest.raises(ReplayError, match="too few for 4 sequences"):
        list(loop.outputs())


def test_collector_restored_episode_counts_continue_the_seeds(tmp_path):
    agent, env = agent_and_env()
    source = Collector(agent, env, empty_replay(agent), tiny.NUMBERS, seed=0, actor=SAMPLED)
    source.restore({"episodes": [5, 9]})
    assert source.meta == {"episodes": [5, 9]} and list(env.episodes) == [5, 9]


class Watched:
    """Environments that write down when they are used."""

    def __init__(self, env, log):
        self._env, self._log = env, log

    def __getattr__(self, name):
        return getattr(self._env, name)

    def send(self, action, seeds=None):
        self._log.append("send")
        self._env.send(action, seeds)

    def receive(self):
        self._log.append("receive")
        return self._env.receive()


def test_collector_environments_step_while_updates_run(monkeypatch):
    agent, env = agent_and_env()
    replay, log = empty_replay(agent), []
    state = jax.jit(agent.init)(jax.random.key(0))
    source = Collector(agent, Watched(env, log), replay, tiny.NUMBERS, seed=0, actor=SAMPLED)
    cfg = schema.replace_paths(CFG, {"train_ratio": 16.0})
    loop = HostLoop(agent, source, replay, cfg, tiny.NUMBERS, state, Progress(), seed=0, actor=SAMPLED)

    def update():
        log.append("update")
        loop.progress.updates += 1
        return []

    monkeypatch.setattr(loop, "_update", update)
    for _, _ in zip(range(20), loop.outputs(), strict=False):
        pass
    slots = " ".join(log).split("send")[1:]
    assert {slot.split()[-1] for slot in slots[:-1]} == {"receive"}
    assert max(slot.count("update") for slot in slots) == 2  # two steps, 16 replayed for each, of 16
    assert all(slot.split()[:-1] == ["update"] * slot.count("update") for slot in slots[:-1])
