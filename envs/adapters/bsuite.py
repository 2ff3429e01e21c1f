"""bsuite:<experiment>/<number>: the 468 settings of the behaviour suite, as `bsuite:catch/0`.

    vector       float32: the observation of the package, in one row
    log/<name>   what the package counts to score an experiment (its `bsuite_info`), in this episode

A setting is one problem: which arm pays, and which action digs to the right, follow from its `mapping_seed`
and stay. Chance (where a ball falls, the noise of a reward) follows the seed of the episode and the number
of the setting, in every episode from the start, so that an episode repeats by its seed and a run resumes as
any other. The package builds an environment once, and counts over the whole experiment; here it is built
for every episode, so that counts are those of the episode, and `experiments.benchmark.bsuite` adds them up.

Every end is terminal, also that by a time limit: so the package has it (discount 0), and time is observed.
The 60 settings of MNIST need its files in /tmp/mnist, which the package downloads where it can.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces as gym

from envs.adapters import UnknownTask, suggestion
from envs.api import LOG_PREFIX, EnvError

OBS = ("",)
UNSEEDED = ("cartpole", "catch", "mnist", "mountain_car")
"""Experiments whose settings differ only in chance, or in that and the noise or scale of rewards."""
TIMED = ("cartpole", "cartpole_swingup", "mountain_car")
"""Experiments in which a time limit may end an episode before something else does."""
DIGITS = "/tmp/mnist"
LONGEST = {
    **dict.fromkeys(("bandit", "mnist"), 1),
    **{"memory_size": 3, "catch": 9, "umbrella_distract": 20, "discounting_chain": 100},
    **{"mountain_car": 1000, "cartpole": 1001, "cartpole_swingup": 1001},
}
"""Steps of the longest episode, where all settings of an experiment have the same."""


def ids() -> list[str]:
    """Every setting, in the order of the package's sweep."""
    return list(_sweep().SWEEP)


def sets() -> dict[str, tuple[str, ...]]:
    """All settings, those that need no files, the package's selection for tests, and those of each tag."""
    sweep = _sweep()
    without = tuple(name for name in sweep.SWEEP if not name.startswith("mnist"))
    return {"468": sweep.SWEEP, "408": without, "testing": sweep.TESTING, **sweep.TAGS}


def episodes(name: str) -> int:
    """How many episodes the experiment of a setting takes."""
    return _sweep().EPISODES[canonical(name)]


def longest(name: str) -> int:
    """The steps of the longest possible episode of a setting."""
    experiment, kwargs = canonical(name).partition("/")[0], _sweep().SETTINGS[name]
    if experiment in ("deep_sea", "deep_sea_stochastic"):
        return kwargs["size"]
    if experiment == "memory_len":
        return kwargs["memory_length"] + 1
    if experiment == "umbrella_length":
        return kwargs["chain_length"]
    return LONGEST[experiment.removesuffix("_noise").removesuffix("_scale")]


def protocol_steps(name: str, num_envs: int) -> int:
    """Environment steps after which the experiment of a setting is over, however long its episodes are.

    Args:
      num_envs: copies, of which each may be within an episode at the end.
    """
    return (episodes(name) + num_envs - 1) * longest(name)


def canonical(name: str) -> str:
    """The name itself, if there is such a setting.

    Raises:
      UnknownTask: with close matches, or with the settings that the experiment has.
    """
    if name in _sweep().SETTINGS:
        return name
    experiment = name.partition("/")[0]
    known = [other.partition("/")[0] for other in ids()]
    if count := known.count(experiment):
        there = f"{experiment}/0 to {experiment}/{count - 1}"
        raise UnknownTask(f"bsuite:{name} is no setting; there are {there}")
    close = suggestion(experiment, {other: f"{other}/0" for other in known})
    raise UnknownTask(f"bsuite has no experiment '{experiment}'{close}")


def note(name: str) -> str:
    """Where seeds and ends are not what one expects."""
    experiment = name.partition("/")[0]
    plain = experiment.removesuffix("_noise").removesuffix("_scale")
    sentences = []
    if plain in UNSEEDED:
        equal = "all 20" if plain == experiment else "the four of each scale"
        sentences.append(
            f"bsuite 0.3.6 seeds no setting of {experiment}, and {equal} are equal; here chance follows the "
            "run's seed and the number of the setting."
        )
    if experiment == "deep_sea_stochastic":
        sentences.append("bsuite 0.3.6 takes no seed for deep_sea_stochastic; here it has the run's.")
    if plain in TIMED:
        sentences.append("Its time limit is terminal, as bsuite has it: time is observed.")
    return " ".join(sentences)


def make(name: str, obs: str) -> gymnasium.Env:
    """One environment of a setting.

    Raises:
      EnvError: for MNIST, where its files are not there and cannot be downloaded.
    """
    name = canonical(name)
    try:
        return Setting(name)
    except (OSError, EOFError) as error:
        raise EnvError(
            f"bsuite:{name} reads the four files of MNIST in {DIGITS}, which bsuite tries to download "
            f"({error}): put train-images-idx3-ubyte.gz and the other three there, or leave out mnist"
        ) from None


class Setting(gymnasium.Env):
    """A setting of an experiment, built for every episode."""

    def __init__(self, name: str):
        self._name = name
        self._world = build(name, 0)
        size = int(np.prod(self._world.observation_spec().shape))
        parts: dict[str, gymnasium.Space] = {"vector": gym.Box(-np.inf, np.inf, (size,), np.float32)}
        for key in self._world.bsuite_info():
            parts[LOG_PREFIX + key] = gym.Box(-np.inf, np.inf, (), np.float32)
        self.observation_space = gym.Dict(parts)
        self.action_space = gym.Discrete(self._world.action_spec().num_values)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        else:
            super().reset(seed=seed)
        self._world = build(self._name, seed)
        return self._observe(self._world.reset().observation), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        step = self._world.step(action)
        terminated = step.last() and step.discount == 0
        truncated = step.last() and not terminated
        return self._observe(step.observation), float(step.reward), terminated, truncated, {}

    def _observe(self, raw: np.ndarray) -> dict[str, Any]:
        counts = self._world.bsuite_info().items()
        return {
            "vector": raw.reshape(-1).astype(np.float32),
            **{LOG_PREFIX + key: np.float32(value) for key, value in counts},
        }


class _Recipe(NamedTuple):
    """How the environment of a setting is built."""

    load: Callable[..., Any]
    """The package's class or function, without noise of rewards."""
    kwargs: Mapping[str, Any]
    takes_seed: bool
    noise: float
    """Standard deviation of the noise of rewards; 0 for none."""


def build(name: str, seed: int) -> Any:
    """The package's environment of a setting (a `dm_env.Environment`), its chance from a seed.

    Settings with noisy rewards get two seeds: the package would draw noise and world from the same numbers.
    """
    from bsuite.utils.wrappers import RewardNoise  # pyrefly: ignore

    recipe, number = _recipe(name), int(name.partition("/")[2])
    first, second = np.random.SeedSequence([seed, number]).generate_state(2).tolist()
    world = recipe.load(**recipe.kwargs, **({"seed": first} if recipe.takes_seed else {}))
    return RewardNoise(world, recipe.noise, seed=second) if recipe.noise else world


@functools.cache
def _recipe(name: str) -> _Recipe:
    from bsuite.bsuite import EXPERIMENT_NAME_TO_ENVIRONMENT as LOAD  # pyrefly: ignore
    from bsuite.environments.deep_sea import DeepSea  # pyrefly: ignore

    kwargs = dict(_sweep().SETTINGS[name])
    kwargs.pop("seed", None)
    noise = kwargs.pop("noise_scale", 0.0)
    load = LOAD[name.partition("/")[0].removesuffix("_noise")]
    if name.startswith("deep_sea_stochastic/"):  # its function takes no seed
        load = functools.partial(DeepSea, deterministic=False)
    if name.startswith("mnist"):
        _read_digits_once()
    return _Recipe(load, kwargs, "seed" in inspect.signature(load).parameters, noise)


@functools.cache
def _read_digits_once() -> None:
    """An episode of MNIST is one step, and the package reads the files whenever it builds an environment."""
    from bsuite.utils import datasets  # pyrefly: ignore

    datasets.load_mnist = functools.cache(datasets.load_mnist)


def _sweep() -> ModuleType:
    from bsuite import sweep  # pyrefly: ignore

    return sweep
