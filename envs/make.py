"""make: "suite:task" to an environment. Adapters are imported only when asked for."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from envs import modules
from envs.adapters import MissingExtra, UnknownTask, suggestion, versions_of
from envs.api import FIRST_TRAINING_SEED, JaxEnv, UnsupportedSpace, VectorEnv

WHOLE_GAMES = "game"
"""The `lives` with which episodes are whole games."""


@dataclass(frozen=True)
class Suite:
    """A family of tasks and the adapter that makes them."""

    name: str
    """What stands before the colon."""
    module: str
    """The adapter."""
    package: str
    """What the adapter imports."""
    install: str
    """What to install to get it."""
    examples: tuple[str, ...]
    """A few tasks."""
    on_device: bool = False
    """Whether its worlds are pure functions of JAX arrays, which the fused loop compiles in."""
    by_hand: str = ""
    """The commands that install it, where `pip install` of `install` would change what else is there."""
    versions: tuple[str, ...] = ()
    """Packages, as they are installed, whose version decides what its tasks do."""

    @property
    def installed(self) -> bool:
        """Whether its package is there (without importing it)."""
        return importlib.util.find_spec(self.package) is not None

    @property
    def how(self) -> str:
        """The command that installs it."""
        return self.by_hand or f"pip install '{self.install}'"

    @property
    def obs(self) -> tuple[str, ...]:
        """The observations one can choose, the default first."""
        return self.adapter().OBS

    def tasks(self) -> list[str]:
        """Every task, as `suite:name`; empty if the suite is not installed."""
        return [f"{self.name}:{name}" for name in self.adapter().ids()] if self.installed else []

    def adapter(self) -> ModuleType:
        """The adapter's module.

        Raises:
          MissingExtra: if its package is not installed.
        """
        if not self.installed:
            raise MissingExtra(f"{self.name} tasks need {self.package}: {self.how}")
        return importlib.import_module(self.module)


SUITES = (
    Suite(
        "minigrid",
        "envs.adapters.minigrid",
        "minigrid",
        "minigrid",
        ("minigrid:DoorKey-5x5", "minigrid:Empty-5x5", "minigrid:BabyAI-GoToLocal"),
        versions=("minigrid", "gymnasium"),
    ),
    Suite(
        "gymnasium",
        "envs.adapters.gymnasium",
        "gymnasium",
        "gymnasium",
        ("gymnasium:CartPole-v1", "gymnasium:Pendulum-v1", "gymnasium:my_pkg.module:My-v0"),
        versions=("gymnasium",),
    ),
    Suite(
        "grid",
        "envs.gridworld",
        "jax",
        "jax",
        ("grid:DoorKey-5x5", "grid:FourRooms", "grid:MemoryS7", "grid:LavaCrossingS9N1"),
        on_device=True,
    ),
    Suite(
        "gymnax",
        "envs.adapters.gymnax",
        "gymnax",
        "gymnax==1.0.1",
        ("gymnax:Breakout-MinAtar", "gymnax:CartPole-v1", "gymnax:Pendulum-v1"),
        on_device=True,
        by_hand="pip install --no-deps gymnax==1.0.1 && pip install six seaborn matplotlib",
        versions=("gymnax",),
    ),
    Suite(
        "xminigrid",
        "envs.adapters.xminigrid",
        "xminigrid",
        "dreamer-toolkit[xminigrid]",
        ("xminigrid:DoorKey-5x5", "xminigrid:FourRooms", "xminigrid:MemoryS16"),
        on_device=True,
        versions=("xminigrid",),
    ),
    Suite(
        "craftax",
        "envs.adapters.craftax",
        "craftax",
        "dreamer-toolkit[craftax]",
        ("craftax:Craftax-Classic", "craftax:Craftax"),
        on_device=True,
        versions=("craftax",),
    ),
    Suite(
        "crafter",
        "envs.adapters.crafter",
        "crafter",
        "dreamer-toolkit[crafter]",
        ("crafter:reward", "crafter:noreward"),
        versions=("crafter", "opensimplex"),
    ),
    Suite(
        "pinpad",
        "envs.pinpad",
        "gymnasium",
        "gymnasium",
        ("pinpad:three", "pinpad:six", "pinpad:eight"),
    ),
    Suite(
        "brax",
        "envs.adapters.brax",
        "brax",
        "dreamer-toolkit[brax]",
        ("brax:ant", "brax:halfcheetah", "brax:inverted_pendulum"),
        on_device=True,
        versions=("brax", "mujoco", "mujoco-mjx"),
    ),
    Suite(
        "navix",
        "envs.adapters.navix",
        "navix",
        "navix==4.0.0",
        ("navix:DoorKey-5x5", "navix:LavaCrossingS9N1", "navix:Dynamic-Obstacles-6x6"),
        on_device=True,
        by_hand="pip install --no-deps navix==4.0.0 && pip install distrax rlax wandb  # from Python 3.12 on",
        versions=("navix",),
    ),
    Suite(
        "dmc",
        "envs.adapters.dmc",
        "dm_control",
        "dreamer-toolkit[dmc]",
        ("dmc:walker-walk", "dmc:cartpole-balance", "dmc:quadruped-escape"),
        versions=("dm-control", "mujoco"),
    ),
    Suite(
        "atari",
        "envs.adapters.atari",
        "ale_py",
        "dreamer-toolkit[atari]",
        ("atari:Pong", "atari:Breakout", "atari:MsPacman"),
        versions=("ale-py", "pillow"),
    ),
    Suite(
        "atari100k",
        "envs.adapters.atari100k",
        "ale_py",
        "dreamer-toolkit[atari]",
        ("atari100k:Pong", "atari100k:Breakout", "atari100k:Boxing"),
        versions=("ale-py", "pillow"),
    ),
    Suite(
        "popgym",
        "envs.adapters.popgym",
        "popgym",
        "dreamer-toolkit[popgym]",
        ("popgym:RepeatPreviousEasy", "popgym:ConcentrationMedium", "popgym:NoisyPositionOnlyCartPoleHard"),
        versions=("popgym", "gymnasium"),
    ),
    Suite(
        "bsuite",
        "envs.adapters.bsuite",
        "bsuite",
        "dreamer-toolkit[bsuite]",
        ("bsuite:catch/0", "bsuite:deep_sea/3", "bsuite:memory_len/10"),
        versions=("bsuite",),
    ),
    Suite(
        "mujoco",
        "envs.adapters.mujoco",
        "mujoco",
        "dreamer-toolkit[mujoco]",
        ("mujoco:hopper", "mujoco:half-cheetah", "mujoco:humanoid-standup"),
        versions=("gymnasium", "mujoco"),
    ),
    Suite(
        "memory-maze",
        "envs.adapters.memory_maze",
        "memory_maze",
        "dreamer-toolkit[memory-maze]",
        ("memory-maze:9x9", "memory-maze:15x15"),
        versions=("memory-maze", "dm-control", "labmaze", "mujoco"),
    ),
    Suite(
        "envpool",
        "envs.adapters.envpool",
        "envpool",
        "dreamer-toolkit[envpool]",
        ("envpool:WalkerWalk-v1", "envpool:CoinrunHard-v0", "envpool:Ant-v5"),
        versions=("envpool",),
    ),
    Suite(
        "procgen",
        "envs.adapters.procgen",
        "envpool",
        "dreamer-toolkit[envpool]",
        ("procgen:coinrun", "procgen:starpilot", "procgen:maze"),
        versions=("envpool",),
    ),
    Suite(
        "jax",
        "envs.adapters.jax",
        "jax",
        "jax",
        ("jax:my_pkg.module:MyWorld",),
        on_device=True,
    ),
    Suite(
        "probe",
        "envs.probes",
        "gymnasium",
        "gymnasium",
        ("probe:constant", "probe:remembered", "probe:continuous"),
    ),
)

PARTS = {"babyai": ("minigrid", "BabyAI-")}
"""Names for a part of a suite: which suite it is, and how the names of that part begin there."""


def suites() -> tuple[Suite, ...]:
    """The suites there are, installed or not."""
    return SUITES


def canonical(task: str) -> str:
    """The full name of a task: `minigrid:DoorKey-5x5` is `minigrid:MiniGrid-DoorKey-5x5-v0`, and
    `babyai:GoTo` is `minigrid:BabyAI-GoTo-v0`.

    Raises:
      UnknownTask: with close matches.
      MissingExtra: if it needs a package that is not installed.
    """
    name, colon, rest = task.partition(":")
    if name in PARTS and colon:
        name, prefix = PARTS[name]
        rest = prefix + rest.removeprefix(prefix)
    suite = next((suite for suite in SUITES if suite.name == name), None)
    if suite is not None and colon:
        return f"{name}:{suite.adapter().canonical(rest)}"
    known = [*(suite.name for suite in SUITES), *PARTS]
    if not colon:
        raise UnknownTask(f"'{task}' lacks its suite{_suite_of(task)}")
    if rest.rpartition("-v")[2].isdigit() and not suggestion(name, known):
        raise UnknownTask(f"there is no suite '{name}'; did you mean gymnasium:{task}?")
    close = suggestion(name, known) or f"; the suites are {', '.join(known)}"
    raise UnknownTask(f"there is no suite '{name}'{close}")


def _suite_of(name: str) -> str:
    """The end of a message about a task without suite: the task it may be."""
    for suite in SUITES:
        if not suite.installed:
            continue
        try:
            suite.adapter().canonical(name)
        except (UnknownTask, MissingExtra):
            continue
        return f"; did you mean {suite.name}:{name}?"
    known = {task.partition(":")[2]: task for suite in reversed(SUITES) for task in suite.tasks()}
    return suggestion(name, known) or f", as in {SUITES[0].examples[0]}"


def made_of(task: str, kwargs: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What decides what a task does: the installed version of each package, and settings of a simulator.

    Args:
      kwargs: its arguments.

    Raises:
      UnknownTask, MissingExtra: as `canonical`.
    """
    name, _, rest = canonical(task).partition(":")
    suite = next(suite for suite in SUITES if suite.name == name)
    more = getattr(suite.adapter(), "made_of", lambda *_: {})(rest, kwargs or {})
    return versions_of(suite.versions) | more


def is_on_device(task: str) -> bool:
    """Whether `make_jax` makes this task, so that the fused loop can train on it."""
    name = task.partition(":")[0]
    return any(suite.on_device for suite in SUITES if suite.name == name)


def note(task: str) -> str:
    """What must be known to compare scores of a task with others', in a sentence; empty where nothing is.

    It needs no package of the suite.
    """
    name, _, rest = task.partition(":")
    suite = next((suite for suite in SUITES if suite.name == name), None)
    adapter = importlib.import_module(suite.module) if suite is not None else None
    return getattr(adapter, "note", lambda name: "")(rest)


def make(
    task: str,
    num_envs: int = 1,
    *,
    seed: int = 0,
    obs: str = "",
    parallel: bool = False,
    levels: int = 0,
    pixels: Sequence[str] = (),
    categories: Sequence[str] = (),
    kwargs: Mapping[str, Any] | None = None,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Callable[[Any], Any]] = (),
    lives: str = WHOLE_GAMES,
    engine: str = "",
    distractor: str = "",
    timeout: float = 0.0,
    numbers: Sequence[int] | None = None,
) -> VectorEnv:
    """Make copies of a task that are stepped together.

    Args:
      task: `suite:name`, as `minigrid:DoorKey-5x5`, `gymnasium:CartPole-v1`,
        `gymnasium:my_pkg.module:My-v0` or `probe:chosen`. The environment's own `task` is the full
        name.
      num_envs: number of copies.
      seed: what the training seeds are derived from.
      obs: which observation, where a suite has several ("": its default).
      parallel: one process per copy, for Gymnasium environments. In a user's script this needs
        the usual `if __name__ == "__main__":`.
      levels: how many different worlds there are in training, those of the first training seeds (0: a
        new one every episode).
      pixels, categories: keys of arrays to read as pictures and as categories, where their bounds leave
        that open (`envs.readings`).
      kwargs: arguments of the environment, where the suite takes some.
      max_episode_steps: its time limit, which ends an episode without being terminal (0: its own).
      wrappers: callables env -> env, or where they are (`my_module:wrap`), the first one innermost.
      lives: what a lost life means, of games that have lives: "game" (nothing), "terminal-and-go-on" or
        "terminal-and-restart" (`envs.adapters.atari`).
      engine: "envpool" has EnvPool step all copies of a task that it has (`envs.engine`); then a seed is
        of a copy, not of an episode.
      distractor: "noise" has noise move behind the scene of pictures (`envs.distractor`), of suites whose
        background is known.
      timeout: seconds in which a copy of a Gymnasium environment must answer, else that is an `EnvError`
        (0: any).
      numbers: of these copies among all of a run that several processes share; their training seeds are
        derived from them (None: they are all).

    Raises:
      UnknownTask: for a suite, task, observation or argument that is not there, with close matches.
      MissingExtra: if a package is missing, with what to install.
      UnsupportedSpace: if no agent here can handle its observations or actions.
      ValueError: for another wrong argument.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs is {num_envs}; it takes at least 1 copy")
    _check_levels(levels)
    from envs.copies import Processes, Serial
    from envs.vector import HostVector

    full, adapter, rest = _resolve(task, obs)
    for wrap in wrappers:  # here, where it is known whose they are, and not first in a process of a copy
        if isinstance(wrap, str):
            modules.examine(wrap.partition(":")[0])
    special = {
        "kwargs": kwargs,
        "max_episode_steps": max_episode_steps,
        "wrappers": wrappers,
        "engine": engine,
        "distractor": distractor,
    }
    if is_on_device(task):
        from envs.device_copies import DeviceCopies

        inside = make_jax(task, obs=obs, pixels=pixels, categories=categories, lives=lives, **special)
        copies = DeviceCopies(inside, num_envs)
    else:
        chosen = obs or adapter.OBS[0]
        taken = _taken(full, adapter, chosen, _asked(lives, **special))
        how = {"pixels": pixels, "categories": categories, "timeout": timeout}
        if taken.pop("engine", ""):
            more = {"parallel": parallel, "levels": levels}
            _check_engine(full, engine, taken | {name: value for name, value in more.items() if value})
            from envs.engine import Pool

            copies = Pool(full, adapter.pool(rest, chosen, **taken), num_envs, **how)
        else:
            make_env = functools.partial(adapter.make, rest, chosen, **taken)
            copies = (Processes if parallel else Serial)(full, make_env, num_envs, **how)
    return HostVector(full, copies, num_envs, seed=seed, levels=levels, numbers=numbers)


def make_jax(
    task: str,
    *,
    obs: str = "",
    levels: int = 0,
    pixels: Sequence[str] = (),
    categories: Sequence[str] = (),
    kwargs: Mapping[str, Any] | None = None,
    max_episode_steps: int = 0,
    wrappers: Sequence[str | Callable[[Any], Any]] = (),
    lives: str = WHOLE_GAMES,
    engine: str = "",
    distractor: str = "",
) -> JaxEnv:
    """Make one world of a suite that is `on_device`, as pure functions.

    Args:
      levels: how many different worlds it starts, those of the first training seeds (0: any).
      pixels, categories: none, for such a world says itself what its observations are.
      kwargs, max_episode_steps, wrappers, lives, engine, distractor: as of `make`, where a suite takes them.

    Raises:
      UnknownTask, MissingExtra, UnsupportedSpace: as `make`; UnknownTask also for a Gymnasium environment.
      ValueError: for a wrong number of levels.
    """
    _check_levels(levels)
    for name, keys in (("pixels", pixels), ("categories", categories)):
        if keys:
            raise UnsupportedSpace(
                f"env.{name} is for Gymnasium environments, but {task} is a JAX environment and says itself "
                f"what its '{keys[0]}' is: leave it out"
            )
    full, adapter, rest = _resolve(task, obs)
    if not is_on_device(task):
        names = ", ".join(suite.name for suite in SUITES if suite.on_device)
        raise UnknownTask(f"{full} runs on the host; the suites of the device are {names}")
    special = {"kwargs": kwargs, "max_episode_steps": max_episode_steps, "wrappers": wrappers}
    asked = _asked(lives, **special, engine=engine, distractor=distractor)
    chosen = obs or adapter.OBS[0]
    world = adapter.make_jax(rest, chosen, **_taken(full, adapter, chosen, asked))
    if not levels:
        return world
    from envs.wrappers import Levels

    return Levels(world, levels)


def _check_levels(levels: int) -> None:
    if not 0 <= levels <= FIRST_TRAINING_SEED:
        raise ValueError(f"levels is {levels}; it takes 0 (any world) to {FIRST_TRAINING_SEED}")


NOT_OF_ENGINES = {
    "parallel": "has threads of its own",
    "lives": "plays whole games",
    "wrappers": "has no Gymnasium environments to wrap",
    "distractor": "draws nothing behind the scene",
    "levels": "chooses the worlds of later episodes itself",
}
"""Why an engine takes no such argument."""


def _check_engine(full: str, engine: str, asked: Mapping[str, Any]) -> None:
    """Refuse what an engine does not have."""
    if engine != "envpool":
        raise UnknownTask(f"there is no engine {engine!r}; the only one is 'envpool'")
    for name, why in NOT_OF_ENGINES.items():
        if name in asked:
            raise UnknownTask(f"the engine envpool {why}: leave out {name} or engine for {full}")


def _asked(lives: str, **others: Any) -> dict[str, Any]:
    """Of the arguments that only some adapters take those that are not as by default."""
    return {k: v for k, v in {**others, "lives": "" if lives == WHOLE_GAMES else lives}.items() if v}


def _taken(full: str, adapter: ModuleType, obs: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, if the adapter takes it."""
    if "distractor" in asked:
        _check_distractor(full, adapter, obs, asked["distractor"])
    takes = getattr(adapter, "TAKES", ())
    refused = [name for name in asked if name not in takes]
    if refused:
        suite = full.partition(":")[0]
        can = [*(["obs"] if len(adapter.OBS) > 1 else []), *takes, "levels"]
        raise UnknownTask(f"{suite} tasks take no {' and no '.join(refused)}; they take {', '.join(can)}")
    if asked.get("max_episode_steps", 1) < 1:
        raise ValueError(
            f"max_episode_steps is {asked['max_episode_steps']}; it takes at least 1, or 0 for the task's own"
        )
    return asked


DISTRACTORS = ("noise",)
KNOWN_BACKGROUND = "minigrid tasks (with env.obs rgb or full) and pinpad tasks"


def _check_distractor(full: str, adapter: ModuleType, obs: str, distractor: str) -> None:
    """Refuse one that is not there, or that would have nothing to be drawn on."""
    if distractor not in DISTRACTORS:
        raise UnknownTask(f"there is no distractor {distractor!r}; the only one is 'noise'")
    suite = full.partition(":")[0]
    if "distractor" not in getattr(adapter, "TAKES", ()):
        names = f" ({', '.join(adapter.OBS)})" if all(adapter.OBS) else ""
        raise UnknownTask(
            f"{suite} tasks take no distractor, as none of their observations{names} is a picture whose "
            f"background is known; {KNOWN_BACKGROUND} take one"
        )
    pictures = getattr(adapter, "PICTURES", adapter.OBS)
    if obs not in pictures:
        raise UnknownTask(
            f"a distractor moves in pictures, and {full} shows none with env.obs {obs}: choose "
            f"{' or '.join(f'--env.obs {name}' for name in pictures)}"
        )


def _resolve(task: str, obs: str) -> tuple[str, ModuleType, str]:
    """The full name of a task, its adapter, and what the adapter calls it."""
    full = canonical(task)
    name, _, rest = full.partition(":")
    adapter = next(suite for suite in SUITES if suite.name == name).adapter()
    if obs and obs not in adapter.OBS:
        allowed = ", ".join(repr(o) for o in adapter.OBS)
        raise UnknownTask(f"{name} has no observation {obs!r}; allowed: {allowed}")
    return full, adapter, rest
