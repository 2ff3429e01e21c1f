"""What runs of one structure can share: the task, the agent, and everything that is compiled for them."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import envs
from dreamer import processes, schema
from dreamer.config import TRACED, Config
from experiments import memory

if TYPE_CHECKING:
    from dreamer.actors import Actor
    from dreamer.agent import Agent, Params, TrainState
    from dreamer.loops.fused import CompiledLoop, Fused
    from dreamer.numbers import Numbers
    from dreamer.placement import Sharding
    from dreamer.player import Player
    from dreamer.records import Batch
    from envs.api import VectorEnv
    from experiments.report.report import Examiner


@contextlib.contextmanager
def opened(cfg: Config, slots: int = 1) -> Iterator[Workspace]:
    """The workspace of a configuration while its task is open.

    Args:
      slots: runs at the same time.

    Raises:
      ConfigError: the task cannot be trained that way, or there is no such actor.
    """
    from dreamer import actors

    actors.named(cfg.loop.actor)  # before anything is opened
    check_processes(cfg)
    memory.check(cfg, on_device=envs.is_on_device(cfg.task))
    with _world(cfg) as env:
        workspace = Workspace(cfg, env, slots)
        try:
            yield workspace
        finally:
            workspace.close()


def check_processes(cfg: Config) -> None:
    """Refuse what several processes cannot train.

    Raises:
      ConfigError: it is a population, or a JAX environment.
    """
    if not processes.current().are_several:
        return
    if not cfg.population.is_one:
        raise schema.ConfigError(
            "several processes train one agent, but this is a population: train it in one process"
        )
    if envs.is_on_device(cfg.task):
        raise schema.ConfigError(
            f"several processes train on Gymnasium environments, but {cfg.task} is a JAX environment, whose "
            "loop is one program of one process: use its devices with loop.mesh"
        )


@contextlib.contextmanager
def _world(cfg: Config) -> Iterator[Any]:
    """The task: copies of it on the host, or its pure functions for the loop of the device."""
    if envs.is_on_device(cfg.task):
        if hosted := [name for name, value in cfg.env.copies.items() if value]:
            raise schema.ConfigError(
                f"env.{hosted[0]} is for Gymnasium environments, but {cfg.task} is a JAX environment: "
                "leave it out"
            )
        yield envs.make_jax(cfg.task, **cfg.env.training, **cfg.env.world)
        return
    if not cfg.population.is_one:
        raise schema.ConfigError(
            f"a population is one program, but {cfg.task} runs on the host: train its members one after the "
            "other, or take a JAX environment, such as grid:DoorKey-5x5"
        )
    how: dict[str, Any] = {**cfg.env.training, **cfg.env.copies, **cfg.env.world}
    us, count = processes.current(), cfg.loop.num_envs
    share = us.share(count, "environments, loop.num_envs")
    env = envs.make(cfg.task, share, seed=cfg.seed, numbers=us.part(count), **how)
    try:
        yield env
    finally:
        env.close()


def structure(cfg: Config) -> str:
    """What runs that share a program have in common: all but their seed and the traced numbers."""
    varying = {"seed", *(f"agent.{path}" for path in TRACED.values())}
    return "\n".join(f"{path} = {value!r}" for path, value in schema.values(cfg) if path not in varying)


def check_losses(agent: Agent, cfg: Config) -> None:
    """Check, from shapes alone, that a sum with a class of the user's has losses of different names.

    Only tracing a loss says its names, which takes a second or two. The first update would find it as well,
    but after the steps of the prefill. The objectives of the table are known to differ.

    Raises:
      ConfigError: both parts have a loss of one name.
    """
    if "+" not in cfg.agent.objective or ":" not in cfg.agent.objective:
        return
    import jax

    from dreamer.numbers import trace

    def losses(state: TrainState, batch: Batch, numbers: Numbers, key: jax.Array) -> dict[str, jax.Array]:
        world, latent = agent.world(state.params, numbers), agent.unpack(batch.context_latent)
        first, second = jax.random.split(key)
        seen = world.observe(latent, batch.obs, batch.action, batch.is_first, key=first)
        return world.loss(batch, seen, state.slow["objective"], key=second)[0]

    state = jax.eval_shape(agent.init, jax.random.key(0))
    batch = _shapes(agent, cfg.loop.batch_size, cfg.loop.batch_length)
    jax.eval_shape(losses, state, batch, trace(cfg.agent), jax.random.key(1))


def _shapes(agent: Agent, size: int, length: int) -> Batch:
    """A batch as shapes and dtypes."""
    from jax import ShapeDtypeStruct

    from dreamer.records import Batch

    of = lambda spaces, *lead: {k: ShapeDtypeStruct((*lead, *s.shape), s.dtype) for k, s in spaces.items()}
    flag = ShapeDtypeStruct((size, length), bool)
    return Batch(
        obs=of(agent.obs_space, size, length),
        action=of(agent.act_space, size, length),
        reward=ShapeDtypeStruct((size, length), "float32"),
        is_first=flag,
        is_last=flag,
        is_terminal=flag,
        context_latent=of(agent.entries, size),
        context_action=of(agent.act_space, size),
    )


def sharding(cfg: Config) -> Sharding | None:
    """The mesh of `loop.mesh` over the first devices, None where there is none.

    Raises:
      ConfigError: there are too few devices, or they cannot take equal parts of the environments of the loop
        of the device.
    """
    us = processes.current()
    if us.are_several:
        return _over_processes(cfg, us.count)
    if not (shape := cfg.loop.mesh_shape):
        return None
    import jax

    from dreamer.placement import Sharding

    placed, count = Sharding.over(shape, jax.local_devices()), cfg.loop.num_envs
    if envs.is_on_device(cfg.task) and count % placed.size:
        raise schema.ConfigError(
            f"loop.mesh has {placed.size} devices, which cannot share {count} environments (loop.num_envs) "
            f"equally: {cfg.loop.mesh}"
        )
    return placed


def _over_processes(cfg: Config, count: int) -> Sharding:
    """The mesh of `loop.mesh` over as many devices of every process; without one, data over one of each.

    Raises:
      ConfigError: the processes cannot take equal parts of its devices, or of a batch.
    """
    import jax

    from dreamer.placement import DATA, Sharding

    shape = cfg.loop.mesh_shape or {DATA: count}
    size, part = math.prod(shape.values()), cfg.loop.batch_size // cfg.loop.accumulate
    if size % count:
        raise schema.ConfigError(
            f"loop.mesh {cfg.loop.mesh} has {size} devices, which {count} processes cannot share equally"
        )
    if size > count and jax.default_backend() == "cpu":
        raise schema.ConfigError(
            f"loop.mesh {cfg.loop.mesh} has {size} devices for {count} processes, but on CPUs several "
            f"processes have one each: take data={count} or fsdp={count}"
        )
    if part % size:
        raise schema.ConfigError(
            f"{count} processes cannot share a batch of {part} sequences over {size} devices equally: change "
            "loop.batch_size (or loop.accumulate)"
        )
    each = size // count
    here = [[d for d in jax.devices() if d.process_index == i][:each] for i in range(count)]
    return Sharding.over(shape, [device for devices in here for device in devices])


class Workspace:
    """The agent of a task and what is compiled for it, each made when it is first needed.

    Args:
      cfg: of any run of this structure.
      env: the task, as a `VectorEnv` or as a `JaxEnv`.
      slots: runs at the same time, which share the memory.

    Raises:
      ConfigError: the actor cannot choose the actions of the task, both parts of the objective have a loss
        of one name, or `sharding` refuses the mesh.
    """

    def __init__(self, cfg: Config, env: Any, slots: int = 1):
        from dreamer import actors
        from dreamer.agent import Agent

        self.cfg, self.env, self.slots = cfg, env, slots
        self.processes = processes.current()
        """Those of the run, which share environments and replay."""
        self.sharding = sharding(cfg)
        """Of the agent and its data over the mesh, None without `loop.mesh`."""
        self.actor: Actor[Any] = actors.named(cfg.loop.actor)(env.act_space)
        """What acts in training."""
        self.agent = Agent(env.obs_space, env.act_space, cfg.agent)
        check_losses(self.agent, cfg)
        self.notices: list[str] = [*getattr(env, "notices", ()), *self.agent.notices]
        """What the user should know about how the agent sees its task."""
        self._kept = contextlib.ExitStack()
        self._players: dict[str, Player] = {}
        self._compiled: dict[int, CompiledLoop] = {}
        self._worlds: dict[int, VectorEnv] = {}

    def close(self) -> None:
        """Close the environments that were opened for it."""
        self._kept.close()

    def replay_shape(self, capacity: int = 0) -> tuple[Any, ...]:
        """Capacity (by default what a run can fill), environments, spaces and entries of the replay, or of
        this process's part of it."""
        cfg, count = self.cfg, self.processes.count
        capacity = capacity or min(cfg.replay.capacity, _round_up(2 * cfg.steps, cfg.loop.num_envs))
        spaces = self.env.obs_space, self.env.act_space, self.agent.entries
        return capacity // count, cfg.loop.num_envs // count, *spaces

    def devices(self, members: int = 1) -> list[Any]:
        """What the loop of the device may use: every accelerator, or a core for every member."""
        import jax

        on_cpu = jax.default_backend() == "cpu"
        wanted = self.cfg.loop.devices or (members if on_cpu else jax.local_device_count())
        return jax.local_devices()[:wanted]

    def fused(self, share: float, capacity: int = 0, sharding: Sharding | None = None) -> Fused:
        """The functions of the loop of the device.

        Args:
          share: devices for one replay; below 1 where several replays share one.
          capacity: of the replay; 0 for what a run can fill.
          sharding: of environments, replay, batches and learner, if several devices share them.

        Raises:
          ConfigError: the replay does not fit.
        """
        from dreamer.loops.fused import Fused
        from dreamer.replay.device import DeviceReplay, available_memory
        from envs.wrappers import Batched

        cfg, available = self.cfg, available_memory()
        available = None if available is None else int(available * share)
        replay = DeviceReplay(*self.replay_shape(capacity), online=cfg.replay.online, available=available)
        batched = Batched(self.env, cfg.loop.num_envs)
        return Fused(self.agent, batched, replay, cfg.loop, sharding, actor=self.actor)

    def alone(self, capacity: int = 0) -> CompiledLoop:
        """The loop of the device for one agent, compiled once for each capacity of the replay."""
        from dreamer.loops.fused import CompiledLoop

        capacity = self.replay_shape(capacity)[0]
        if capacity not in self._compiled:
            sharding = self.sharding or self._data
            share = 1 if sharding is None else sharding.size
            self._compiled[capacity] = CompiledLoop(self.fused(share / self.slots, capacity, sharding))
        return self._compiled[capacity]

    @property
    def _data(self) -> Sharding | None:
        """All devices that can take equal parts of environments and batches, None if that is one."""
        from dreamer.placement import Sharding, fitting

        cfg = self.cfg.loop
        part = cfg.batch_size // cfg.accumulate
        devices = fitting(self.devices(), math.gcd(cfg.num_envs, part))
        return Sharding.data(devices) if len(devices) > 1 else None

    def player(
        self,
        params: Params,
        numbers: Numbers,
        *,
        actor: str = "greedy",
        config: Config | None = None,
        counters: Mapping[str, int] | None = None,
    ) -> Player:
        """A shared player, compiled once, that has these parameters until the next call."""
        from dreamer.player import Player

        if actor not in self._players:
            self._players[actor] = Player(self.agent, params, numbers, actor=actor)
        player = self._players[actor]
        player.set_params(params, numbers, config=config, counters=counters)
        return player

    def evaluation_world(self, episodes: int) -> VectorEnv:
        """Copies of the task for evaluation, kept open for the next time."""
        cfg, num_envs = self.cfg, min(episodes, max(self.cfg.loop.num_envs, 16))
        if num_envs not in self._worlds:
            env = envs.make(cfg.task, num_envs, **cfg.env.copies, **cfg.env.world)
            self._kept.callback(env.close)
            self._worlds[num_envs] = env
        return self._worlds[num_envs]

    @functools.cached_property
    def examiner(self) -> Examiner:
        """The examiner of all reports, which compile once."""
        from experiments.report.report import Examiner

        return self._kept.enter_context(Examiner(self.cfg))


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
