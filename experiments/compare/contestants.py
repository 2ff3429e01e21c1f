"""Names on the command line become players: random, scripted, ppo, run:FOLDER[@ACTOR], llm:MODEL.

A contestant is asked about every task before anything is played (`identity`), and then takes a seat at one
task after the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import envs
from dreamer import schema
from dreamer.config import Config
from dreamer.schema import ConfigError
from envs.adapters import suggestion
from envs.api import LOG_PREFIX, Policy, VectorEnv
from envs.draw import action_names
from envs.rollout import Random
from experiments import surroundings
from experiments.agreement import agree, spaces
from experiments.compare.options import CompareOptions
from experiments.compare.play import Say, Seat
from experiments.compare.worlds import Worlds, worlds_of

ALONE = ("random", "scripted", "ppo")
"""Agents that are named by one word."""
FOLLOWED = {"ppo": "ppo:FOLDER", "run": "run:FOLDER", "llm": "llm:MODEL"}
"""Kinds that something follows, and how that is written."""


class Contestant(Protocol):
    """An agent that plays several tasks."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    def identity(self, task: str) -> dict[str, Any]:
        """What makes it another player if it changes.

        Raises:
          ConfigError: it cannot play this task; the message says why.
        """
        ...

    def seat(self, task: str) -> Seat:
        """Make it ready to play, which may take a training."""
        ...


def split(name: str) -> tuple[str, str]:
    """The kind of an agent and what follows it: `run:a/b` is `run` and `a/b`.

    Raises:
      ConfigError: there is no such kind, or it lacks what must follow.
    """
    kind, _, rest = name.partition(":")
    if name in ALONE or (kind in FOLLOWED and rest):
        return kind, rest
    if kind in FOLLOWED:
        raise ConfigError(f"agents has '{name}', which lacks what follows, as in {FOLLOWED[kind]}")
    if kind in ALONE:
        raise ConfigError(f"agents has '{name}', but {kind} takes nothing after it")
    if (Path(name) / "config.toml").is_file():
        raise ConfigError(f"agents has '{name}'; did you mean run:{name}?")
    forms = {form.partition(":")[0]: form for form in (*FOLLOWED.values(), *ALONE)}
    known = suggestion(kind, forms) or "; there are " + ", ".join((*ALONE, *FOLLOWED.values()))
    raise ConfigError(f"agents has no '{name}'{known}")


def run_and_actor(rest: str) -> tuple[Path, str]:
    """What `FOLDER@ACTOR` names; the actor is the greedy one where none is named, as by a path with an @.

    Raises:
      ConfigError: there is no such actor.
    """
    folder, at, actor = rest.rpartition("@")
    if not at or "/" in actor or Path(rest).exists():
        return Path(rest), "greedy"
    from dreamer.actors import named

    named(actor)
    return Path(folder), actor


def sees(reads: Collection[str], ours: VectorEnv) -> str:
    """What an agent that reads these keys sees of a task: "the observation of the task without mission"."""
    shown = [key for key in ours.obs_space if not key.startswith(LOG_PREFIX)]
    unread = [key for key in shown if key not in reads]
    return "the observation of the task" + (f" without {' and '.join(unread)}" if unread else "")


def _seated(task: str, **world: Any) -> tuple[Callable[[], VectorEnv], Sequence[str] | None]:
    """How to make one copy of a task, and what its actions are called."""
    make_env = lambda: envs.make(task, 1, **world)
    env = make_env()
    try:
        return make_env, action_names(env.task, env.act_space)
    finally:
        env.close()


@dataclass(frozen=True)
class RandomPlayer:
    """Draws every action uniformly, from the seed of the episode."""

    name: str
    worlds: Worlds = Worlds()

    def identity(self, task: str) -> dict[str, Any]:
        return self.worlds.of(task)

    def seat(self, task: str) -> Seat:
        make_env, names = _seated(task, **self.worlds.of(task))
        return Seat(
            make_env,
            lambda env, seed, file: Random(env.act_space),
            names=names,
            disclosure={"sees": "nothing", "privileged": False, "env_steps": 0},
        )


@dataclass(frozen=True)
class Scripted:
    """The planner or bot of a task, which knows its rules."""

    name: str
    worlds: Worlds = Worlds()

    def identity(self, task: str) -> dict[str, Any]:
        from experiments.baselines.scripted import scripted

        env = self.worlds.open(task)
        try:
            scripted(env)
        finally:
            env.close()
        return self.worlds.of(task)

    def seat(self, task: str) -> Seat:
        from experiments.baselines.scripted import scripted

        make_env, names = _seated(task, **self.worlds.of(task))
        env = make_env()
        player = scripted(env)
        env.close()
        disclosure = {"sees": player.sees, "privileged": player.privileged, "env_steps": 0}
        return Seat(make_env, lambda env, seed, file: scripted(env), names=names, disclosure=disclosure)


class Learned(NamedTuple):
    """What the disclosure of a trained agent says besides what it sees."""

    env_steps: int | None
    trained_on: str
    """The task."""
    parameters: int
    training_seconds: float | None
    actions: str
    """How it chooses them."""


@dataclass(frozen=True)
class Run:
    """A Dreamer of a run folder."""

    name: str
    folder: Path
    worlds: Worlds = Worlds()
    actor: str = "greedy"
    """The actor that chooses its actions, by name."""

    def identity(self, task: str) -> dict[str, Any]:
        import dreamer

        player = dreamer.load(self.folder)
        assert player.config is not None
        env = envs.make(task, 1, **self._world(task, player.config))
        try:
            agree(self.name, task, spaces(player.agent), env, more=True)
        finally:
            env.close()
        if env.task == envs.canonical(player.config.task):
            surroundings.notice(self.folder, player.config)
        return dict(player.counters) | self.worlds.of(task)

    def _world(self, task: str, trained: Config) -> dict[str, Any]:
        """The world it was trained in; of another task of the same suite, what it sees."""
        if envs.canonical(task) == envs.canonical(trained.task):
            return trained.env.world
        same = task.partition(":")[0] == trained.task.partition(":")[0]
        seen = {"obs": trained.env.obs, "distractor": trained.env.distractor}
        return self.worlds.of(task) | (seen if same else {})

    def seat(self, task: str) -> Seat:
        import dreamer
        from dreamer.agent import size
        from experiments.compare.expectation import Expectation
        from experiments.report.report import read_run

        player = dreamer.load(self.folder, actor=self.actor)
        cfg, folder = player.config, self.folder
        assert cfg is not None
        seconds = read_run(folder).result.get("seconds") if (folder / "config.toml").is_file() else None
        actions = "most likely" if self.actor == "greedy" else self.actor
        learned = Learned(
            player.counters.get("env_steps"), cfg.task, size(player.everything), seconds, actions
        )
        seat = _learner(task, self._world(task, cfg), player, player.agent.obs_space, folder, learned)
        return dataclasses.replace(seat, expect=Expectation(player))


@dataclass(frozen=True)
class Ppo:
    """Recurrent PPO: that of a folder, or one that is trained on each task before it plays."""

    name: str
    folder: Path
    """Of a trained one, or in which one is trained for every task."""
    trains: bool
    steps: int
    """Of its training; 0 as the preset says."""
    say: Say
    worlds: Worlds = Worlds()

    def identity(self, task: str) -> dict[str, Any]:
        from experiments.baselines.ppo.presets import PRESETS, suited

        if self.trains:
            steps = {"steps": self.steps} if self.steps else {}
            preset = schema.to_dict(PRESETS[suited(task)]())
            return {"preset": suited(task), **preset, **steps, **self.worlds.of(task)}
        from experiments.baselines.ppo.player import load

        player = load(self.folder)
        env = self.worlds.open(task)
        try:
            agree(self.name, task, spaces(player), env, more=True)
        finally:
            env.close()
        return {"env_steps": player.env_steps, **self.worlds.of(task)}

    def seat(self, task: str) -> Seat:
        from experiments.baselines.ppo.player import load
        from experiments.baselines.ppo.presets import suited
        from experiments.baselines.ppo.train import train

        folder = self.folder / task.replace("/", "_") if self.trains else self.folder
        world = self.worlds.of(task)
        if self.trains:
            train(task, folder, suited(task), steps=self.steps or None, say=self.say, world=world)
        player = load(folder)
        learned = Learned(player.env_steps, player.task, player.num_params, player.seconds, "sampled")
        return _learner(task, world, player, player.obs_space, folder, learned)


def _learner(
    task: str,
    world: Mapping[str, Any],
    player: Policy,
    reads: Collection[str],
    folder: Path,
    learned: Learned,
) -> Seat:
    """The seat of an agent that has learned from episodes, which its folder tells of.

    Args:
      world: keywords of `envs.make` that make the task what it is given.
      reads: keys of that which it reads.
    """
    make_env, names = _seated(task, **world)
    with contextlib.closing(make_env()) as env:
        seen = sees(reads, env)
    return Seat(
        make_env,
        lambda env, seed, file: player,
        names=names,
        compiles=True,
        disclosure={"sees": seen, "privileged": False, **learned._asdict()},
        curve=folder / "episodes.jsonl" if learned.trained_on == envs.canonical(task) else None,
    )


def gathered(
    options: CompareOptions, out: Path, stack: contextlib.ExitStack, stop: threading.Event, say: Say
) -> list[Contestant]:
    """The agents of a command line, in order.

    Args:
      stack: closes what they open.
      stop: ends waits for an endpoint.

    Raises:
      ConfigError: a name is unknown, or what it needs is not there.
    """
    named = [(name, *split(name)) for name in options.agents]  # all names before anything is opened
    runs = {name: run_and_actor(rest) for name, kind, rest in named if kind == "run"}
    worlds = worlds_of({name: folder for name, (folder, _) in runs.items()}, options.task)
    endpoints = None
    if any(kind == "llm" for _, kind, _ in named):
        from experiments.compare.language import Endpoints

        endpoints = Endpoints(options, out, stack, stop, worlds)
    contestants: list[Contestant] = []
    for name, kind, rest in named:
        if kind == "random":
            contestants.append(RandomPlayer(name, worlds))
        elif kind == "scripted":
            contestants.append(Scripted(name, worlds))
        elif kind == "run":
            folder, actor = runs[name]
            contestants.append(Run(name, folder, worlds, actor))
        elif kind == "ppo":
            folder = Path(rest) if rest else out / "agents" / "ppo"
            contestants.append(Ppo(name, folder, not rest, options.ppo_steps, say, worlds))
        elif endpoints is not None:
            contestants.append(endpoints.player(name, rest))
    return contestants
